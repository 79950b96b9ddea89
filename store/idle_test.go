package store

import (
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// heapOf returns the bytes of heap that something made in f holds; f returns what to keep.
func heapOf(f func() any) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools held
	runtime.ReadMemStats(&before)
	keep := f()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(keep)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

func idleEngine(t *testing.T) *DocEngine {
	t.Helper()
	e, err := OpenDocs(DocOptions{Dir: "docs", FS: vfs.NewMem(), Cluster: "c", Host: "h", Incarnation: "i", CacheBytes: 1 << 20,
		MemTableBytes: 1 << 20, HeadCache: 16})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// A host has a thousand members and more, most of which hold little and do nothing.
func TestIdleMembersTakeLittleMemory(t *testing.T) {
	const n = 200
	e := idleEngine(t)
	list := make([]*Documents, 0, n)
	per := heapOf(func() any {
		for i := range uint32(n) {
			d, err := e.Member(i, FullRange())
			must(t, err)
			list = append(list, d)
		}
		return list
	}) / n
	t.Logf("%d bytes for each empty member", per)
	if per > 3<<10 {
		t.Errorf("%d bytes for each empty member", per)
	}
	grown := heapOf(func() any {
		for _, d := range list {
			for i := range uint64(4 * keptAtRest) {
				leaf := merkle.Sum{A: i, B: 1}
				d.tracker.Replace(i+1, uint8(i*7), nil, &leaf)
			}
			d.Rest()
		}
		return list
	}) / n
	t.Logf("%d bytes more after %d changes in as many buckets, and a rest", grown, 4*keptAtRest)
	if most := int64(merkle.Buckets*24 + 1<<10); grown > most {
		t.Errorf("%d bytes more for each member at rest, want at most %d", grown, most)
	}
}

// Rest forgets a past that takes much memory, and no other; the present stays what it is.
func TestRest(t *testing.T) {
	e := idleEngine(t)
	d, err := e.Member(1, FullRange())
	must(t, err)
	write := func(first, last uint64) {
		for i := first; i <= last; i++ {
			must(t, d.Apply([]Mutation{createAt(i)}, i))
		}
	}
	write(1, keptAtRest/2)
	d.Rest()
	if _, ok := d.SummaryAt(1); !ok {
		t.Error("forgot a past that takes little")
	}
	write(keptAtRest/2+1, 3*keptAtRest)
	before, version := d.Status(), d.Version()
	d.mu.Lock() // somebody writes
	d.Rest()
	d.mu.Unlock()
	if _, ok := d.SummaryAt(3*keptAtRest - 1); !ok {
		t.Error("forgot while somebody wrote")
	}
	d.Rest()
	if _, ok := d.SummaryAt(3*keptAtRest - 1); ok || d.tracker.Kept() > 0 {
		t.Error("forgot nothing")
	}
	after := d.Status()
	if s, ok := d.SummaryAt(after.Applied); !ok || s.Root() != before.Root || after.Root != before.Root || d.Version() != version {
		t.Errorf("%v; before %+v, after %+v", ok, before, after)
	}
}

// Whoever has seen a version has seen what Status tells.
func TestVersionChangesWithStatus(t *testing.T) {
	e := idleEngine(t)
	d, err := e.Member(1, FullRange())
	must(t, err)
	seen := d.Version()
	changed := func(what string, want bool) {
		t.Helper()
		if now := d.Version(); (now != seen) != want {
			t.Errorf("%s: version %d after %d", what, now, seen)
		} else {
			seen = now
		}
		s, _ := d.Summary()
		if st := d.Status(); st.Root != s.Root() {
			t.Errorf("%s: root %s, want %s", what, st.Root, s.Root())
		}
		if p, st := d.Position(), d.Status(); p.Applied != st.Applied || p.Ahead != st.Ahead || p.Complete != st.Complete || !p.Holes.Equal(st.Holes) {
			t.Errorf("%s: position %+v, status %+v", what, p, st)
		}
	}
	changed("nothing", false)
	must(t, d.Apply([]Mutation{createAt(1)}, 1))
	changed("a document", true)
	must(t, d.Apply(nil, 4))
	changed("an index without mutations", true)
	must(t, d.RecordHole(5, 9))
	changed("a hole", true)
	changed("nothing", false)
	for b := range merkle.Buckets {
		s := d.BeginSession(uint8(b))
		s.Answer(interval.Of(1, 9), 9, 0)
		if _, err := s.Finish(); err != nil {
			t.Fatal(err)
		}
	}
	changed("healed buckets", true)
	_, err = d.CloseHoles()
	must(t, err)
	changed("closed holes", true)
	if d.sessions != nil || d.meta.healed != nil || d.learned != nil {
		t.Error("a healed member keeps what only a sick one needs")
	}
}
