package partition

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Liveness keeps the sign of life per pair of hosts (internal/liveness.Table); hosts are named by their server ids. With it
// Raft's own timers are but a slow backstop: this member answers the heartbeats of its own Raft from what the beats say,
// keeps Raft from missing a leader whose host is heard of, and makes it campaign when that host is silent.
type Liveness interface {
	Led(partition uint32, term uint64, peer string)
	Resigned(partition uint32)
	Acked(partition uint32, term uint64, peer string) time.Time
	Follow(partition uint32, term uint64, leader string)
	Unfollow(partition uint32)
	Contact(partition uint32) (leader string, term uint64, at time.Time)
	Gap(partition uint32) (longest time.Duration, over bool)
	Release(partition uint32, candidate string, now time.Time, lease time.Duration) bool
}

// backstop is how much slower than Timing.Heartbeat Raft's own timers are when there is a Liveness. Its lease is half as long: it
// is what makes a leader step down that is muted.
const backstop = 60

// Follower's patience in heartbeats, with a leader whose beats do not come: what a busy machine may take without a word, and the most
// after beats that came irregularly.
const (
	usualPatience = 3
	mostPatience  = 4
)

// missedAfter is how long this member waits for its leader before it campaigns. One that has died or given up is not waited for, but what
// was promised to it holds. Of others nothing is known but that they are silent. Machines that are too busy to send for
// a while are too busy to elect another leader, too: one and a half times the longest pause between the beats of late is waited for.
func (p *Partition) missedAfter() time.Duration {
	beat := p.o.Timing.Heartbeat
	gap, over := p.o.Liveness.Gap(p.o.ID)
	if over {
		return p.o.Timing.Lease
	}
	if leader, _, _ := p.o.Liveness.Contact(p.o.ID); leader == "" {
		return beat // there is nobody to be patient with
	}
	return min(max(usualPatience*beat, gap*3/2), mostPatience*beat)
}

// quietCommit is after what quiet time Raft itself would tell followers the commit index: never, as far as that is possible.
// Entries tell it, and notes (Partition.Tick).
const quietCommit = time.Hour

// errBallot: another member asked for a pre-vote just before.
var errBallot = errors.New("this member expects another one's candidacy")

// follow tells the host whom this member follows, when that changed. The caller holds mu.
func (g *guard) follow(leader raft.ServerID, term uint64) {
	if g.live == nil || g.follows.leader == leader && g.follows.term == term {
		return
	}
	g.follows = promise{leader: leader, term: term}
	g.live.Follow(g.partition, term, string(leader))
}

// unfollow takes that back; when the leader was last heard of stays known. The caller holds mu.
func (g *guard) unfollow() {
	if g.live != nil {
		g.keepContact()
		g.live.Unfollow(g.partition)
	}
	g.follows = promise{}
}

// keepContact remembers when the beats brought word of the leader, which the host forgets when it is not followed any more. The
// caller holds mu.
func (g *guard) keepContact() {
	at := g.beatContact()
	if at.After(g.contact) {
		g.contact = at
	}
	if at.After(g.heard) {
		g.heard = at
	}
}

// outgrow ends what the beats say once Raft here is in a later term than the leader they are about: that one is not followed
// any more, and has to be told so.
func (g *guard) outgrow(term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.follows.leader != "" && g.follows.term < term {
		g.unfollow()
	}
}

// release makes way for a candidate, this member perhaps: it fails while this member is bound by a promise, of its own or by
// a beat of its host, unless the candidate is excused. From then on no beat promises anything for this member.
func (g *guard) release(candidate raft.ServerID, now time.Time, excused bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case excused:
		g.unfollow()
		return true
	case g.promise.forbids(candidate, now):
		return false
	case g.live == nil:
		return true
	}
	g.keepContact()
	if !g.live.Release(g.partition, string(candidate), now, g.leaseFor) {
		return false
	}
	g.follows = promise{}
	return true
}

// beatForbids is the promise that beats have made. The caller holds mu.
func (g *guard) beatForbids(candidate raft.ServerID, now time.Time) bool {
	if g.live == nil {
		return false
	}
	leader, _, at := g.live.Contact(g.partition)
	return leader != "" && leader != string(candidate) && !at.IsZero() && now.Before(at.Add(g.leaseFor))
}

// beatContact is when the leader's host was last heard of.
func (g *guard) beatContact() time.Time {
	if g.live == nil {
		return time.Time{}
	}
	_, _, at := g.live.Contact(g.partition)
	return at
}

// beatAcked is when the newest beat was sent that a follower acknowledged this leader by.
func (g *guard) beatAcked(peer raft.ServerID, term uint64) time.Time {
	if g.live == nil {
		return time.Time{}
	}
	return g.live.Acked(g.partition, term, string(peer))
}

// led tells the host that a follower has acknowledged this leader, and reports whether that is news. The caller holds mu.
func (g *guard) led(peer raft.ServerID, term uint64) bool {
	if g.live == nil || term <= g.muted {
		return false
	}
	f := g.follower(peer)
	if f.led == term {
		return false
	}
	f.led = term
	g.live.Led(g.partition, term, string(peer))
	return true
}

// resign ends what the host's beats say of this leader.
func (g *guard) resign() {
	if g.live == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.followers = nil
	g.live.Resigned(g.partition)
}

// missNobody forgets when a leader was last heard of: there is none to wait for.
func (g *guard) missNobody() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.contact = time.Time{}
}

// absolve ends the promise that a restarted voter makes to nobody.
func (g *guard) absolve() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.promise.until = time.Time{}
}

// leave ends everything the host's beats say of this member.
func (g *guard) leave() {
	g.resign()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unfollow()
}

