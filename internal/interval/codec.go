package interval

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// MaxRanges bounds the ranges of a set that Decode accepts. A member's
// coverage has one range more than it has holes, and a hole takes a marker to
// make, so honest sets stay far below.
const MaxRanges = 65536

// AppendBinary appends the one encoding of s to b:
//
//	uvarint  number of ranges
//	per range:
//	  uvarint  First, for every range but the first minus the Last before it
//	  uvarint  Last - First
//
// A set of more than MaxRanges can be encoded but not decoded.
func (s Set) AppendBinary(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	var last uint64
	for _, r := range s {
		b = binary.AppendUvarint(b, r.First-last)
		b = binary.AppendUvarint(b, r.Last-r.First)
		last = r.Last
	}
	return b
}

// Decode reads one set from the front of b and returns the rest. It accepts
// only what AppendBinary writes, and allocates no more than a small multiple
// of len(b).
func Decode(b []byte) (s Set, rest []byte, err error) {
	n, b, err := uvarint(b)
	if err != nil {
		return nil, nil, fmt.Errorf("interval: number of ranges: %w", err)
	}
	if n > MaxRanges {
		return nil, nil, fmt.Errorf("interval: %d ranges, at most %d are allowed", n, MaxRanges)
	}
	if n > uint64(len(b)/2) {
		return nil, nil, fmt.Errorf("interval: %d ranges announced, %d bytes left", n, len(b))
	}
	if n == 0 {
		return nil, b, nil
	}
	s = slices.Grow(s, int(n))
	for i := range n {
		var r Range
		if r, b, err = decodeRange(s, b); err != nil {
			return nil, nil, fmt.Errorf("interval: range %d: %w", i, err)
		}
		s = append(s, r)
	}
	return s, b, nil
}

// decodeRange reads the range that follows those of before.
func decodeRange(before Set, b []byte) (Range, []byte, error) {
	first, b, err := uvarint(b)
	if err != nil {
		return Range{}, nil, err
	}
	length, b, err := uvarint(b)
	if err != nil {
		return Range{}, nil, err
	}
	if len(before) > 0 {
		last := before.Max()
		if first < 2 {
			return Range{}, nil, errors.New("overlaps or touches the one before")
		}
		if first > math.MaxUint64-last {
			return Range{}, nil, errors.New("begins beyond the largest index")
		}
		first += last
	}
	if length > math.MaxUint64-first {
		return Range{}, nil, errors.New("ends beyond the largest index")
	}
	return Range{first, first + length}, b, nil
}

// uvarint reads a varint in its shortest form only, so that a set has one
// encoding.
func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	switch {
	case n == 0:
		return 0, nil, errors.New("truncated")
	case n < 0:
		return 0, nil, errors.New("number above 64 bits")
	case n > 1 && b[n-1] == 0:
		return 0, nil, errors.New("number not in its shortest form")
	}
	return v, b[n:], nil
}
