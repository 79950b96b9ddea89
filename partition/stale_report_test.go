package partition

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

// TestReportFromBeforeAMarker: a member that reported itself complete, was then sent a marker, and acknowledged what is behind that, does not
// count as complete for what it acknowledged: else a voter that the group needs would be removed.
func TestReportFromBeforeAMarker(t *testing.T) { synctest.Test(t, testReportFromBeforeAMarker) }

func testReportFromBeforeAMarker(t *testing.T) {
	g := newGroup(t, 3, func(o *Options) { o.Limits.InFlight, o.Trailing, o.Threshold = 8, 16, 1 })
	l := g.serving()
	must(t, l.create("a"))
	for _, nd := range g.nodes {
		g.wait("all to follow", func() bool { return nd.head("a") == 1 })
	}
	p := g.other(l)
	x := g.nodes[0]
	for _, nd := range g.nodes {
		if nd != l && nd != p {
			x = nd
		}
	}
	report := func() map[raft.ServerID]Peer {
		peers := map[raft.ServerID]Peer{}
		for _, nd := range g.nodes {
			peers[nd.id] = Peer{ID: nd.id, Alive: true, Ready: true, Complete: nd.docs.Complete(), Applied: nd.docs.Applied(),
				Epoch: l.part.Term(), Founding: l.part.Founding()}
		}
		return peers
	}
	advance := func(peers map[raft.ServerID]Peer) Step {
		t.Helper()
		step, err := l.part.Advance(context.Background(), Desired{Voters: []string{HostOf(l.id), HostOf(p.id)}, Prefer: HostOf(l.id)}, peers, false)
		must(t, err)
		return step
	}
	g.isolate(p)
	for i := range int64(100) {
		_, err := l.append("a", i+2, `{}`)
		must(t, err)
	}
	must(t, l.part.Truncate(context.Background(), 0))
	old := report()
	g.serving(l)
	if step := advance(old); step.Kind != StepNone {
		t.Fatalf("while it is away: %v", step)
	}
	g.connect()
	g.wait("it to acknowledge what is behind the marker", func() bool {
		match, ok := l.part.guard.match(p.id, l.part.Term())
		last, _ := l.log.LastIndex()
		if !ok || match < last {
			_, _ = l.append("a", l.head("a")+1, `{}`)
		}
		return !p.docs.Complete() && ok && match+8 >= last
	})
	if step := advance(old); step.Kind != StepNone {
		t.Errorf("by its report from before it was sent a marker, now that it lacks %v: %v", p.docs.Status().Holes, step)
	}
	if step := advance(report()); step.Kind != StepNone {
		t.Errorf("by its report as it is now: %v", step)
	}

	// A report in another term says nothing of markers in this one.
	fresh := report()
	peer := fresh[x.id]
	peer.Epoch--
	first, err := l.log.FirstIndex()
	must(t, err)
	peer.Applied = first
	fresh[x.id] = peer
	if got := l.part.view(Desired{}, fresh, nil).Peers[x.id].Applied; got != peer.Applied {
		t.Errorf("what it acknowledged in term %d counts for a report in term %d: %d became %d", l.part.Term(), peer.Epoch, peer.Applied, got)
	}
	peer.Epoch++
	fresh[x.id] = peer
	if got := l.part.view(Desired{}, fresh, nil).Peers[x.id].Applied; got <= peer.Applied {
		t.Errorf("what it acknowledged in this term does not count: %d", got)
	}
}
