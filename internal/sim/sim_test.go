package sim

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	firstSeed = flag.Uint64("seed", 0, "the seed that TestSim runs, or the first of -seeds; 0: those of the ordinary run")
	seedCount = flag.Int("seeds", 0, "how many seeds TestSim runs")
	planFile  = flag.String("plan", "", "a plan that TestSim runs instead of a seed's")
	results   = flag.String("results", "", "a file to which TestSim appends a line of JSON for each of -seeds")
	slowDisks = flag.Bool("slow", false, "fsyncs take time; only in a program that internal/sim/longrun has built")
	hostLogs  = flag.Bool("logs", false, "the timeline has what hosts warn of")
	hours     = flag.Bool("hours", false, "the plans of seeds are of hours")
	shrink    = flag.Bool("shrink", false, "leave out steps of a failing plan as long as it fails")
)

// How many seeds the ordinary run takes, and how many with -short and with the race detector.
const (
	ordinarySeeds = 200
	shortSeeds    = 40
	raceSeeds     = 12
)

func ordinary() int {
	switch {
	case raceDetector:
		return raceSeeds
	case testing.Short():
		return shortSeeds
	}
	return ordinarySeeds
}

// healWithin bounds how long a cluster takes to heal once the faults end, in simulated time.
const healWithin = time.Minute

// result is what became of a run.
type result struct {
	plan     plan
	wrong    []string
	timeline string
	ops      int
	acked    int
	took     time.Duration // real
	lasted   time.Duration // simulated
	healed   time.Duration // simulated, from the end of the faults on
	unsure   int           // documents whose history took too long to check
	happened map[string]int
}

// TestSim: whatever a plan does within what the design promises to survive, nothing acknowledged is lost, no linearizable read
// is stale, members end up equal and everything heals in time.
func TestSim(t *testing.T) {
	switch {
	case *planFile != "":
		report(t, simulate(t, readPlan(t, *planFile)), true)
	case *firstSeed != 0 && *seedCount == 0:
		report(t, simulate(t, planOf(*firstSeed)), true)
	case *seedCount != 0:
		many(t, max(*firstSeed, 1), *seedCount)
	default:
		many(t, 1, ordinary())
	}
}

func planOf(seed uint64) plan {
	if *hours {
		return newHours(seed)
	}
	return newPlan(seed)
}

// TestRegressions runs the plans that have found something once. Each file is named after what broke; docs/testing.md lists them.
func TestRegressions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no plans: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".json"), func(t *testing.T) {
			report(t, simulate(t, readPlan(t, f)), false)
		})
	}
}

func readPlan(t *testing.T, file string) (p plan) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// many runs seeds, some at a time.
func many(t *testing.T, first uint64, n int) {
	var mu sync.Mutex
	var ops, acked, unsure int
	var lasted, healed time.Duration
	var happened tally
	t.Cleanup(func() {
		t.Logf("%d seeds from %d on: %d operations, %d writes acknowledged, %s simulated, healed within %s", n, first, ops, acked, lasted, healed)
		t.Logf("what happened: %v", happened.all())
		if unsure > max(3, n/20) { // of four to seven documents each
			t.Errorf("%d histories were too hard to check", unsure)
		}
		if first == 1 && n == ordinarySeeds && !*hours {
			enough(t, &happened)
		}
	})
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			t.Parallel()
			r := simulate(t, planOf(seed))
			report(t, r, false)
			mu.Lock()
			defer mu.Unlock()
			r.record(t)
			happened.add(r.happened)
			unsure += r.unsure
			ops, acked, lasted, healed = ops+r.ops, acked+r.acked, lasted+r.lasted, max(healed, r.healed)
		})
	}
}

// enough: every fault of the ordinary run was one some times, and every lie was told in answers that heal.
func enough(t *testing.T, happened *tally) {
	t.Helper()
	if vain, healed := happened.of(inVain), happened.of(healedIn); vain > healed/50 {
		t.Errorf("repair brought %d entries in vain, and %d that were missing", vain, healed)
	}
	for _, w := range weights {
		if w.kind != slowDisk && happened.of(w.kind) == 0 {
			t.Errorf("%s never happened", w.kind)
		}
	}
	for _, what := range append(lieNames(), badSource, dying, deposed) {
		if n := happened.of(what); n < 3 {
			t.Errorf("%s: %d times only", what, n)
		}
	}
}

