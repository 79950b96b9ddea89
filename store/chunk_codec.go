package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// The encoding of a chunk. Most of what is sent are the entries of documents, and those are small, so they are written as
// a run: what follows from the entry before is left out.
//
//	chunk     version u8 | bucket u8 | done u8 | cursor, unless done | knowledge
//	          | absents uvarint, each: key, deleted uvarint
//	          | documents uvarint, each: key, head, hasBase u8, base length uvarint and bytes, entries uvarint and the
//	          entries | checksum u64
//	entry     tag u8 | index above the one before uvarint | term minus the one before varint | chain 16 | delta
//	tag       1 the chain follows from the one before: not sent | 2 the chain is not known: not sent
//	          | 4 the same index: not sent | 8 the same term: not sent | 16 the delta is a plain one
//	delta     canonical; of a plain one only what comes after whenToInvalidate
//
// Before a document's first entry, index is the head's generation, term 0, and seq the floor. A plain delta is one seq,
// the one after the entry before, without flags, assets or a time of invalidation, and of at most 1024 bytes. Knowledge, cursor and key are those
// of repair_codec.go.
const chunkVersion = 2

const (
	tagLinked    = 1 << 0
	tagNoChain   = 1 << 1
	tagSameIndex = 1 << 2
	tagSameTerm  = 1 << 3
	tagPlain     = 1 << 4
	tagAll       = tagLinked | tagNoChain | tagSameIndex | tagSameTerm | tagPlain
)

// maxChunkEntries bounds what a chunk takes in memory: decoded, an entry takes about a hundred bytes, however few it has.
const maxChunkEntries = 1 << 16

// mostPlain is up to which size a delta is written as a plain one. What that saves is then worth the copy that it takes.
const mostPlain = 1024

// shortestEntry is what an entry takes at least: its tag and four empty fields.
const shortestEntry = 1 + 4

// AppendBinary appends the encoding of a chunk.
func (c *Chunk) AppendBinary(b []byte) []byte {
	start := len(b)
	b = slices.Grow(b, c.sizeHint())
	b = append(b, chunkVersion, c.Bucket)
	b = appendFlag(b, c.Done)
	if !c.Done {
		b = appendCursor(b, &c.Next)
	}
	b = appendKnowledge(b, c.Coverage, c.Applied, c.Ahead)
	b = binary.AppendUvarint(b, uint64(len(c.Absent)))
	for i := range c.Absent {
		b = appendKey(b, c.Absent[i].Key)
		b = binary.AppendUvarint(b, c.Absent[i].Deleted)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Docs)))
	for i := range c.Docs {
		b = c.Docs[i].append(b)
	}
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
}

// sizeHint is about what the encoding takes, so that it is not moved while it grows.
func (c *Chunk) sizeHint() int {
	size := 128 + 64*len(c.Absent)
	for i := range c.Docs {
		doc := &c.Docs[i]
		size += headSize + keySize(doc.Key) + len(doc.Base) + 2*len(c.Docs[i].Entries)
		for j := range doc.Entries {
			if size += len(doc.Entries[j].Delta); !doc.Entries[j].Linked {
				size += len(Chain{})
			}
		}
	}
	return size
}

func (doc *ChunkDoc) append(b []byte) []byte {
	b = appendKey(b, doc.Key)
	b = appendHead(b, &doc.Head)
	b = appendFlag(b, doc.HasBase)
	b = appendLengthed(b, doc.Base)
	b = binary.AppendUvarint(b, uint64(len(doc.Entries)))
	before := doc.before()
	for i := range doc.Entries {
		b = doc.Entries[i].append(b, &before)
	}
	return b
}

// entryBefore is what an entry's encoding refers to.
type entryBefore struct {
	index, term uint64
	end         int64
}

func (doc *ChunkDoc) before() entryBefore {
	return entryBefore{index: doc.Head.Generation, end: doc.Head.Floor}
}

