package store

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2"
)

// Want asks for what a peer knows of the documents of one hash.
type Want struct {
	Hash uint64
	Have []Have // what the asker has under this hash, in order of keys; usually one, or none
}

// Have says what the asker has of one document, so that the peer sends nothing twice.
type Have struct {
	Key        Key
	Deleted    uint64 // the asker's delete record, when it has no document; every generation up to it is dead
	Generation uint64 // 0: no document
	BaseIndex  uint64
	Held       []SeqRange // ascending; those after the query's cursor
	// Upto is where Held ends for lack of room: whether the asker has what follows is not said, so nothing of that is
	// to be sent. math.MaxInt64 when Held is the whole truth.
	Upto int64
}

// SeqRange is a run of entries without a gap between them.
type SeqRange struct {
	First, Last int64
	Chain       Chain // after the entry that ends at Last; the zero chain when it is not known
}

// Cursor is a place in the order of a bucket's documents. Everything before it has been sent. The zero cursor is the
// start. It means the same whatever changes in between, and to any peer.
type Cursor struct {
	Hash       uint64
	Key        Key
	Generation uint64
	After      int64  // entries of Generation with SeqEnd ≤ After are done; math.MaxInt64: so is the whole document
	BaseIndex  uint64 // so are its bases up to this one
}

// passed reports whether a document lies before the cursor.
func (c *Cursor) passed(p place) bool {
	if c.Key == (Key{}) {
		return p.hash < c.Hash
	}
	if n := cmp.Or(cmp.Compare(p.hash, c.Hash), compareKeys(p.key, c.Key)); n != 0 {
		return n < 0
	}
	return c.After == math.MaxInt64
}

// within returns up to which seq the document's entries, and up to which index its bases, are done.
func (c *Cursor) within(key Key, generation uint64) (after int64, baseIndex uint64) {
	if key == c.Key && generation == c.Generation {
		return c.After, c.BaseIndex
	}
	return neutralFloor, 0
}

// compareKeys orders keys as the engine does: by their bytes as "space/key".
func compareKeys(a, b Key) int {
	if a.Space == b.Space {
		return cmp.Compare(a.Key, b.Key)
	}
	return cmp.Compare(a.String(), b.String())
}

// ExportQuery asks for a chunk.
type ExportQuery struct {
	Wants  []Want // ascending
	From   Cursor // where the last chunk ended
	Budget int    // bytes after which the chunk ends; it holds at least one thing, whatever its size
}

// Chunk is an answer: what a member knows, at one instant, of the documents asked for, as far as the budget went.
type Chunk struct {
	Bucket uint8

	// Of the chunk's own instant, as in Listing.
	Coverage       interval.Set
	Applied, Ahead uint64

	Docs   []ChunkDoc    // in order of hash and key
	Absent []ChunkAbsent // in the same order

	Done bool   // all that was asked for is answered
	Next Cursor // where to go on otherwise
}

// ChunkDoc is a document, or a part of one: its whole head, and some of the entries that the asker lacks.
type ChunkDoc struct {
	Key     Key
	Head    Head   // without its counts
	Base    []byte // when HasBase
	HasBase bool   // Base is here: the asker's is older, or missing
	Entries []Entry
}

// ChunkAbsent is a document that the asker has, or has a part of, and the exporting member does not; or one that the
// member remembers to be deleted.
type ChunkAbsent struct {
	Key     Key
	Deleted uint64 // the delete record; 0: none
}

// Export answers a query from one snapshot of the engine. It never holds more than the budget and one entry or base.
func (d *Documents) Export(bucket uint8, q *ExportQuery) (*Chunk, error) {
	if err := d.checkWants(bucket, q.Wants); err != nil {
		return nil, err
	}
	snapshot, done, err := d.snapshot()
	if err != nil {
		return nil, err
	}
	defer done()
	return d.exportFrom(snapshot, bucket, q)
}

