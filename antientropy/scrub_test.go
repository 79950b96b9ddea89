package antientropy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/internal/spoil"
	"github.com/adamantdb/adamant/store"
)

// scrubbing is a Scrubber at work on a machine, and what it told.
type scrubbing struct {
	*Scrubber
	stop func()

	mu     sync.Mutex
	found  []Find
	healed []uint8
	keep   string
	yields int
}

func (m *machine) scrub(o ScrubOptions) *scrubbing {
	t := m.c.t
	t.Helper()
	w := &scrubbing{}
	o.Host = m.name
	o.Members = func() []Member {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		var list []Member
		for _, p := range m.members {
			list = append(list, p)
		}
		return list
	}
	o.Keep = func(uint32) string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.keep
	}
	o.Yield = func(context.Context, uint32) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.yields++
	}
	o.Events = ScrubEvents{
		Found: func(f Find) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if n := w.Stats().Found; len(w.found) == 0 && n > 0 {
				t.Errorf("%d buckets are counted before any of them is told of", n)
			}
			w.found = append(w.found, f)
		},
		Healed: func(_ uint32, bucket uint8) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.healed = append(w.healed, bucket)
		},
	}
	s, err := NewScrubber(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Scrubber = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	w.stop = func() { cancel(); <-done }
	return w
}

func (w *scrubbing) finds() []Find {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.found)
}

// reopenSpoiled closes the machine's engine twice, so that its documents are in tables, and damages these.
func (m *machine) reopenSpoiled() {
	m.restart()
	if err := m.engine.Close(); err != nil {
		m.c.t.Fatal(err)
	}
	if err := spoil.Tables(m.fs, "docs", 20_000); err != nil {
		m.c.t.Fatal(err)
	}
	m.open()
	m.member(1)
}

func scrubCluster(t *testing.T) *cluster {
	c := newCluster(t, "a", "b", "c")
	c.logs[1] = newHistory(3)
	c.logs[1].busy(600, 100, 200)
	for _, name := range []string{"a", "b", "c"} {
		c.machines[name].apply(1, c.logs[1].last())
	}
	return c
}

// readAll reads every document of a member; the first error ends it.
func readAll(d *store.Documents) (map[string]int, error) {
	all := map[string]int{}
	for info, err := range d.Inventory("") {
		if err != nil {
			return nil, err
		}
		v, err := d.View(info.Key)
		if err != nil {
			return nil, err
		}
		base, err := v.Base()
		for e, entryErr := range v.Entries(-1) {
			if entryErr != nil {
				err = entryErr
				break
			}
			all[fmt.Sprintf("%s %d %x", info.Key, e.Index, e.AppendBinary(nil))]++
		}
		if closeErr := v.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, err
		}
		all[fmt.Sprintf("%s %+v %x", info.Key, info.Head, base)]++
	}
	return all, nil
}

// TestScrubHealsDamagedFiles: blocks of a member's files are damaged. Within the deadline all of that is found and healed
// from the peers, and all members read alike.
func TestScrubHealsDamagedFiles(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := scrubCluster(t)
		defer c.close()
		a := c.machines["a"]
		a.reopenSpoiled()
		if _, err := readAll(a.member(1).docs); store.Code(err) != store.CodeCorruption {
			t.Fatalf("nothing is damaged: %v", err)
		}
		a.start(Options{Interval: time.Second})
		w := a.scrub(ScrubOptions{Deadline: time.Hour})
		defer w.stop()
		eventuallyWithin(t, 2*time.Hour, "a whole pass", func() bool { return w.Stats().Buckets >= 256 && a.member(1).docs.Complete() })
		eventuallyWithin(t, time.Minute, "all healed", func() bool { s := w.Stats(); return s.Healed == s.Found })
		st := w.Stats()
		told := 0
		for _, f := range w.finds() {
			if told += len(f.Removed.Buckets); f.Removed.Unreclaimed != "" {
				t.Errorf("not cut out: %+v", f.Removed)
			}
		}
		if st.Found == 0 || st.Kept != 0 || st.Bytes == 0 || told != int(st.Found) || w.yields < len(w.finds()) {
			t.Errorf("%+v, %d told, %d yields", st, len(w.finds()), w.yields)
		}
		want, err := readAll(c.machines["b"].member(1).docs)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(a.member(1).docs)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d things are read, the peer has %d: %v", len(got), len(want), err)
		}
		for k := range want {
			if got[k] != want[k] {
				t.Fatalf("%s is missing", k)
			}
		}
		c.sameRoots(1, "a", "b", "c")
	})
}

