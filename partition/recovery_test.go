package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// filled makes a member whose log and documents hold the entries 1 to n of term 2, the first `applied` of them applied.
func filled(t *testing.T, n, applied int) (*node, terms) {
	nd := newNode(t, "h1@1")
	var seen terms
	var logs []*raft.Log
	for i := 1; i <= n; i++ {
		d := delta(1, "{}")
		k := key(fmt.Sprint("d", i))
		c := command{EvalTerm: 2, Proposal: uint64(i), Mutation: store.Mutation{Kind: store.Create, Key: k, Deltas: []store.Delta{d}, HeadSeq: 1,
			Chain: store.SeedChain(k).Next(d.AppendBinary(nil))}}
		logs = append(logs, &raft.Log{Index: uint64(i), Term: 2, Type: raft.LogCommand, Data: c.encode()})
		seen = seen.note(uint64(i), 2)
	}
	must(t, nd.log.StoreLogs(logs))
	if applied > 0 {
		nd.fsm(t).ApplyBatch(logs[:applied])
	}
	return nd, seen
}

func (nd *node) fsm(t *testing.T) *stateMachine {
	return &stateMachine{docs: nd.docs, awaitLog: func(uint64) error { return nil }, complete: func([]outcome) {}, onConfig: func(raft.Configuration) {}, failed: func(err error) { t.Error(err) }}
}

func markerAt(index, term uint64, seen terms, servers ...raft.Server) store.Marker {
	return store.Marker{Index: index, Term: term, ConfigurationIndex: 1, Payload: payload{terms: seen}.encode(),
		Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: servers})}
}

// TestCrashBetweenHoleAndMarker: the hole is recorded, the marker is not stored yet. The member opens again, is not taken
// for one that lost its log, and takes the marker when it is sent again.
func TestCrashBetweenHoleAndMarker(t *testing.T) {
	nd, seen := filled(t, 10, 4)
	m := markerAt(30, 3, seen)
	must(t, nd.fsm(t).skip(m, nd.log)) // and here it crashes
	nd.open(nil)
	if got := nd.docs.Status().Holes.String(); got != "[11,30]" {
		t.Fatalf("holes %s", got)
	}
	if early, err := nd.part.Installing(); err != nil || !early {
		t.Fatalf("a hole without its marker may be healed: %v, %v", early, err)
	}
	req := &raft.InstallSnapshotRequest{LastLogIndex: 30, LastLogTerm: 3}
	if nd.part.covered(req) {
		t.Fatal("a member without the marker claims to be covered: the leader would send entries it cannot place")
	}
	must(t, nd.part.install(m))
	if !nd.part.covered(req) {
		t.Fatal("not covered after the marker was stored")
	}
	if early, err := nd.part.Installing(); err != nil || early {
		t.Fatalf("it can not be healed: %v, %v", early, err)
	}
	if got := nd.docs.Status().Holes.String(); got != "[11,30]" {
		t.Fatalf("holes %s after the second time", got)
	}
}

// TestMarkerWithoutHole (design §5.4): a marker is stored, the documents are behind it: a hole, whatever was recorded.
func TestMarkerWithoutHole(t *testing.T) {
	nd, seen := filled(t, 10, 4)
	must(t, nd.log.SaveMarker(markerAt(30, 3, seen), false))
	nd.open(nil)
	if got := nd.docs.Status().Holes.String(); got != "[5,30]" {
		t.Fatalf("holes %s", got)
	}
}

func TestLostLogIsRefused(t *testing.T) {
	nd, _ := filled(t, 10, 10)
	nd.log = newMemLog()
	_, err := Open(Options{Self: nd.id, Log: nd.log, Documents: nd.docs, Transport: nd.trans})
	if !errors.Is(err, ErrLogLost) {
		t.Fatalf("opened with documents beyond the log: %v", err)
	}
}

func TestSeedOnlyIntoNothing(t *testing.T) {
	nd, seen := filled(t, 3, 0)
	if err := Seed(nd.log, markerAt(30, 3, seen)); err == nil {
		t.Fatal("a member with a log was seeded")
	}
	empty := newNode(t, "h2@1")
	must(t, Seed(empty.log, markerAt(30, 3, seen)))
	if err := Seed(empty.log, markerAt(31, 3, seen)); err == nil {
		t.Fatal("seeded twice")
	}
	empty.open(nil)
	if s := empty.part.Status(); s.Documents.Complete || s.Documents.Applied != 30 || s.LastIndex != 30 {
		t.Fatalf("a seeded member starts with %+v", s)
	}
}

