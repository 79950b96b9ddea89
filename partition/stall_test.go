package partition

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/adamantdb/adamant/store"
)

// TestLostRequestWithoutAnother: one of three hosts is down, the one request that carries a write is lost, and nobody writes
// anything else. The leader keeps its office, so it has to bring the entry to the follower all the same.
func TestLostRequestWithoutAnother(t *testing.T) {
	for _, behind := range []int{0, 2} { // commands that wait for the lost one
		t.Run(fmt.Sprint(behind), simulated(func(t *testing.T) { lostRequest(t, behind) }))
	}
}

func lostRequest(t *testing.T, behind int) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	down := g.other(l)
	other := g.other(l, down)
	h.down(down)
	g.wait("someone to serve", func() bool { l = g.serving(l, other); return l != nil })
	if l == other {
		other = g.other(l, down)
	}
	h.refuse(l, other)
	done := make(chan error, 1+behind)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	last := l.part.raft.Load().LastIndex()
	write := func(name string) {
		_, err := l.part.Do(ctx, Operation{Kind: store.Create, Key: key(name), Deltas: []store.Delta{delta(1, `{}`)}})
		done <- err
	}
	go write("b")
	g.wait("the entry to be stored by the leader", func() bool { return l.part.raft.Load().LastIndex() > last })
	for i := range behind {
		go write(fmt.Sprint("behind", i))
	}
	g.wait("those behind", func() bool { return l.part.outbox.inHold() == behind })
	h.heal()
	for range 1 + behind {
		if err := <-done; err != nil {
			s := l.part.Status()
			t.Fatalf("%v; %v, %v, commit %d, last %d", err, s.State, s.Serving, s.Commit, s.LastIndex)
		}
	}
}
