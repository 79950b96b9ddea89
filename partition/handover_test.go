package partition

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// other returns a member that is not x.
func (g *group) other(not ...*node) *node {
	for _, nd := range g.nodes {
		taken := false
		for _, x := range not {
			taken = taken || nd == x
		}
		if !taken {
			return nd
		}
	}
	g.t.Fatal("no other member")
	return nil
}

func TestTransferNamesItsSuccessor(t *testing.T) { synctest.Test(t, testTransferNamesItsSuccessor) }

func testTransferNamesItsSuccessor(t *testing.T) {
	g := newGroup(t, 3, nil)
	for range 3 {
		l := g.serving()
		must(t, l.create(fmt.Sprint("by-", HostOf(l.id), l.part.Status().Term)))
		to := g.other(l)
		term := l.part.Status().Epoch
		must(t, l.part.Transfer(context.Background(), to.id))
		g.wait("the successor", func() bool { return to.part.Status().Serving == Serves })
		if got := to.part.Status().Epoch; got != term+1 {
			t.Fatalf("the successor serves in term %d after %d: it was elected in the usual way", got, term)
		}
		if _, err := l.part.Read(context.Background(), Lease); err == nil {
			t.Fatal("the old leader still serves")
		}
	}
}

// TestTransferWithTheOldLeadersVote: where the successor can not win without the vote of the leader that offers, it gets that
// vote at once: with two voters, and when others are down.
func TestTransferWithTheOldLeadersVote(t *testing.T) {
	for name, c := range map[string]struct{ voters, down int }{"two voters": {2, 0}, "one of three down": {3, 1}, "two of five down": {5, 2}} {
		t.Run(name, simulated(func(t *testing.T) {
			g, h := newLiveGroup(t, c.voters, steady, nil)
			l := g.serving()
			must(t, l.create("a"))
			g.applied("a", 1)
			up := []*node{l}
			for _, nd := range g.nodes {
				if nd != l && c.down > 0 {
					h.down(nd)
					c.down--
				} else if nd != l {
					up = append(up, nd)
				}
			}
			to, term := up[1], l.part.Status().Epoch
			must(t, l.part.Transfer(context.Background(), to.id))
			g.wait("the successor", func() bool { return to.part.Status().Serving == Serves })
			if got := to.part.Status().Epoch; got != term+1 {
				t.Fatalf("the successor serves in term %d after %d: it was elected in the usual way", got, term)
			}
		}))
	}
}

// TestOfferReleasesItsMaker: a leader that has offered its leadership votes for the one it offered it to, in the next term and
// in no other, and for nobody else, while its lease holds. It does not serve in that term again, however it came to lead in it.
func TestOfferReleasesItsMaker(t *testing.T) {
	now := time.Now()
	g := &guard{self: "a", inner: lostOffers{nil, new(atomic.Int32)}, term: func() uint64 { return 7 }, inOffice: func(time.Time) bool { return true },
		promise: promise{leader: "c", term: 5, until: now.Add(-time.Hour)}}
	ask := func(candidate raft.ServerID, term uint64) error {
		_, err, _ := g.intercept(raft.RPC{Command: &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte(candidate), Addr: offeredMark}, Term: term}}, now)
		return err
	}
	if err := ask("b", 8); !errors.Is(err, errInOffice) || g.offeredAway(7) {
		t.Fatalf("before the offer: %v", err)
	}
	if err := g.sendOffer("b", 7); err == nil {
		t.Fatal("the offer did not fail")
	}
	for _, c := range []struct {
		candidate raft.ServerID
		term      uint64
		refused   bool
	}{{"b", 8, false}, {"b", 7, true}, {"b", 9, true}, {"b", 6, true}, {"c", 8, true}, {"c", 6, true}} {
		if err := ask(c.candidate, c.term); (err != nil) != c.refused || err != nil && !errors.Is(err, errInOffice) {
			t.Errorf("%s in term %d: %v", c.candidate, c.term, err)
		}
	}
	if !g.offeredAway(7) || g.offeredAway(8) {
		t.Error("the offer is forgotten, or counts for another term")
	}
	g.promise.extend("d", 9, now, time.Hour) // it follows somebody again
	g.inOffice = func(time.Time) bool { return false }
	for term, refused := range map[uint64]bool{8: true, 10: false} {
		if err := ask("b", term); (err != nil) != refused {
			t.Errorf("while it follows the leader of term 9, asked in %d: %v", term, err)
		}
	}
}