// TestRepeatedMarkerChangesNothing: a marker that arrives again after entries were acknowledged beyond it must not take
// them from the log.
func TestRepeatedMarkerChangesNothing(t *testing.T) {
	synctest.Test(t, testRepeatedMarkerChangesNothing)
}

func testRepeatedMarkerChangesNothing(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	for seq := int64(2); seq <= 20; seq++ {
		_, err := l.append("a", seq, "{}")
		must(t, err)
	}
	var f *node
	for _, nd := range g.nodes {
		if nd != l {
			f = nd
		}
	}
	g.wait("the follower", func() bool { return f.head("a") == 20 })
	m, err := l.part.JoinMarker()
	must(t, err)
	for seq := int64(21); seq <= 30; seq++ {
		_, err := l.append("a", seq, "{}")
		must(t, err)
	}
	g.wait("the follower", func() bool { return f.head("a") == 30 })
	before, err := f.log.LastIndex()
	must(t, err)
	var resp raft.InstallSnapshotResponse
	req := raft.InstallSnapshotRequest{SnapshotVersion: raft.SnapshotVersionMax, Term: l.part.Status().Term, LastLogIndex: m.Index, LastLogTerm: m.Term,
		Configuration: m.Configuration, ConfigurationIndex: m.ConfigurationIndex, Size: int64(len(m.Payload))}
	req.ID, req.Addr = []byte(l.id), []byte(l.id)
	must(t, l.trans.InstallSnapshot(f.id, raft.ServerAddress(f.id), &req, &resp, bytes.NewReader(m.Payload)))
	if !resp.Success {
		t.Fatal("the leader would send it for ever")
	}
	if after, _ := f.log.LastIndex(); after < before {
		t.Fatalf("the log went back from %d to %d: acknowledged entries are gone", before, after)
	}
	if !f.docs.Status().Complete {
		t.Fatal("a repeated marker made a hole")
	}
}

// failingSync are documents whose engine cannot sync.
type failingSync struct{ engineDocs }

func (failingSync) Sync() error { return errors.New("disk on fire") }

// TestNothingIsTruncatedBeforeItIsDurable (lemma I1).
func TestNothingIsTruncatedBeforeItIsDurable(t *testing.T) {
	synctest.Test(t, testNothingIsTruncatedBeforeItIsDurable)
}

func testNothingIsTruncatedBeforeItIsDurable(t *testing.T) {
	g := newGroup(t, 1, func(o *Options) {
		o.Documents = failingSync{o.Documents.(engineDocs)}
		o.Limits.InFlight, o.Trailing, o.Threshold = 1, 2, 1
	})
	l := g.serving()
	must(t, l.create("a"))
	for seq := int64(2); seq <= 20; seq++ {
		_, err := l.append("a", seq, "{}")
		must(t, err)
	}
	if err := l.part.Mark(context.Background()); err == nil {
		t.Fatal("a marker was made although the documents are not durable")
	}
	if first, _ := l.log.FirstIndex(); first != 1 {
		t.Fatalf("the log begins at %d", first)
	}
	if _, ok, _ := l.log.Marker(); ok {
		t.Fatal("a marker is stored")
	}
}

// TestTruncationKeepsATrail: after a marker the log still holds what members a little behind need.
func TestTruncationKeepsATrail(t *testing.T) { synctest.Test(t, testTruncationKeepsATrail) }

func testTruncationKeepsATrail(t *testing.T) {
	g := newGroup(t, 3, func(o *Options) { o.Limits.InFlight, o.Trailing, o.Threshold = 8, 20, 1 })
	l := g.serving()
	must(t, l.create("a"))
	for seq := int64(2); seq <= 100; seq++ {
		_, err := l.append("a", seq, "{}")
		must(t, err)
	}
	must(t, l.part.Truncate(context.Background(), 0))
	first, _ := l.log.FirstIndex()
	last, _ := l.log.LastIndex()
	if kept := last - first + 1; first == 1 || kept < 20 {
		t.Fatalf("log [%d,%d]", first, last)
	}
	for _, nd := range g.nodes {
		if !nd.docs.Status().Complete {
			t.Fatalf("%s became sick", nd.id)
		}
	}
}

