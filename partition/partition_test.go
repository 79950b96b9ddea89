package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWritesReachEveryMember(t *testing.T) { synctest.Test(t, testWritesReachEveryMember) }

func testWritesReachEveryMember(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	for seq := int64(2); seq <= 50; seq++ {
		if head, err := l.append("a", seq, "{}"); err != nil || head != seq {
			t.Fatalf("append %d: head %d, %v", seq, head, err)
		}
	}
	for _, nd := range g.nodes {
		g.wait("every member to apply", func() bool { return nd.head("a") == 50 })
	}
	root := l.docs.Status().Root
	for _, nd := range g.nodes {
		g.wait("equal summaries", func() bool { return nd.docs.Status().Root == root })
	}
}

func TestOverlappingAppendsOneWins(t *testing.T) { synctest.Test(t, testOverlappingAppendsOneWins) }

func testOverlappingAppendsOneWins(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	for seq := int64(2); seq < 60; seq++ {
		var wg sync.WaitGroup
		var errs [2]error
		for i := range errs {
			wg.Go(func() { _, errs[i] = l.append("a", seq, fmt.Sprintf(`{"by":%d}`, i)) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			var mismatch *store.SeqMismatchError
			switch {
			case err == nil:
				won++
			case errors.As(err, &mismatch) && mismatch.Head == seq:
			default:
				t.Fatal(err)
			}
		}
		if won != 1 {
			t.Fatalf("seq %d: %d winners", seq, won)
		}
	}
}

func TestPipelinedAppendsAndRetries(t *testing.T) { synctest.Test(t, testPipelinedAppendsAndRetries) }

func testPipelinedAppendsAndRetries(t *testing.T) {
	g := newGroup(t, 3, func(o *Options) { o.Timing.Heartbeat = steady }) // the writers leave nobody else a processor
	l := g.serving()
	must(t, l.create("a"))
	var wg sync.WaitGroup
	for seq := int64(2); seq <= 40; seq++ { // each waits for its turn through mismatches
		wg.Go(func() {
			for {
				_, err := l.append("a", seq, fmt.Sprintf(`{"s":%d}`, seq))
				var mismatch *store.SeqMismatchError
				if err == nil {
					return
				}
				if !errors.As(err, &mismatch) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for seq := int64(2); seq <= 40; seq++ { // the same deltas again: acknowledged as already applied
		if head, err := l.append("a", seq, fmt.Sprintf(`{"s":%d}`, seq)); err != nil || head != 40 {
			t.Fatalf("retry of %d: %d, %v", seq, head, err)
		}
	}
	if _, err := l.append("a", 7, `{"other":1}`); err == nil {
		t.Fatal("other bytes at a stored seq were acknowledged")
	}
}

// TestDeposedLeaderIsFenced leaves a command of an old term in the log of a later one: every member drops it.
func TestDeposedLeaderIsFenced(t *testing.T) { synctest.Test(t, testDeposedLeaderIsFenced) }

func testDeposedLeaderIsFenced(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	head, _, err := l.docs.Head(key("a"))
	must(t, err)
	d := delta(2, `{"zombie":true}`)
	c := command{EvalTerm: l.part.Status().Epoch - 1, Proposal: 1 << 40, Mutation: store.Mutation{Kind: store.Append, Key: key("a"),
		Generation: head.Generation, HeadSeq: 2, Deltas: []store.Delta{d}, Prior: head.Chain, Chain: head.Chain.Next(d.AppendBinary(nil))}}
	must(t, l.part.raft.Load().Apply(c.encode(), time.Second).Error())
	if got := l.head("a"); got != 1 {
		t.Fatalf("a fenced command took effect: head %d", got)
	}
	if head, err := l.append("a", 2, "{}"); err != nil || head != 2 {
		t.Fatalf("append after the fenced command: %d, %v", head, err)
	}
}

// TestIsolatedLeaderStopsBeforeAnotherServes: the old leader's lease ends before a new one serves, it acknowledges
// nothing, and its writes in flight have an unknown outcome and an event each.
func TestIsolatedLeaderStopsBeforeAnotherServes(t *testing.T) {
	synctest.Test(t, testIsolatedLeaderStopsBeforeAnotherServes)
}

func testIsolatedLeaderStopsBeforeAnotherServes(t *testing.T) {
	g := newGroup(t, 3, nil)
	old := g.serving()
	must(t, old.create("a"))
	epoch, scope, err := old.part.Epoch()
	must(t, err)
	g.isolate(old)
	result := make(chan error, 1)
	go func() { _, err := old.append("a", 2, `{"lost":1}`); result <- err }()
	var others []*node
	for _, nd := range g.nodes {
		if nd != old {
			others = append(others, nd)
		}
	}
	var successor *node
	g.wait("a successor", func() bool {
		for _, nd := range others {
			if nd.part.Status().Serving == Serves {
				successor = nd
			}
		}
		if successor != nil && old.part.Status().Serving == Serves {
			t.Fatal("two leaders serve at once")
		}
		return successor != nil
	})
	if _, err := old.part.Read(context.Background(), Lease); err == nil {
		t.Fatal("a deposed leader served a lease read")
	}
	if scope.Err() == nil {
		t.Fatal("the epoch's context outlived its lease")
	}
	err = <-result
	var ambiguous *AmbiguousError
	var refused *NotServingError
	if !errors.As(err, &ambiguous) && !errors.As(err, &refused) {
		t.Fatalf("write at the deposed leader: %v", err)
	}
	if ambiguous != nil {
		old.mu.Lock()
		if len(old.losses) != 1 || old.losses[0].Key != key("a") || old.losses[0].LastSeq != 1 {
			t.Errorf("losses: %+v", old.losses)
		}
		old.mu.Unlock()
	}
	if next, _, err := successor.part.Epoch(); err != nil || next <= epoch {
		t.Fatalf("epoch %d after %d, %v", next, epoch, err)
	}
	if _, err := successor.append("a", 2, `{"kept":1}`); err != nil {
		t.Fatal(err)
	}
	g.connect()
	g.wait("the old leader to follow", func() bool { return old.head("a") == 2 && old.docs.Status().Root == successor.docs.Status().Root })
}

// TestAnswersDoNotRestOnPendingWrites: a sequence mismatch against a write that is later lost would tell an application of
// a head that never was. While a write is in flight, whoever loses against it waits for its outcome.
func TestAnswersDoNotRestOnPendingWrites(t *testing.T) {
	synctest.Test(t, testAnswersDoNotRestOnPendingWrites)
}

func testAnswersDoNotRestOnPendingWrites(t *testing.T) {
	g := newGroup(t, 3, func(o *Options) { o.Timing.Heartbeat = 300 * time.Millisecond })
	l := g.serving()
	must(t, l.create("a"))
	g.isolate(l)
	results := make(chan error, 2)
	for i := range 2 {
		go func() { _, err := l.append("a", 2, fmt.Sprintf(`{"by":%d}`, i)); results <- err }()
	}
	g.wait("a write in flight", func() bool { return l.part.Status().InFlight > 0 || l.part.Status().Serving != Serves })
	for range 2 {
		err := <-results
		if err == nil {
			t.Fatal("a write without a majority was acknowledged")
		}
		var mismatch *store.SeqMismatchError
		if errors.As(err, &mismatch) {
			t.Fatalf("told of head %d, which was never committed", mismatch.Head)
		}
	}
}

func TestQuorumReadNeedsTheVoters(t *testing.T) { synctest.Test(t, testQuorumReadNeedsTheVoters) }

func testQuorumReadNeedsTheVoters(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	_, err := l.part.Read(context.Background(), Quorum)
	must(t, err)
	g.isolate(l)
	time.Sleep(time.Microsecond) // or what was sent at this very moment counts, too
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := l.part.Read(ctx, Quorum); err == nil {
		t.Fatal("a quorum read succeeded without a quorum")
	}
	g.wait("a stale read to tell of what was written", func() bool {
		s, err := l.part.Read(context.Background(), Stale)
		must(t, err)
		return s.Index > 0
	})
}

// lagging makes a group in which one follower misses enough for the leader to have truncated what it lacks.
func lagging(t *testing.T) (g *group, leader, behind *node) {
	g = newGroup(t, 3, func(o *Options) { o.Limits.InFlight, o.Trailing, o.Threshold = 8, 10, 1 })
	leader = g.serving()
	must(t, leader.create("before"))
	for _, nd := range g.nodes {
		g.wait("the first document everywhere", func() bool { return nd.head("before") == 1 })
		if nd != leader {
			behind = nd
		}
	}
	g.isolate(behind)
	must(t, leader.create("missed"))
	for seq := int64(2); seq <= 60; seq++ {
		_, err := leader.append("missed", seq, "{}")
		must(t, err)
	}
	must(t, leader.part.Mark(context.Background()))
	return g, leader, behind
}

// TestMarkerMakesAHole: a member that fell behind the log is sent a marker, not documents; it goes on accepting entries,
// and never leads meanwhile.
func TestMarkerMakesAHole(t *testing.T) { synctest.Test(t, testMarkerMakesAHole) }

func testMarkerMakesAHole(t *testing.T) {
	g, leader, behind := lagging(t)
	g.connect()
	g.wait("a hole", func() bool { return !behind.docs.Status().Complete })
	must(t, leader.create("after"))
	g.wait("entries after the hole", func() bool { return behind.head("after") == 1 })
	if behind.head("missed") != -1 {
		t.Fatal("documents travelled through Raft")
	}
	if behind.head("before") != 1 {
		t.Fatal("what the member held is gone")
	}
	must(t, behind.docs.Flush())
	holes := behind.docs.Status().Holes
	if holes.Contains(behind.docs.Applied()) || holes.Empty() {
		t.Fatalf("holes %v at %d", holes, behind.docs.Applied())
	}
	if err := leader.part.Transfer(context.Background(), behind.id); err == nil {
		g.wait("someone to serve", func() bool { return g.serving() != behind })
	}
	if behind.part.Status().Serving == Serves {
		t.Fatal("a member with a hole serves")
	}
}

// TestHarvestKeepsAcknowledgedEntries (design §5.1): the member's own log holds committed entries it never learned to be
// committed. Skipping to the marker without applying them would take them from the group's majority.
func TestHarvestKeepsAcknowledgedEntries(t *testing.T) {
	nd := newNode(t, "h1@1")
	var seen terms
	entry := func(index, term uint64, m store.Mutation) *raft.Log {
		seen = seen.note(index, term)
		c := command{EvalTerm: term, Proposal: index, Mutation: m}
		return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: c.encode()}
	}
	var logs []*raft.Log
	for i := uint64(1); i <= 10; i++ {
		d := delta(1, "{}")
		k := key(fmt.Sprint("d", i))
		logs = append(logs, entry(i, 2, store.Mutation{Kind: store.Create, Key: k, Deltas: []store.Delta{d}, HeadSeq: 1, Chain: store.SeedChain(k).Next(d.AppendBinary(nil))}))
	}
	must(t, nd.log.StoreLogs(logs))
	fsm := &stateMachine{docs: nd.docs, awaitLog: func(uint64) error { return nil }, complete: func([]outcome) {}, onConfig: func(raft.Configuration) {}, failed: func(err error) { t.Error(err) }}
	fsm.ApplyBatch(logs[:4]) // it knows of 4, holds 10
	marker := store.Marker{Index: 30, Term: 3, Payload: payload{terms: seen}.encode()}
	must(t, fsm.skip(marker, nd.log))
	for i := 1; i <= 10; i++ {
		if nd.head(fmt.Sprint("d", i)) != 1 {
			t.Fatalf("entry %d, which this member had acknowledged, is lost", i)
		}
	}
	if got := nd.docs.Status().Holes.String(); got != "[11,30]" {
		t.Fatalf("holes %s", got)
	}
}

// TestAcknowledgedCountsBesideReports: a report is half a second old. By it alone, no member of a busy partition would ever be
// within reach of the log, and no membership change would come to its end.
func TestAcknowledgedCountsBesideReports(t *testing.T) {
	synctest.Test(t, testAcknowledgedCountsBesideReports)
}

func testAcknowledgedCountsBesideReports(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	for seq := int64(2); seq <= 20; seq++ {
		_, err := l.append("a", seq, "{}")
		must(t, err)
	}
	g.applied("a", 20)
	f := g.other(l)
	reported := map[raft.ServerID]Peer{f.id: {ID: f.id, Alive: true, Complete: true, Applied: 1, Epoch: l.part.Term()}}
	g.wait("the last acknowledgement", func() bool {
		v := l.part.view(Desired{}, reported, nil)
		return v.Peers[f.id].Applied >= v.Applied && v.Applied >= 20
	})
	if reported[f.id].Applied != 1 {
		t.Error("the caller's reports were changed")
	}
}
