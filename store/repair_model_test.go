package store

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var repairSchedules = flag.Int("repair.schedules", 20000, "random schedules that the search of the merge rules plays")

// repairHistory makes few documents that live hard: some schedules delete and create again all the time.
func repairHistory(r *rand.Rand, groups int) *history {
	churn := r.IntN(2)
	pick := func(n int) int {
		if n == 12 && r.IntN(3) < churn {
			return 0 // of the kinds of commands: delete
		}
		return r.IntN(n)
	}
	return newHistory(pick, groups+r.IntN(3))
}

// playPure plays one schedule with pure nodes.
func playPure(seed int64, members int, broken brokenRules, verbose bool) (w *world, err error) {
	return playPureWith(seed, members, broken, verbose, false)
}

func playPureWith(seed int64, members int, broken brokenRules, verbose, damages bool) (w *world, err error) {
	r := newRand(seed)
	groups := 1 + r.IntN(2)
	h := repairHistory(r, groups)
	l := newPureLog(h, groups, broken)
	w = &world{r: r, h: h, groups: groups, crashes: true, proves: seed%2 == 1, damages: damages, verbose: verbose, logged: make([]uint64, members)}
	for range members {
		w.nodes = append(w.nodes, newPureNode(l, groups))
	}
	defer func() {
		if p := recover(); p != nil {
			text, ok := p.(divergedPanic)
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("%s", text)
		}
	}()
	return w, w.run(50*members, 8*members)
}

// search plays the schedules of the seeds from, from+1, … on all cores until one goes wrong. It returns that seed, or -1.
func search(from int64, schedules int, play func(seed int64) (*world, error)) (bad int64, heals, unions int64) {
	var next, healed, united atomic.Int64
	var found atomic.Int64
	found.Store(-1)
	next.Store(from)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for found.Load() < 0 {
				seed := next.Add(1) - 1
				if seed >= from+int64(schedules) {
					return
				}
				w, err := play(seed)
				if err != nil {
					found.CompareAndSwap(-1, seed)
				}
				healed.Add(int64(w.heals))
				if w.unions > 0 {
					united.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return found.Load(), healed.Load(), united.Load()
}

func TestRepairRulesBySearch(t *testing.T) {
	schedules := *repairSchedules
	if testing.Short() || slowBuild { // each schedule runs on one goroutine: there is nothing to race
		schedules /= 10
	}
	for _, members := range []int{3, 5} {
		n := schedules * 4 / 5
		if members == 5 {
			n = schedules / 5
		}
		start := time.Now()
		bad, heals, unions := search(0, n, func(seed int64) (*world, error) { return playPure(seed, members, brokenRules{}, false) })
		t.Logf("%d members: %d schedules, %.0f/s; %d heals, %d without any complete member for a while", members, n,
			float64(n)/time.Since(start).Seconds(), heals, unions)
		if bad >= 0 {
			w, err := playPure(bad, members, brokenRules{}, true)
			t.Fatalf("seed %d: %v\n  %s", bad, err, strings.Join(w.story, "\n  "))
		}
		if heals == 0 || unions == 0 {
			t.Errorf("%d heals, %d without a complete member: the schedules do not reach what they are for", heals, unions)
		}
	}
}

// TestSearchFindsMissingRules proves the search: without any one of the rules it finds a counterexample.
func TestSearchFindsMissingRules(t *testing.T) {
	for name, test := range map[string]struct {
		broken brokenRules
		from   int64 // a seed not far below one that is a counterexample; any would do, with patience
	}{
		"absence":   {broken: brokenRules{absence: true}},
		"deletes":   {broken: brokenRules{deletes: true}},
		"regress":   {broken: brokenRules{regress: true}},
		"ahead":     {broken: brokenRules{ahead: true}},
		"session":   {broken: brokenRules{session: true}, from: 243700},
		"answers":   {broken: brokenRules{answers: true}},
		"exclusive": {broken: brokenRules{exclusive: true}, from: 178700},
		"overshoot": {broken: brokenRules{overshoot: true}},
		"implicit":  {broken: brokenRules{implicit: true}},
		"gaps":      {broken: brokenRules{gaps: true}, from: 6700},
		"past":      {broken: brokenRules{past: true}},
	} {
		t.Run(name, func(t *testing.T) {
			play := func(seed int64) (*world, error) { return playPure(seed, 3, test.broken, false) }
			bad, _, _ := search(test.from, 500_000, play)
			if bad < 0 {
				t.Fatal("no counterexample found")
			}
			_, err := play(bad)
			t.Logf("seed %d: %v", bad, err)
		})
	}
}

// TestRepairEndToEnd plays schedules with engines that go through listing, export, the wire's encodings, import, progress
// and crashes.
func TestRepairEndToEnd(t *testing.T) {
	schedules := *repairSchedules / 100
	switch {
	case testing.Short():
		schedules /= 4
	case slowBuild:
		schedules /= 2
	}
	start := time.Now()
	bad, heals, unions := search(0, schedules, func(seed int64) (*world, error) { return playDisk(seed, 3, false) })
	t.Logf("%d schedules, %.0f/s; %d heals, %d without any complete member for a while", schedules,
		float64(schedules)/time.Since(start).Seconds(), heals, unions)
	if bad >= 0 {
		w, err := playDisk(bad, 3, true)
		t.Fatalf("seed %d: %v\n  %s", bad, err, strings.Join(w.story, "\n  "))
	}
	if heals == 0 || unions == 0 {
		t.Errorf("%d heals, %d without a complete member: the schedules do not reach what they are for", heals, unions)
	}
}

func newRand(seed int64) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 0)) }
