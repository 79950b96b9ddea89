package partition

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// Transfer hands leadership to another voter (design §9, hand-over): once that is within reach of the log, new proposals are
// refused, those in flight finish, the other member is known to hold the whole log; then it is told to campaign at once. Until
// the offer leaves reads go on, and a failure costs nothing but that moment: this member goes on serving. After that it serves no
// more in this term, whatever becomes of the offer and whether or not the caller waits.
//
// Raft's own transfer is not used: it refuses commands while it goes on, in a way that can not be told from their loss, and
// its offer does not say which term it is for.
func (p *Partition) Transfer(ctx context.Context, to raft.ServerID) error {
	if err := p.reach(ctx, to); err != nil {
		return err
	}
	l, drained, err := p.beginHandOver()
	if err != nil {
		return err
	}
	p.wake()
	if err := p.prepareHandOver(ctx, l, drained, to); err != nil {
		p.cancelHandOver(l)
		p.wake()
		return err
	}
	select {
	case <-l.over:
		return nil // gone already
	default:
	}
	done, err := p.finishHandOver(l, to)
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finishHandOver completes it in a goroutine of its own, which Close waits for: whoever asked for it may not wait.
func (p *Partition) finishHandOver(l *leadership, to raft.ServerID) (<-chan error, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	done := make(chan error, 1)
	p.watching.Go(func() { done <- p.completeHandOver(l, to) })
	return done, nil
}

// reach waits, while writes go on, until the successor holds what is in the log now. One that does not answer would otherwise cost
// as many writes as the caller has patience.
func (p *Partition) reach(ctx context.Context, to raft.ServerID) error {
	p.mu.Lock()
	l := p.lead
	if l == nil || p.handing || p.closed {
		defer p.mu.Unlock()
		return p.notServing(NotLeader)
	}
	p.mu.Unlock()
	return p.awaitMatch(ctx, l, to)
}

// awaitMatch waits until the successor is known to hold the log as it is now. Raft repeats what did not reach a follower, or
// the answer to which was lost, only along with the next entry: while none comes, one is made up.
func (p *Partition) awaitMatch(ctx context.Context, l *leadership, to raft.ServerID) error {
	last := p.raft.Load().LastIndex()
	for {
		patience, cancel := context.WithTimeout(ctx, p.o.Timing.Heartbeat/2)
		err := p.guard.waitAcks(patience, l.over, func() bool { return p.guard.matches(to, l.term, last) })
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("hand-over to %s: it does not hold the log through %d: %w", to, last, err)
		}
		founding := p.fsm.foundingOr(rand.Uint64)
		p.mu.Lock()
		if p.lead == l && !p.closed {
			p.barrier(l, founding)
		}
		p.mu.Unlock()
	}
}

// beginHandOver refuses new proposals and ends the epoch; drained is closed once none is in flight.
func (p *Partition) beginHandOver() (*leadership, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lead
	if l == nil || p.handing || p.closed {
		return nil, nil, p.notServing(NotLeader)
	}
	p.handing = true
	l.endEpoch()
	drained := make(chan struct{})
	if len(l.waiting) == 0 {
		close(drained)
	} else {
		l.drained = drained
	}
	return l, drained, nil
}

// cancelHandOver lets a leadership go on that was not offered yet.
func (p *Partition) cancelHandOver(l *leadership) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lead == l {
		p.handing, l.drained = false, nil
	}
}

// prepareHandOver waits until nothing is in flight and the successor holds everything, for as long as an election takes at the
// most: writes are refused meanwhile.
func (p *Partition) prepareHandOver(ctx context.Context, l *leadership, drained <-chan struct{}, to raft.ServerID) error {
	ctx, cancel := context.WithTimeout(ctx, 2*p.o.Timing.Election)
	defer cancel()
	select {
	case <-drained:
	case <-l.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hand-over to %s: writes in flight: %w", to, ctx.Err())
	case <-p.closing:
		return ErrClosed
	}
	return p.awaitMatch(ctx, l, to)
}

// completeHandOver offers the leadership and sees the end of it: when the offer comes to nothing, this member stops
// replicating, so that it steps down.
func (p *Partition) completeHandOver(l *leadership, to raft.ServerID) error {
	defer p.guard.mute(l.term)
	if !p.noteOffer(l) {
		return nil // out of office: there is nothing to offer
	}
	if err := p.guard.sendOffer(to, l.term); err != nil {
		return fmt.Errorf("hand-over to %s: %w", to, err)
	}
	patience := time.NewTimer(2 * p.o.Timing.Election)
	defer patience.Stop()
	select {
	case <-l.over:
		return nil
	case <-patience.C:
		return fmt.Errorf("hand-over to %s: it was not elected within %s", to, 2*p.o.Timing.Election)
	case <-p.closing:
		return ErrClosed
	}
}

// noteOffer ends reads in the leadership's term, before the offer leaves.
func (p *Partition) noteOffer(l *leadership) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lead != l {
		return false
	}
	p.offered = true
	return true
}

// sendOffer tells another member to campaign at once. This member must have stopped serving in the term for good.
func (g *guard) sendOffer(to raft.ServerID, term uint64) error {
	g.mu.Lock()
	g.gave = promise{leader: to, term: term}
	g.mu.Unlock()
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(g.self),
		Addr: g.mark(binary.BigEndian.AppendUint64(nil, term))}}
	return g.inner.TimeoutNow(to, raft.ServerAddress(to), req, new(raft.TimeoutNowResponse))
}

// offeredAway reports whether this member has offered the leadership of a term, which it must not serve in any more.
func (g *guard) offeredAway(term uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return term > 0 && g.gave.term == term
}

// offerTerm is the term an offer was made in. Raft's message has no field for it and its receiver does not look at the
// sender's address, which is where it travels: big-endian, 8 bytes.
func offerTerm(req *raft.TimeoutNowRequest) (uint64, bool) {
	if len(req.Addr) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(req.Addr), true
}

// accept notes an offer that is handed to Raft: the votes that Raft asks for in the next term are excused from promises, and
// nobody else gets this member's pre-vote meanwhile. It needs none itself, and to stand once more before the slowest voter's disk
// has answered would only begin anew: it gets twice the usual time.
func (g *guard) accept(req *raft.TimeoutNowRequest, now time.Time) {
	term, _ := offerTerm(req)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offer, g.contact = term, now.Add(g.leaseFor)
	g.ballot = ballot{candidate: g.self, until: now.Add(g.leaseFor)}
	g.unfollow()
}

// offeredMark follows the candidate's address in a vote request, on the wire alone, when the candidate was offered the
// leadership of the term before. Raft's own flag only says that the other side shall not mind its leader.
var offeredMark = []byte(" offered")

// takeMark removes the mark from a vote request that arrived, and reports whether it was there.
func takeMark(req *raft.RequestVoteRequest) bool {
	addr, marked := bytes.CutSuffix(req.Addr, offeredMark)
	req.Addr = addr
	return marked
}

// isOffered reports whether a vote that Raft asks for follows an offer.
func (g *guard) isOffered(req *raft.RequestVoteRequest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return req.LeadershipTransfer && g.offer > 0 && req.Term == g.offer+1
}
