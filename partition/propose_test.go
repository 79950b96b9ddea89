package partition

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/adamantdb/adamant/store"
)

// coldDocs has no head in memory, and notes for each read of one whether the partition was free meanwhile.
type coldDocs struct {
	Documents
	part *atomic.Pointer[Partition]

	mu   sync.Mutex
	free []bool
}

func (d *coldDocs) HeadInMemory(store.Key) (store.Head, bool, bool, error) {
	return store.Head{}, false, false, nil
}

func (d *coldDocs) Head(k store.Key) (store.Head, bool, error) {
	if p := d.part.Load(); p != nil {
		free := p.mu.TryLock()
		if free {
			p.mu.Unlock()
		}
		d.mu.Lock()
		d.free = append(d.free, free)
		d.mu.Unlock()
	}
	return d.Documents.Head(k)
}

func (d *coldDocs) take() []bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.free
	d.free = nil
	return seen
}

// TestColdHeads: a head that is not in memory is read while nobody waits for the partition, and what is still not in memory then,
// because it was forgotten again or there is no such document, is found all the same.
func TestColdHeads(t *testing.T) { synctest.Test(t, testColdHeads) }

func testColdHeads(t *testing.T) {
	var part atomic.Pointer[Partition]
	docs := &coldDocs{part: &part}
	g := newGroup(t, 1, func(o *Options) { docs.Documents, o.Documents = o.Documents, docs })
	leader := g.serving()
	part.Store(leader.part)
	must(t, leader.create("a"))
	if seen := docs.take(); !slices.Equal(seen, []bool{true, false}) {
		t.Errorf("create: heads were read with the partition free: %v", seen)
	}
	_, err := leader.append("a", 2, `{"x":2}`)
	must(t, err)
	if seen := docs.take(); !slices.Equal(seen, []bool{true, false}) {
		t.Errorf("append: heads were read with the partition free: %v", seen)
	}
}
