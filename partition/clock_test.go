package partition

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestSuspendedLeaderDoesNotServe: a machine that was suspended wakes with a clock that went on. Its leader's lease is over at
// once, before any timer of it has run; it serves again when a majority has answered.
func TestSuspendedLeaderDoesNotServe(t *testing.T) { synctest.Test(t, testSuspendedLeaderDoesNotServe) }

func testSuspendedLeaderDoesNotServe(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	term := l.part.Status().Epoch
	ctx := context.Background()
	if _, err := l.part.Read(ctx, Lease); err != nil {
		t.Fatal(err)
	}
	// Nothing of what the others have said before may count, and nothing they say now arrives.
	h.isolate(g, l)
	h.host(l.id).ahead.Add(int64(time.Hour))
	var refused *NotServingError
	if _, err := l.part.Read(ctx, Lease); !errors.As(err, &refused) || refused.Reason != NoLease {
		t.Fatalf("after an hour's sleep: %v", err)
	}
	if err := l.create("b"); err == nil {
		t.Fatal("a write was taken")
	}
	if _, _, err := l.part.Epoch(); err == nil {
		t.Fatal("the epoch goes on")
	}
	h.heal()
	next := g.serving()
	must(t, next.create("c"))
	if next == l && l.part.Status().Epoch < term {
		t.Fatal("the term went back")
	}
}

// TestClocksMayDrift: a follower's clock that runs faster than its leader's by less than the bound ends its promise after the
// lease; one that runs faster by more ends it before. The bound is what is relied upon.
func TestClocksMayDrift(t *testing.T) {
	const (
		length = time.Second
		bound  = 0.05
	)
	sent := time.Now()
	for rate, safe := range map[float64]bool{1: true, 1.04: true, 1.0526: true, 1.06: false, 2: false} {
		var l lease
		l.ack("f", 1, sent, 0)
		at, ok := l.majority(1, []raft.ServerID{"l", "f", "g"}, "l", sent, func(raft.ServerID, uint64) time.Time { return time.Time{} })
		if !ok {
			t.Fatal("no majority")
		}
		var p promise
		p.extend("l", 1, sent, length) // it arrived at once: the worst case
		until := leaseEnd(at, length, bound)
		// When the lease is over by the leader's clock, the follower's shows rate times as much.
		theirs := sent.Add(time.Duration(float64(until.Sub(sent)-time.Nanosecond) * rate))
		if got := p.forbids("g", theirs); got != safe {
			t.Errorf("a clock %.4f times as fast: promise holds when the lease ends: %v", rate, got)
		}
	}
}
