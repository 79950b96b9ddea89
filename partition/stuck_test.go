package partition

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/store"
)

// TestDiskThatFallsBehind: a disk that ends a step now and then, and falls behind the others' further and further, is no better than one
// that ends none: what it owes grows, and every write waits for it.
func TestDiskThatFallsBehind(t *testing.T) {
	t.Run("the leader's", simulated(func(t *testing.T) { fallBehind(t, 1, true) }))
	t.Run("all", simulated(func(t *testing.T) { fallBehind(t, 3, false) }))
}

func fallBehind(t *testing.T, slow int, resigns bool) {
	const runs = 7 // on their way to the disk, each three heartbeats after the one before
	var stalls [3]stall
	i := 0
	var told [3]atomic.Int32
	g, h := newLiveGroup(t, 3, steady, func(o *Options) {
		o.Log = faultyLog{o.Log.(*memLog), new(atomic.Value), &stalls[i]}
		n := i
		o.Events.Stuck = func() { told[n].Add(1) }
		i++
	})
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	own := slices.Index(g.nodes, l)
	for k := range slow {
		stalls[(own+k)%3].slow(3 * steady)
	}
	defer func() {
		for k := range stalls {
			stalls[k].slow(0)
		}
		time.Sleep(4 * steady) // what is on its way
	}()
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer cancel()
	began := time.Now()
	for run := range runs {
		last := l.part.raft.Load().LastIndex()
		for n := range enough {
			writers.Go(func() {
				op := Operation{Kind: store.Create, Key: key(fmt.Sprintf("k%d.%d", run, n)), Deltas: []store.Delta{delta(1, `{}`)}}
				_, _ = l.part.Do(ctx, op)
			})
		}
		g.wait("another run", func() bool { return l.part.raft.Load().LastIndex() > last })
	}
	if took := time.Since(began); took > 2*steady {
		t.Fatalf("it took %s to get %d runs under way", took, runs)
	}
	term := l.part.Term()
	if n := testing.AllocsPerRun(100, func() { _ = l.part.guard.mayReplicate(term) }); n > 0 { // while steps are under way
		t.Errorf("each request to a follower costs %v allocations to be let out", n)
	}
	beats := func() bool { _, beating := h.host(l.id).table.Beat(string(g.other(l).id)); return beating }
	if resigns {
		g.wait("its host to beat no more", func() bool { return !beats() })
		if l.part.log.durable() > l.part.raft.Load().LastIndex() {
			t.Error("it gave up when its disk had caught up")
		}
	}
	time.Sleep((hungBeats + 5) * steady)
	if n := told[own].Load(); resigns && n != 1 || !resigns && n > 0 {
		t.Errorf("its host was told %d times", n)
	}
	if beats() == resigns {
		t.Errorf("the leader's host beats for it: %v", beats())
	}
}

// TestStuckDiskOfOneOfFive: a leader gives up early for as long as the others that are well are a majority without it. Otherwise its own
// disk is needed whoever leads, and it gives up late.
func TestStuckDiskOfOneOfFive(t *testing.T) {
	for name, c := range map[string]struct {
		down, stuck int // followers
		within      int // heartbeats
	}{
		"its own":              {0, 0, stuckBeats + 1},
		"one down":             {1, 0, stuckBeats + 1},
		"another is stuck":     {0, 1, stuckBeats + 1},
		"one down, one stuck":  {1, 1, hungBeats + 1},
		"two others are stuck": {0, 2, hungBeats + 1},
	} {
		t.Run(name, simulated(func(t *testing.T) { stuckOfFive(t, c.down, c.stuck, c.within) }))
	}
}

func stuckOfFive(t *testing.T, down, stuck, within int) {
	var stalls [5]stall
	i := 0
	g, h := newLiveGroup(t, 5, steady, func(o *Options) {
		o.Log = faultyLog{o.Log.(*memLog), new(atomic.Value), &stalls[i]}
		i++
	})
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	own := slices.Index(g.nodes, l)
	held := []*stall{&stalls[own]}
	for k := 1; k <= down+stuck; k++ {
		n := (own + k) % 5
		if k <= down {
			h.down(g.nodes[n])
		} else {
			held = append(held, &stalls[n])
		}
	}
	witness := g.nodes[(own+4)%5]
	release := hold(held...)
	defer release()
	result := make(chan error, 1)
	go func() { _, err := l.append("a", 2, `{}`); result <- err }()
	beats := func() bool { _, beating := h.host(l.id).table.Beat(string(witness.id)); return beating }
	time.Sleep(time.Duration(within-1) * steady)
	if !beats() {
		t.Errorf("it gave up within %d heartbeats", within-1)
	}
	time.Sleep(steady + steady/4)
	if beats() {
		t.Errorf("it leads on after %d heartbeats", within)
	}
	release()
	<-result
	g.serving(g.nodes[(own+3)%5], witness, l, g.nodes[(own+2)%5])
}

// TestDisksThatStallOneAfterAnother: that the others got an entry in just before everybody's disk stalled does not make them faster. When
// they go on, and the leader's disk does not, they are.
func TestDisksThatStallOneAfterAnother(t *testing.T) {
	synctest.Test(t, testDisksThatStallOneAfterAnother)
}

func testDisksThatStallOneAfterAnother(t *testing.T) {
	var stalls [3]stall
	i := 0
	g, h := newLiveGroup(t, 3, steady, func(o *Options) {
		o.Log = faultyLog{o.Log.(*memLog), new(atomic.Value), &stalls[i]}
		i++
	})
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	own := slices.Index(g.nodes, l)
	beating := func() bool { _, yes := h.host(l.id).table.Beat(string(g.other(l).id)); return yes }
	releaseOwn := hold(&stalls[own])
	defer releaseOwn()
	var writers sync.WaitGroup
	defer writers.Wait()
	defer releaseOwn()
	last := func() uint64 { return l.part.raft.Load().LastIndex() }
	others := func() uint64 { return l.part.othersHold(l.part.Term()) }
	before := last()
	writers.Go(func() { _ = l.create("b") }) // nothing is acknowledged that the leader's disk does not have
	g.wait("the others to have an entry", func() bool { return last() > before && others() == last() })
	releaseOthers := hold(&stalls[(own+1)%3], &stalls[(own+2)%3])
	defer releaseOthers()
	time.Sleep((stuckBeats + 4) * steady)
	if !beating() {
		t.Error("the leader gave up while everybody's disk stalled")
	}
	releaseOthers()
	g.wait("the others to go on", func() bool { return others() == last() })
	time.Sleep((stuckBeats - 3) * steady)
	if !beating() {
		t.Error("the leader gave up before the others were ahead for long enough")
	}
	time.Sleep(5 * steady)
	if beating() {
		t.Error("the leader did not give up although the others went on long ago")
	}
}
