package store

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDropBesideWriters: a write that began before Drop and finds the lock only after it must not bring the member back.
// The writers are made to wait for the lock, and Drop in the middle of them.
func TestDropBesideWriters(t *testing.T) {
	e, err := OpenDocs(testOptions(vfs.NewMem()))
	must(t, err)
	for round := range 200 {
		d, err := e.Member(3, FullRange())
		must(t, err)
		var wg sync.WaitGroup
		d.mu.Lock()
		waiting := func(op func() error) {
			wg.Go(func() {
				if err := op(); err != nil && !errors.Is(err, ErrDropped) {
					t.Error(err)
				}
			})
			for range 50 { // most often it is at the lock by then
				runtime.Gosched()
			}
		}
		waiting(func() error { return e.Drop(3) })
		if round%2 == 0 {
			waiting(func() error { return d.Apply([]Mutation{createAt(1)}, 1) })
		} else {
			waiting(func() error { return d.RecordHole(1, 7) })
		}
		d.mu.Unlock()
		wg.Wait()
		fresh, err := e.Member(3, FullRange())
		must(t, err)
		if s := fresh.Status(); s.Applied != 0 || s.Ahead != 0 || !s.Holes.Empty() || s.Documents != 0 {
			t.Fatalf("the dropped member is back: %+v", s)
		}
		must(t, e.Drop(3))
	}
	must(t, e.Close())
}
