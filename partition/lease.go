package partition

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// lease is the leader's side of the read lease (design §9): for each peer the send time of the newest request of this
// term that it acknowledged. It is a value without a clock; the guard owns it under its lock.
//
// Why send times: a voter promises at the moment it answers, which is not before the request was sent. Counting from
// the send time the leader's lease ends no later than the promises, whatever the network did.
type lease struct {
	term uint64
	acks []ack // in no order
}

// ack is what a follower has acknowledged in the lease's term.
type ack struct {
	by    raft.ServerID
	sent  time.Time // of the newest request it answered
	match uint64    // up to here its log is known to be the leader's
}

// ack notes that peer acknowledged, in term, a request sent at `sent`, and that its log matches through `match`.
// Acknowledgements of older terms are ignored.
func (l *lease) ack(peer raft.ServerID, term uint64, sent time.Time, match uint64) {
	if term < l.term {
		return
	}
	if term > l.term {
		l.term, l.acks = term, l.acks[:0]
	}
	a := l.of(peer)
	if a == nil {
		l.acks = append(l.acks, ack{by: peer})
		a = &l.acks[len(l.acks)-1]
	}
	if sent.After(a.sent) {
		a.sent = sent
	}
	a.match = max(a.match, match)
}

// of returns what a peer has acknowledged; nil when it is nothing.
func (l *lease) of(peer raft.ServerID) *ack {
	for i := range l.acks {
		if l.acks[i].by == peer {
			return &l.acks[i]
		}
	}
	return nil
}

// majority is the latest time at which a majority of voters, self included, is known to have followed the leader of
// term. Non-voters do not count. A leader that is its own majority follows itself now. beat tells of acknowledgements by the
// hosts' beats.
func (l *lease) majority(term uint64, voters []raft.ServerID, self raft.ServerID, now time.Time, beat func(raft.ServerID, uint64) time.Time) (time.Time, bool) {
	if !slices.Contains(voters, self) {
		return time.Time{}, false
	}
	var room [7]time.Time
	times := room[:0]
	for _, v := range voters {
		if v == self {
			times = append(times, now)
			continue
		}
		at := beat(v, term)
		if a := l.of(v); l.term == term && a != nil && a.sent.After(at) {
			at = a.sent
		}
		times = append(times, at)
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	at := times[len(voters)/2]
	return at, !at.IsZero()
}

// promise is the voter's side: until `until` it takes no part in electing anybody but `leader`. An empty leader promises
// to nobody: what a restarted voter does, because it cannot know what it promised before.
type promise struct {
	leader raft.ServerID
	term   uint64
	until  time.Time
}

// extend notes that a request of the leader of term was accepted, which had arrived at `received`.
func (p *promise) extend(leader raft.ServerID, term uint64, received time.Time, lease time.Duration) {
	if term < p.term {
		return
	}
	until := received.Add(lease)
	if leader == p.leader && until.Before(p.until) {
		until = p.until
	}
	*p = promise{leader: leader, term: term, until: until}
}

// forbids reports whether the promise forbids helping candidate into office at `now`.
func (p *promise) forbids(candidate raft.ServerID, now time.Time) bool {
	return candidate != p.leader && now.Before(p.until)
}