// exportFrom reads everything from one reader.
func (d *Documents) exportFrom(r pebble.Reader, bucket uint8, q *ExportQuery) (*Chunk, error) {
	known, err := readBucketMeta(r, d.partition, bucket)
	if err != nil {
		return nil, err
	}
	x := exporter{reader: r, partition: d.partition, bucket: bucket, from: q.From, budget: q.Budget,
		deleteRecords: known.deleteRecords > 0,
		chunk:         &Chunk{Bucket: bucket, Coverage: known.coverage, Applied: known.applied, Ahead: known.ahead}}
	for i := range q.Wants {
		if w := &q.Wants[i]; w.Hash >= q.From.Hash {
			if err := x.want(w); err != nil {
				return nil, err
			}
		}
		if x.full {
			return x.chunk, nil
		}
	}
	x.chunk.Done = true
	return x.chunk, nil
}

// checkWants refuses hashes of other buckets: they would be reported absent.
func (d *Documents) checkWants(bucket uint8, wants []Want) error {
	for i := range wants {
		hash := wants[i].Hash
		if !d.hashes.Contains(hash) || d.hashes.Bucket(hash) != bucket {
			return &QueryError{Partition: d.partition, Bucket: bucket, Reason: fmt.Sprintf("the hash %016x is of another bucket", hash)}
		}
		if i > 0 && hash <= wants[i-1].Hash {
			return &QueryError{Partition: d.partition, Bucket: bucket, Reason: "hashes are not ascending"}
		}
		for j := range wants[i].Have {
			if key := wants[i].Have[j].Key; key.Validate() != nil || key.Hash() != hash {
				return &QueryError{Partition: d.partition, Bucket: bucket, Reason: fmt.Sprintf("the key %s has not the hash %016x", clip(key.String()), hash)}
			}
		}
	}
	return nil
}

// exporter fills one chunk.
type exporter struct {
	reader        pebble.Reader
	partition     uint32
	bucket        uint8
	deleteRecords bool // the bucket has some
	from          Cursor
	budget        int

	chunk *Chunk
	size  int  // of what is in the chunk, roughly as encoded
	full  bool // the budget is used up; chunk.Next is set
}

// candidate is a key under one hash that the member, the asker or the cursor knows.
type candidate struct {
	place
	head    *Head
	deleted uint64
	have    *Have
}

// want answers for one hash.
func (x *exporter) want(w *Want) error {
	candidates, err := x.candidates(w)
	if err != nil {
		return err
	}
	for i := range candidates {
		c := &candidates[i]
		if x.from.passed(c.place) {
			continue
		}
		if x.full {
			return nil
		}
		if c.head != nil {
			if err := x.document(c); err != nil {
				return err
			}
			continue
		}
		asked := c.have != nil && c.have.Generation > 0 || c.key == x.from.Key
		if asked || c.deleted > 0 {
			x.chunk.Absent = append(x.chunk.Absent, ChunkAbsent{Key: c.key, Deleted: c.deleted})
			x.spend(Cursor{Hash: c.hash, Key: c.key, After: math.MaxInt64}, keySize(c.key)+10)
		}
	}
	return nil
}