// TestScrubReclaims: while a reader holds an instant, what was removed cannot be cut out of the files. The scrubber tries
// again soon, not at the next pass, and rarely if it never succeeds.
func TestScrubReclaims(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := scrubCluster(t)
		defer c.close()
		a := c.machines["a"]
		a.reopenSpoiled()
		docs := a.member(1).docs
		var bad uint8
		for b := range 256 {
			if r, err := docs.ScrubBucket(context.Background(), uint8(b), nil); err == nil && r.Damaged.Whole {
				bad = uint8(b)
			}
		}
		var view *store.View
		for info, err := range docs.Inventory("") {
			if err == nil {
				view, err = docs.View(info.Key)
			}
			if err == nil {
				break
			}
		}
		a.start(Options{Interval: time.Second})
		w := a.scrub(ScrubOptions{Deadline: -1})
		defer w.stop()
		w.Suspect(1, bad)
		time.Sleep(time.Hour)
		finds := w.finds()
		if len(finds) != 1 || finds[0].Removed.Unreclaimed == "" || len(finds[0].Removed.Buckets) < 2 {
			t.Fatalf("found %+v", finds)
		}
		w.mu.Lock()
		if w.yields < 8 || w.yields > 20 {
			t.Errorf("%d attempts in an hour", w.yields)
		}
		w.mu.Unlock()
		if err := view.Close(); err != nil {
			t.Fatal(err)
		}
		eventuallyWithin(t, 12*time.Minute, "cut out", func() bool {
			w.Scrubber.mu.Lock()
			defer w.Scrubber.mu.Unlock()
			return len(w.uncut) == 0
		})
		eventuallyWithin(t, time.Minute, "healed", func() bool { s := w.Stats(); return s.Healed == s.Found && docs.Complete() })
		c.sameRoots(1, "a", "b", "c")
		if _, err := readAll(docs); err != nil {
			t.Error(err)
		}
	})
}

// TestPullsTellOfDamage: a pull that meets damage here says so.
func TestPullsTellOfDamage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := scrubCluster(t)
		defer c.close()
		a := c.machines["a"]
		a.reopenSpoiled()
		c.logs[1].busy(300, 100, 200)
		for _, name := range []string{"b", "c"} {
			c.machines[name].apply(1, c.logs[1].last())
		}
		docs := a.member(1).docs
		hole := interval.Range{First: docs.Applied() + 1, Last: c.logs[1].last()}
		if err := docs.RecordHole(hole.First, hole.Last); err != nil {
			t.Fatal(err)
		}
		var told sync.Map
		a.start(Options{Interval: time.Second, Events: Events{Damaged: func(_ uint32, bucket uint8) { told.Store(bucket, true) }}})
		eventuallyWithin(t, time.Minute, "a damaged bucket", func() bool {
			found := false
			told.Range(func(bucket, _ any) bool {
				r, err := docs.ScrubBucket(context.Background(), bucket.(uint8), nil)
				found = found || err == nil && r.Found > 0
				return true
			})
			return found
		})
	})
}

func eventuallyWithin(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestScrubKeepsWhatNobodyCanHeal: without a complete peer, or in safe mode, damage is told of and every byte stays. Once
// a peer can heal, it is.
func TestScrubKeepsWhatNobodyCanHeal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := scrubCluster(t)
		defer c.close()
		a := c.machines["a"]
		a.reopenSpoiled()
		c.mu.Lock()
		c.dead["b"], c.dead["c"] = true, true
		c.mu.Unlock()
		docs := a.member(1).docs
		before := docs.Status()
		a.start(Options{Interval: time.Second})
		w := a.scrub(ScrubOptions{Deadline: time.Hour})
		defer w.stop()
		eventuallyWithin(t, 2*time.Hour, "a whole pass", func() bool { return w.Stats().Buckets >= 256 })
		if st, now := w.Stats(), docs.Status(); now.Root != before.Root || !now.Complete || st.Kept == 0 || st.Kept != st.Found || st.Healed != 0 {
			t.Fatalf("%+v; status %+v", st, now)
		}
		for _, f := range w.finds() {
			if f.Kept == "" || !strings.Contains(f.String(), "no other complete member") {
				t.Errorf("told %s", &f)
			}
		}
		state, ok := w.State(1)
		if !ok || len(state.Kept) != int(w.Stats().Kept) {
			t.Errorf("state %+v", state)
		}
		w.mu.Lock()
		w.keep = "safe mode"
		w.mu.Unlock()
		c.mu.Lock()
		c.dead["b"], c.dead["c"] = false, false
		c.mu.Unlock()
		time.Sleep(time.Minute)
		if !docs.Complete() {
			t.Fatal("what was to be kept was removed")
		}
		w.mu.Lock()
		w.keep = ""
		w.mu.Unlock()
		eventuallyWithin(t, time.Minute, "healed", func() bool { s := w.Stats(); return s.Kept == 0 && s.Healed == s.Found && docs.Complete() })
		c.sameRoots(1, "a", "b", "c")
	})
}