// TestTransferGivenUpInTimeCostsNothing: as long as the lease was not given up, the leader goes on in its term, and no
// command is lost on the way.
func TestTransferGivenUpInTimeCostsNothing(t *testing.T) {
	synctest.Test(t, testTransferGivenUpInTimeCostsNothing)
}

func testTransferGivenUpInTimeCostsNothing(t *testing.T) {
	g := newGroup(t, 3, func(o *Options) { o.Timing.Heartbeat = 300 * time.Millisecond })
	l := g.serving()
	must(t, l.create("a"))
	to := g.other(l)
	term, scope, err := l.part.Epoch()
	must(t, err)
	l.trans.Disconnect(raft.ServerAddress(to.id)) // the successor lags
	for seq := int64(2); seq <= 5; seq++ {
		_, err := l.append("a", seq, `{}`)
		must(t, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := l.part.Transfer(ctx, to.id); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("transfer to a member that lags: %v", err)
	}
	if scope.Err() != nil {
		t.Fatal("the epoch ended although the successor was never within reach")
	}
	office, _, err := l.part.beginHandOver()
	must(t, err)
	if scope.Err() == nil {
		t.Fatal("the epoch's context outlived the start of the hand-over")
	}
	if _, err := l.append("a", 6, `{}`); err == nil {
		t.Fatal("a write during a hand-over")
	}
	l.part.cancelHandOver(office)
	for seq := int64(6); seq <= 9; seq++ {
		if head, err := l.append("a", seq, `{}`); err != nil || head != seq {
			t.Fatalf("append %d after the hand-over was given up: head %d, %v", seq, head, err)
		}
	}
	if s := l.part.Status(); s.Epoch != term {
		t.Fatalf("term %d after %d", s.Epoch, term)
	}
	l.trans.Connect(raft.ServerAddress(to.id), to.trans)
	must(t, l.part.Transfer(context.Background(), to.id))
	g.wait("the successor", func() bool { return to.part.Status().Serving == Serves })
}

// lostOffers is a transport on which every offer of leadership fails.
type lostOffers struct {
	Transport
	sent *atomic.Int32
}

func (l lostOffers) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	l.sent.Add(1)
	return errors.New("connection reset")
}

// TestFailedOfferGivesUpTheTerm: an offer of leadership that comes to nothing must not leave a leader that renews a lease it
// has given up, nor one without a lease that keeps the others quiet; the group elects anew, whether or not the caller waits.
func TestFailedOfferGivesUpTheTerm(t *testing.T) {
	for _, patience := range []time.Duration{time.Millisecond, time.Minute} {
		t.Run(patience.String(), simulated(func(t *testing.T) {
			var sent atomic.Int32
			g := newGroup(t, 3, func(o *Options) { o.Transport = lostOffers{o.Transport, &sent} })
			l := g.serving()
			must(t, l.create("a"))
			term := l.part.Status().Epoch
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := l.part.Transfer(ctx, g.other(l).id); err == nil {
				t.Fatal("an offer that failed was reported as a success")
			}
			if sent.Load() == 0 {
				t.Skip("the caller's time was over before the offer")
			}
			if _, err := l.part.Read(context.Background(), Lease); err == nil && l.part.Status().Epoch == term {
				t.Fatal("the lease outlived the offer")
			}
			g.wait("another term", func() bool {
				for _, nd := range g.nodes {
					if s := nd.part.Status(); s.Serving == Serves && s.Epoch > term {
						return true
					}
				}
				return false
			})
		}))
	}
}

