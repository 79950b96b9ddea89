package store

import (
	"encoding/binary"
	"fmt"

	"github.com/adamantdb/adamant/merkle"
)

// Head is what a member knows of a document without reading its entries. Documents' mutex guards the stored one; as a
// value it is free.
//
//	          BaseSeq (any place at or above Floor)
//	dropped │    │     entries, contiguous          │
//	────────┼────┴──────────────────────────────────┤
//	      Floor                                  HeadSeq
//
// Invariants: Floor ≤ HeadSeq; every stored entry has Floor < SeqEnd ≤ HeadSeq; BaseIndex ≤ LastIndex.
type Head struct {
	Generation uint64 // Raft index that created or replaced the document
	LastIndex  uint64 // Raft index that last changed it; it only grows

	HeadSeq int64 // SeqEnd of the newest delta, or BaseSeq after a replacement
	Chain   Chain // after the newest delta

	HasBase   bool
	BaseSeq   int64  // the base is the document at this seq
	BaseIndex uint64 // Raft index of the command that brought it
	BaseBytes int64

	// Floor: every delta with SeqEnd > Floor is kept. For a document that was never compacted it is SeqBegin of the
	// first delta − 1 (so −1 at least); −1 while FloorKnown is false, which makes it the neutral element of max.
	Floor      int64
	Dropped    bool // a compaction or replacement dropped something at or below Floor
	FloorKnown bool // false on a sick member that has seen neither the creation nor a compaction

	Span    int64 // Σ (SeqEnd − SeqBegin + 1) of the stored entries
	Entries int64 // stored entries
	Bytes   int64 // Σ canonical size of the stored entries' deltas
}

// Gap reports whether entries that belong to the document are missing here. A member with a gap is sick.
func (h *Head) Gap() bool { return !h.FloorKnown || h.Span != h.HeadSeq-h.Floor }

// neutralFloor stands for "unknown": below every delta, and lost in any maximum.
const neutralFloor = -1

const (
	headVersion = 1

	headHasBase    = 1 << 0
	headDropped    = 1 << 1
	headFloorKnown = 1 << 2
	headFlags      = headHasBase | headDropped | headFloorKnown
)

// appendHead appends the stored form of a head:
//
//	version u8 | flags u8 (1 has base, 2 dropped, 4 floor known) | generation uvarint | lastIndex uvarint
//	| headSeq uvarint | chain 16 | baseSeq uvarint | baseIndex uvarint | baseBytes uvarint | floor+1 uvarint
//	| span uvarint | entries uvarint | bytes uvarint
func appendHead(b []byte, h *Head) []byte {
	flags := byte(0)
	if h.HasBase {
		flags |= headHasBase
	}
	if h.Dropped {
		flags |= headDropped
	}
	if h.FloorKnown {
		flags |= headFloorKnown
	}
	b = append(b, headVersion, flags)
	b = binary.AppendUvarint(b, h.Generation)
	b = binary.AppendUvarint(b, h.LastIndex)
	b = binary.AppendUvarint(b, uint64(h.HeadSeq))
	b = append(b, h.Chain[:]...)
	b = binary.AppendUvarint(b, uint64(h.BaseSeq))
	b = binary.AppendUvarint(b, h.BaseIndex)
	b = binary.AppendUvarint(b, uint64(h.BaseBytes))
	b = binary.AppendUvarint(b, uint64(h.Floor+1))
	b = binary.AppendUvarint(b, uint64(h.Span))
	b = binary.AppendUvarint(b, uint64(h.Entries))
	return binary.AppendUvarint(b, uint64(h.Bytes))
}

// decodeHead is the inverse of appendHead. It takes one head off the front of b.
func decodeHead(b []byte) (h Head, rest []byte, err error) {
	r := reader{b: b}
	if v := r.byte(); v != headVersion {
		r.fail(fmt.Sprintf("head version %d, this program knows %d", v, headVersion))
	}
	flags := r.byte()
	if flags&^headFlags != 0 {
		r.fail("unknown flags of a head")
	}
	h.HasBase = flags&headHasBase != 0
	h.Dropped = flags&headDropped != 0
	h.FloorKnown = flags&headFloorKnown != 0
	h.Generation = r.uvarint()
	h.LastIndex = r.uvarint()
	h.HeadSeq = r.nonNegative()
	copy(h.Chain[:], r.take(len(h.Chain)))
	h.BaseSeq = r.nonNegative()
	h.BaseIndex = r.uvarint()
	h.BaseBytes = r.nonNegative()
	h.Floor = r.nonNegative() - 1
	h.Span = r.nonNegative()
	h.Entries = r.nonNegative()
	h.Bytes = r.nonNegative()
	if r.err == nil && !h.possible() {
		r.fail("head that contradicts itself")
	}
	if r.err != nil {
		return Head{}, nil, r.err
	}
	return h, r.b, nil
}

// possible verifies the invariants that hold for every stored head.
func (h *Head) possible() bool {
	base := h.BaseSeq >= 0 && h.BaseBytes >= 0 && h.BaseIndex <= h.LastIndex
	if !h.HasBase {
		base = h.BaseSeq == 0 && h.BaseIndex == 0 && h.BaseBytes == 0
	}
	return base && h.HeadSeq >= 0 && neutralFloor <= h.Floor && h.Floor <= h.HeadSeq && h.Generation <= h.LastIndex &&
		h.Span >= 0 && h.Entries >= 0 && h.Bytes >= 0
}

// leaf is the document's contribution to its bucket's sum: only what members with the same state agree on, never layout
// or counts (design §7).
func leaf(key Key, h *Head) merkle.Sum {
	var buf [256]byte // longer keys take memory: as much as they may would be cleared for each change of each document
	b := append(buf[:0], byte(len(key.Space)))
	b = append(b, key.Space...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key.Key)))
	b = append(b, key.Key...)
	b = binary.BigEndian.AppendUint64(b, h.Generation)
	b = binary.BigEndian.AppendUint64(b, uint64(h.BaseSeq))
	b = binary.BigEndian.AppendUint64(b, h.BaseIndex)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Floor))
	b = binary.BigEndian.AppendUint64(b, uint64(h.HeadSeq))
	b = append(b, h.Chain[:]...)
	flags := byte(0)
	if h.Gap() {
		flags |= 1
	}
	return merkle.HashLeaf(append(b, flags))
}
