package partition

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// ruledGuard is a guard of a member that follows leader a in term 7.
func ruledGuard(now time.Time) *guard {
	return &guard{self: "self@1", leaseFor: time.Second, promise: promise{leader: "a", term: 7, until: now.Add(time.Hour)},
		now: func() time.Time { return now }, term: func() uint64 { return 7 }, stuck: func(time.Time) bool { return false },
		vetoed: func(time.Time, time.Time) bool { return false }, inOffice: func(time.Time) bool { return false },
		vouches: func(*raft.RequestPreVoteRequest) error { return nil }}
}

// TestOfferIsOfThePresentTerm: a member that has gone to a later term takes no offer of the one before, although nobody leads the
// later one yet and its promise is still to the leader that makes the offer.
func TestOfferIsOfThePresentTerm(t *testing.T) {
	g := ruledGuard(time.Now())
	offer := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ID: []byte("a"), Addr: binary.BigEndian.AppendUint64(nil, 7)}}
	if !g.offered(offer) {
		t.Error("the leader's offer is refused")
	}
	g.term = func() uint64 { return 8 }
	if g.offered(offer) {
		t.Error("the offer of an earlier term is taken")
	}
}

// TestWhoIsInOfficeVotesForNobody: a leader has made no promise in its term. Its own lease keeps it from voting.
func TestWhoIsInOfficeVotesForNobody(t *testing.T) {
	now := time.Now()
	g := ruledGuard(now)
	g.promise, g.inOffice = promise{}, func(time.Time) bool { return true }
	vote := func() error {
		_, err, _ := g.intercept(raft.RPC{Command: &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("b")}, Term: 8}}, now)
		return err
	}
	if err := vote(); !errors.Is(err, errInOffice) {
		t.Errorf("while its lease holds: %v", err)
	}
	g.inOffice = func(time.Time) bool { return false }
	if err := vote(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestPreVoteTellsTheTermHere, not the one that was asked for: the candidate has to stand above it.
func TestPreVoteTellsTheTermHere(t *testing.T) {
	now := time.Now()
	g := ruledGuard(now)
	g.promise, g.term = promise{}, func() uint64 { return 12 }
	resp, err := g.preVote(&raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("b")}, Term: 8}, now)
	if err != nil || !resp.Granted || resp.Term != 12 {
		t.Errorf("%+v, %v", resp, err)
	}
}

// TestStuckDiskReplicatesNothing: what Raft sends beside its main goroutine would keep a leader in office that stores nothing.
func TestStuckDiskReplicatesNothing(t *testing.T) {
	g := ruledGuard(time.Now())
	if err := g.mayReplicate(7); err != nil {
		t.Errorf("a sound leader: %v", err)
	}
	g.stuck = func(time.Time) bool { return true }
	if err := g.mayReplicate(7); !errors.Is(err, errStuck) {
		t.Errorf("a stuck one: %v", err)
	}
}

// TestNothingPassesOnceAStepFailed: when fail returns, nothing that Raft does reaches the documents or another host.
func TestNothingPassesOnceAStepFailed(t *testing.T) {
	synctest.Test(t, testNothingPassesOnceAStepFailed)
}

func testNothingPassesOnceAStepFailed(t *testing.T) {
	g := newGroup(t, 1, nil)
	l := g.serving()
	must(t, l.create("a"))
	l.part.fail(errors.New("a failed fsync"))
	if _, err := l.part.fsm.apply(nil); !errors.Is(err, errStopped) {
		t.Errorf("an application: %v", err)
	}
	if err := l.part.guard.mayReplicate(1 << 40); !errors.Is(err, errStopped) {
		t.Errorf("a request to a follower: %v", err)
	}
	vote := raft.RPC{Command: &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("b")}, Term: 1 << 40}}
	if _, err, handled := l.part.guard.intercept(vote, time.Now()); !handled || !errors.Is(err, errStopped) {
		t.Errorf("a peer's request: %v, %v", handled, err)
	}
	if err := l.part.Transfer(context.Background(), "b"); err == nil {
		t.Error("a leadership was given away")
	}
}
