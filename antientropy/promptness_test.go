package antientropy

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/adamantdb/adamant/store"
)

// The pauses of a host with default options.
func defaultPauses(seed uint64) Options {
	return Options{Interval: time.Second, Quiet: 300 * time.Second, Observe: 500 * time.Millisecond, Random: rand.New(rand.NewPCG(seed, 2)).Float64}
}

// TestDivergenceIsReportedPromptly: with default settings, two seconds after a member has applied what another has not, both
// under load and after a long quiet, the contradiction is reported, and it is the right one.
func TestDivergenceIsReportedPromptly(t *testing.T) {
	for name, quiet := range map[string]time.Duration{"under load": 0, "after a quiet": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(8) {
				bubble(t, func(t *testing.T) { promptReport(t, seed, quiet) })
			}
		})
	}
}

func promptReport(t *testing.T, seed uint64, quiet time.Duration) {
	c := newCluster(t, "a", "b", "c")
	defer c.close()
	h := c.load(200, 1, 20, "a", "b", "c")
	loops := map[*Loop]bool{}
	for name, m := range c.machines {
		loops[m.start(defaultPauses(seed))] = true
		c.latency[name] = time.Millisecond
	}
	apply := func() {
		for _, m := range c.machines {
			m.apply(p0, h.last())
		}
	}
	write := func(until time.Duration) {
		for end := time.Now().Add(until); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			h.write(key(h.r.IntN(200)), 20)
			apply()
		}
	}
	write(5*time.Second + time.Duration(seed)*130*time.Millisecond)
	time.Sleep(quiet)
	for l := range loops {
		if s := clean(t, l); s.BucketsDifferent > 0 {
			t.Fatalf("different before anything was: %+v", s)
		}
	}

	// b applies another command than the others at one index.
	h.write(key(5000), 20)
	good := h.log
	bad := good[len(good)-1]
	h.log = append([]store.Mutation(nil), good[:len(good)-1]...)
	d := h.delta(1, 5)
	h.log = append(h.log, store.Mutation{Kind: store.Create, Key: bad.Key, Index: bad.Index, Term: 1, Generation: bad.Generation, HeadSeq: 1,
		Deltas: []store.Delta{d}, Chain: store.SeedChain(bad.Key).Next(d.AppendBinary(nil))})
	c.machines["b"].apply(p0, bad.Index)
	h.log = good
	start := time.Now()
	var found []Divergence
	for len(found) == 0 && time.Since(start) < time.Minute {
		if quiet == 0 {
			write(5 * time.Millisecond)
		} else {
			apply()
			time.Sleep(5 * time.Millisecond)
		}
		for _, m := range c.machines {
			found = append(found, m.member(p0).divergences()...)
		}
	}
	took := time.Since(start)
	t.Logf("seed %d: reported after %s: %+v", seed, took, found)
	if took > 2*time.Second {
		t.Errorf("seed %d: reported after %s", seed, took)
	}
	time.Sleep(5 * time.Second) // the names, if they were not known at once
	named := false
	for name, m := range c.machines {
		for _, v := range m.member(p0).divergences() {
			if v.Bucket != store.FullRange().Bucket(bad.Key.Hash()) || name != "b" && v.Peer != "b" {
				t.Errorf("%s reports %+v", name, v)
			}
			named = named || len(v.Documents) == 1 && v.Documents[0].Key == bad.Key
		}
	}
	if !named {
		t.Error("nobody has named the document")
	}
}
