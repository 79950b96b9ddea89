package store

import (
	"cmp"
	"fmt"
	"slices"
)

// verifyChunk finds out whether a chunk can be what an honest member of the partition exported: everything that can be
// said without knowing what the importer has. Its error is a *ChunkError.
func verifyChunk(hashes Range, c *Chunk) error {
	if !c.Coverage.Empty() && (c.Coverage.Min() == 0 || c.Coverage.Max() > c.Applied) {
		return &ChunkError{Bucket: c.Bucket, Reason: fmt.Sprintf("it claims to cover %s with %d applied", c.Coverage, c.Applied)}
	}
	v := chunkVerifier{hashes: hashes, c: c}
	var before place
	for i := range c.Absent {
		if err := v.order(&before, c.Absent[i].Key, i == 0); err != nil {
			return err
		}
		if deleted := c.Absent[i].Deleted; deleted > max(c.Applied, c.Ahead) {
			return v.bad(c.Absent[i].Key, "deleted at %d, beyond %d applied and %d seen", deleted, c.Applied, c.Ahead)
		}
	}
	for i := range c.Docs {
		if err := v.order(&before, c.Docs[i].Key, i == 0); err != nil {
			return err
		}
		if v.absent(before) {
			return v.bad(c.Docs[i].Key, "it is both there and absent")
		}
		if err := v.document(&c.Docs[i]); err != nil {
			return err
		}
	}
	return nil
}

type chunkVerifier struct {
	hashes Range
	c      *Chunk
}

func (v *chunkVerifier) bad(key Key, format string, args ...any) error {
	return &ChunkError{Bucket: v.c.Bucket, Key: key, Reason: fmt.Sprintf(format, args...)}
}

// order verifies that a key belongs to the bucket and comes after the one before.
func (v *chunkVerifier) order(before *place, key Key, first bool) error {
	if err := key.Validate(); err != nil {
		return &ChunkError{Bucket: v.c.Bucket, Reason: "a key", Err: err}
	}
	p := place{key: key, hash: key.Hash()}
	if !v.hashes.Contains(p.hash) || v.hashes.Bucket(p.hash) != v.c.Bucket {
		return v.bad(key, "it does not belong to the bucket")
	}
	if !first && comparePlaces(*before, p) >= 0 {
		return v.bad(key, "it is out of order")
	}
	*before = p
	return nil
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), compareKeys(a.key, b.key))
}

func (v *chunkVerifier) absent(p place) bool {
	_, found := slices.BinarySearchFunc(v.c.Absent, p, func(a ChunkAbsent, p place) int {
		return comparePlaces(place{key: a.Key, hash: a.Key.Hash()}, p)
	})
	return found
}

// document verifies a head, its base, and the entries with their chain.
func (v *chunkVerifier) document(doc *ChunkDoc) error {
	h := &doc.Head
	switch {
	case h.Generation == 0 || h.Generation > h.LastIndex:
		return v.bad(doc.Key, "generation %d with the last index %d", h.Generation, h.LastIndex)
	case h.LastIndex > max(v.c.Applied, v.c.Ahead):
		return v.bad(doc.Key, "last index %d, beyond %d applied and %d seen", h.LastIndex, v.c.Applied, v.c.Ahead)
	case h.HeadSeq < 0 || h.Floor < neutralFloor || h.Floor > h.HeadSeq:
		return v.bad(doc.Key, "floor %d, head %d", h.Floor, h.HeadSeq)
	case !h.HasBase && (doc.HasBase || h.BaseIndex != 0 || h.BaseSeq != 0 || h.BaseBytes != 0):
		return v.bad(doc.Key, "a base that the head does not have")
	case h.HasBase && (h.BaseSeq < 0 || h.BaseIndex < h.Generation || h.BaseIndex > h.LastIndex || h.BaseSeq > h.HeadSeq):
		return v.bad(doc.Key, "base at seq %d of index %d, head %d of index %d", h.BaseSeq, h.BaseIndex, h.HeadSeq, h.LastIndex)
	case doc.HasBase && int64(len(doc.Base)) != h.BaseBytes:
		return v.bad(doc.Key, "base of %d bytes, the head says %d", len(doc.Base), h.BaseBytes)
	}
	return v.entries(doc)
}

// entries verifies a document's entries, and computes the chains that were not sent.
func (v *chunkVerifier) entries(doc *ChunkDoc) error {
	h := &doc.Head
	for i := range doc.Entries {
		e := &doc.Entries[i]
		if e.Begin < 0 || e.End < e.Begin || e.End > MaxSeq {
			return v.bad(doc.Key, "an entry with the seq range [%d, %d]", e.Begin, e.End)
		}
		if e.End <= h.Floor || e.End > h.HeadSeq {
			return v.bad(doc.Key, "entry [%d, %d] outside of floor %d and head %d", e.Begin, e.End, h.Floor, h.HeadSeq)
		}
		if e.Index < h.Generation || e.Index > h.LastIndex {
			return v.bad(doc.Key, "entry of index %d outside of [%d, %d]", e.Index, h.Generation, h.LastIndex)
		}
		if i > 0 && (e.Begin <= doc.Entries[i-1].End || e.Index < doc.Entries[i-1].Index) {
			return v.bad(doc.Key, "entry [%d, %d] of index %d out of order", e.Begin, e.End, e.Index)
		}
		if err := v.chain(doc, i); err != nil {
			return err
		}
	}
	return nil
}

// chain verifies the chain of one entry, or computes it. Those before it are done.
func (v *chunkVerifier) chain(doc *ChunkDoc, i int) error {
	e, h := &doc.Entries[i], &doc.Head
	if !e.Linked && !known(e.Chain) {
		return nil
	}
	before, ok := doc.chainBefore(i)
	switch {
	case e.Linked && (!ok || !doc.confirmed(i)):
		return v.bad(doc.Key, "no chain at seq %d, and none to compute it from or to compare it with", e.End)
	case e.Linked:
		e.Chain = before.Next(e.Delta)
	case ok && before.Next(e.Delta) != e.Chain:
		return v.bad(doc.Key, "chain broken at seq %d", e.End)
	}
	if e.End == h.HeadSeq && e.Chain != h.Chain {
		return v.bad(doc.Key, "chain of the head differs from its last entry's")
	}
	return nil
}
