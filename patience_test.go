package adamant

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestForwardOutlastsASilentLeader: an operation at a host that forwards waits "as long as a fail-over takes, and a little more".
func TestForwardOutlastsASilentLeader(t *testing.T) {
	synctest.Test(t, testForwardOutlastsASilentLeader)
}

func testForwardOutlastsASilentLeader(t *testing.T) {
	f := newForwarding(t, nil)
	leader, h := f.sides()
	key, ctx := testKey(1), testContext(t)
	if err := h.Create(ctx, key, testDelta(1, "a")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second)
	for _, name := range []string{"h1", "h2", "h3"} {
		if name != leader.name {
			f.net.Cut(leader.name, name)
		}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := h.Get(ctx, key)
	took := time.Since(began)
	t.Logf("the read took %v (%.1f heartbeats)", took, took.Seconds()/h.opts.Timing.Heartbeat.Seconds())
	if err != nil {
		t.Errorf("a forwarded read failed after %v: %v", took, err)
	}
	f.net.Heal()
}

// TestTheDeadAreNotWaitedFor: a leader whose process has died is missed after one lease: one that has led for long, and one that has sent no beat yet
// (as in TestApplicationHostDies, which asserts nothing about how long it takes).
func TestTheDeadAreNotWaitedFor(t *testing.T) {
	for name, led := range map[string]time.Duration{"at once": 0, "after a while": 3 * time.Second} {
		t.Run(name, simulated(func(t *testing.T) {
			f := newFailing(t, 3)
			leader := f.leader()
			beat := f.host(leader).opts.Timing.Heartbeat
			time.Sleep(led)
			fault := time.Now()
			f.kill(leader)
			f.wait("another leader", func() error {
				if l := f.leader(); l == "" || l == leader {
					return fmt.Errorf("%q leads", l)
				}
				return nil
			})
			f.mu.Lock()
			var missed time.Duration
			for _, m := range f.moves {
				if m.at.After(fault) && missed == 0 {
					missed = m.at.Sub(fault)
				}
			}
			f.mu.Unlock()
			t.Logf("missed after %.2f heartbeats", missed.Seconds()/beat.Seconds())
			if missed > beat*3/2 {
				t.Errorf("missed after %.2f heartbeats, want one lease", missed.Seconds()/beat.Seconds())
			}
			f.open(leader)
			f.finish()
		}))
	}
}
