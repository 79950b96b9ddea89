package store

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/cespare/xxhash/v2"
)

// Chain is a running hash over the deltas of a document: two members with the same chain at the same seq hold the same
// history. Two xxhash64 lanes with different seeds; it detects accidents and divergence, not malice.
type Chain [16]byte

const (
	chainSeedA uint64 = 0x9ae16a3b2f90404f
	chainSeedB uint64 = 0xc3a5c85c97cb3127

	// Domain tags keep a seed, a step and a replacement apart.
	chainTagSeed     byte = 0
	chainTagDelta    byte = 1
	chainTagReplaced byte = 2
)

// SeedChain is the chain of a document before its first delta. It depends on the key only: the generation is a Raft
// index, unknown when the leader evaluates a create.
func SeedChain(key Key) Chain {
	var prefix [1 + 8]byte
	prefix[0] = chainTagSeed
	binary.BigEndian.PutUint64(prefix[1:], uint64(len(key.Space)))
	return chainSum(prefix[:], []byte(key.Space), []byte(key.Key))
}

// Next is the chain after a delta, given as its canonical bytes.
func (c Chain) Next(canonicalDelta []byte) Chain {
	var prefix [1 + 16]byte
	prefix[0] = chainTagDelta
	copy(prefix[1:], c[:])
	var out Chain
	a, b := laneSums(chainSeedA, chainSeedB, prefix[:], canonicalDelta)
	binary.BigEndian.PutUint64(out[:], a)
	binary.BigEndian.PutUint64(out[8:], b)
	return out
}

// Replaced is the chain of a document whose content was replaced by a base at seq.
func (c Chain) Replaced(seq int64, base []byte) Chain {
	var prefix [1 + 16 + 8]byte
	prefix[0] = chainTagReplaced
	copy(prefix[1:], c[:])
	binary.BigEndian.PutUint64(prefix[17:], uint64(seq))
	return chainSum(prefix[:], base, nil)
}

func (c Chain) String() string { return hex.EncodeToString(c[:]) }

func chainSum(a, b, c []byte) Chain {
	var out Chain
	var d xxhash.Digest
	for lane, seed := range [2]uint64{chainSeedA, chainSeedB} {
		d.ResetWithSeed(seed)
		_, _ = d.Write(a) // Digest.Write never fails
		_, _ = d.Write(b)
		_, _ = d.Write(c)
		binary.BigEndian.PutUint64(out[8*lane:], d.Sum64())
	}
	return out
}