func (e *ChunkEntry) append(b []byte, before *entryBefore) []byte {
	var header [32]byte
	delta, at, tag := e.Delta, len(b), byte(0)
	b = append(b, 0)
	if e.Index == before.index {
		tag |= tagSameIndex
	} else {
		b = binary.AppendUvarint(b, e.Index-before.index)
	}
	if e.Term == before.term {
		tag |= tagSameTerm
	} else {
		b = binary.AppendVarint(b, int64(e.Term-before.term))
	}
	switch {
	case e.Linked:
		tag |= tagLinked
	case !known(e.Chain):
		tag |= tagNoChain
	default:
		b = append(b, e.Chain[:]...)
	}
	plain := appendPlainHeader(header[:0], before.end+1)
	if len(delta) <= mostPlain && len(delta) >= len(plain) && string(delta[:len(plain)]) == string(plain) {
		tag |= tagPlain
		delta = delta[len(plain):]
	}
	b[at] = tag
	*before = entryBefore{index: e.Index, term: e.Term, end: e.End}
	return append(b, delta...)
}

// appendPlainHeader appends how the canonical encoding of a plain delta begins.
func appendPlainHeader(b []byte, seq int64) []byte {
	b = append(b, 0)
	b = binary.AppendUvarint(b, uint64(seq))
	return append(b, 0, 0, 0)
}

// DecodeChunk is the inverse of Chunk.AppendBinary, for the whole of b. The chunk's bases and some of its deltas alias b.
// Its error is a *ChunkError; what the chunk claims is for Import to verify, which also fills in chains that were not sent.
func DecodeChunk(b []byte) (*Chunk, error) { return new(ChunkDecoder).Decode(b) }

// ChunkDecoder decodes one chunk after the other into the same memory. The zero value is ready; not safe for concurrent use.
type ChunkDecoder struct {
	scratch *chunkScratch
	from    *DocEngine // whose memory it is; nil: of nobody
}

// ChunkDecoder returns a decoder that works in memory of the engine, which its Close gives back. Many members are pulled at a time,
// and few chunks are decoded.
func (d *Documents) ChunkDecoder() *ChunkDecoder {
	return &ChunkDecoder{scratch: d.engine.bulk.takeScratch(), from: d.engine}
}

// Close ends the use of what Decode returned, but for its coverage and keys.
func (m *ChunkDecoder) Close() {
	if m.from != nil {
		m.from.bulk.giveScratch(m.scratch)
	}
	*m = ChunkDecoder{}
}

// Decode is DecodeChunk. What it returned before is no longer valid, but for its coverage and keys.
func (m *ChunkDecoder) Decode(b []byte) (*Chunk, error) {
	if m.scratch == nil {
		m.scratch = new(chunkScratch)
	}
	m.scratch.reset()
	d := chunkDecoder{reader: openRepair(b, chunkVersion), room: maxChunkEntries, chunkScratch: m.scratch}
	c := &Chunk{Bucket: d.byte(), Done: d.flag()}
	if !c.Done {
		c.Next = d.cursor()
	}
	c.Coverage, c.Applied, c.Ahead = d.knowledge()
	for range d.list(2) {
		a := ChunkAbsent{Key: d.key(false), Deleted: d.uvarint()}
		if d.err != nil {
			break
		}
		c.Absent = append(c.Absent, a)
	}
	for range d.list(32) {
		doc := d.document()
		if d.err != nil {
			break
		}
		d.docs = append(d.docs, doc)
	}
	if len(d.docs) > 0 { // nil otherwise, whatever was decoded before
		c.Docs = d.docs[:len(d.docs):len(d.docs)]
	}
	if err := d.end(); err != nil {
		return nil, &ChunkError{Bucket: c.Bucket, Reason: "decode", Err: err}
	}
	return c, nil
}

// chunkDecoder decodes one chunk.
type chunkDecoder struct {
	reader
	room int // entries that the chunk may still have
	*chunkScratch
}