// TestLateOfferElectsNobody: an offer of a leader who is no longer one, or of the present one's earlier term, must not set a
// member above a leader who has not given up its lease.
func TestLateOfferElectsNobody(t *testing.T) { synctest.Test(t, testLateOfferElectsNobody) }

func testLateOfferElectsNobody(t *testing.T) {
	g := newGroup(t, 3, func(o *Options) { o.Timing.Heartbeat = 300 * time.Millisecond })
	old := g.serving()
	must(t, old.create("a"))
	term := old.part.Status().Epoch
	now := g.other(old)
	must(t, old.part.Transfer(context.Background(), now.id))
	g.wait("the successor", func() bool { return now.part.Status().Serving == Serves })
	target := g.other(old, now)
	g.wait("the third to follow", func() bool { l, at := target.part.Leader(); return l == now.id && at > term })
	for name, c := range map[string]struct {
		from *node
		term uint64
		addr []byte
	}{
		"of a deposed leader":                  {old, term, nil},
		"of a deposed leader, term made up":    {old, term + 1, nil},
		"of the leader, in an earlier term":    {now, term, nil},
		"of the leader, without a term":        {now, 0, []byte(now.id)},
		"of the leader, in a term yet to come": {now, term + 2, nil},
	} {
		req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.from.id), Addr: c.addr}}
		if c.addr == nil {
			req.Addr = binary.BigEndian.AppendUint64(nil, c.term)
		}
		if err := c.from.trans.TimeoutNow(target.id, raft.ServerAddress(target.id), req, new(raft.TimeoutNowResponse)); err == nil {
			t.Fatalf("%s: taken", name)
		}
		if s := target.part.Status(); s.Term != term+1 || s.State != raft.Follower {
			t.Fatalf("%s: %s in term %d", name, s.State, s.Term)
		}
	}
	if _, err := now.append("a", 2, "{}"); err != nil {
		t.Fatal(err)
	}
}

// TestFlagExcusesOnlyTheNextTerm: a flagged vote request breaks a promise only if its candidate can have been offered the
// leadership that was promised to.
func TestFlagExcusesOnlyTheNextTerm(t *testing.T) {
	now := time.Now()
	g := &guard{promise: promise{leader: "a", term: 7, until: now.Add(time.Hour)}, term: func() uint64 { return 7 }, inOffice: func(time.Time) bool { return false }}
	for _, c := range []struct {
		flag    bool
		term    uint64
		refused bool
	}{{true, 8, false}, {true, 7, true}, {true, 9, true}, {false, 8, true}} {
		req := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("b")}, Term: c.term, LeadershipTransfer: true}
		if c.flag {
			req.Addr = offeredMark
		}
		_, err, handled := g.intercept(raft.RPC{Command: req}, now)
		if handled != c.refused || handled && !errors.Is(err, errPromised) {
			t.Errorf("flag %v, term %d: handled %v, %v", c.flag, c.term, handled, err)
		}
	}
}

// TestDrainingMemberTakesNoOffer and campaigns only when nobody else does.
func TestDrainingMemberTakesNoOffer(t *testing.T) { synctest.Test(t, testDrainingMemberTakesNoOffer) }

func testDrainingMemberTakesNoOffer(t *testing.T) {
	g := newGroup(t, 3, func(o *Options) { o.Timing.Grace = time.Minute })
	l := g.serving()
	must(t, l.create("a"))
	drained := g.other(l)
	drained.part.Drain()
	if err := l.part.Transfer(context.Background(), drained.id); err == nil {
		t.Fatal("a draining member took leadership")
	}
	g.wait("somebody to serve", func() bool {
		return l.part.Status().Serving == Serves || g.other(l, drained).part.Status().Serving == Serves
	})
	peers := map[raft.ServerID]Peer{}
	for _, nd := range g.nodes {
		peers[nd.id] = Peer{ID: nd.id, Alive: true, Complete: true, Draining: nd == drained}
	}
	v := View{Self: "h9@1", Peers: peers, Servers: []raft.Server{{ID: drained.id}}}
	if s := v.transfer(func(raft.ServerID) bool { return true }, ""); s.Kind != StepNone {
		t.Fatalf("leadership is meant for a draining member: %s", s)
	}
}

