package store

import (
	"runtime"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestAbandon: nothing is given up while something else is missing; then everything is, durably.
func TestAbandon(t *testing.T) {
	x, s := newDocsMember(t), newScript()
	key := Key{"space", "doc"}
	s.create(key, 10)
	s.append(key, 20, 10)
	for range 20 {
		s.append(key, 1, 10)
	}
	lost := interval.Of(10, 12)
	if done, err := x.Abandon(lost); err != nil || done {
		t.Fatalf("without holes: %v, %v", done, err)
	}
	x.follow(t, s, 20, interval.Range{First: 3, Last: 6}, interval.Range{First: 10, Last: 12})
	if done, err := x.Abandon(lost); err != nil || done || !x.Position().Holes.Equal(interval.Set{{First: 3, Last: 6}, {First: 10, Last: 12}}) {
		t.Fatalf("gave up while something else was missing: %v, %v, %s", done, err, x.Position().Holes)
	}
	x.markAll(t, interval.Of(1, 6))
	if _, err := x.CloseHoles(); err != nil {
		t.Fatal(err)
	}
	if done, err := x.Abandon(interval.Of(10, 11)); err != nil || done {
		t.Fatalf("gave up more than was lost: %v, %v", done, err)
	}
	if done, err := x.Abandon(lost); err != nil || !done || !x.Complete() {
		t.Fatalf("%v, %v, %s", done, err, x.Position().Holes)
	}
}

// TestHeldKnowsItsRange: documents are opened with the range they were created with, and only if there are any.
func TestHeldKnowsItsRange(t *testing.T) {
	e, err := OpenDocs(testOptions(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if d, ok, err := e.Held(3); d != nil || ok || err != nil {
		t.Fatalf("%v, %v, %v", d, ok, err)
	}
	r := Range{First: 5, Last: 1 << 40}
	if _, err := e.Member(3, r); err != nil {
		t.Fatal(err)
	}
	if d, ok, err := e.Held(3); err != nil || !ok || d.Range() != r {
		t.Fatalf("%v, %v", ok, err)
	}
}

// TestAbandonBesideDamage: a scrub takes a document out of a bucket while what is lost is given up. The bucket covers nothing then: peers
// may hold what was changed at a lost index.
func TestAbandonBesideDamage(t *testing.T) {
	lost := interval.Of(10, 12)
	for try := range 50 {
		x, s := newDocsMember(t), newScript()
		key := Key{"space", "doc"}
		s.create(key, 10)
		s.append(key, 20, 10)
		for range 20 {
			s.append(key, 1, 10)
		}
		x.follow(t, s, 20, interval.Range{First: 10, Last: 12})
		bucket := x.hashes.Bucket(key.Hash())
		damaged := make(chan error, 1)
		go func() {
			for range try * 10 { // somewhere in the middle of it
				runtime.Gosched()
			}
			_, err := x.Damage(bucket, Damaged{Documents: []Key{key}})
			damaged <- err
		}()
		_, err := x.Abandon(lost)
		if err2 := <-damaged; err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if c := x.meta.bucketCoverage(bucket); !c.Intersect(interval.Of(1, 20)).Empty() {
			t.Fatalf("try %d: the damaged bucket, of which %v is gone, claims to cover %s; the member's holes are %s", try, key, c, x.Position().Holes)
		}
	}
}
