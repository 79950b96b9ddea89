package partition

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

var errLosesVote = errors.New("the peer is not told that it has no vote before a majority of the others knows it")

// votePause is how often a leader looks whether an entry is committed that it keeps from a member.
const votePause = 5 * time.Millisecond

// keepVote keeps from a member an entry by which it has no vote until that entry is committed, for a lease at most. Such a member is not
// needed to commit the entry, but where nobody else got it its vote is needed for who is to lead next: Raft refuses candidates whose log
// is shorter, and does not let a member stand that has no vote in its own log (§4.2.2 of Ongaro's thesis does). A leader that told it
// alone, and is gone, would leave the others without a leader for ever.
func (g *guard) keepVote(id raft.ServerID, entries []*raft.Log) error {
	i := slices.IndexFunc(entries, func(e *raft.Log) bool {
		return e.Type == raft.LogConfiguration && e.Index > g.reached() && !votes(e, id)
	})
	if i < 0 {
		return nil
	}
	tick := time.NewTicker(votePause)
	defer tick.Stop()
	for until := g.now().Add(g.leaseFor); g.now().Before(until); {
		select {
		case <-tick.C:
		case <-g.stop:
			return raft.ErrRaftShutdown
		}
		if g.reached() >= entries[i].Index {
			return g.keepVote(id, entries[i+1:])
		}
	}
	return fmt.Errorf("%w: entry %d", errLosesVote, entries[i].Index)
}

func votes(e *raft.Log, id raft.ServerID) bool {
	return slices.ContainsFunc(raft.DecodeConfiguration(e.Data).Servers, func(s raft.Server) bool {
		return s.ID == id && s.Suffrage == raft.Voter
	})
}
