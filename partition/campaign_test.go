package partition

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/liveness"
)

// TestSimultaneousCandidates: two that stand at the same moment refuse each other once, not for ever.
func TestSimultaneousCandidates(t *testing.T) { synctest.Test(t, testSimultaneousCandidates) }

func testSimultaneousCandidates(t *testing.T) {
	const heartbeat = 200 * time.Millisecond
	g, h := newLiveGroup(t, 3, heartbeat, nil)
	for range 3 {
		l := g.serving()
		a := g.other(l)
		b := g.other(l, a)
		term := max(a.part.Status().Term, b.part.Status().Term)
		h.isolate(g, l)
		g.wait("both to miss the leader, or to have agreed already", func() bool {
			now := time.Now()
			return a.part.Status().Term > term || now.Sub(a.part.guard.lastContact()) > heartbeat && now.Sub(b.part.guard.lastContact()) > heartbeat
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
func TestCandidateHearsOfALaterTerm(t *testing.T) { synctest.Test(t, testCandidateHearsOfALaterTerm) }

func testCandidateHearsOfALaterTerm(t *testing.T) {
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
	short.part.guard.inject(&raft.RequestVoteRequest{RPCHeader: short.part.guard.header(), Term: later, LeadershipTransfer: true})
	g.wait("the later term", func() bool { return short.part.Term() >= later })
	h.isolate(g, l)
	if next := g.serving(long, short); next != long {
		t.Fatal("a member that lacks a committed entry serves")
	}
	must(t, long.create("b"))
}

// TestStandingDoesNotUndoAnElection that was decided while the pre-votes were counted.
func TestStandingDoesNotUndoAnElection(t *testing.T) {
	synctest.Test(t, testStandingDoesNotUndoAnElection)
}

func testStandingDoesNotUndoAnElection(t *testing.T) {
	g, _ := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	f := g.other(l)
	term, epoch, err := l.part.Epoch()
	must(t, err)
	g.wait("the follower to follow", func() bool { return f.part.Term() == term })
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
func TestElectionIsWaitedFor(t *testing.T) { synctest.Test(t, testElectionIsWaitedFor) }

func testElectionIsWaitedFor(t *testing.T) {
	g, _ := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	f := g.other(l)
	g.wait("the follower to follow", func() bool { return f.part.Status().Leader == l.id })
	began := time.Now()
	f.part.awaitElection(f.part.Term())
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
func TestLiveHandOver(t *testing.T) { synctest.Test(t, testLiveHandOver) }

func testLiveHandOver(t *testing.T) {
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
	synctest.Test(t, testSickMemberLeavesTheOfficeToOthers)
}

func testSickMemberLeavesTheOfficeToOthers(t *testing.T) {
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

// TestVoteIsTimeToWin: who voted, was offered the leadership, or stepped down has missed nobody yet, and no other candidate gets
// its pre-vote meanwhile. What the beats said of a leader is not forgotten with it.
func TestVoteIsTimeToWin(t *testing.T) {
	const lease = 100 * time.Millisecond
	start := time.Now()
	table := liveness.NewTable(1)
	fresh := func() *guard { return &guard{self: "self", leaseFor: lease, live: table, partition: 1} }
	request := &raft.RequestVoteRequest{RPCHeader: headerOf("a"), Term: 2}
	for name, c := range map[string]struct {
		happens func(*guard)
		wants   raft.ServerID // who may have the ballot; "" for anybody
		contact bool
	}{
		"voted": {func(g *guard) {
			g.voted(request, raft.RPCResponse{Response: &raft.RequestVoteResponse{Granted: true}}, start)
		}, "a", true},
		"refused a vote": {func(g *guard) { g.voted(request, raft.RPCResponse{Response: &raft.RequestVoteResponse{}}, start) }, "", false},
		"could not store a vote": {func(g *guard) {
			g.voted(request, raft.RPCResponse{Response: &raft.RequestVoteResponse{Granted: true}, Error: errStopped}, start)
		}, "", false},
		"was offered": {func(g *guard) {
			g.accept(&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{Addr: make([]byte, 8)}}, start)
		}, "self", true},
		"stepped down": {func(g *guard) { g.stoodDown(start) }, "", true},
	} {
		g := fresh()
		c.happens(g)
		patience := time.Duration(0)
		if name == "was offered" {
			patience = lease
		}
		if got := g.lastContact().Equal(start.Add(patience)); got != c.contact {
			t.Errorf("%s: last contact %s", name, g.lastContact())
		}
		if !g.lastHeard().IsZero() {
			t.Errorf("%s: that is no word of a leader: %s", name, g.lastHeard())
		}
		soon := start.Add(lease * 9 / 10)
		if err := g.take("b", soon); (err == nil) != (c.wants == "") {
			t.Errorf("%s: a pre-vote for another: %v", name, err)
		}
		if err := g.take(c.wants, soon); c.wants != "" && err != nil {
			t.Errorf("%s: a pre-vote for %s: %v", name, c.wants, err)
		}
	}
}

// TestContactOutlivesTheLeader: that a leader is not followed any more does not undo when it was heard of.
func TestContactOutlivesTheLeader(t *testing.T) {
	for name, end := range map[string]func(g *guard, now time.Time){
		"outgrown":         func(g *guard, _ time.Time) { g.outgrow(9) },
		"offered":          func(g *guard, now time.Time) { g.release("b", now, true) },
		"another's chance": func(g *guard, now time.Time) { g.release("b", now.Add(time.Hour), false) },
	} {
		table, leader := liveness.NewTable(1), liveness.NewTable(2)
		g := &guard{self: "self", leaseFor: 100 * time.Millisecond, live: table, partition: 1}
		g.mu.Lock()
		g.follow("a", 2)
		g.mu.Unlock()
		leader.Led(1, 2, "self")
		beat, ok := leader.Beat("self")
		if !ok {
			t.Fatal("no beat")
		}
		now := time.Now()
		table.Heard("a", beat, now)
		if !g.lastContact().Equal(now) {
			t.Fatalf("%s: a beat is no contact: %s", name, g.lastContact())
		}
		end(g, now)
		if leader, _, _ := table.Contact(1); leader != "" {
			t.Errorf("%s: still follows %s", name, leader)
		}
		if !g.lastContact().Equal(now) || !g.lastHeard().Equal(now) {
			t.Errorf("%s: the last contact is forgotten: %s, %s", name, g.lastContact(), g.lastHeard())
		}
	}
}

// TestAgeOfAMemberThatHeardFromNobody: a follower that is opened again while it is cut off does not claim to know anything new.
func TestAgeOfAMemberThatHeardFromNobody(t *testing.T) {
	synctest.Test(t, testAgeOfAMemberThatHeardFromNobody)
}

func testAgeOfAMemberThatHeardFromNobody(t *testing.T) {
	const heartbeat = 200 * time.Millisecond
	g, h := newLiveGroup(t, 3, heartbeat, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	f := g.other(l)
	if s, err := f.part.Read(context.Background(), Stale); err != nil || s.Age < 0 || s.Age > time.Minute {
		t.Fatalf("a follower: %+v, %v", s, err)
	}
	h.isolate(g, f)
	h.down(f)
	h.reopen(g, f, heartbeat)
	if s, err := f.part.Read(context.Background(), Stale); err != nil || s.Age != AgeUnknown {
		t.Fatalf("cut off since it was opened: %+v, %v", s, err)
	}
	h.heal()
	g.wait("word of the leader", func() bool {
		s, err := f.part.Read(context.Background(), Stale)
		return err == nil && s.Age >= 0
	})
}
