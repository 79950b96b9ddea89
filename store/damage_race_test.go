package store

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/adamantdb/adamant/internal/interval"
)

// A bucket that is damaged while CloseHoles waits for its fsync is a hole afterwards, all of it: what was healed before says
// nothing of it any more.
func TestDamageDuringCloseHoles(t *testing.T) {
	s, _ := bulkScript(14, 30)
	y := newDocsMember(t)
	y.follow(t, s, s.last())
	var armed atomic.Bool
	var hook func()
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo {
			if strings.HasSuffix(op.Path, ".log") && armed.CompareAndSwap(true, false) {
				hook()
			}
		}
		return nil
	}))
	e, d := openMember(t, testOptions(fs))
	defer func() { _ = e.Close() }()
	x := &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
	must(t, x.RecordHole(1, s.last()))
	for b := range 256 {
		x.pullBucket(t, y, uint8(b), 1<<20)
	}
	done := make(chan error, 1)
	hook = func() {
		go func() {
			_, err := d.Damage(9, Damaged{Whole: true})
			done <- err
		}()
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if !d.mu.TryLock() { // Damage is at work
				return
			}
			d.mu.Unlock()
		}
	}
	armed.Store(true)
	_, err := d.CloseHoles()
	must(t, err)
	if armed.Load() {
		t.Fatal("no fsync was met")
	}
	must(t, <-done)
	l, err := d.List(9, ListQuery{})
	must(t, err)
	if len(l.Rows) == 0 && l.Coverage.Covers(interval.Of(1, s.last())) {
		t.Errorf("bucket 9 is empty and claims to cover %s (complete: %v): peers delete their documents", l.Coverage, d.Status().Complete)
	}
}

// While Damage waits for its fsync nobody is told that the document is absent by a member that calls itself complete.
func TestDamageIsIncompleteBeforeItIsVisible(t *testing.T) {
	s := newScript()
	key := keyInBucket(FullRange(), 9, 0)
	s.create(key, 100)
	var armed atomic.Bool
	var hook func()
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo {
			if strings.HasSuffix(op.Path, ".log") && armed.CompareAndSwap(true, false) {
				hook()
			}
		}
		return nil
	}))
	e, d := openMember(t, testOptions(fs))
	defer func() { _ = e.Close() }()
	must(t, d.Apply(s.log, s.last()))
	must(t, e.Sync())
	hook = func() {
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, ok, err := d.Head(key); !ok && err == nil {
				if d.Complete() {
					t.Errorf("the document is absent, and the member calls itself complete")
				}
				return
			}
		}
	}
	armed.Store(true)
	_, err := d.Damage(9, Damaged{Documents: []Key{key}})
	must(t, err)
	if armed.Load() {
		t.Fatal("no fsync was met")
	}
}
