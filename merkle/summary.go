package merkle

import (
	"encoding/binary"
	"sync"
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
	b := scratch.Get().(*[MaxSummarySize]byte)
	defer scratch.Put(b)
	return HashLeaf(s.AppendBinary(b[:0]))
}

// scratch is for roots: as variables these would let many a stack grow.
var scratch = sync.Pool{New: func() any { return new([MaxSummarySize]byte) }}

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

// AppendBinary appends to b what a root is the hash of; AppendCompact is for
// what travels:
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
