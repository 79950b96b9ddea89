package merkle

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// seedB is the seed of lane B; lane A uses 0, which xxhash computes fastest.
// Part of the format: members with different seeds never agree.
const seedB = 0x6164616d616e7442 // "adamantB"

// Sum is a sum of leaf hashes in two independent lanes, each modulo 2^64. The
// zero Sum is the sum of nothing.
type Sum struct{ A, B uint64 }

// Add is s with t added.
func (s Sum) Add(t Sum) Sum { return Sum{s.A + t.A, s.B + t.B} }

// Sub is s with t taken out: s.Add(t).Sub(t) == s.
func (s Sum) Sub(t Sum) Sum { return Sum{s.A - t.A, s.B - t.B} }

// String is the 32 hexadecimal digits of A and B.
func (s Sum) String() string { return fmt.Sprintf("%016x%016x", s.A, s.B) }

// HashLeaf hashes the canonical bytes of one leaf into both lanes.
func HashLeaf(canonical []byte) Sum {
	var d xxhash.Digest
	d.ResetWithSeed(seedB)
	_, _ = d.Write(canonical) // never fails
	return Sum{xxhash.Sum64(canonical), d.Sum64()}
}
