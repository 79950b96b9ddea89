package mesh

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// raftPipeline has several AppendEntries to one peer under way. Futures are
// resolved, and handed to Consumer, in the order of the requests, by whoever
// brings the answers.
//
// After a failure nothing more is handed to Consumer: the next AppendEntries
// returns the error, and Raft leaves the pipeline. Raft takes every future it
// finds in Consumer for a sign of life of the peer, whatever its error, and
// would stretch its leader lease by a link that broke. The exception is Rest,
// whose caller vouches for the peer. After an answer that says no nothing more
// is handed over either, because nobody takes it: a request that waits for its
// place would wait for ever, and with it all of Raft's replication to the peer.
type raftPipeline struct {
	t      *RaftTransport
	peer   raft.ServerID
	to     raft.ServerAddress
	slots  chan struct{} // a token for each request until Consumer has its future
	ready  chan raft.AppendFuture
	closed chan struct{}

	sending sync.Mutex // held while a request is started, so that they stay in order; taken before mu
	mu      sync.Mutex // guards what follows
	flying  []*raftFuture
	late    []*raftFuture // resolved, and waiting for room in ready; hand runs while there are any
	broken  error         // why no request is taken any more
	ended   bool          // closed is closed
}

// AppendEntriesPipeline opens a pipeline.
func (t *RaftTransport) AppendEntriesPipeline(peer raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.opts.InFlight < 2 {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	p := &raftPipeline{
		t: t, peer: peer, to: to, slots: make(chan struct{}, t.opts.InFlight),
		ready: make(chan raft.AppendFuture, t.opts.InFlight), closed: make(chan struct{}),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.closed:
		return nil, raft.ErrTransportShutdown
	default:
	}
	if t.pipelines == nil {
		t.pipelines = map[*raftPipeline]struct{}{}
	}
	t.pipelines[p] = struct{}{}
	return p, nil
}

// AppendEntries sends a request, waiting for a free place among those under
// way. Entries that do not fit follow in requests of their own, the last of
// which it returns the future of: Raft sends what is left of a cut one only
// when somebody writes again. Consumer yields them all.
func (p *raftPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	for {
		n := p.t.fitting(args.Entries)
		if n == len(args.Entries) {
			return p.append(args, resp)
		}
		piece, rest, last := *args, *args, args.Entries[n-1]
		piece.Entries = args.Entries[:n]
		if _, err := p.append(&piece, new(raft.AppendEntriesResponse)); err != nil {
			return nil, err
		}
		rest.PrevLogEntry, rest.PrevLogTerm, rest.Entries = last.Index, last.Term, args.Entries[n:]
		args = &rest
	}
}

func (p *raftPipeline) append(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case p.slots <- struct{}{}:
	case <-p.closed:
		return nil, p.why()
	}
	f, err := p.send(args, resp)
	if err != nil {
		<-p.slots
		return nil, err
	}
	f.pending.Then(p.settle)
	return f, nil
}

