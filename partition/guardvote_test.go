package partition

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestWhoLosesItsVoteIsNeeded: a leader that takes a vote away reaches only the member that loses it, and is gone. The others need that vote.
func TestWhoLosesItsVoteIsNeeded(t *testing.T) {
	for name, kind := range map[string]StepKind{"demoted": StepDemote, "removed": StepRemove} {
		t.Run(name, func(t *testing.T) {
			t.Run("Raft's timers", simulated(func(t *testing.T) {
				g := newGroup(t, 3, nil)
				testLostVote(t, g, kind, func(n *node) { must(t, n.part.Close()) }, g.isolate, g.connect)
			}))
			t.Run("liveness", simulated(func(t *testing.T) {
				g, h := newLiveGroup(t, 3, steady, nil)
				testLostVote(t, g, kind, h.down, func(n *node) { g.isolate(n); h.isolate(g, n) }, func() { g.connect(); h.heal() })
			}))
		})
	}
}

func testLostVote(t *testing.T, g *group, kind StepKind, down, isolate func(*node), heal func()) {
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	loses := g.other(l)
	rest := g.other(l, loses)
	isolate(rest)
	if err := l.part.take(context.Background(), Step{Kind: kind, ID: loses.id}, 0); err == nil {
		t.Fatal("a majority knows")
	}
	servers, err := l.part.Configured()
	must(t, err)
	for _, s := range servers {
		if s.ID == loses.id && s.Suffrage == raft.Voter {
			t.Fatalf("%s did not store that %s loses its vote", l.id, loses.id)
		}
	}
	down(l)
	heal()
	g.serving(loses, rest)
}

// TestWhoLosesItsVoteIsTold: once the others know.
func TestWhoLosesItsVoteIsTold(t *testing.T) {
	for name, kind := range map[string]StepKind{"demoted": StepDemote, "removed": StepRemove} {
		t.Run(name, simulated(func(t *testing.T) {
			g, _ := newLiveGroup(t, 3, steady, nil)
			l := g.serving()
			must(t, l.create("a"))
			g.applied("a", 1)
			loses := g.other(l)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			must(t, l.part.take(ctx, Step{Kind: kind, ID: loses.id}, 0))
			g.wait("it knows", func() bool {
				servers, err := loses.part.Configured()
				must(t, err)
				for _, s := range servers {
					if s.ID == loses.id && s.Suffrage == raft.Voter {
						return false
					}
				}
				return true
			})
		}))
	}
}

// TestOnlyTheNewestConfigurationIsKept: the one before is committed, whatever a leader that has just been elected knows.
func TestOnlyTheNewestConfigurationIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := func(s raft.ServerSuffrage) []byte {
			return raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}, {ID: "b", Address: "b", Suffrage: s}}})
		}
		kinds := []*raft.Log{
			{Index: 1, Type: raft.LogConfiguration, Data: of(raft.Nonvoter)}, {Index: 2, Type: raft.LogNoop},
			{Index: 3, Type: raft.LogConfiguration, Data: of(raft.Voter)}, {Index: 4, Type: raft.LogNoop}}
		log := newMemLog()
		must(t, log.StoreLogs(kinds))
		g := &guard{now: time.Now, leaseFor: time.Second, log: &watchedLog{LogGroup: log, now: time.Now}, reached: func() uint64 { return 0 }, stop: make(chan struct{})}
		for n := range kinds { // as they are split into requests
			must(t, g.keepVote("b", kinds[:n+1]))
		}
		must(t, log.DeleteRange(3, 4))
		for n := range 2 {
			if err := g.keepVote("b", kinds[:n+1]); !errors.Is(err, errLosesVote) {
				t.Errorf("%d entries: %v", n+1, err)
			}
		}
		must(t, g.keepVote("a", kinds[:2]))
	})
}
