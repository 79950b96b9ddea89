package partition

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// stalling is a live group of n whose disks can be stalled.
func stalling(t *testing.T, n int, change func(*Options)) (*group, *hosts, []stall) {
	stalls := make([]stall, n)
	i := 0
	g, h := newLiveGroup(t, n, steady, func(o *Options) {
		o.Log = faultyLog{o.Log.(*memLog), new(atomic.Value), &stalls[i]}
		i++
		if change != nil {
			change(o)
		}
	})
	return g, h, stalls
}

// TestWhoGaveUpIsNotWaitedFor: a leader that gave up for its disk is missed after one lease, though it was all its host led (docs/leadership.md).
func TestWhoGaveUpIsNotWaitedFor(t *testing.T) { synctest.Test(t, testWhoGaveUpIsNotWaitedFor) }

func testWhoGaveUpIsNotWaitedFor(t *testing.T) {
	g, h, stalls := stalling(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	own := slices.Index(g.nodes, l)
	release := hold(&stalls[own])
	var w sync.WaitGroup
	defer w.Wait()
	defer release()
	stuckAt := time.Now()
	w.Go(func() { _ = l.create("b") })
	g.wait("it to give up", func() bool { _, ok := h.host(l.id).table.Beat(string(g.other(l).id)); return !ok })
	gaveUp := time.Now()
	x := g.other(l)
	g.serving(x, g.other(l, x))
	t.Logf("gave up %v heartbeats after the stall, replaced %v heartbeats later, %v after the stall (at 350 ms a heartbeat: %v)",
		gaveUp.Sub(stuckAt).Seconds()/steady.Seconds(), time.Since(gaveUp).Seconds()/steady.Seconds(), time.Since(stuckAt),
		time.Duration(float64(time.Since(stuckAt))*350/400))
	if late := time.Since(gaveUp); late > 2*steady {
		t.Errorf("replaced %.1f heartbeats after it gave up, want a lease and an election", late.Seconds()/steady.Seconds())
	}
}

// TestWhoFailedIsNotWaitedFor: the same for a host whose storage failed.
func TestWhoFailedIsNotWaitedFor(t *testing.T) { synctest.Test(t, testWhoFailedIsNotWaitedFor) }

func testWhoFailedIsNotWaitedFor(t *testing.T) {
	g, _, _ := stalling(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	time.Sleep(3 * steady)
	began := time.Now()
	l.part.Fail(errDisk)
	x := g.other(l)
	g.serving(x, g.other(l, x))
	t.Logf("replaced after %.2f heartbeats", time.Since(began).Seconds()/steady.Seconds())
	if late := time.Since(began); late > 2*steady {
		t.Errorf("replaced %.1f heartbeats after it stopped, want a lease and an election", late.Seconds()/steady.Seconds())
	}
}

// TestPushesEnd: a leader whose disk takes somewhat longer than a heartbeat for a step makes no entries for ever.
func TestPushesEnd(t *testing.T) { synctest.Test(t, testPushesEnd) }

func testPushesEnd(t *testing.T) {
	g, _, stalls := stalling(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	own := slices.Index(g.nodes, l)
	stalls[own].slow(steady + steady/4)
	defer func() { stalls[own].slow(0); time.Sleep(4 * steady) }()
	must(t, l.create("b"))
	time.Sleep(4 * steady)
	last := l.part.raft.Load().LastIndex()
	time.Sleep(100 * steady)
	if n := l.part.raft.Load().LastIndex() - last; n > 5 {
		t.Errorf("%d entries in 100 heartbeats after one write; leads: %v", n, l.part.Leads())
	}
}

// TestShortLeaseEndsLeadership: where leases are shorter than a heartbeat, a follower that is left alone says that its dead leader leads no more.
func TestShortLeaseEndsLeadership(t *testing.T) { synctest.Test(t, testShortLeaseEndsLeadership) }

func testShortLeaseEndsLeadership(t *testing.T) {
	var mu sync.Mutex
	knows := map[raft.ServerID]raft.ServerID{}
	g, h, _ := stalling(t, 3, func(o *Options) {
		o.Timing.Lease = steady / 2
		self := o.Self
		o.Events.Leader = func(id raft.ServerID, _ uint64) { mu.Lock(); knows[self] = id; mu.Unlock() }
	})
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	time.Sleep(3 * steady)
	x := g.other(l)
	y := g.other(l, x)
	h.down(y)
	h.down(l)
	h.host(x.id).table.Died(string(l.id))
	time.Sleep(20 * steady)
	mu.Lock()
	defer mu.Unlock()
	if knows[x.id] != "" {
		t.Errorf("twenty heartbeats after %s died its follower still told last that it leads", l.id)
	}
}

// TestNobodyIsNotWaitedFor: members that have heard of nobody wait for nobody's silence to end.
func TestNobodyIsNotWaitedFor(t *testing.T) { synctest.Test(t, testNobodyIsNotWaitedFor) }

func testNobodyIsNotWaitedFor(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	for _, nd := range g.nodes {
		h.down(nd)
	}
	began := time.Now()
	for _, nd := range g.nodes {
		h.reopen(g, nd, steady)
	}
	g.serving()
	t.Logf("a group that was started served after %.2f heartbeats", time.Since(began).Seconds()/steady.Seconds())
	if took := time.Since(began); took > 2*steady {
		t.Errorf("a group that was started served after %.1f heartbeats; nobody was there to be patient with", took.Seconds()/steady.Seconds())
	}
}

// slowTerm is a log that takes a while to store a term.
type slowTerm struct {
	faultyLog
	takes *atomic.Int64
}

func (l slowTerm) SetUint64(k []byte, v uint64) error {
	time.Sleep(time.Duration(l.takes.Load()))
	return l.faultyLog.SetUint64(k, v)
}

// TestHandOverOnASlowDisk: a leader whose own disk alone is slow gives its leadership away. What it pushes after the successor was seen to
// hold the whole log makes the others' logs longer than the successor's, so that nobody votes for it.
func TestHandOverOnASlowDisk(t *testing.T) {
	lost := 0
	const tries = 20
	for i := range tries {
		synctest.Test(t, func(t *testing.T) {
			var takes [3]atomic.Int64
			var stalls [3]stall
			k := 0
			g, _ := newLiveGroup(t, 3, steady, func(o *Options) {
				o.Log = slowTerm{faultyLog{o.Log.(*memLog), new(atomic.Value), &stalls[k]}, &takes[k]}
				k++
			})
			l := g.serving()
			must(t, l.create("a"))
			g.applied("a", 1)
			own := slices.Index(g.nodes, l)
			x := g.other(l)
			stalls[own].slow(steady + steady/4)
			takes[slices.Index(g.nodes, x)].Store(int64(steady / 4))
			defer func() {
				for k := range stalls {
					stalls[k].slow(0)
				}
				time.Sleep(8 * steady)
			}()
			must(t, l.create("b"))
			time.Sleep(3*steady + time.Duration(i)*steady/tries)
			ctx, cancel := context.WithTimeout(context.Background(), 10*steady)
			defer cancel()
			term := l.part.Term()
			began := time.Now()
			err := l.part.Transfer(ctx, x.id)
			if err != nil {
				lost++
				t.Logf("%d: %v; the log ends at %d, its disk holds it to %d", i, err, l.part.raft.Load().LastIndex(), l.part.log.durable())
				return
			}
			time.Sleep(steady / 2)
			served := g.serving()
			if took := time.Since(began); served != x || x.part.Term() != term+1 || took > 2*steady {
				lost++
				t.Logf("%d: %s serves in term %d after %d, %.1f heartbeats later", i, served.id, served.part.Term(), term, took.Seconds()/steady.Seconds())
			}
		})
	}
	if lost > 0 {
		t.Errorf("%d of %d hand-overs came to nothing", lost, tries)
	}
}
