package store

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func testPlace(i int) place {
	k := Key{Space: "space", Key: fmt.Sprint("doc", i)}
	return place{key: k, hash: k.Hash()}
}

func TestHeadCacheIsBounded(t *testing.T) {
	c := newHeadCache(64)
	for i := range 10000 {
		c.put(1, testPlace(i), &Head{HeadSeq: int64(i)}, nil)
		if h, _, ok := c.get(1, testPlace(i)); !ok || h.HeadSeq != int64(i) {
			t.Fatalf("head %d is not there", i)
		}
	}
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		n += len(s.byHash)
		listed := 0
		for e := s.order.next; e != &s.order; e = e.next {
			if listed++; s.byHash[e.ref] != e || e.next.prev != e {
				t.Fatalf("shard %d: %v is out of order", i, e.key)
			}
		}
		if listed != len(s.byHash) {
			t.Errorf("shard %d: %d in order, %d by hash", i, listed, len(s.byHash))
		}
	}
	if n > 64 {
		t.Errorf("%d heads in a cache of 64", n)
	}
}

func TestHeadCacheKeepsTheRecentlyUsed(t *testing.T) {
	c := newHeadCache(16) // one per shard
	a := testPlace(0)
	b := a
	b.key, b.hash = Key{Space: "other", Key: "doc"}, a.hash+16 // the same shard
	c.put(1, a, &Head{HeadSeq: 1}, nil)
	c.put(1, b, &Head{HeadSeq: 2}, nil)
	if _, _, ok := c.get(1, a); ok {
		t.Error("the older one stayed")
	}
	c = newHeadCache(32) // two per shard
	third := a
	third.key, third.hash = Key{Space: "third", Key: "doc"}, a.hash+32
	c.put(1, a, &Head{HeadSeq: 1}, nil)
	c.put(1, b, &Head{HeadSeq: 2}, nil)
	c.get(1, a)
	c.put(1, third, &Head{HeadSeq: 3}, nil)
	if _, _, ok := c.get(1, a); !ok {
		t.Error("the one that was used is gone")
	}
	if _, _, ok := c.get(1, b); ok {
		t.Error("the unused one stayed")
	}
}

// TestHeadCacheTellsTwinsApart: of two documents of one hash one is cached, and never taken for the other.
func TestHeadCacheTellsTwinsApart(t *testing.T) {
	c := newHeadCache(64)
	a := testPlace(0)
	b := a
	b.key = Key{Space: "other", Key: "doc"}
	c.put(1, a, &Head{HeadSeq: 1}, nil)
	if _, _, ok := c.get(1, b); ok {
		t.Error("one's head is the other's")
	}
	c.hide(1, b)
	c.drop(1, b)
	if h, _, ok := c.get(1, a); !ok || h.HeadSeq != 1 {
		t.Error("what happens to the one happens to the other")
	}
	c.put(1, b, &Head{HeadSeq: 2}, nil)
	if h, _, ok := c.get(1, b); !ok || h.HeadSeq != 2 {
		t.Error("the newer one is not there")
	}
	c.hide(1, b)
	if _, _, ok := c.get(1, b); ok {
		t.Error("a hidden head is found")
	}
	c.put(1, b, &Head{HeadSeq: 3}, nil)
	if h, _, ok := c.get(1, b); !ok || h.HeadSeq != 3 {
		t.Error("a head stays hidden")
	}
}

func TestHeadCacheSheds(t *testing.T) {
	c := newHeadCache(1000)
	for i := range 10 {
		c.put(1, testPlace(i), &Head{}, nil)
		c.put(2, testPlace(i), &Head{}, nil)
	}
	if n := c.shed(1, func(k Key) bool { return strings.HasSuffix(k.Key, "3") }); n != 1 {
		t.Errorf("shed %d", n)
	}
	if _, _, ok := c.get(1, testPlace(3)); ok {
		t.Error("still there")
	}
	if _, _, ok := c.get(2, testPlace(3)); !ok {
		t.Error("gone from another partition")
	}
	c.dropPartition(2)
	if _, _, ok := c.get(2, testPlace(4)); ok {
		t.Error("still there after its partition")
	}
	if _, _, ok := c.get(1, testPlace(4)); !ok {
		t.Error("gone with another partition")
	}
}

// TestShedCountsDocuments: Shed tells of how many documents something was kept, and asks its filter about documents. That others are known
// not to be there is forgotten all the same.
func TestShedCountsDocuments(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	must(t, d.Apply([]Mutation{createAt(1), createAt(2)}, 2))
	absent := Key{Space: "space", Key: "absent"}
	if _, ok, err := d.Head(absent); ok || err != nil {
		t.Fatal(ok, err)
	}
	h, _, err := d.Head(createAt(1).Key)
	must(t, err)
	must(t, d.Apply([]Mutation{{Kind: Delete, Key: createAt(1).Key, Index: 3, Term: 1, Generation: h.Generation}}, 3))
	var offered []Key
	n := e.Shed(7, func(k Key) bool { offered = append(offered, k); return true })
	if n != 1 || !slices.Equal(offered, []Key{createAt(2).Key}) {
		t.Errorf("%d documents were shed of a member that has one; asked about %v", n, offered)
	}
	for _, key := range []Key{absent, createAt(1).Key, createAt(2).Key} {
		if _, _, known, err := d.HeadInMemory(key); known || err != nil {
			t.Errorf("%s: %v, %v", key, known, err)
		}
	}
	must(t, e.Close())
}

