package partition

import (
	"context"
	"testing"
	"time"

	"github.com/adamantdb/adamant/store"
)

// TestLostRequestWithoutAnother: one of three hosts is down, the one request that carries a write is lost, and nobody writes
// anything else. The leader keeps its office, so it has to bring the entry to the follower all the same.
func TestLostRequestWithoutAnother(t *testing.T) {
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
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	last := l.part.raft.Load().LastIndex()
	go func() {
		_, err := l.part.Do(ctx, Operation{Kind: store.Create, Key: key("b"), Deltas: []store.Delta{delta(1, `{}`)}})
		done <- err
	}()
	g.wait("the entry to be stored by the leader", func() bool { return l.part.raft.Load().LastIndex() > last })
	h.heal()
	if err := <-done; err != nil {
		s := l.part.Status()
		t.Fatalf("%v; %v, %v, commit %d, last %d", err, s.State, s.Serving, s.Commit, s.LastIndex)
	}
}