func (d *chunkDecoder) document() ChunkDoc {
	doc := ChunkDoc{Key: d.key(false)}
	if d.err != nil {
		return doc
	}
	h, rest, err := decodeHead(d.b)
	if err != nil {
		d.fail(err.Error())
		return doc
	}
	d.b = rest
	doc.Head, doc.HasBase = h, d.flag()
	doc.Base = d.lengthed(MaxDelta)
	if !doc.HasBase && len(doc.Base) > 0 || h.Span|h.Entries|h.Bytes != 0 {
		d.fail("document")
	}
	n := d.list(shortestEntry)
	if d.room -= n; d.room < 0 {
		d.fail("too many entries")
	}
	if d.err != nil || n == 0 {
		return doc
	}
	doc.Entries = d.entries(n)[:n]
	before := doc.before()
	for i := range doc.Entries {
		if d.entry(&doc.Entries[i], &before); d.err != nil {
			break
		}
	}
	return doc
}

// entry decodes one entry. It takes only the shortest form: what can be left out is not there.
func (d *chunkDecoder) entry(e *ChunkEntry, before *entryBefore) {
	tag := d.byte()
	if tag&^tagAll != 0 || tag&(tagLinked|tagNoChain) == tagLinked|tagNoChain {
		d.fail("tag of an entry")
	}
	*e = ChunkEntry{Mark: Mark{Index: before.index}, Term: before.term, Linked: tag&tagLinked != 0}
	if tag&tagSameIndex == 0 {
		step := d.uvarint()
		if e.Index += step; step == 0 {
			d.fail("index of an entry")
		}
	}
	if tag&tagSameTerm == 0 {
		step := d.varint()
		if e.Term += uint64(step); step == 0 {
			d.fail("term of an entry")
		}
	}
	if tag&(tagLinked|tagNoChain) == 0 {
		if e.Chain = d.chain(); !known(e.Chain) {
			d.fail("chain of an entry")
		}
	}
	if d.err != nil {
		return
	}
	if tag&tagPlain != 0 {
		d.plain(e, before.end+1)
	} else {
		d.whole(e, before.end+1)
	}
	*before = entryBefore{index: e.Index, term: e.Term, end: e.End}
}

// plain decodes a plain delta, and makes it canonical.
func (d *chunkDecoder) plain(e *ChunkEntry, seq int64) {
	size, err := deltaFields(d.b)
	if err != nil || seq < 0 || seq > MaxSeq {
		d.fail(fmt.Sprintf("plain delta at seq %d: %v", seq, err))
		return
	}
	var header [32]byte
	e.Begin, e.End = seq, seq
	if e.Delta = d.arena.join(appendPlainHeader(header[:0], seq), d.take(size)); len(e.Delta) > mostPlain {
		d.fail("plain delta too long")
	}
}

// whole takes a canonical delta that is not a plain one.
func (d *chunkDecoder) whole(e *ChunkEntry, plain int64) {
	begin, end, size, isPlain, err := scanDelta(d.b)
	if err == nil && isPlain && begin == plain && size <= mostPlain {
		err = fmt.Errorf("%w: a plain delta written as a whole", ErrEncoding)
	}
	if err != nil {
		d.fail(err.Error())
		return
	}
	e.Begin, e.End, e.Delta = begin, end, d.take(size)
}

// scanDelta returns the seqs and the size of the canonical delta at the front of b, and whether it has no flags, assets or
// time and is of one seq. It accepts exactly what DecodeDelta does, without making anything of it.
func scanDelta(b []byte) (begin, end int64, size int, plain bool, err error) {
	r := reader{b: b}
	flags := r.byte()
	if flags&^deltaFutureInvalidation != 0 {
		r.fail("unknown flags of a delta")
	}
	first, span := r.uvarint(), r.uvarint()
	if first > MaxSeq || span > MaxSeq-first {
		r.fail("seq range")
	}
	assets, when := r.varint(), r.varint()
	if r.err != nil {
		return 0, 0, 0, false, r.err
	}
	size, err = deltaFields(r.b)
	return int64(first), int64(first + span), len(b) - len(r.b) + size, flags == 0 && span == 0 && assets == 0 && when == 0, err
}

// deltaFields returns how many bytes the four fields at the end of a canonical delta take.
func deltaFields(b []byte) (int, error) {
	r := reader{b: b}
	for range 4 {
		r.lengthed(MaxDelta)
	}
	return len(b) - len(r.b), r.err
}
