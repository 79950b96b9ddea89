package partition

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// A follower that did not take a request is asked again after firstRetry, then after twice as long each time, and every mostRetry in the
// end.
const (
	firstRetry = 10 * time.Millisecond
	mostRetry  = time.Second
)

// replicate sends a request for Raft, and goes on until the follower answers. Left to itself, Raft waits longer and longer before each
// attempt to reach a follower that does not answer, and ten seconds in the end; it waits as long once the follower is back, though its
// acknowledgement may be needed by then; and while nobody writes it does not try at all, so that the wait is still ahead when somebody
// does. Followers that answer late are left to it.
func (g *guard) replicate(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := g.exchange(id, target, args, resp)
	if err == nil {
		return nil
	}
	// What did not arrive is not kept for as long as the follower does not answer: an answer to the same request without it has Raft read it
	// again. A request that shows less must not tell more (shown), also to hosts of an earlier version.
	args.Entries, args.LeaderCommitIndex = nil, min(args.LeaderCommitIndex, args.PrevLogEntry)
	if g.persist(id, args.Term, func() error { return g.exchange(id, target, args, resp) }) > 1 {
		return nil
	}
	return err
}

// InstallSnapshot sends a marker, until it arrives.
func (g *guard) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := g.mayReplicate(args.Term); err != nil {
		return err
	}
	payload, err := io.ReadAll(io.LimitReader(data, maxMarkerBytes+1))
	if err == nil && len(payload) > maxMarkerBytes {
		err = fmt.Errorf("more than %d bytes", maxMarkerBytes)
	}
	if err != nil {
		return fmt.Errorf("marker %d: %w", args.LastLogIndex, err)
	}
	send := func() error { return g.inner.InstallSnapshot(id, target, args, resp, bytes.NewReader(payload)) }
	if err = send(); err != nil && g.persist(id, args.Term, send) > 0 {
		return nil
	}
	return err
}

// persist asks a follower that did not answer again until it does, and returns how often that was: one that answers at once was there all
// the time. It gives up, 0, when Raft has no use for an answer any more.
func (g *guard) persist(id raft.ServerID, term uint64, ask func() error) (asked int) {
	for wait := firstRetry; ; wait = min(2*wait, mostRetry) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-g.stop:
			timer.Stop()
			return 0
		}
		if g.mayReplicate(term) != nil || !g.replicates(id, term) {
			return 0
		}
		if asked++; ask() == nil {
			return asked
		}
	}
}

// exchange sends one request, of which a transport may keep what it is given, and notes the answer. The transport may also send fewer
// entries than it is given: it says so in the request, and Raft counts all that is in it as stored by the follower.
func (g *guard) exchange(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent, request := g.now(), *args
	if err := g.inner.AppendEntries(id, target, &request, resp); err != nil {
		return err
	}
	args.Entries = request.Entries
	g.noteAck(id, args, resp, sent)
	g.newer(args.Term, resp.Term)
	return nil
}