// TestForgetIsOfOneDocument: a document that is closed takes nothing along of the others.
func TestForgetIsOfOneDocument(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	must(t, d.Apply([]Mutation{createAt(1), createAt(2)}, 2))
	absent := Key{Space: "space", Key: "absent"}
	if _, ok, err := d.Head(absent); ok || err != nil {
		t.Fatal(ok, err)
	}
	e.Forget(7, createAt(1).Key)
	for key, kept := range map[Key]bool{createAt(1).Key: false, createAt(2).Key: true, absent: true} {
		if _, _, known, err := d.HeadInMemory(key); known != kept || err != nil {
			t.Errorf("%s: %v, %v", key, known, err)
		}
	}
	must(t, e.Close())
}

// A reader that read before a commit, and is slow, may not put what it read over what the commit has stored; nor may
// one that read while the commit ran, when the engine may have given the old head or the new.
func TestSlowReaderDoesNotCacheThePast(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(3)
	r.apply(list[0])
	p, err := r.d.place(r.key)
	must(t, err)

	before := r.d.epoch.Load()
	old, _, err := readHead(r.e.db, 7, p)
	must(t, err)
	r.apply(list[1])
	r.d.cacheHead(p, old, true, before)
	if h := r.head(); h.HeadSeq != 2 {
		t.Errorf("head %d after 2 was applied", h.HeadSeq)
	}
	r.e.heads.drop(7, p)
	r.d.cacheHead(p, old, true, before)
	if h := r.head(); h.HeadSeq != 2 {
		t.Errorf("head %d after 2 was applied", h.HeadSeq)
	}

	r.e.heads.drop(7, p)
	r.d.epoch.Add(1) // as while a commit runs
	r.d.cacheHead(p, old, true, r.d.epoch.Load())
	r.d.epoch.Add(1)
	if h := r.head(); h.HeadSeq != 2 {
		t.Errorf("head %d, read while a commit ran, was cached", h.HeadSeq)
	}
}

// While a batch is on its way the epoch is odd, and the heads it changes are not in the cache.
func TestCommitHidesTheHeadsItChanges(t *testing.T) {
	var observe atomic.Pointer[func()]
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f := observe.Load(); f != nil && strings.HasSuffix(op.Path, ".log") && op.Kind == errorfs.OpFileWrite {
			(*f)()
		}
		return nil
	}))
	e, d := openMember(t, testOptions(fs))
	m := createAt(1)
	must(t, d.Apply([]Mutation{m}, 1))
	p, err := d.place(m.Key)
	must(t, err)
	h, _, err := d.Head(m.Key)
	must(t, err)
	writes, epoch := 0, d.epoch.Load()
	f := func() {
		writes++
		if d.epoch.Load() != epoch+1 {
			t.Errorf("epoch %d during a commit, %d before", d.epoch.Load(), epoch)
		}
		if _, _, ok := e.heads.get(7, p); ok {
			t.Error("the head that is being changed is in the cache")
		}
	}
	observe.Store(&f)
	d.mu.Lock()
	b := d.begin()
	s, err := b.document(p)
	must(t, err)
	next := appendAt(2, m.Key, h, 1)
	_, err = Replay(&batchDoc{b, s}, &next, false)
	must(t, err)
	b.settle(s, 2)
	b.advance(2)
	must(t, b.commit(true))
	b.close()
	d.mu.Unlock()
	observe.Store(nil)
	if h, _, _ := d.Head(m.Key); writes == 0 || h.HeadSeq != 2 || d.epoch.Load() != epoch+2 || epoch%2 != 0 {
		t.Errorf("%d writes, head %d, epoch %d", writes, h.HeadSeq, d.epoch.Load())
	}
	must(t, e.Close())
}

func TestDroppedMemberLeavesNothingInTheCache(t *testing.T) {
	r := newRuleRun(t)
	r.apply(r.mutations(1)...)
	p, err := r.d.place(r.key)
	must(t, err)
	before := r.d.epoch.Load()
	old, _, err := readHead(r.e.db, 7, p)
	must(t, err)
	must(t, r.e.Drop(7))
	r.d.cacheHead(p, old, true, before) // a reader that began before
	fresh, err := r.e.Member(7, FullRange())
	must(t, err)
	if h, ok, err := fresh.Head(r.key); ok || err != nil {
		t.Errorf("%+v, %v", h, err)
	}
}
