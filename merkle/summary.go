package merkle

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Buckets is the number of buckets of every summary.
const Buckets = 256

// Bucket is the sum of the leaves of one bucket and how many there are.
type Bucket struct {
	Sum   Sum
	Count uint64
}

// Add is the bucket that holds the leaves of both.
func (b Bucket) Add(c Bucket) Bucket { return Bucket{b.Sum.Add(c.Sum), b.Count + c.Count} }

// Sub is the bucket without the leaves of c.
func (b Bucket) Sub(c Bucket) Bucket { return Bucket{b.Sum.Sub(c.Sum), b.Count - c.Count} }

// Summary is the buckets of one partition. It is a value: assignment copies
// it, == compares it, and the zero Summary is that of an empty partition.
type Summary [Buckets]Bucket

const (
	bitmapSize = Buckets / 8
	// MaxSummarySize is the most bytes a Summary encodes to.
	MaxSummarySize = bitmapSize + Buckets*(16+binary.MaxVarintLen64)
)

// Root is the hash of the summary's encoding: equal roots mean equal buckets,
// as far as a 128-bit hash can tell.
func (s *Summary) Root() Sum {
	var b [MaxSummarySize]byte
	return HashLeaf(s.AppendBinary(b[:0]))
}

// Diff is the buckets in which a and b differ, ascending.
func Diff(a, b *Summary) []uint8 {
	var d []uint8
	for i := range a {
		if a[i] != b[i] {
			d = append(d, uint8(i))
		}
	}
	return d
}

// AppendBinary appends the one encoding of s to b:
//
//	32 bytes  bitmap: bit i%8 of byte i/8 is set when bucket i is not zero
//	per bucket that is not zero, ascending:
//	  8 bytes  lane A, big endian
//	  8 bytes  lane B, big endian
//	  uvarint  count
//
// About 4.6 KB when every bucket holds documents, 32 bytes when none does.
func (s *Summary) AppendBinary(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, bitmapSize)...)
	for i := range s {
		k := &s[i]
		if *k == (Bucket{}) {
			continue
		}
		b[at+i/8] |= 1 << (i % 8)
		b = binary.BigEndian.AppendUint64(b, k.Sum.A)
		b = binary.BigEndian.AppendUint64(b, k.Sum.B)
		b = binary.AppendUvarint(b, k.Count)
	}
	return b
}

// DecodeSummary reads one summary from the front of b and returns the rest. It
// accepts only what AppendBinary writes, so it reads at most MaxSummarySize
// bytes, and allocates nothing.
func DecodeSummary(b []byte) (s Summary, rest []byte, err error) {
	if len(b) < bitmapSize {
		return Summary{}, nil, fmt.Errorf("merkle: summary: %d bytes, the bitmap alone takes %d", len(b), bitmapSize)
	}
	bitmap, b := b[:bitmapSize], b[bitmapSize:]
	for i := range s {
		if bitmap[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		if s[i], b, err = decodeBucket(b); err != nil {
			return Summary{}, nil, fmt.Errorf("merkle: summary: bucket %d: %w", i, err)
		}
	}
	return s, b, nil
}

func decodeBucket(b []byte) (Bucket, []byte, error) {
	if len(b) < 17 {
		return Bucket{}, nil, errors.New("truncated")
	}
	k := Bucket{Sum: Sum{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}}
	b = b[16:]
	count, n := binary.Uvarint(b)
	switch {
	case n == 0:
		return Bucket{}, nil, errors.New("truncated")
	case n < 0:
		return Bucket{}, nil, errors.New("count above 64 bits")
	case n > 1 && b[n-1] == 0:
		return Bucket{}, nil, errors.New("count not in its shortest form")
	}
	k.Count = count
	if k == (Bucket{}) {
		return Bucket{}, nil, errors.New("marked as not zero, but is")
	}
	return k, b[n:], nil
}
