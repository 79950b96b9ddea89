package antientropy

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// TestFalsehoods: a peer that answers wrongly in good form, again and again, neither spoils nor hinders what another one heals.
func TestFalsehoods(t *testing.T) {
	for f := range Falsehoods {
		t.Run(f.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, "a", "b", "c")
				defer c.close()
				h := c.load(2000, 2, 100, "a", "b", "c")
				h.busy(500, 1500, 50)
				c.machines["a"].apply(p0, h.last())
				c.machines["b"].apply(p0, h.last())
				var mu sync.Mutex
				told, r := 0, rand.New(rand.NewPCG(uint64(f), 1))
				c.intercept = func(_, to string, _ uint32, request []byte, serve server) ([]byte, error) {
					b, err := serve(request)
					if to != "a" || err != nil || !Substantial(b) {
						return b, err
					}
					mu.Lock()
					defer mu.Unlock()
					bind(b, request) // as it is on its way; the harness does so once more
					if other, ok := Falsify(request, b, f, r); ok {
						told++
						b = other
					}
					bind(b, request)
					return b, nil
				}
				sick := c.machines["c"]
				sick.skip(p0, h.last())
				l := sick.start(Options{ChunkBytes: 8 << 10, Highest: func(uint32) uint64 { return h.last() + 100 }})
				sick.heal()
				c.sameRoots(p0, "b", "c")
				if s := l.Stats(); told == 0 || s.Divergences > 0 {
					t.Errorf("%d lies: %+v", told, s)
				}
			})
		})
	}
}