// TestLargeEntriesAreTruncatedBySize: few entries, many bytes.
func TestLargeEntriesAreTruncatedBySize(t *testing.T) {
	synctest.Test(t, testLargeEntriesAreTruncatedBySize)
}

func testLargeEntriesAreTruncatedBySize(t *testing.T) {
	g := newGroup(t, 1, func(o *Options) {
		o.Limits.InFlight, o.ThresholdBytes, o.TrailingBytes = 4, 100_000, 100_000
	})
	l := g.serving()
	must(t, l.create("a"))
	big := `{"x":"` + strings.Repeat("x", 20_000) + `"}`
	for seq := int64(2); seq <= 60; seq++ {
		_, err := l.append("a", seq, big)
		must(t, err)
		must(t, l.part.Truncate(context.Background(), 0))
	}
	first, _ := l.log.FirstIndex()
	last, _ := l.log.LastIndex()
	if kept := last - first + 1; kept > 16 || kept < 5 {
		t.Fatalf("%d entries of 20 kB are kept for 100 kB", kept)
	}
}

// TestSickMemberLeavesCampaigningToOthers: within the grace period its candidacies are withheld, after it they are not.
func TestSickMemberLeavesCampaigningToOthers(t *testing.T) {
	nd, seen := filled(t, 10, 4)
	must(t, nd.log.SaveMarker(markerAt(30, 3, seen, raft.Server{ID: nd.id, Address: raft.ServerAddress(nd.id)}, raft.Server{ID: "h2@1", Address: "h2@1"}), false))
	nd.open(func(o *Options) { o.Timing.Grace = time.Hour })
	now := time.Now()
	if !nd.part.vetoed(now, now.Add(-time.Minute)) {
		t.Fatal("a sick member campaigns within its grace period")
	}
	if nd.part.vetoed(now, now.Add(-2*time.Hour)) {
		t.Fatal("a sick member may never campaign: that deadlocks")
	}
	peer := newNode(t, "h2@1")
	peer.trans.Connect(raft.ServerAddress(nd.id), nd.trans)
	var resp raft.TimeoutNowResponse
	if err := peer.trans.TimeoutNow(nd.id, raft.ServerAddress(nd.id), &raft.TimeoutNowRequest{}, &resp); err == nil {
		t.Fatal("a sick member took an offer of leadership")
	}
}

// TestRestartedVoterKeepsItsPromise: it cannot know what it promised, so it helps nobody for a full lease.
func TestRestartedVoterKeepsItsPromise(t *testing.T) {
	synctest.Test(t, testRestartedVoterKeepsItsPromise)
}

func testRestartedVoterKeepsItsPromise(t *testing.T) {
	g := newGroup(t, 3, func(o *Options) { o.Timing.Heartbeat, o.Timing.Lease = 300*time.Millisecond, time.Hour }) // however slow the test is
	l := g.serving()
	var f, x *node
	for _, nd := range g.nodes {
		switch {
		case nd == l:
		case f == nil:
			f = nd
		default:
			x = nd
		}
	}
	ask := func() error {
		req := raft.RequestVoteRequest{Term: l.part.Status().Term + 10, LastLogIndex: 1 << 40, LastLogTerm: 1 << 40}
		req.ProtocolVersion, req.ID, req.Addr = raft.ProtocolVersionMax, []byte(x.id), []byte(x.id)
		var resp raft.RequestVoteResponse
		if err := x.trans.RequestVote(f.id, raft.ServerAddress(f.id), &req, &resp); err != nil {
			return err
		}
		if !resp.Granted {
			return errors.New("not granted")
		}
		return nil
	}
	g.wait("the follower's promise", func() bool {
		f.part.guard.mu.Lock()
		defer f.part.guard.mu.Unlock()
		return f.part.guard.promise.leader == l.id
	})
	if err := ask(); err == nil {
		t.Fatal("a voter broke its promise")
	}
	g.isolate(f)
	must(t, f.part.Close())
	_, f.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(f.id), 200*time.Millisecond)
	x.trans.Connect(raft.ServerAddress(f.id), f.trans)
	f.open(func(o *Options) { o.Timing.Heartbeat, o.Timing.Lease = 300*time.Millisecond, time.Hour })
	if err := ask(); err == nil {
		t.Fatal("a restarted voter forgot that it may have promised")
	}
}

