package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// TestLaneSums: both lanes are what xxhash's own digest makes of the same bytes.
func TestLaneSums(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 5000)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	oracle := func(seed uint64, parts ...[]byte) uint64 {
		d := xxhash.NewWithSeed(seed)
		for _, p := range parts {
			_, _ = d.Write(p)
		}
		return d.Sum64()
	}
	for prefix := range xxStripe {
		for n := range 200 {
			for _, n := range []int{n, n + random.IntN(4500)} {
				p, b := data[:prefix], data[prefix:prefix+n]
				gotA, gotB := laneSums(chainSeedA, chainSeedB, p, b)
				if wantA, wantB := oracle(chainSeedA, p, b), oracle(chainSeedB, p, b); gotA != wantA || gotB != wantB {
					t.Fatalf("%d bytes behind %d: %x %x, want %x %x", n, prefix, gotA, gotB, wantA, wantB)
				}
			}
		}
	}
}

func BenchmarkChainNext(b *testing.B) {
	for _, size := range []int{16, 70, 256, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			delta := make([]byte, size)
			c := SeedChain(Key{Space: "s", Key: "k"})
			for b.Loop() {
				c = c.Next(delta)
			}
		})
	}
}
