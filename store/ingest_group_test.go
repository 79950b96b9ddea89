package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

// groupScript fills some buckets with documents of a few entries, and returns their keys by bucket.
func groupScript(buckets, documents int) (*script, [][]Key) {
	s, keys := newScript(), make([][]Key, buckets)
	for b := range keys {
		for i := range documents {
			key := keyInBucket(FullRange(), uint8(b), i)
			keys[b] = append(keys[b], key)
			s.create(key, 20)
			s.append(key, 5, 20)
		}
	}
	return s, keys
}

// gatherBuckets begins a session for each bucket and imports all that the peer has.
func gatherBuckets(t *testing.T, x, y *docsMember, buckets int) []*Session {
	sessions := make([]*Session, buckets)
	for b := range sessions {
		bucket := uint8(b)
		sessions[b] = x.BeginSession(bucket)
		answer := pageOf(t, y.Documents, bucket, ListQuery{})
		wants, err := x.Wants(bucket, answer.Hashes(), Cursor{})
		must(t, err)
		_, err = sessions[b].Import(exportOver(t, y.Documents, bucket, &ExportQuery{Wants: wants, Budget: 1 << 20}, &traffic{}))
		must(t, err)
		if len(sessions[b].bulk.docs) == 0 {
			t.Fatal("nothing gathered")
		}
	}
	return sessions
}

// meet returns a hook that waits until so many runs have written their tables, and does something before they go on.
func meet(runs int, before func()) func() {
	var all sync.WaitGroup
	all.Add(runs)
	var once sync.Once
	return func() {
		all.Done()
		all.Wait()
		once.Do(before)
	}
}

func finishAll(sessions []*Session) []error {
	errs := make([]error, len(sessions))
	var all sync.WaitGroup
	for i, s := range sessions {
		all.Go(func() { _, errs[i] = s.Finish() })
	}
	all.Wait()
	return errs
}

// TestRunsAreInstalledTogether: sessions that end while the writers' lock is taken share one call of Ingest.
func TestRunsAreInstalledTogether(t *testing.T) {
	const buckets = 12
	s, _ := groupScript(buckets, 8)
	x, y := newDocsMember(t), newDocsMember(t)
	x.e.bulk.limits = bulkLimits{chunk: 1, table: 1 << 20, least: 1, total: 1 << 30}
	y.follow(t, s, s.last())
	must(t, x.RecordHole(1, s.last()))
	sessions := gatherBuckets(t, x, y, buckets)
	x.e.bulk.written = meet(buckets, func() {
		x.mu.Lock() // until all of them wait
		go func() {
			defer x.mu.Unlock()
			for waiting := 0; waiting < buckets; {
				x.installs.mu.Lock()
				waiting = len(x.installs.waiting)
				x.installs.mu.Unlock()
			}
		}()
	})
	for i, err := range finishAll(sessions) {
		if err != nil {
			t.Errorf("bucket %d: %v", i, err)
		}
	}
	if m := x.e.db.Metrics(); m.Ingest.Count != 1 || x.e.bulk.tables.Load() != buckets {
		t.Errorf("%d calls of Ingest with %d tables, want one with %d", m.Ingest.Count, x.e.bulk.tables.Load(), buckets)
	}
	if len(x.meta.ingests) > 0 || x.ingesting != nil || x.installs.running {
		t.Errorf("announced %v, under way %v, installing %v", x.meta.ingests, x.ingesting, x.installs.running)
	}
	mustHaveHeads(t, x.Documents)
	x.mustEqual(t, y)
}

// TestOneRunOfAGroup: what keeps one run from being installed does not keep the others, and nothing of it is installed.
func TestOneRunOfAGroup(t *testing.T) {
	const buckets = 6
	for _, what := range []string{"lost session", "touched document"} {
		t.Run(what, func(t *testing.T) {
			s, keys := groupScript(buckets, 8)
			x, y := newDocsMember(t), newDocsMember(t)
			x.e.bulk.limits = bulkLimits{chunk: 1, table: 1 << 20, least: 1, total: 1 << 30}
			y.follow(t, s, s.last())
			must(t, x.RecordHole(1, s.last()))
			sessions := gatherBuckets(t, x, y, buckets)
			x.e.bulk.written = meet(buckets, func() {
				x.e.bulk.written = nil
				if what == "lost session" {
					x.BeginSession(2)
					return
				}
				other := x.BeginSession(2)
				wants := []Want{{Hash: keys[2][3].Hash()}}
				_, err := other.ImportAtOnce(exportOver(t, y.Documents, 2, &ExportQuery{Wants: wants, Budget: 1 << 20}, &traffic{}))
				must(t, err)
				x.mu.Lock()
				x.sessions[2] = sessions[2]
				x.mu.Unlock()
			})
			for b, err := range finishAll(sessions) {
				if lost := what == "lost session" && b == 2; lost != errors.Is(err, ErrSessionLost) || !lost && err != nil {
					t.Errorf("bucket %d: %v", b, err)
				}
			}
			want := fmt.Sprint(buckets * 8)
			if what == "lost session" {
				want = fmt.Sprint((buckets - 1) * 8)
			}
			if got := fmt.Sprint(x.Status().Documents); got != want {
				t.Errorf("%s documents, want %s", got, want)
			}
			if len(x.meta.ingests) > 0 || x.ingesting != nil {
				t.Errorf("announced %v, under way %v", x.meta.ingests, x.ingesting)
			}
			mustHaveHeads(t, x.Documents)
		})
	}
}
