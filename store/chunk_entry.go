package store

import (
	"encoding/binary"
	"fmt"
)

// entryOfBody returns what an entry's record holds; its checksum is verified, and key is the seq in its key. The delta
// aliases body, and only its seqs are looked at.
func entryOfBody(body []byte, key int64) (ChunkEntry, error) {
	const deltaAt = entryOverhead - checksumLen
	if len(body) <= deltaAt {
		return ChunkEntry{}, fmt.Errorf("%w: entry of %d bytes", ErrEncoding, len(body))
	}
	delta := body[deltaAt:]
	r := reader{b: delta[1:]}
	begin, span := r.uvarint(), r.uvarint()
	if r.err == nil && (begin > MaxSeq || span > MaxSeq-begin) {
		r.fail("seq range")
	}
	if r.err != nil {
		return ChunkEntry{}, r.err
	}
	if end := int64(begin + span); end != key {
		return ChunkEntry{}, fmt.Errorf("%w: delta ends at %d under the key of %d", ErrEncoding, end, key)
	}
	e := ChunkEntry{Mark: Mark{Begin: int64(begin), End: key, Index: binary.BigEndian.Uint64(body)},
		Term: binary.BigEndian.Uint64(body[8:]), Delta: delta}
	copy(e.Chain[:], body[16:])
	return e, nil
}

// appendValue appends the stored form of the entry; see appendEntryValue.
func (e *ChunkEntry) appendValue(b []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, e.Chain[:]...)
	b = append(b, e.Delta...)
	return appendSum(b, start)
}

// follows reports whether the chunk tells the chain before an entry: it is that of the entry before it, or, when it is
// the first of a document that never dropped any, that of the key.
func (doc *ChunkDoc) follows(i int) bool {
	e := &doc.Entries[i]
	if i > 0 && doc.Entries[i-1].End+1 == e.Begin {
		return known(doc.Entries[i-1].Chain)
	}
	h := &doc.Head
	return h.FloorKnown && !h.Dropped && e.Begin == h.Floor+1 && e.Index == h.Generation
}

// chainBefore returns the chain before an entry, if the chunk tells it.
func (doc *ChunkDoc) chainBefore(i int) (Chain, bool) {
	if !doc.follows(i) {
		return Chain{}, false
	}
	if i > 0 && doc.Entries[i-1].End+1 == doc.Entries[i].Begin {
		return doc.Entries[i-1].Chain, true
	}
	return SeedChain(doc.Key), true
}

// confirmed reports whether a chain that is sent, or the head's, shows later on that the entry's chain was computed from
// the right bytes.
func (doc *ChunkDoc) confirmed(i int) bool {
	e := &doc.Entries[i]
	if e.End == doc.Head.HeadSeq {
		return true
	}
	return i+1 < len(doc.Entries) && e.End+1 == doc.Entries[i+1].Begin && (doc.Entries[i+1].Linked || known(doc.Entries[i+1].Chain))
}

// link marks the entries whose chains need not be sent. A run of entries is sent with one chain at most, at its end, and
// at the head with none:
//
//	linked   linked   linked   chain      (gap)      linked   head
//
// So whoever computes the chains finds at the end of each run whether all its deltas are what was stored here.
func (doc *ChunkDoc) link() {
	for i := len(doc.Entries) - 1; i >= 0; i-- {
		e := &doc.Entries[i]
		e.Linked = known(e.Chain) && doc.confirmed(i) && doc.follows(i)
	}
}
