package merkle

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxCompactSize is the most bytes AppendCompact appends.
const MaxCompactSize = 1 + bitmapSize + binary.MaxVarintLen64 + Buckets*(16+binary.MaxVarintLen64)

const (
	someBuckets = 0 // a bitmap says which
	allBuckets  = 1
)

// AppendCompact appends the encoding of s that travels. It says the same as AppendBinary, which is what a root is the hash of,
// in fewer bytes when the buckets hold about the same number of documents each, as hashes make them:
//
//	1 byte    1 when no bucket is zero, else 0 and 32 bytes of bitmap as in AppendBinary
//	uvarint   mean: the sum of the counts (modulo 2⁶⁴) over the number of buckets that are not zero, rounded down
//	per bucket that is not zero, ascending:
//	  8 bytes  lane A, big endian
//	  8 bytes  lane B, big endian
//	  varint   count − mean
//
// About 4.4 KB when every bucket holds hundreds of documents.
func (s *Summary) AppendCompact(b []byte) []byte {
	n, mean := s.mean()
	if n == Buckets {
		b = append(b, allBuckets)
	} else {
		b = append(b, someBuckets)
		at := len(b)
		b = append(b, make([]byte, bitmapSize)...)
		for i := range s {
			if s[i] != (Bucket{}) {
				b[at+i/8] |= 1 << (i % 8)
			}
		}
	}
	b = binary.AppendUvarint(b, mean)
	for i := range s {
		if k := &s[i]; *k != (Bucket{}) {
			b = binary.BigEndian.AppendUint64(b, k.Sum.A)
			b = binary.BigEndian.AppendUint64(b, k.Sum.B)
			b = binary.AppendVarint(b, int64(k.Count-mean))
		}
	}
	return b
}

// mean returns how many buckets are not zero, and the mean of their counts.
func (s *Summary) mean() (n int, mean uint64) {
	for i := range s {
		if s[i] != (Bucket{}) {
			n++
			mean += s[i].Count
		}
	}
	return n, mean / uint64(max(n, 1))
}

// DecodeCompact reads what AppendCompact writes, and nothing else, from the front of b and returns the rest. It allocates
// nothing.
func DecodeCompact(b []byte) (s Summary, rest []byte, err error) {
	if len(b) == 0 {
		return Summary{}, nil, errors.New("merkle: summary: truncated")
	}
	form, b := b[0], b[1:]
	var bitmap [bitmapSize]byte
	switch {
	case form == allBuckets:
		for i := range bitmap {
			bitmap[i] = 0xff
		}
	case form != someBuckets:
		return Summary{}, nil, fmt.Errorf("merkle: summary: unknown form %d", form)
	case len(b) < bitmapSize:
		return Summary{}, nil, errors.New("merkle: summary: truncated")
	default:
		b = b[copy(bitmap[:], b):]
	}
	mean, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return Summary{}, nil, errors.New("merkle: summary: mean")
	}
	b = b[n:]
	for i := range s {
		if bitmap[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		if s[i], b, err = decodeCompactBucket(b, mean); err != nil {
			return Summary{}, nil, fmt.Errorf("merkle: summary: bucket %d: %w", i, err)
		}
	}
	switch got, want := s.mean(); {
	case want != mean:
		return Summary{}, nil, errors.New("merkle: summary: the mean of other counts")
	case got == Buckets && form != allBuckets:
		return Summary{}, nil, errors.New("merkle: summary: a bitmap of everything")
	}
	return s, b, nil
}

func decodeCompactBucket(b []byte, mean uint64) (Bucket, []byte, error) {
	if len(b) < 17 {
		return Bucket{}, nil, errors.New("truncated")
	}
	k := Bucket{Sum: Sum{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}}
	b = b[16:]
	off, n := binary.Varint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return Bucket{}, nil, errors.New("count")
	}
	if k.Count = mean + uint64(off); k == (Bucket{}) {
		return Bucket{}, nil, errors.New("marked as not zero, but is")
	}
	return k, b[n:], nil
}