// demand lets only such heartbeats pass for answered that were sent after a time: a quorum read wants to know now.
func (g *guard) demand(since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if since.After(g.wire) { // readers come here in any order
		g.wire = since
	}
}

// isHeartbeat tells Raft's heartbeats from requests that say something about the log.
func isHeartbeat(args *raft.AppendEntriesRequest) bool {
	return len(args.Entries) == 0 && args.PrevLogEntry == 0 && args.PrevLogTerm == 0 && args.LeaderCommitIndex == 0
}

// beats reports whether a heartbeat of Raft need not be sent, because the hosts' beats have said as much lately.
func (g *guard) beats(peer raft.ServerID, term uint64, now time.Time) bool {
	if g.live == nil {
		return false
	}
	g.mu.Lock()
	wire := g.wire
	g.mu.Unlock()
	at := g.beatAcked(peer, term)
	return at.After(wire) && now.Sub(at) < g.leaseFor
}

// reassure sends a follower a heartbeat now: its host does not know that this member leads.
func (g *guard) reassure(peer raft.ServerID, term uint64) error {
	g.mu.Lock()
	g.follower(peer).led = 0
	g.mu.Unlock()
	if err := g.mayReplicate(term); err != nil {
		return err
	}
	return g.exchange(peer, raft.ServerAddress(peer), &raft.AppendEntriesRequest{RPCHeader: g.header(), Term: term}, new(raft.AppendEntriesResponse))
}

// newer makes this leader step down when a follower answers with a later term. Raft does not look at the answers to
// heartbeats, and entries may be a long time coming.
func (g *guard) newer(term, answered uint64) {
	if g.live != nil && answered > term {
		g.inject(&raft.RequestVoteRequest{RPCHeader: g.header(), Term: answered})
	}
}

func (g *guard) header() raft.RPCHeader {
	h := headerOf(g.self)
	h.Addr = g.mark(h.Addr)
	return h
}

func headerOf(id raft.ServerID) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
}

// ballot is a pre-vote given away: until it ends this member neither gives another one nor campaigns, so that candidates
// do not split the votes.
type ballot struct {
	candidate raft.ServerID
	until     time.Time
}

// taken reports whether somebody else than candidate holds the ballot.
func (b ballot) taken(candidate raft.ServerID, now time.Time) bool {
	return b.candidate != candidate && now.Before(b.until)
}

// preVote answers in Raft's place. Raft would refuse because it still knows the silent leader. The answer tells the term of
// this member, which may be later than the one asked for: the candidate stands after it. To refuse for it would be refusing
// for ever when this member's own log is too short to be elected, because the candidate would never hear of the term.
func (g *guard) preVote(req *raft.RequestPreVoteRequest, now time.Time) (*raft.RequestPreVoteResponse, error) {
	candidate := raft.ServerID(req.ID)
	if g.inOffice(now) {
		return nil, errInOffice
	}
	if g.forbids(candidate, now) {
		return nil, errPromised
	}
	if err := g.vouches(req); err != nil {
		return nil, err
	}
	if err := g.take(candidate, now); err != nil {
		return nil, err
	}
	return &raft.RequestPreVoteResponse{RPCHeader: g.header(), Term: g.term(), Granted: true}, nil
}

// take gives the ballot to a candidate, this member perhaps.
func (g *guard) take(candidate raft.ServerID, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ballot.taken(candidate, now) {
		return errBallot
	}
	g.ballot = ballot{candidate: candidate, until: now.Add(g.leaseFor / 2)}
	return nil
}

// voted notes that Raft here voted for a candidate, which is given the time to win and to say so: this member misses nobody
// meanwhile (§5.2 of the Raft paper), and no other candidate gets its pre-vote.
func (g *guard) voted(req *raft.RequestVoteRequest, r raft.RPCResponse, now time.Time) {
	if resp, ok := r.Response.(*raft.RequestVoteResponse); !ok || !resp.Granted || r.Error != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.contact = now
	g.ballot = ballot{candidate: raft.ServerID(req.ID), until: now.Add(g.leaseFor)}
}

// stoodDown starts the time in which this member, in office until now, hears of the next leader.
func (g *guard) stoodDown(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.contact = now
}

// giveBack ends a ballot that a candidate holds and has no use for.
func (g *guard) giveBack(candidate raft.ServerID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ballot.candidate == candidate {
		g.ballot = ballot{}
	}
}

// vouches says why Raft here would not vote for a candidate of a later term, as far as the rules of Raft go (§5.2, 5.4.1 of
// the Raft paper). Whether the candidate is a voter is for its own configuration to say (unnamed).
func (p *Partition) vouches(req *raft.RequestPreVoteRequest) error {
	if p.raft.Load() == nil {
		return ErrClosed
	}
	index, term, err := p.lastEntry()
	if err != nil {
		return err
	}
	if req.LastLogTerm < term || req.LastLogTerm == term && req.LastLogIndex < index {
		return fmt.Errorf("pre-vote of %s, whose log ends at %d of term %d, this one at %d of term %d", req.ID, req.LastLogIndex, req.LastLogTerm, index, term)
	}
	return nil
}

// lastEntry is index and term of the newest entry, or of the marker when there is none.
func (p *Partition) lastEntry() (index, term uint64, err error) {
	if index, err = p.o.Log.LastIndex(); err != nil {
		return 0, 0, err
	}
	if index == 0 {
		index, term = p.o.Log.Compacted()
		return index, term, nil
	}
	var l raft.Log
	if err := p.log.GetLog(index, &l); err != nil {
		return 0, 0, fmt.Errorf("last entry: %w", err)
	}
	if p.guard.dead.Load() { // perhaps for want of this entry
		return 0, 0, errStopped
	}
	return index, l.Term, nil
}
