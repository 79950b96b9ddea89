package store

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
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

// TestRecordsGoWithTheirPartition: wherever a host dies while it drops a partition, host-wide records that go with it are there when
// its documents are, and gone when they are gone.
func TestRecordsGoWithTheirPartition(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var mu sync.Mutex // the engine writes in the background, too
	var clones []*vfs.MemFS
	dropping := false
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if dropping && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			for _, unsynced := range []int{0, 100} {
				clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(1, 2))}))
			}
		}
		return nil
	}))
	e, d := openMember(t, testOptions(fs))
	must(t, d.Apply([]Mutation{createAt(1)}, 1))
	must(t, d.Flush())
	must(t, e.SetMeta("its", []byte("x")))
	must(t, e.SetMeta("other", []byte("y")))
	mu.Lock()
	dropping = true
	mu.Unlock()
	must(t, e.Drop(7, "its", "never there"))
	mu.Lock()
	dropping = false
	mu.Unlock()
	must(t, e.Close())
	clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{}))
	kept := 0
	for i, clone := range clones {
		e, err := OpenDocs(testOptions(clone))
		must(t, err)
		members, err := e.Members()
		must(t, err)
		_, its, err := e.Meta("its")
		must(t, err)
		if _, other, err := e.Meta("other"); err != nil || !other {
			t.Errorf("crash %d: another record is gone: %v", i, err)
		}
		if its != (len(members) == 1) {
			t.Errorf("crash %d: members %v, record there: %v", i, members, its)
		}
		if its {
			kept++
		}
		must(t, e.Close())
	}
	if kept == 0 || kept == len(clones) {
		t.Errorf("%d of %d crashes came before the drop", kept, len(clones))
	}
}
