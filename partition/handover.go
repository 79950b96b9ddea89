package partition

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Transfer hands leadership to another voter (design §9, hand-over): new proposals are refused, those in flight finish, the
// other member is known to hold the whole log; then it is told to campaign at once. Until the offer leaves a failure costs
// nothing: this member goes on serving. After that it serves no more in this term, whatever becomes of the offer and whether
// or not the caller waits.
//
// Raft's own transfer is not used: it refuses commands while it goes on, in a way that can not be told from their loss, and
// its offer does not say which term it is for.
func (p *Partition) Transfer(ctx context.Context, to raft.ServerID) error {
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
	done := make(chan error, 1)
	p.watching.Go(func() { done <- p.completeHandOver(l, to) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
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

// prepareHandOver waits until nothing is in flight and the successor holds everything.
func (p *Partition) prepareHandOver(ctx context.Context, l *leadership, drained <-chan struct{}, to raft.ServerID) error {
	select {
	case <-drained:
	case <-l.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hand-over to %s: writes in flight: %w", to, ctx.Err())
	case <-p.closing:
		return ErrClosed
	}
	last := p.raft.Load().LastIndex()
	if err := p.guard.waitAcks(ctx, l.over, func() bool { return p.guard.matches(to, l.term, last) }); err != nil {
		return fmt.Errorf("hand-over to %s: it does not hold the log through %d: %w", to, last, err)
	}
	return nil
}

// completeHandOver offers the leadership and sees the end of it: when the offer comes to nothing, this member stops
// replicating, so that it steps down.
func (p *Partition) completeHandOver(l *leadership, to raft.ServerID) error {
	defer p.guard.mute(l.term)
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

// sendOffer tells another member to campaign at once. This member must have stopped serving in the term for good.
func (g *guard) sendOffer(to raft.ServerID, term uint64) error {
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(g.self),
		Addr: binary.BigEndian.AppendUint64(nil, term)}}
	return g.inner.TimeoutNow(to, raft.ServerAddress(to), req, new(raft.TimeoutNowResponse))
}

// offerTerm is the term an offer was made in. Raft's message has no field for it and its receiver does not look at the
// sender's address, which is where it travels: big-endian, 8 bytes.
func offerTerm(req *raft.TimeoutNowRequest) (uint64, bool) {
	if len(req.Addr) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(req.Addr), true
}

// accept notes an offer that is handed to Raft: the votes that Raft asks for in the next term are excused from promises.
func (g *guard) accept(req *raft.TimeoutNowRequest) {
	term, _ := offerTerm(req)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offer = term
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
