package antientropy

import (
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// TestDamageMetByAPullHeals: a member that fell behind has a block that cannot be read, which a pull meets only when it writes what it
// gathered. The scrubber, which is told of that, can take the block out, and the member heals.
func TestDamageMetByAPullHeals(t *testing.T) { bubble(t, testDamageMetByAPullHeals) }

func testDamageMetByAPullHeals(t *testing.T) {
	const bucket = 9
	c := newCluster(t, "a", "b", "c")
	defer c.close()
	h := newHistory(3)
	c.logs[1] = h
	var keys []store.Key
	for i := 0; len(keys) < 240; i++ {
		if k := (store.Key{Space: "games", Key: fmt.Sprintf("d-%d", i)}); store.FullRange().Bucket(k.Hash()) == bucket {
			keys = append(keys, k)
		}
	}
	write := func(known bool, entries int, machines ...string) {
		for i, key := range keys {
			for range entries {
				if (i%6 == 0) == known {
					h.write(key, 200)
				}
			}
		}
		for _, name := range machines {
			c.machines[name].apply(1, h.last())
		}
	}
	write(true, 40, "a", "b", "c")
	a := c.machines["a"]
	a.reopenSpoiled()
	write(false, 10, "b", "c")
	docs := a.member(1).docs
	if err := docs.RecordHole(docs.Applied()+1, h.last()); err != nil {
		t.Fatal(err)
	}
	w := a.scrub(ScrubOptions{Deadline: -1})
	defer w.stop()
	told := 0
	l := a.start(Options{Interval: time.Second, Events: Events{Damaged: func(p uint32, bucket uint8) { told++; w.Suspect(p, bucket) }}})
	for began := time.Now(); !docs.Complete(); time.Sleep(time.Second) {
		if time.Since(began) > time.Hour {
			t.Fatalf("not healed within an hour: %d reports of damage, %d sessions, scrubbed %+v, found %v", told, l.Stats().Sessions, w.Stats(), w.finds())
		}
	}
	if told == 0 {
		t.Error("no pull met the damage, so this shows nothing")
	}
	if r, err := docs.ScrubBucket(t.Context(), bucket, nil); err != nil || r.Found > 0 {
		t.Errorf("scrubbed after it was healed: %+v, %v", r, err)
	}
}

// TestSessionsListWhatDamageMadeMissing: a session that begins while damage is taken out of its bucket counts, so it has to ask for what
// the bucket lacks then, not for what it lacked before.
func TestSessionsListWhatDamageMadeMissing(t *testing.T) {
	c := newCluster(t, "a", "b")
	defer c.close()
	h := c.load(200, 3, 50, "a", "b")
	a := c.machines["a"]
	h.busy(50, 200, 20)
	a.skip(p0, h.last())
	docs := a.member(p0).docs
	reader, err := docs.View(key(1)) // the cut waits for it, with the writers' lock
	if err != nil {
		t.Fatal(err)
	}
	bucket := store.FullRange().Bucket(key(2).Hash())
	damaged, begun := make(chan error, 1), make(chan *transfer, 1)
	go func() {
		_, err := docs.Damage(bucket, store.Damaged{Whole: true})
		damaged <- err
	}()
	waitInside(t, "(*Documents).quiet", func() bool { return len(damaged) > 0 })
	go func() {
		begun <- newTransfer(a.member(p0), "b", []uint8{bucket}, &limits{func(uint32) uint64 { return 1 << 62 }, maxLimit, ownRows})
	}()
	waitInside(t, "(*Documents).BeginSession", func() bool { return len(damaged) > 0 || len(begun) > 0 })
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-damaged; err != nil {
		t.Fatal(err)
	}
	tr := <-begun
	defer func() { abandonAll(tr.releaseAll()) }()
	if want := since(docs.Position().Holes, docs.Healed(bucket)); tr.pages[0].since != want {
		t.Errorf("it lists what changed after %d, and lacks what did after %d", tr.pages[0].since, want)
	}
	s := tr.buckets[bucket]
	s.Answer(interval.Of(1, h.last()), h.last(), 0)
	if _, err := s.Finish(); err != nil {
		t.Logf("and the session does not count: %v", err)
	}
}

// waitInside waits until a goroutine is inside of a function, or over says so.
func waitInside(t *testing.T, function string, over func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !over(); time.Sleep(time.Millisecond) {
		var all strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(all.String(), function+"+") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody is in %s", function)
		}
	}
}