func (p *raftPipeline) send(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (*raftFuture, error) {
	p.sending.Lock()
	defer p.sending.Unlock()
	if err := p.why(); err != nil {
		return nil, err
	}
	f := &raftFuture{args: args, resp: resp, sent: p.t.opts.Clock(), done: make(chan struct{})}
	// Normal even without entries: requests of one class stay in order.
	pending, err := p.t.sendEntries(p.to, args, Normal, p.t.opts.AppendTimeout)
	if err != nil {
		return nil, err
	}
	f.pending = pending
	p.mu.Lock()
	p.flying = append(p.flying, f)
	p.mu.Unlock()
	return f, nil
}

// why is the reason why no request is taken any more.
func (p *raftPipeline) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// Consumer yields the futures that succeeded, in order.
func (p *raftPipeline) Consumer() <-chan raft.AppendFuture { return p.ready }

// Close fails what is under way.
func (p *raftPipeline) Close() error {
	p.t.mu.Lock()
	delete(p.t.pipelines, p)
	p.t.mu.Unlock()
	p.end(raft.ErrPipelineShutdown)
	return nil
}

// end lets nobody in any more and abandons the requests under way. A sender that
// is about to add one is waited for.
func (p *raftPipeline) end(why error) {
	p.mu.Lock()
	if p.broken == nil {
		p.broken = why
	}
	if !p.ended {
		p.ended = true
		close(p.closed)
	}
	p.mu.Unlock()
	p.sending.Lock()
	p.mu.Lock()
	left := slices.Clone(p.flying)
	p.mu.Unlock()
	p.sending.Unlock()
	for _, f := range left {
		f.pending.Abandon(why)
	}
	p.settle()
}

// errResting is why a pipeline that rests takes no request. It is not shown to
// the caller of Rest's pipeline as a failure of the peer.
var errResting = errors.New("mesh: this pipeline rests")

// Rest has Raft leave the pipeline, and with it a goroutine and a deep stack,
// while there is nothing to send; false when something is under way. Raft sends
// the next request by itself, and opens another pipeline when that succeeds. One
// that it was about to send meanwhile is refused; Raft drops that and does not
// send it again by itself: the caller has to see to that.
//
// Raft leaves a pipeline without a word after an answer that says no, which it
// takes for a sign of life of the peer: the caller must have one.
func (p *raftPipeline) Rest() bool {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil || len(p.flying)+len(p.late)+len(p.ready) > 0 {
		return false
	}
	no := &raftFuture{args: &raft.AppendEntriesRequest{Term: 1}, resp: &raft.AppendEntriesResponse{}, left: time.Now(), done: make(chan struct{})}
	no.respond(nil)
	p.broken = errResting
	p.ready <- no // there is room: nothing waits there, and only who holds mu adds to it
	return true
}

// errDeclined is why a pipeline takes no request any more that the peer has said no to.
var errDeclined = errors.New("mesh: the peer declined a request of this pipeline")

// settle resolves the requests at the front that are answered.
func (p *raftPipeline) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.flying) > 0 {
		f := p.flying[0]
		payload, err, over := f.pending.outcome()
		if !over {
			return
		}
		p.flying = slices.Delete(p.flying, 0, 1)
		if err == nil {
			err = decodeResponse(payload, f.resp)
		}
		if err == nil && p.t.acked != nil {
			p.t.acked(p.peer, f.args, f.resp, f.sent)
		}
		if p.broken == nil {
			p.broken = err
		}
		f.respond(p.broken)
		if p.broken != nil {
			<-p.slots
			continue
		}
		p.hand(f)
		if !f.resp.Success || f.resp.Term > f.args.Term {
			p.broken = errDeclined
		}
	}
}

// hand gives a future to Consumer. The caller holds mu, and does not wait for
// Raft: when there is no room, a goroutine does.
func (p *raftPipeline) hand(f *raftFuture) {
	if len(p.late) == 0 {
		select {
		case p.ready <- f:
			<-p.slots
			return
		default:
		}
	}
	if p.late = append(p.late, f); len(p.late) == 1 {
		go p.handLate()
	}
}

func (p *raftPipeline) handLate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.late) > 0 {
		f := p.late[0]
		p.mu.Unlock()
		select {
		case p.ready <- f:
		case <-p.closed:
		}
		<-p.slots
		p.mu.Lock()
		p.late = slices.Delete(p.late, 0, 1)
	}
}

// raftFuture is one request of a pipeline.
type raftFuture struct {
	pending *Pending
	args    *raft.AppendEntriesRequest
	resp    *raft.AppendEntriesResponse
	sent    time.Time     // by RaftOptions.Clock, before anything was sent
	left    time.Time     // of the answer that nobody was asked for (Rest), which has no pending
	done    chan struct{} // closed by respond
	err     error
}

func (f *raftFuture) respond(err error) {
	f.err = err
	close(f.done)
}

// Error waits for the answer.
func (f *raftFuture) Error() error {
	<-f.done
	return f.err
}

// Start is when the request was handed to the network, before anything was sent.
func (f *raftFuture) Start() time.Time {
	if f.pending == nil {
		return f.left
	}
	return f.pending.Sent()
}

// Request is what was sent.
func (f *raftFuture) Request() *raft.AppendEntriesRequest { return f.args }

// Response is the answer, once Error returned nil.
func (f *raftFuture) Response() *raft.AppendEntriesResponse { return f.resp }