// record appends a run to the file of results.
func (r result) record(t *testing.T) {
	if *results == "" {
		return
	}
	line, err := json.Marshal(map[string]any{"seed": r.plan.Seed, "hours": *hours, "took": r.took, "failed": len(r.wrong) > 0, "simulated": r.lasted, "healed": r.healed,
		"steps": len(r.plan.Steps), "operations": r.ops, "acknowledged": r.acked, "unsure": r.unsure, "happened": r.happened})
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(*results, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			_, err = f.Write(append(line, '\n'))
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// report prints a run; of one that failed, everything.
func report(t *testing.T, r result, always bool) {
	t.Helper()
	if len(r.wrong) == 0 {
		if always {
			t.Logf("\n%s", r.timeline)
		}
		t.Logf("seed %d: %d steps, %d operations, %d writes acknowledged, %s simulated, healed after %s, %d histories too hard to check", r.plan.Seed,
			len(r.plan.Steps), r.ops, r.acked, r.lasted, r.healed, r.unsure)
		return
	}
	if *shrink {
		r = shrunk(t, r)
	}
	flags := ""
	if r.plan.Bursts != nil {
		flags = " -hours"
	}
	t.Errorf("seed %d failed; replay it with: go test ./internal/sim -run TestSim -seed %d%s\n%s\n\nplan:\n%s\n\nwrong:\n%s", r.plan.Seed, r.plan.Seed,
		flags, r.timeline, r.plan.json(), strings.Join(r.wrong, "\n"))
}

// shrunk leaves out every step without which the plan still fails.
func shrunk(t *testing.T, r result) result {
	for i := len(r.plan.Steps) - 1; i >= 0; i-- {
		if next := simulate(t, r.plan.without(i)); len(next.wrong) > 0 {
			r = next
		}
	}
	return r
}

// simulate runs a plan and checks it.
func simulate(t *testing.T, p plan) result {
	var w *world
	r, begun := result{plan: p}, time.Now()
	var pulse atomic.Int64
	done := make(chan struct{})
	defer close(done)
	var shown atomic.Pointer[world]
	go watchdog(p, &pulse, &shown, done)
	bubble(t, func() {
		w = newWorld(p, &pulse)
		shown.Store(w)
		r.healed = w.play()
		r.lasted = time.Since(w.begun)
		if left := w.left(); len(left) > 0 {
			w.complain("goroutines are left:\n%s", strings.Join(left, "\n\n"))
		}
	})
	r.unsure = w.checkHistory(10 * time.Second)
	for _, o := range w.history.ops {
		r.ops++
		if o.known && o.writes() {
			r.acked++
		}
	}
	if r.acked == 0 {
		w.wrong = append(w.wrong, "no write was acknowledged")
	}
	if vain, healed := w.tally.of(inVain), w.tally.of(healedIn); vain > 40+healed/10 && !w.plan.crawls() { // Raft, or another peer, may be faster now and then
		w.wrong = append(w.wrong, fmt.Sprintf("repair brought %d entries in vain, and %d that were missing", vain, healed))
	}
	r.happened = w.tally.all()
	r.wrong, r.timeline, r.took = w.wrongs(), w.String(), time.Since(begun)
	return r
}

// bubble runs f on simulated time. The goroutines that left found are still there at the end, which is no news any more.
func bubble(t *testing.T, f func()) {
	defer func() {
		if p := recover(); p != nil && !strings.Contains(fmt.Sprint(p), "main bubble goroutine has exited") {
			panic(p)
		}
	}()
	synctest.Test(t, func(*testing.T) { f() })
}

// patience is for how long simulated time may stand still, in real time: longer, and something waits for what no time brings.
const patience = 2 * time.Minute

// watchdog ends the process when a run does not go on.
func watchdog(p plan, pulse *atomic.Int64, shown *atomic.Pointer[world], done <-chan struct{}) {
	for last := int64(-1); ; {
		select {
		case <-done:
			return
		case <-time.After(patience):
		}
		if now := pulse.Load(); now != last {
			last = now
			continue
		}
		fmt.Fprintf(os.Stderr, "seed %d is stuck\n%s\n", p.Seed, p.json())
		if w := shown.Load(); w != nil {
			fmt.Fprintln(os.Stderr, w.String())
		}
		buf := make([]byte, 16<<20)
		for _, s := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if head, _, _ := strings.Cut(s, "\n"); !strings.Contains(head, "durable") {
				fmt.Fprintln(os.Stderr, s+"\n")
			}
		}
		panic("the simulation is stuck")
	}
}

// play lets clients and steps run, has the cluster heal, checks it and closes it. It returns how long the healing took.
func (w *world) play() time.Duration {
	defer w.close()
	if err := w.settle(true, healWithin); err != nil {
		w.complain("the cluster does not start: %v", err)
		return 0
	}
	w.backUp()
	w.played = time.Now()
	stop, watched := make(chan struct{}), make(chan struct{})
	var clients, watcher sync.WaitGroup
	for i := range w.plan.Clients {
		c := newClient(w, i)
		clients.Go(func() { c.run(stop) })
	}
	watcher.Go(func() { w.watch(watched) })
	watcher.Go(func() { w.watchLemma(watched) })
	defer func() {
		close(watched)
		watcher.Wait()
	}()
	for _, s := range w.plan.Steps {
		w.work.Go(func() { w.run(s) })
	}
	time.Sleep(w.plan.Lasts)
	if !w.plan.Busy {
		close(stop)
		clients.Wait()
	}
	w.work.Wait()
	w.note("no more faults")
	w.healing.Store(true)
	w.stir()
	calm := time.Now()
	if err := w.settle(!w.plan.Busy, healWithin); err != nil {
		w.complain("not healed after %s: %v", healWithin, err)
	}
	healed := time.Since(calm)
	w.note("healed")
	if w.plan.Busy {
		close(stop)
		clients.Wait()
		if err := w.settle(true, healWithin); err != nil {
			w.complain("not equal %s after the last write: %v", healWithin, err)
		}
	}
	if len(w.wrongs()) > 0 {
		return healed
	}
	w.scrubbed()
	time.Sleep(3 * time.Second) // what nobody waits for any more may still be written
	w.even()
	final := w.finalReads()
	w.acknowledgedIsThere(final)
	w.staleReadsWereTrue(final)
	w.membersAgree(final)
	if len(w.wrongs()) > 0 {
		w.describe()
	}
	return healed
}
