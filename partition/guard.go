package partition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Transport is what a partition needs of the network: Raft's transport with pre-votes.
type Transport interface {
	raft.Transport
	raft.WithPreVote
}

var (
	errMuted    = errors.New("this leader offered its leadership and no longer replicates")
	errVetoed   = errors.New("this member does not campaign now")
	errPromised = errors.New("this member promised not to help another leader into office yet")
)

// guard stands between Raft and the transport (design §9). It measures the leader's lease, keeps the voter's promise,
// withholds the candidacies of a sick member during its grace period, and answers markers that change nothing. Raft itself
// knows of none of this.
//
// Inbound requests pass through one goroutine, one after the other, as Raft's main goroutine would take them anyway; so a
// promise is in force before the next vote request is looked at.
type guard struct {
	inner      Transport
	self       raft.ServerID
	leaseFor   time.Duration
	vetoed     func(now time.Time, lastContact time.Time) bool // sick and within the grace period
	covered    func(*raft.InstallSnapshotRequest) bool         // a marker that says nothing new
	term       func() uint64                                   // Raft's current term
	onContact  func(id raft.ServerID, term uint64)             // a leader was accepted
	onAck      func()                                          // a voter acknowledged; the lease may have moved
	consumer   chan raft.RPC
	stop, done chan struct{}

	mu      sync.Mutex
	lease   lease
	promise promise
	contact time.Time     // when the last request of an accepted leader arrived; start-up at first
	muted   uint64        // term in which this leader must not replicate any more
	changed chan struct{} // closed and replaced when an acknowledgement arrives; nil while nobody waits
}

// start begins to deliver inbound requests. A member that may have promised before it was restarted keeps quiet for a
// full lease.
func (g *guard) start(mayHavePromised bool) {
	now := time.Now()
	g.contact = now
	if mayHavePromised {
		g.promise = promise{until: now.Add(g.leaseFor)}
	}
	g.consumer = make(chan raft.RPC)
	g.stop, g.done = make(chan struct{}), make(chan struct{})
	go g.run()
}

// close ends the delivery. It must be called before Raft is shut down or after; either is safe.
func (g *guard) close() {
	close(g.stop)
	<-g.done
}

func (g *guard) run() {
	defer close(g.done)
	for {
		select {
		case rpc, ok := <-g.inner.Consumer():
			if !ok {
				return
			}
			if !g.deliver(rpc) {
				return
			}
		case <-g.stop:
			return
		}
	}
}

// deliver hands one request to Raft and its answer back; it returns false when the guard is closing.
func (g *guard) deliver(rpc raft.RPC) bool {
	received := time.Now()
	if resp, err, handled := g.intercept(rpc, received); handled {
		refuseOrAnswer(rpc, resp, err)
		return true
	}
	answer := make(chan raft.RPCResponse, 1)
	select {
	case g.consumer <- raft.RPC{Command: rpc.Command, Reader: rpc.Reader, RespChan: answer}:
	case <-g.stop:
		refuseOrAnswer(rpc, nil, raft.ErrRaftShutdown)
		return false
	}
	select {
	case r := <-answer:
		if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
			g.accepted(req, r, received)
		}
		rpc.Respond(r.Response, r.Error)
		return true
	case <-g.stop:
		refuseOrAnswer(rpc, nil, raft.ErrRaftShutdown)
		return false
	}
}

// refuseOrAnswer answers a request in Raft's place. Transports may expect a response of the right type even beside an
// error.
func refuseOrAnswer(rpc raft.RPC, resp any, err error) {
	if resp == nil {
		switch rpc.Command.(type) {
		case *raft.AppendEntriesRequest:
			resp = &raft.AppendEntriesResponse{}
		case *raft.RequestVoteRequest:
			resp = &raft.RequestVoteResponse{}
		case *raft.RequestPreVoteRequest:
			resp = &raft.RequestPreVoteResponse{}
		case *raft.InstallSnapshotRequest:
			resp = &raft.InstallSnapshotResponse{}
		case *raft.TimeoutNowRequest:
			resp = &raft.TimeoutNowResponse{}
		}
	}
	rpc.Respond(resp, err)
}

// intercept answers, in Raft's place, the requests that Raft must not see now.
func (g *guard) intercept(rpc raft.RPC, now time.Time) (resp any, err error, handled bool) {
	switch req := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		// A flagged request comes from the member the leader named as its successor; that leader has given up its lease.
		if !req.LeadershipTransfer && g.forbids(raft.ServerID(req.ID), now) {
			return nil, errPromised, true
		}
	case *raft.RequestPreVoteRequest:
		if g.forbids(raft.ServerID(req.ID), now) {
			return nil, errPromised, true
		}
	case *raft.TimeoutNowRequest:
		if g.vetoed(now, now) {
			return nil, errVetoed, true
		}
	case *raft.InstallSnapshotRequest:
		term := g.term()
		if req.Term < term || !g.covered(req) {
			return nil, nil, false
		}
		_, _ = io.Copy(io.Discard, rpc.Reader)
		if req.Term > term { // Raft has to learn the term first; the next heartbeat tells it
			return nil, fmt.Errorf("marker of term %d, this member is at term %d", req.Term, term), true
		}
		return &raft.InstallSnapshotResponse{RPCHeader: req.RPCHeader, Term: term, Success: true}, nil, true
	}
	return nil, nil, false
}

// accepted notes that Raft took req as its leader's: from then on the promise holds.
func (g *guard) accepted(req *raft.AppendEntriesRequest, r raft.RPCResponse, received time.Time) {
	resp, ok := r.Response.(*raft.AppendEntriesResponse)
	if !ok || r.Error != nil || resp.Term != req.Term {
		return
	}
	id := raft.ServerID(req.ID)
	g.mu.Lock()
	g.promise.extend(id, req.Term, received, g.leaseFor)
	g.contact = received
	g.mu.Unlock()
	g.onContact(id, req.Term)
}