// TestScrubKeepsItsPlace: a pass takes its deadline, goes on where it was after a restart, begins elsewhere on each host,
// and finds nothing in sound members, with writes going on.
func TestScrubKeepsItsPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := scrubCluster(t)
		defer c.close()
		a, b := c.machines["a"], c.machines["b"]
		w, v := a.scrub(ScrubOptions{Deadline: 256 * time.Minute}), b.scrub(ScrubOptions{Deadline: 256 * time.Minute})
		defer v.stop()
		began := time.Now()
		var last int64
		for range 100 {
			time.Sleep(time.Minute)
			c.logs[1].busy(5, 100, 200)
			for _, m := range []*machine{a, b} {
				m.apply(1, c.logs[1].last())
			}
			now := w.Stats().Buckets
			if now > last+2 {
				t.Fatalf("%d buckets in a minute", now-last)
			}
			last = now
		}
		first, _ := w.State(1)
		other, _ := v.State(1)
		if first.Done < 98 || first.Done > 101 || first.Began.Before(began) {
			t.Fatalf("after 100 of 256 minutes: %+v", first)
		}
		if x, y := w.members[1].first, v.members[1].first; x == y {
			t.Errorf("both begin at %d; %+v", x, other)
		}
		w.stop()
		a.restart()
		time.Sleep(10 * time.Minute)
		w = a.scrub(ScrubOptions{Deadline: 256 * time.Minute})
		defer func() { w.stop() }()
		eventuallyWithin(t, time.Minute, "the state", func() bool { s, ok := w.State(1); return ok && s.Done >= first.Done+9 })
		if s, _ := w.State(1); s.Done > first.Done+12 || !s.Began.Equal(first.Began) || w.Stats().Buckets > 12 {
			t.Errorf("after a restart: %+v, %+v; before %+v", s, w.Stats(), first)
		}
		time.Sleep(time.Until(began.Add(258 * time.Minute)))
		s, _ := w.State(1)
		if s.Finished.Sub(began) < 255*time.Minute || s.Finished.After(time.Now()) || !w.Stats().OldestPass.Equal(s.Finished) {
			t.Errorf("a pass after %s: %+v", s.Finished.Sub(began), s)
		}
		if st := w.Stats(); st.Found > 0 || v.Stats().Found > 0 {
			t.Errorf("sound members: %+v", w.finds())
		}
	})
}

// A suspect is read at once, also when there are no passes; one that is sound is not read again and again.
func TestScrubReadsSuspects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := scrubCluster(t)
		defer c.close()
		w := c.machines["a"].scrub(ScrubOptions{Deadline: -1})
		defer w.stop()
		w.Suspect(1, 7)
		w.Suspect(1, 7)
		w.Suspect(99, 7) // nobody's
		time.Sleep(time.Second)
		if n := w.Stats().Buckets; n != 1 {
			t.Fatalf("%d buckets were read", n)
		}
		for range 100 {
			w.Suspect(1, 7)
			time.Sleep(time.Second)
		}
		if n := w.Stats().Buckets; n != 2 {
			t.Errorf("%d buckets were read within two minutes", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := w.Stats().Buckets; n > 3 {
			t.Errorf("%d buckets were read though there are no passes", n)
		}
	})
}

func TestScrubOptions(t *testing.T) {
	if _, err := NewScrubber(ScrubOptions{}); err == nil {
		t.Error("no members")
	}
	if _, err := NewScrubber(ScrubOptions{Members: func() []Member { return nil }, BytesPerSecond: -1}); err == nil {
		t.Error("a negative rate")
	}
}
