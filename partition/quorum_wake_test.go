package partition

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// dropsHeartbeats loses some of Raft's heartbeats; the hosts' beats go on.
type dropsHeartbeats struct {
	Transport
	drop *atomic.Int32
}

func (d dropsHeartbeats) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(args) && d.drop.Add(-1) >= 0 {
		return errors.New("connection reset")
	}
	return d.Transport.AppendEntries(id, to, args, resp)
}

// TestQuorumReadAfterALostHeartbeat: the hosts' beats acknowledge a leader as well, and wake who waits for that.
func TestQuorumReadAfterALostHeartbeat(t *testing.T) {
	synctest.Test(t, testQuorumReadAfterALostHeartbeat)
}

func testQuorumReadAfterALostHeartbeat(t *testing.T) {
	var drop atomic.Int32
	g, _ := newLiveGroup(t, 3, steady, func(o *Options) { o.Transport = dropsHeartbeats{o.Transport, &drop} })
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	time.Sleep(2 * steady)
	drop.Store(2)
	ctx, cancel := context.WithTimeout(context.Background(), 200*steady)
	defer cancel()
	began := time.Now()
	if _, err := l.part.Read(ctx, Quorum); err != nil {
		t.Errorf("after %v: %v", time.Since(began), err)
	} else if took := time.Since(began); took > 2*steady {
		t.Errorf("it took %v, with heartbeats of %v", took, steady)
	}
}

// TestReadersDemandInAnyOrder: a reader that began earlier, and comes later, does not take back what another one waits for.
func TestReadersDemandInAnyOrder(t *testing.T) {
	g, now := &guard{}, time.Now()
	g.demand(now.Add(time.Millisecond))
	g.demand(now)
	if !g.wire.Equal(now.Add(time.Millisecond)) {
		t.Errorf("heartbeats are answered by beats of %v after the earlier reader, and the later one waits", g.wire.Sub(now))
	}
}