// candidates gathers the keys of one hash, in order.
func (x *exporter) candidates(w *Want) ([]candidate, error) {
	var list []candidate
	at := func(key Key) *candidate {
		i, found := slices.BinarySearchFunc(list, key, func(c candidate, k Key) int { return compareKeys(c.key, k) })
		if !found {
			list = slices.Insert(list, i, candidate{place: place{key: key, hash: w.Hash, bucket: x.bucket}})
		}
		return &list[i]
	}
	err := x.scan(kindHead, w.Hash, func(key Key, v []byte) error {
		h, err := decodeHeadValue(v)
		at(key).head = &h
		return err
	})
	if err == nil && x.deleteRecords {
		err = x.scan(kindDelete, w.Hash, func(key Key, v []byte) (err error) {
			at(key).deleted, err = decodeDeleteValue(v)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	for i := range w.Have {
		at(w.Have[i].Key).have = &w.Have[i]
	}
	if x.from.Hash == w.Hash && x.from.Key != (Key{}) {
		at(x.from.Key)
	}
	return list, nil
}

// scan visits the heads or delete records of one hash.
func (x *exporter) scan(kind recordKind, hash uint64, visit func(Key, []byte) error) error {
	s, err := newKindScan(x.reader, x.partition, x.bucket, kind, hash, hash)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		k, v, ok, err := s.take()
		if err != nil || !ok {
			return err
		}
		if err := visit(k.key, v); err != nil {
			return s.corrupt(k.key, err)
		}
	}
}

// spend accounts for something put into the chunk, and ends the chunk behind it when the budget is used up.
func (x *exporter) spend(behind Cursor, size int) {
	x.size += size
	if x.size >= x.budget {
		x.stop(behind)
	}
}

func (x *exporter) stop(next Cursor) { x.full, x.chunk.Next = true, next }

// headSize is about what a head takes in a chunk.
const headSize = 64

func keySize(k Key) int { return len(k.Space) + len(k.Key) + 3 }

// document exports one document, or the part of it that the budget leaves room for.
func (x *exporter) document(c *candidate) error {
	h := *c.head
	h.Span, h.Entries, h.Bytes = 0, 0, 0
	x.chunk.Docs = append(x.chunk.Docs, ChunkDoc{Key: c.key, Head: h})
	doc := &x.chunk.Docs[len(x.chunk.Docs)-1]
	x.size += headSize + keySize(c.key)
	behind := Cursor{Hash: c.hash, Key: c.key, Generation: h.Generation, After: math.MaxInt64, BaseIndex: h.BaseIndex}
	if c.have != nil && (c.have.Generation > h.Generation || c.have.Deleted >= h.Generation) {
		x.spend(behind, 0) // dead for the asker: the head alone tells it that this member does not know that
		return nil
	}
	after, baseIndex := x.from.within(c.key, h.Generation)
	upto := int64(math.MaxInt64)
	var held []SeqRange
	if c.have != nil && c.have.Generation == h.Generation {
		baseIndex, held, upto = max(baseIndex, c.have.BaseIndex), c.have.Held, c.have.Upto
	}
	e := entryExport{x: x, c: c, doc: doc, behind: behind, sent: max(after, h.Floor), last: min(upto, h.HeadSeq)}
	if h.HasBase && h.BaseIndex > baseIndex {
		base, err := x.base(c, &h)
		if err != nil {
			return err
		}
		doc.Base, doc.HasBase = base, true
		e.spend(len(base) + 5)
	}
	if err := e.run(held); err != nil {
		return err
	}
	if !x.full && upto < h.HeadSeq { // the asker has more to say about what it holds
		e.behind.After = upto
		x.stop(e.behind)
	}
	if !x.full {
		x.spend(behind, 0)
	}
	return nil
}

func (x *exporter) base(c *candidate, h *Head) ([]byte, error) {
	v, ok, err := get(x.reader, appendGeneration(nil, x.partition, c.place, kindBase, h.Generation))
	if err != nil {
		return nil, readError(x.partition, c.key, kindBase, err)
	}
	if !ok {
		err = fmt.Errorf("%w: missing", ErrEncoding)
	} else {
		v, err = unseal(v)
	}
	if err != nil {
		return nil, &CorruptionError{Partition: x.partition, Key: c.key, Kind: kindBase.String(), Err: err}
	}
	return v, nil
}

// entryExport puts the entries that the asker lacks into a chunk, in order.
//
//	asker   ├───held───┤        ├held┤
//	sent               ├────────┤    ├──────────→ last      and an entry at the end of a held range whose chain differs
type entryExport struct {
	x      *exporter
	c      *candidate
	doc    *ChunkDoc
	behind Cursor
	it     *pebble.Iterator // over the document's entries; opened when needed
	sent   int64            // everything up to here is sent, held by the asker, or not here
	last   int64            // nothing after this is sent
}

func (e *entryExport) spend(size int) {
	e.behind.After = e.sent
	if e.sent >= e.doc.Head.HeadSeq {
		e.behind.After = math.MaxInt64
	}
	e.x.spend(e.behind, size)
}

func (e *entryExport) run(held []SeqRange) (err error) {
	defer func() {
		if e.it != nil {
			if closeErr := e.it.Close(); err == nil && closeErr != nil {
				err = readError(e.x.partition, e.c.key, kindEntry, closeErr)
			}
		}
	}()
	for i := range held {
		r := &held[i]
		if r.Last <= e.sent {
			continue
		}
		if err := e.through(min(r.First-1, e.last)); err != nil || e.x.full {
			return err
		}
		if err := e.compare(r); err != nil || e.x.full {
			return err
		}
		e.sent = max(e.sent, r.Last)
	}
	return e.through(e.last)
}

// through sends the entries that reach into the seqs after sent, up to and including to.
func (e *entryExport) through(to int64) error {
	if e.sent >= to || e.x.full {
		return nil
	}
	ok, err := e.seek(e.sent + 1)
	for ; ok && err == nil; ok = e.it.Next() {
		var entry Entry
		if entry, err = e.entry(); err != nil || entry.SeqBegin > to {
			break
		}
		e.send(&entry)
		if e.x.full {
			return nil
		}
	}
	e.sent = max(e.sent, to)
	return err
}

func (e *entryExport) send(entry *Entry) {
	e.doc.Entries = append(e.doc.Entries, *entry)
	e.sent = entry.SeqEnd
	e.spend(entryOverhead + entry.Size())
}

// compare sends the entry at the end of a held range when its chain shows that the two histories differ: then the
// asker sees it too.
func (e *entryExport) compare(r *SeqRange) error {
	if !known(r.Chain) || r.Last > e.last || r.Last == e.doc.Head.HeadSeq {
		return nil // not comparable, or the head's own chain tells
	}
	ok, err := e.seek(r.Last)
	if err != nil || !ok || seqOf(e.it.Key()) != r.Last {
		return err
	}
	entry, err := e.entry()
	if err == nil && known(entry.Chain) && entry.Chain != r.Chain {
		e.send(&entry)
	}
	return err
}

// seek moves to the first entry with SeqEnd ≥ seq.
func (e *entryExport) seek(seq int64) (bool, error) {
	key := appendEntry(nil, e.x.partition, e.c.place, e.doc.Head.Generation, seq)
	if e.it == nil {
		lower, upper := prefixRange(appendGeneration(nil, e.x.partition, e.c.place, kindEntry, e.doc.Head.Generation))
		it, err := e.x.reader.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return false, readError(e.x.partition, e.c.key, kindEntry, err)
		}
		e.it = it
	}
	return e.it.SeekGE(key), nil
}

// entry decodes the entry at hand. Its checksum is verified: damage must not travel.
func (e *entryExport) entry() (Entry, error) {
	v, err := e.it.ValueAndErr()
	if err != nil {
		return Entry{}, readError(e.x.partition, e.c.key, kindEntry, err)
	}
	entry, err := decodeEntryValue(bytes.Clone(v))
	if err == nil && entry.SeqEnd != seqOf(e.it.Key()) {
		err = fmt.Errorf("%w: delta ends at %d under the key of %d", ErrEncoding, entry.SeqEnd, seqOf(e.it.Key()))
	}
	if err != nil {
		return Entry{}, &CorruptionError{Partition: e.x.partition, Key: e.c.key, Kind: kindEntry.String(), Err: err}
	}
	return entry, nil
}
