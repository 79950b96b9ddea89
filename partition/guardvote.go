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
//
// Only the newest configuration is kept: Raft appends one when the one before is committed. A leader that has just been elected may not
// know that it is, and could need this very member to find out, because the newer one gives it a vote.
func (g *guard) keepVote(id raft.ServerID, entries []*raft.Log) error {
	i := len(entries) - 1
	for i >= 0 && entries[i].Type != raft.LogConfiguration {
		i--
	}
	if i < 0 || entries[i].Index <= g.reached() || votes(entries[i], id) {
		return nil
	}
	if newer, err := g.newerConfiguration(entries[len(entries)-1].Index); newer || err != nil {
		return err
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
			return nil
		}
	}
	return fmt.Errorf("%w: entry %d", errLosesVote, entries[i].Index)
}

// newerConfiguration: the log has one behind an index. One that was truncated meanwhile was committed; the caller sees that by itself.
func (g *guard) newerConfiguration(index uint64) (bool, error) {
	last, err := g.log.LastIndex()
	if err != nil {
		return false, fmt.Errorf("look for a newer configuration than that of entry %d: %w", index, err)
	}
	for index++; index <= last; index++ {
		var e raft.Log
		switch err := g.log.GetLog(index, &e); {
		case errors.Is(err, raft.ErrLogNotFound):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("look for a newer configuration: %w", err)
		case e.Type == raft.LogConfiguration:
			return true, nil
		}
	}
	return false, nil
}

func votes(e *raft.Log, id raft.ServerID) bool {
	return slices.ContainsFunc(raft.DecodeConfiguration(e.Data).Servers, func(s raft.Server) bool {
		return s.ID == id && s.Suffrage == raft.Voter
	})
}
