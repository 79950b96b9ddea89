package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Delta is one step of a document: it takes the document from seq SeqBegin−1 to SeqEnd. The store treats Redo, Undo and
// Request as bytes. Its canonical encoding is what is stored, what is sent, and what the chain hashes.
type Delta struct {
	SeqBegin, SeqEnd           int64 // 0 ≤ SeqBegin ≤ SeqEnd ≤ MaxSeq
	Redo, Undo                 []byte
	Who                        string
	Request                    []byte
	AssetBytes                 int64
	RequiresFutureInvalidation bool
	WhenToInvalidate           int64
}

// MaxDelta bounds one encoded delta, whatever the options say. Decoders refuse more.
const MaxDelta = 256 << 20

// MaxSeq is the highest seq: with it, the number of seqs above the lowest possible floor, −1, still fits an int64.
const MaxSeq = math.MaxInt64 - 1

const deltaFutureInvalidation = 1 << 0

// ErrEncoding is wrapped by every decoder's error: the bytes are not what this program writes.
var ErrEncoding = errors.New("malformed encoding")

// Validate checks the seq range.
func (d *Delta) Validate() error {
	if d.SeqBegin < 0 || d.SeqEnd < d.SeqBegin || d.SeqEnd > MaxSeq {
		return fmt.Errorf("delta has the seq range [%d, %d]", d.SeqBegin, d.SeqEnd)
	}
	return nil
}

// AppendBinary appends the canonical encoding. Equal deltas (nil and empty being equal) have equal bytes, and no other
// bytes decode to them:
//
//	flags u8 | seqBegin uvarint | seqEnd−seqBegin uvarint | assetBytes varint | whenToInvalidate varint
//	| redo | undo | who | request      each: length uvarint, bytes
//
// The delta must be valid.
func (d *Delta) AppendBinary(b []byte) []byte {
	flags := byte(0)
	if d.RequiresFutureInvalidation {
		flags |= deltaFutureInvalidation
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(d.SeqBegin))
	b = binary.AppendUvarint(b, uint64(d.SeqEnd-d.SeqBegin))
	b = binary.AppendVarint(b, d.AssetBytes)
	b = binary.AppendVarint(b, d.WhenToInvalidate)
	b = appendLengthed(b, d.Redo)
	b = appendLengthed(b, d.Undo)
	b = binary.AppendUvarint(b, uint64(len(d.Who)))
	b = append(b, d.Who...)
	return appendLengthed(b, d.Request)
}

// Size is the length of the canonical encoding.
func (d *Delta) Size() int {
	return 1 + uvarintSize(uint64(d.SeqBegin)) + uvarintSize(uint64(d.SeqEnd-d.SeqBegin)) +
		uvarintSize(zigzag(d.AssetBytes)) + uvarintSize(zigzag(d.WhenToInvalidate)) +
		lengthedSize(len(d.Redo)) + lengthedSize(len(d.Undo)) + lengthedSize(len(d.Who)) + lengthedSize(len(d.Request))
}

// DecodeDelta takes one delta off the front of b. The delta's byte slices alias b. It refuses anything that
// AppendBinary does not write, so decoding and encoding again gives the same bytes.
func DecodeDelta(b []byte) (d Delta, rest []byte, err error) {
	r := reader{b: b}
	flags := r.byte()
	if flags&^deltaFutureInvalidation != 0 {
		r.fail("unknown flags of a delta")
	}
	d.RequiresFutureInvalidation = flags&deltaFutureInvalidation != 0
	begin, span := r.uvarint(), r.uvarint()
	if begin > MaxSeq || span > MaxSeq-begin {
		r.fail("seq range")
	}
	d.SeqBegin, d.SeqEnd = int64(begin), int64(begin+span)
	d.AssetBytes = r.varint()
	d.WhenToInvalidate = r.varint()
	d.Redo = r.lengthed(MaxDelta)
	d.Undo = r.lengthed(MaxDelta)
	d.Who = string(r.lengthed(MaxDelta))
	d.Request = r.lengthed(MaxDelta)
	if r.err != nil {
		return Delta{}, nil, fmt.Errorf("store: decode delta: %w", r.err)
	}
	return d, r.b, nil
}

func appendLengthed(b, field []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

func lengthedSize(n int) int { return uvarintSize(uint64(n)) + n }

func uvarintSize(v uint64) int { return max(1, (bits.Len64(v)+6)/7) }

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// reader takes fields off the front of a slice. The first failure sticks; later reads return zero values. It insists on
// the shortest form of variable-length numbers, because checksums and chains cover the bytes.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrEncoding, what)
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("truncated")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	if n != uvarintSize(v) {
		r.fail("number not in its shortest form")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// nonNegative reads an unsigned number that must fit an int64.
func (r *reader) nonNegative() int64 {
	v := r.uvarint()
	if v > math.MaxInt64 {
		r.fail("number above 2^63")
		return 0
	}
	return int64(v)
}

func (r *reader) u64() uint64 {
	if len(r.b) < 8 {
		r.fail("truncated")
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// take returns the next n bytes; they alias the input.
func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("truncated")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// lengthed reads a length and that many bytes; nil when the length is zero.
func (r *reader) lengthed(limit int) []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) || n > uint64(limit) {
		r.fail("length beyond the data or the limit")
		return nil
	}
	if n == 0 {
		return nil
	}
	return r.take(int(n))
}

// end fails unless everything was consumed.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("trailing bytes")
	}
	return r.err
}
