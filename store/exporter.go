package store

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// exporter fills one chunk.
type exporter struct {
	reader        pebble.Reader
	partition     uint32
	bucket        uint8
	deleteRecords bool // the bucket has some
	from          Cursor
	first, last   uint64 // all hashes that are asked for lie between these
	budget        int

	walkers [kindDelete + 1]*walker // by kind; opened when needed
	key     []byte                  // scratch
	*chunkScratch

	chunk *Chunk
	size  int  // of what is in the chunk, roughly as encoded
	count int  // of entries in the chunk
	full  bool // the budget is used up; chunk.Next is set
}

func (x *exporter) close() {
	for _, w := range x.walkers {
		w.close()
	}
}

// walker returns the reader of a kind.
func (x *exporter) walker(kind recordKind) (*walker, error) {
	if x.walkers[kind] == nil {
		w, err := newWalker(x.reader, x.partition, x.bucket, kind, x.first, x.last)
		if err != nil {
			return nil, err
		}
		x.walkers[kind] = w
	}
	return x.walkers[kind], nil
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
	err := x.scan(kindHead, w.Hash, func(k recordKey, v []byte) error {
		h, err := decodeHeadBody(v)
		at(k.key).head = &h
		return err
	})
	if err == nil && x.deleteRecords {
		err = x.scan(kindDelete, w.Hash, func(k recordKey, v []byte) (err error) {
			at(k.key).deleted, err = decodeDeleteBody(v)
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
func (x *exporter) scan(kind recordKind, hash uint64, visit func(recordKey, []byte) error) error {
	w, err := x.walker(kind)
	if err != nil {
		return err
	}
	return w.under(x.bucket, hash, visit)
}

// spend accounts for something put into the chunk, and ends the chunk behind it when the budget is used up.
func (x *exporter) spend(behind Cursor, size int) {
	x.size += size
	if x.size >= x.budget || x.count >= maxChunkEntries {
		x.stop(behind)
	}
}

func (x *exporter) stop(next Cursor) { x.full, x.chunk.Next = true, next }

// leastCost is what most entries take at least: more would only be room that is not used.
const leastCost = 48

// headSize is about what a head takes in a chunk.
const headSize = 64

func keySize(k Key) int { return len(k.Space) + len(k.Key) + 3 }

// document exports one document, or the part of it that the budget leaves room for.
func (x *exporter) document(c *candidate) error {
	h := *c.head
	h.Span, h.Entries, h.Bytes = 0, 0, 0
	x.docs = append(x.docs, ChunkDoc{Key: c.key, Head: h})
	doc := &x.docs[len(x.docs)-1]
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
	e := entryExport{x: x, c: c, doc: doc, behind: behind, sent: max(after, h.Floor), last: min(upto, h.HeadSeq), whole: !c.head.Gap()}
	if h.HasBase && h.BaseIndex > baseIndex {
		base, err := x.base(c, &h)
		if err != nil {
			return err
		}
		doc.Base, doc.HasBase = base, true
		e.spend(len(base) + 5)
	}
	if n := min(c.head.Entries, int64(x.budget-x.size)/leastCost+1, maxChunkEntries); len(held) == 0 && n > 1 {
		doc.Entries = x.entries(int(n))
	}
	if err := e.run(held); err != nil {
		return err
	}
	if n := int64(len(doc.Entries)); !x.full && after <= h.Floor && len(held) == 0 && upto >= h.HeadSeq && n != c.head.Entries {
		return e.lost(fmt.Sprintf("%d entries, and the head counts %d", n, c.head.Entries))
	}
	doc.link()
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
	w, err := x.walker(kindBase)
	if err != nil {
		return nil, err
	}
	x.key = appendGeneration(x.key[:0], x.partition, c.place, kindBase, h.Generation)
	if !w.seek(x.key) || !bytes.Equal(w.it.Key(), x.key) {
		if err := w.failed(c.key); err != nil {
			return nil, err
		}
		return nil, w.corrupt(c.key, fmt.Errorf("%w: missing", ErrEncoding))
	}
	v, err := w.value(c.key)
	return bytes.Clone(v), err
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
	prefix []byte // of the keys of the document's entries; its end is scratch
	sent   int64  // everything up to here is sent, held by the asker, or not here
	last   int64  // nothing after this is sent
	whole  bool   // by its head the document has no gap
}

func (e *entryExport) spend(size int) {
	e.behind.After = e.sent
	if e.sent >= e.doc.Head.HeadSeq {
		e.behind.After = math.MaxInt64
	}
	e.x.spend(e.behind, size)
}

func (e *entryExport) run(held []SeqRange) error {
	e.prefix = appendGeneration(nil, e.x.partition, e.c.place, kindEntry, e.doc.Head.Generation)
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
	w, ok, err := e.seek(e.sent + 1)
	for ; ok && err == nil; ok = w.next() && bytes.HasPrefix(w.it.Key(), e.prefix) {
		var entry ChunkEntry
		if entry, err = e.entry(w); err != nil || entry.Begin > to {
			break
		}
		if e.whole && entry.Begin > e.sent+1 {
			return e.lost(fmt.Sprintf("nothing at seqs [%d, %d]", e.sent+1, entry.Begin-1))
		}
		e.send(&entry)
		if e.x.full {
			return nil
		}
	}
	if err == nil {
		err = w.failed(e.c.key)
	}
	if err == nil && e.whole && e.sent < to {
		return e.lost(fmt.Sprintf("nothing at seqs [%d, %d]", e.sent+1, to))
	}
	e.sent = max(e.sent, to)
	return err
}

// lost is the error of a document whose head speaks of entries that are not here. Sent without them it would make others
// as incomplete as this member, which covers them and does not know yet that it is.
func (e *entryExport) lost(what string) error {
	return &CorruptionError{Partition: e.x.partition, Key: e.c.key, Kind: kindEntry.String(), Err: fmt.Errorf("%w: %s", ErrEncoding, what)}
}

// send copies an entry into the chunk.
func (e *entryExport) send(entry *ChunkEntry) {
	entry.Delta = e.x.arena.join(entry.Delta, nil)
	e.doc.Entries = append(e.doc.Entries, *entry)
	e.sent = entry.End
	e.x.count++
	size := len(entry.Delta)
	if !e.doc.follows(len(e.doc.Entries) - 1) {
		size += len(Chain{})
	}
	e.spend(size)
}

// compare sends the entry at the end of a held range when its chain shows that the two histories differ: then the
// asker sees it too.
func (e *entryExport) compare(r *SeqRange) error {
	if !known(r.Chain) || r.Last > e.last || r.Last == e.doc.Head.HeadSeq {
		return nil // not comparable, or the head's own chain tells
	}
	w, ok, err := e.seek(r.Last)
	if err == nil && !ok {
		err = w.failed(e.c.key)
	}
	if err != nil || !ok || seqOf(w.it.Key()) != r.Last {
		return err
	}
	entry, err := e.entry(w)
	if err == nil && known(entry.Chain) && entry.Chain != r.Chain {
		e.send(&entry)
	}
	return err
}

// seek moves to the document's first entry with SeqEnd ≥ seq.
func (e *entryExport) seek(seq int64) (*walker, bool, error) {
	w, err := e.x.walker(kindEntry)
	if err != nil {
		return nil, false, err
	}
	ok := w.seek(appendSeq(e.prefix[:len(e.prefix):len(e.prefix)], seq))
	return w, ok && bytes.HasPrefix(w.it.Key(), e.prefix), nil
}

// entry reads the entry at hand, whose delta is valid until the walker moves. Its checksum is verified: damage must not
// travel. What the delta says besides its seqs is left to whoever imports it.
func (e *entryExport) entry(w *walker) (ChunkEntry, error) {
	v, err := w.value(e.c.key)
	if err != nil {
		return ChunkEntry{}, err
	}
	entry, err := entryOfBody(v, seqOf(w.it.Key()))
	if err != nil {
		return ChunkEntry{}, w.corrupt(e.c.key, err)
	}
	return entry, nil
}
