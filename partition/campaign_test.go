package partition

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestSimultaneousCandidates: two that stand at the same moment refuse each other once, not for ever.
func TestSimultaneousCandidates(t *testing.T) {
	const heartbeat = 200 * time.Millisecond
	g, h := newLiveGroup(t, 3, heartbeat, nil)
	for range 3 {
		l := g.serving()
		a := g.other(l)
		b := g.other(l, a)
		term := max(a.part.Status().Term, b.part.Status().Term)
		h.isolate(g, l)
		g.wait("both to miss the leader", func() bool {
			now := time.Now()
			return now.Sub(a.part.guard.lastContact()) > heartbeat && now.Sub(b.part.guard.lastContact()) > heartbeat
		})
		a.part.Stand()
		b.part.Stand()
		next := g.serving(a, b)
		if got := next.part.Status().Term; got > term+6 {
			t.Errorf("it took %d terms to agree", got-term)
		}
		h.heal()
		g.wait("the old leader to follow", func() bool { return l.part.Status().Leader == next.id })
	}
}

// TestCandidateHearsOfALaterTerm: of the two that are left one is in a later term, and its log is too short to be elected. The
// other one can win only in a term after that, of which it hears by asking.
func TestCandidateHearsOfALaterTerm(t *testing.T) {
	g, h := newLiveGroup(t, 3, 200*time.Millisecond, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	long := g.other(l)
	short := g.other(l, long)
	h.sever(l, short)
	h.sever(short, l)
	_, err := l.append("a", 2, "{}")
	must(t, err)
	g.applied("a", 2, l, long)
	later := l.part.Status().Term + 3 // as after elections that came to nothing
	short.part.guard.offerInjection(injection{command: &raft.RequestVoteRequest{RPCHeader: short.part.guard.header(), Term: later, LeadershipTransfer: true}})
	g.wait("the later term", func() bool { return short.part.term() >= later })
	h.isolate(g, l)
	if next := g.serving(long, short); next != long {
		t.Fatal("a member that lacks a committed entry serves")
	}
	must(t, long.create("b"))
}

// TestStandingDoesNotUndoAnElection that was decided while the pre-votes were counted.
func TestStandingDoesNotUndoAnElection(t *testing.T) {
	g, _ := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	f := g.other(l)
	term, epoch, err := l.part.Epoch()
	must(t, err)
	g.wait("the follower to follow", func() bool { return f.part.term() == term })
	for name, stood := range map[string]bool{
		"a leader": l.part.standForElection(term), "a follower in a later term": f.part.standForElection(term - 1),
	} {
		if stood {
			t.Error(name, "stood")
		}
	}
	must(t, l.create("a"))
	g.applied("a", 1)
	if s := l.part.Status(); s.Term != term || epoch.Err() != nil {
		t.Errorf("term %d after %d, epoch: %v", s.Term, term, epoch.Err())
	}
}

// TestElectionIsWaitedFor: that a leader is known from before the candidacy does not end it. Its token would be free, and all
// of a host's members would stand at once.
func TestElectionIsWaitedFor(t *testing.T) {
	g, _ := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	f := g.other(l)
	g.wait("the follower to follow", func() bool { return f.part.Status().Leader == l.id })
	began := time.Now()
	f.part.awaitElection(f.part.term())
	if took := time.Since(began); took < f.part.o.Timing.Election/2 {
		t.Errorf("waited %s", took)
	}
}

// TestBallotIsGivenOnce: until it ends a member gives no other pre-vote, its own candidacy included.
func TestBallotIsGivenOnce(t *testing.T) {
	g := &guard{leaseFor: 100 * time.Millisecond}
	now := time.Now()
	for _, c := range []struct {
		candidate raft.ServerID
		after     time.Duration
		refused   bool
	}{{"a", 0, false}, {"a", 10, false}, {"b", 20, true}, {"self", 59, true}, {"b", 60, false}, {"a", 61, true}, {"a", 110, false}} {
		if err := g.take(c.candidate, now.Add(c.after*time.Millisecond)); (err != nil) != c.refused {
			t.Errorf("%s after %d ms: %v", c.candidate, c.after, err)
		}
	}
	g.giveBack("a")
	if err := g.take("b", now.Add(111*time.Millisecond)); err != nil {
		t.Error("a ballot that was given back:", err)
	}
	g.giveBack("a")
	if err := g.take("a", now.Add(112*time.Millisecond)); err == nil {
		t.Error("somebody else's ballot was given back")
	}
}

// TestLiveHandOver: one term, no silence waited for, by members that beats had bound to the old leader: with
// five, the two that hand over are no majority.
func TestLiveHandOver(t *testing.T) {
	g, _ := newLiveGroup(t, 5, steady, nil)
	for i := range 3 {
		l := g.serving()
		must(t, l.create(fmt.Sprint("k", i)))
		to := g.other(l)
		term := l.part.Status().Epoch
		must(t, l.part.Transfer(context.Background(), to.id))
		g.wait("the successor", func() bool { return to.part.Status().Serving == Serves })
		if got := to.part.Status().Epoch; got != term+1 {
			t.Fatalf("the successor serves in term %d after %d", got, term)
		}
		if _, err := l.part.Read(context.Background(), Lease); err == nil {
			t.Fatal("the old leader still serves")
		}
		g.applied(fmt.Sprint("k", i), 1)
	}
}

// sickDocs are documents with holes, when told so.
type sickDocs struct {
	engineDocs
	sick *atomic.Bool
}

func (d sickDocs) Complete() bool { return !d.sick.Load() }

// TestSickMemberLeavesTheOfficeToOthers within its grace period, and does not for ever.
func TestSickMemberLeavesTheOfficeToOthers(t *testing.T) {
	var sick [3]atomic.Bool
	i := 0
	g, h := newLiveGroup(t, 3, 200*time.Millisecond, func(o *Options) {
		o.Documents = sickDocs{o.Documents.(engineDocs), &sick[i]}
		o.Timing.Grace = 1500 * time.Millisecond
		i++
	})
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	ill := g.other(l)
	well := g.other(l, ill)
	for k, nd := range g.nodes {
		if nd == ill {
			sick[k].Store(true)
		}
	}
	h.isolate(g, l)
	if next := g.serving(ill, well); next != well {
		t.Fatal("the sick member serves")
	}
	if n := h.asked(ill); n > 0 && ill.part.Status().Term > well.part.Status().Epoch {
		t.Fatalf("the sick member asked for %d pre-votes within its grace period", n)
	}
	// Now it is the only one whose log is long enough, of those who can talk: it leads, and does not serve.
	h.heal()
	g.applied("a", 1)
	g.wait("the old leader to follow", func() bool { return l.part.Status().Leader == well.id })
	h.sever(well, l)
	h.sever(l, well)
	_, err := well.append("a", 2, "{}")
	must(t, err)
	g.applied("a", 2, ill)
	h.isolate(g, well)
	h.mu.Lock()
	delete(h.cut, [2]raft.ServerID{ill.id, l.id})
	delete(h.cut, [2]raft.ServerID{l.id, ill.id})
	h.mu.Unlock()
	g.wait("the sick member to lead", func() bool { return ill.part.Status().State == raft.Leader })
	if _, err := ill.part.Read(context.Background(), Lease); err == nil {
		t.Fatal("a member with holes serves")
	}
	for k := range sick {
		sick[k].Store(false)
	}
	ill.part.Refresh()
	g.applied("a", 2, l)
	if g.serving(ill, l) != ill {
		t.Fatal("a healed leader gave up its office")
	}
}