// TestCompactionGetsItsTurn: an operation that needs to be alone on a document gets its turn although appends never pause.
func TestCompactionGetsItsTurn(t *testing.T) { synctest.Test(t, testCompactionGetsItsTurn) }

func testCompactionGetsItsTurn(t *testing.T) {
	g := newGroup(t, 1, nil)
	l := g.serving()
	must(t, l.create("a"))
	compacted := make(chan error, 1)
	started := false
	var before *proposal
	for seq := int64(2); ; {
		l.part.slots <- struct{}{}
		a, err := l.part.propose(&Operation{Kind: store.Append, Key: key("a"), Deltas: []store.Delta{delta(seq, "{}")}}, sight{read: true})
		must(t, err)
		if a.proposal == nil {
			<-l.part.slots
			<-a.wait // for the compaction, or for the appends before it
		}
		if before != nil { // there is always an append in flight: this one is sent before that one is acknowledged
			<-before.done
			must(t, before.err)
		}
		before = a.proposal
		if before != nil {
			seq++
		}
		if seq == 10 && !started {
			started = true
			go func() {
				_, err := l.part.Do(context.Background(), Operation{Kind: store.Compact, Key: key("a"), Seq: 1, JSON: []byte("{}"), History: 1})
				compacted <- err
			}()
		}
		select {
		case err := <-compacted:
			must(t, err)
			return
		default:
		}
		if seq > 5000 {
			t.Fatal("the compaction waits behind thousands of appends")
		}
	}
}

// TestRemovalCountsOnceItIsCommitted: a member that the leader has begun to remove is told that it still belongs, because
// the removal may be lost with its leader.
func TestRemovalCountsOnceItIsCommitted(t *testing.T) {
	synctest.Test(t, testRemovalCountsOnceItIsCommitted)
}

func testRemovalCountsOnceItIsCommitted(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	out := g.other(l)
	g.isolate(l)
	l.part.raft.Load().RemoveServer(out.id, 0, 0)
	g.wait("the removal to be in the leader's log", func() bool { return len(l.part.Status().Servers) == 2 })
	held, err := l.part.Holds(out.id)
	must(t, err)
	if !held {
		t.Fatal("a member is given up for a removal that is not committed")
	}
	g.connect()
	l = g.serving()
	out = g.other(l)
	must(t, l.part.raft.Load().RemoveServer(out.id, 0, 0).Error())
	g.wait("the removal to be applied", func() bool { held, err := l.part.Holds(out.id); return err == nil && !held })
}

// TestFoundingOutlivesRestarts: a member knows which founding of the partition it belongs to before anybody tells it what is
// committed, with and without a marker, and all members agree.
func TestFoundingOutlivesRestarts(t *testing.T) { synctest.Test(t, testFoundingOutlivesRestarts) }

func testFoundingOutlivesRestarts(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	id := l.part.Founding()
	if id == 0 {
		t.Fatal("a group that serves has no id")
	}
	for _, nd := range g.nodes {
		g.wait("everybody to know the founding", func() bool { return nd.part.Founding() == id && nd.head("a") == 1 })
	}
	must(t, l.part.Mark(context.Background()))
	for _, nd := range g.nodes {
		must(t, nd.part.Close())
	}
	for _, nd := range g.nodes {
		_, nd.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(nd.id), 200*time.Millisecond)
		nd.open(nil) // alone: nobody tells it anything
		if got := nd.part.Founding(); got != id {
			t.Fatalf("%s: founding %x after the restart, %x before", nd.id, got, id)
		}
	}
	other := markerAt(1000, 99, nil)
	other.Payload = payload{founding: id + 2}.encode()
	if err := g.nodes[0].part.fsm.skip(other, g.nodes[0].log); !errors.Is(err, ErrForeignGroup) {
		t.Fatalf("a marker of another founding: %v", err)
	}
}