func (g *guard) forbids(candidate raft.ServerID, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.promise.forbids(candidate, now)
}

// lastContact is when a leader was last accepted, or when the guard started.
func (g *guard) lastContact() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.contact
}

// followed returns the latest time at which a majority of voters is known to have followed this member as the leader of
// term (lease.majority).
func (g *guard) followed(term uint64, voters []raft.ServerID, now time.Time) (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease.majority(term, voters, g.self, now)
}

// acked is closed when the next acknowledgement arrives.
func (g *guard) acked() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

func (g *guard) noteAck(id raft.ServerID, term, respTerm uint64, sent time.Time) {
	if respTerm != term {
		return
	}
	g.mu.Lock()
	g.lease.ack(id, term, sent)
	changed := g.changed
	g.changed = nil
	g.mu.Unlock()
	if changed != nil {
		close(changed)
	}
	g.onAck()
}

// revoke ends the lease of term for good, before leadership is offered to another member.
func (g *guard) revoke(term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lease.revoke(term)
}

// mute stops this leader's replication in term, so that it steps down: what is left to do when leadership was offered
// and the offer came to nothing, because the lease of that term can not be taken back.
func (g *guard) mute(term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muted = max(g.muted, term)
}

func (g *guard) isMuted(term uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return term <= g.muted
}

// Consumer is where Raft takes its requests from.
func (g *guard) Consumer() <-chan raft.RPC { return g.consumer }

func (g *guard) LocalAddr() raft.ServerAddress { return g.inner.LocalAddr() }

func (g *guard) EncodePeer(id raft.ServerID, addr raft.ServerAddress) []byte {
	return g.inner.EncodePeer(id, addr)
}

func (g *guard) DecodePeer(b []byte) raft.ServerAddress { return g.inner.DecodePeer(b) }

// SetHeartbeatHandler is ignored on purpose: heartbeats handled beside Raft's main goroutine have an open
// data-divergence bug (hashicorp/raft #695).
func (g *guard) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries sends a request and notes the acknowledgement for the lease.
func (g *guard) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if g.isMuted(args.Term) {
		return errMuted
	}
	sent := time.Now()
	if err := g.inner.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	g.noteAck(id, args.Term, resp.Term, sent)
	return nil
}

// RequestVote is withheld while this member promised itself to another leader, or is sick and within its grace period.
func (g *guard) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !args.LeadershipTransfer {
		if err := g.mayCampaign(); err != nil {
			return err
		}
	}
	return g.inner.RequestVote(id, target, args, resp)
}

// RequestPreVote is withheld like RequestVote.
func (g *guard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := g.mayCampaign(); err != nil {
		return err
	}
	return g.inner.RequestPreVote(id, target, args, resp)
}

func (g *guard) mayCampaign() error {
	now := time.Now()
	if g.vetoed(now, g.lastContact()) {
		return errVetoed
	}
	if g.forbids(g.self, now) {
		return errPromised
	}
	return nil
}

func (g *guard) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if g.isMuted(args.Term) {
		return errMuted
	}
	return g.inner.InstallSnapshot(id, target, args, resp, data)
}

// TimeoutNow offers leadership. The lease of the term ends before the offer leaves.
func (g *guard) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	g.revoke(g.term())
	return g.inner.TimeoutNow(id, target, args, resp)
}

// AppendEntriesPipeline wraps the transport's pipeline so that its acknowledgements count for the lease.
func (g *guard) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := g.inner.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	gp := &guardedPipeline{AppendPipeline: p, g: g, id: id, out: make(chan raft.AppendFuture), stop: make(chan struct{})}
	go gp.run()
	return gp, nil
}

// guardedPipeline passes futures on after noting their acknowledgement; its goroutine ends when Raft closes it.
type guardedPipeline struct {
	raft.AppendPipeline
	g    *guard
	id   raft.ServerID
	out  chan raft.AppendFuture
	stop chan struct{}
	once sync.Once
}

func (p *guardedPipeline) run() {
	for {
		select {
		case f, ok := <-p.AppendPipeline.Consumer():
			if !ok {
				return
			}
			if f.Error() == nil {
				p.g.noteAck(p.id, f.Request().Term, f.Response().Term, f.Start())
			}
			select {
			case p.out <- f:
			case <-p.stop:
				return
			}
		case <-p.stop:
			return
		}
	}
}

func (p *guardedPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.g.isMuted(args.Term) {
		return nil, errMuted
	}
	return p.AppendPipeline.AppendEntries(args, resp)
}

func (p *guardedPipeline) Consumer() <-chan raft.AppendFuture { return p.out }

func (p *guardedPipeline) Close() error {
	p.once.Do(func() { close(p.stop) })
	return p.AppendPipeline.Close()
}

// waitFollowed blocks until a majority followed this member as leader of term at or after `since`.
func (g *guard) waitFollowed(ctx context.Context, term uint64, since time.Time, voters func() []raft.ServerID) error {
	for {
		acked := g.acked()
		if at, ok := g.followed(term, voters(), time.Now()); ok && !at.Before(since) {
			return nil
		}
		select {
		case <-acked:
		case <-ctx.Done():
			return ctx.Err()
		case <-g.stop:
			return raft.ErrRaftShutdown
		}
	}
}

// revoked reports whether the lease of term was given up.
func (g *guard) revoked(term uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return term <= g.lease.revoked
}