// TestFailedApplyStopsTheMember: what cannot be applied is not acknowledged, and nothing goes on as if it had been.
func TestFailedApplyStopsTheMember(t *testing.T) { synctest.Test(t, testFailedApplyStopsTheMember) }

func testFailedApplyStopsTheMember(t *testing.T) {
	var failing atomic.Bool
	g := newGroup(t, 1, func(o *Options) { o.Documents = failingApply{o.Documents.(engineDocs), &failing} })
	l := g.serving()
	must(t, l.create("a"))
	failing.Store(true)
	if _, err := l.append("a", 2, "{}"); err == nil {
		t.Fatal("acknowledged what was not applied")
	}
	g.wait("the member to stop", func() bool { return l.part.Status().Serving == Failed })
	if _, err := l.append("a", 2, "{}"); err == nil {
		t.Fatal("a failed member accepts writes")
	}
}

type failingApply struct {
	engineDocs
	failing *atomic.Bool
}

func (d failingApply) Stage(b []store.Mutation, last uint64) error {
	if d.failing.Load() && len(b) > 0 {
		return errors.New("disk on fire")
	}
	return d.engineDocs.Stage(b, last)
}

func TestSafeModeRefusesWritesAndServesStaleReads(t *testing.T) {
	synctest.Test(t, testSafeModeRefusesWritesAndServesStaleReads)
}

func testSafeModeRefusesWritesAndServesStaleReads(t *testing.T) {
	g := newGroup(t, 1, nil)
	l := g.serving()
	must(t, l.create("a"))
	l.part.SetSafeMode("two histories")
	var refused *NotServingError
	if _, err := l.append("a", 2, "{}"); !errors.As(err, &refused) || refused.Reason != InSafeMode || refused.Detail != "two histories" {
		t.Fatalf("%v", err)
	}
	if _, err := l.part.Read(context.Background(), Stale); err != nil {
		t.Fatal(err)
	}
	l.part.SetSafeMode("")
	if _, err := l.append("a", 2, "{}"); err != nil {
		t.Fatal(err)
	}
}

// TestReturnedMemberGivesNoVote until a configuration lists it: what it voted for and acknowledged before it left is forgotten.
func TestReturnedMemberGivesNoVote(t *testing.T) { synctest.Test(t, testReturnedMemberGivesNoVote) }

func testReturnedMemberGivesNoVote(t *testing.T) {
	g := openGroup(t, 3, func(o *Options) { o.Returned = o.Self == "h3@1" })
	asker, back := g.nodes[0], g.nodes[2]
	vote := func() error {
		req := raft.RequestVoteRequest{Term: 1, LastLogIndex: 1 << 40, LastLogTerm: 1 << 40}
		req.ProtocolVersion, req.ID, req.Addr = raft.ProtocolVersionMax, []byte(asker.id), []byte(asker.id)
		return asker.trans.RequestVote(back.id, raft.ServerAddress(back.id), &req, &raft.RequestVoteResponse{})
	}
	preVote := func() error {
		req := raft.RequestPreVoteRequest{Term: 1, LastLogIndex: 1 << 40, LastLogTerm: 1 << 40}
		req.ProtocolVersion, req.ID, req.Addr = raft.ProtocolVersionMax, []byte(asker.id), []byte(asker.id)
		return asker.trans.RequestPreVote(back.id, raft.ServerAddress(back.id), &req, &raft.RequestPreVoteResponse{})
	}
	if a, b := vote(), preVote(); !errors.Is(a, errReturned) || !errors.Is(b, errReturned) {
		t.Fatalf("it votes: %v, %v", a, b)
	}
	g.found()
	must(t, g.serving(g.nodes[:2]...).create("a"))
	g.wait("the configuration", func() bool { return !errors.Is(vote(), errReturned) && !errors.Is(preVote(), errReturned) })
}