// heldOffers is a transport on which an offer of leadership takes until it is let go.
type heldOffers struct {
	Transport
	leaves chan struct{} // closed when an offer is about to leave
	held   chan struct{}
}

func (h heldOffers) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	close(h.leaves)
	<-h.held
	return h.Transport.TimeoutNow(id, to, req, resp)
}

// TestReadsGoOnUntilTheOffer: a leader that waits for its successor to catch up takes no writes, and serves reads; one whose
// offer has left serves nothing, because the other may lead.
func TestReadsGoOnUntilTheOffer(t *testing.T) { synctest.Test(t, testReadsGoOnUntilTheOffer) }

func testReadsGoOnUntilTheOffer(t *testing.T) {
	h := heldOffers{leaves: make(chan struct{}), held: make(chan struct{})}
	release := sync.OnceFunc(func() { close(h.held) })
	defer release()
	g := newGroup(t, 3, func(o *Options) {
		o.Timing.Heartbeat = steady
		h.Transport = o.Transport
		o.Transport = heldOffers{o.Transport, h.leaves, h.held}
	})
	l := g.serving()
	must(t, l.create("a"))
	to := g.other(l)
	ctx := context.Background()
	office, _, err := l.part.beginHandOver() // the successor lags, and does not for long
	must(t, err)
	var refused *NotServingError
	if _, err := l.append("a", 2, `{}`); !errors.As(err, &refused) || refused.Reason != HandingOver {
		t.Fatalf("a write during the hand-over: %v", err)
	}
	for _, level := range []Level{Lease, Quorum} {
		if _, err := l.part.Read(ctx, level); err != nil {
			t.Fatalf("a read while the successor catches up: %v", err)
		}
	}
	l.part.cancelHandOver(office)
	done := make(chan error, 1)
	go func() { done <- l.part.Transfer(ctx, to.id) }()
	<-h.leaves
	for _, level := range []Level{Lease, Quorum} {
		if _, err := l.part.Read(ctx, level); !errors.As(err, &refused) || refused.Reason != HandingOver {
			t.Fatalf("a read beside an offer that is under way: %v", err)
		}
	}
	release()
	must(t, <-done)
	g.wait("the successor", func() bool { return to.part.Status().Serving == Serves })
}

// TestTransferAfterALostAnswer: the successor holds the log, but the answer that said so was lost, and Raft does not ask again
// while nobody writes. Writes would be refused for as long as the hand-over waits for it.
func TestTransferAfterALostAnswer(t *testing.T) { synctest.Test(t, testTransferAfterALostAnswer) }

func testTransferAfterALostAnswer(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	f := g.other(l)
	h.sever(f, l)
	_, err := l.append("a", 2, "{}")
	must(t, err)
	g.applied("a", 2)
	h.heal()
	if s := l.part.Status(); l.part.guard.matches(f.id, s.Term, s.LastIndex) {
		t.Fatal("the answer was not lost")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	must(t, l.part.Transfer(ctx, f.id))
	g.wait("the successor", func() bool { return f.part.Status().Serving == Serves })
}

// TestTransferToNobody: while the successor is not within reach, writes go on.
func TestTransferToNobody(t *testing.T) { synctest.Test(t, testTransferToNobody) }

func testTransferToNobody(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	f := g.other(l)
	h.sever(f, l)
	h.sever(l, f)
	_, err := l.append("a", 2, "{}")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.part.Transfer(ctx, f.id) }()
	for seq := int64(3); seq <= 20; seq++ {
		if _, err := l.append("a", seq, "{}"); err != nil {
			t.Fatalf("seq %d: %v", seq, err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("a transfer to a host that is cut off: %v", err)
	}
	if s := l.part.Status(); s.Serving != Serves {
		t.Fatalf("not serving after a transfer that came to nothing: %s", s.Serving)
	}
}
