package partition

import (
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// TestVoteForWhoIsNoVoterYet: a leader that was about to make a member a voter is gone, and with it what it had not told everybody: each of
// the others needs the votes of all, the one whose log is the longest is no voter to the one whose log is the shortest, and the
// fourth voter is dead. With Raft's own rule nobody is ever elected.
func TestVoteForWhoIsNoVoterYet(t *testing.T) {
	t.Run("Raft's timers", simulated(func(t *testing.T) {
		g := newGroup(t, 3, nil)
		testVoteForNonvoter(t, g, func(n *node) { must(t, n.part.Close()) }, func(n *node) { n.open(nil); g.connect() })
	}))
	t.Run("liveness", simulated(func(t *testing.T) {
		g, h := newLiveGroup(t, 3, steady, nil)
		h.absent("gone@1")
		testVoteForNonvoter(t, g, h.down, func(n *node) { h.reopen(g, n, steady) })
	}))
}

func testVoteForNonvoter(t *testing.T, g *group, down, up func(*node)) {
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	behind := g.other(l)
	ahead := g.other(l, behind)
	joining := raft.Configuration{Servers: []raft.Server{
		{ID: l.id, Address: raft.ServerAddress(l.id)}, {ID: behind.id, Address: raft.ServerAddress(behind.id)}, {ID: "gone@1", Address: "gone@1"},
		{ID: ahead.id, Address: raft.ServerAddress(ahead.id), Suffrage: raft.Nonvoter}}}
	joined := joining.Clone()
	joined.Servers[3].Suffrage = raft.Voter
	term := l.part.Term()
	for _, n := range g.nodes {
		down(n)
	}
	for _, n := range g.nodes {
		told := []raft.Configuration{joining, joined, joined}[:map[*node]int{behind: 1, l: 2, ahead: 3}[n]]
		for _, c := range told {
			last, err := n.log.LastIndex()
			must(t, err)
			must(t, n.log.StoreLog(&raft.Log{Index: last + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}))
		}
	}
	for _, n := range g.nodes {
		up(n)
	}
	if l := g.serving(); l != ahead {
		t.Errorf("%s leads, and its log was shorter", l.id)
	}
}

// TestVoteOfWhoIsNoVoterYet: the other voters know that a member was made a voter, and the member itself does not yet: its vote is
// needed, and so is its acknowledgement: of the entry by which it has no vote yet, too, if it has not got that either.
func TestVoteOfWhoIsNoVoterYet(t *testing.T) {
	for name, told := range map[string]int{"it is none yet": 1, "nothing": 0} {
		t.Run("knows "+name, func(t *testing.T) {
			t.Run("Raft's timers", simulated(func(t *testing.T) {
				g := newGroup(t, 3, nil)
				testVoteOfNonvoter(t, g, told, func(n *node) { must(t, n.part.Close()) }, func(n *node) { n.open(nil); g.connect() })
			}))
			t.Run("liveness", simulated(func(t *testing.T) {
				g, h := newLiveGroup(t, 3, steady, nil)
				h.absent("gone@1")
				testVoteOfNonvoter(t, g, told, h.down, func(n *node) { h.reopen(g, n, steady) })
			}))
		})
	}
}

func testVoteOfNonvoter(t *testing.T, g *group, told int, down, up func(*node)) {
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	behind := g.other(l)
	ahead := g.other(l, behind)
	joining := raft.Configuration{Servers: []raft.Server{
		{ID: l.id, Address: raft.ServerAddress(l.id)}, {ID: ahead.id, Address: raft.ServerAddress(ahead.id)}, {ID: "gone@1", Address: "gone@1"},
		{ID: behind.id, Address: raft.ServerAddress(behind.id), Suffrage: raft.Nonvoter}}}
	joined := joining.Clone()
	joined.Servers[3].Suffrage = raft.Voter
	term := l.part.Term()
	for _, n := range g.nodes {
		down(n)
	}
	for _, n := range g.nodes {
		for _, c := range []raft.Configuration{joining, joined, joined}[:map[*node]int{behind: told, l: 2, ahead: 3}[n]] {
			last, err := n.log.LastIndex()
			must(t, err)
			must(t, n.log.StoreLog(&raft.Log{Index: last + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}))
		}
	}
	for _, n := range g.nodes {
		up(n)
	}
	if l := g.serving(); l != ahead {
		t.Errorf("%s leads, and its log was shorter", l.id)
	}
}

// absent is a host that is only named.
func (h *hosts) absent(id raft.ServerID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byID[id] = &liveHost{id: id, ahead: new(atomic.Int64)}
}
