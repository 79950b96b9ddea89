package mesh

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// raftPipeline has several AppendEntries to one peer under way. Futures are
// resolved, and handed to Consumer, in the order of the requests.
//
// After a failure nothing more is handed to Consumer: the next AppendEntries
// returns the error, and Raft leaves the pipeline. Raft takes every future it
// finds in Consumer for a sign of life of the peer, whatever its error, and
// would stretch its leader lease by a link that broke.
type raftPipeline struct {
	t      *RaftTransport
	peer   raft.ServerID
	to     raft.ServerAddress
	slots  chan struct{}    // a token for each request without an answer
	flying chan *raftFuture // in order; as long as slots, so a push never blocks
	ready  chan raft.AppendFuture
	closed chan struct{}

	sending sync.Mutex // held while a request is started, so that they stay in order
	mu      sync.Mutex // guards what follows
	broken  error      // why no request is taken any more
	ended   bool       // closed is closed
}

// AppendEntriesPipeline opens a pipeline; it costs one goroutine until closed.
func (t *RaftTransport) AppendEntriesPipeline(peer raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.opts.InFlight < 2 {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	p := &raftPipeline{
		t: t, peer: peer, to: to, slots: make(chan struct{}, t.opts.InFlight), flying: make(chan *raftFuture, t.opts.InFlight),
		ready: make(chan raft.AppendFuture, t.opts.InFlight), closed: make(chan struct{}),
	}
	go p.run()
	return p, nil
}

// AppendEntries sends a request, waiting for a free place among those under
// way. Like RaftTransport.AppendEntries it may cut args.Entries.
func (p *raftPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case p.slots <- struct{}{}:
	case <-p.closed:
		return nil, raft.ErrPipelineShutdown
	case <-p.t.closed:
		return nil, raft.ErrTransportShutdown
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	p.mu.Lock()
	err := p.broken
	p.mu.Unlock()
	if err != nil {
		<-p.slots
		return nil, err
	}
	f := &raftFuture{args: args, resp: resp, done: make(chan struct{})}
	// Normal even without entries: requests of one class stay in order.
	if f.pending, err = p.t.sendEntries(p.to, args, Normal, p.t.opts.AppendTimeout); err != nil {
		<-p.slots
		return nil, err
	}
	p.flying <- f
	return f, nil
}

// Consumer yields the futures that succeeded, in order.
func (p *raftPipeline) Consumer() <-chan raft.AppendFuture { return p.ready }

// Close fails what is under way.
func (p *raftPipeline) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = raft.ErrPipelineShutdown
	}
	if !p.ended {
		p.ended = true
		close(p.closed)
	}
	return nil
}

// run resolves futures until the pipeline or the transport is closed.
func (p *raftPipeline) run() {
	for {
		select {
		case f := <-p.flying:
			if !p.resolve(f) {
				p.drain()
				return
			}
		case <-p.closed:
			p.drain()
			return
		case <-p.t.closed:
			p.drain()
			return
		}
	}
}

// resolve waits for one answer and hands it on; false means that the pipeline
// is over.
func (p *raftPipeline) resolve(f *raftFuture) bool {
	select {
	case <-f.pending.Done():
	case <-p.closed:
		f.pending.Abandon(raft.ErrPipelineShutdown)
	case <-p.t.closed:
		f.pending.Abandon(raft.ErrTransportShutdown)
	}
	payload, err := f.pending.Result()
	if err == nil {
		err = decodeResponse(payload, f.resp)
	}
	if err == nil {
		if p.t.acked != nil {
			p.t.acked(p.peer, f.args, f.resp, f.Start())
		}
		err = p.broke(nil)
	} else {
		p.broke(err)
	}
	f.respond(err)
	<-p.slots
	if err != nil {
		return true
	}
	select {
	case p.ready <- f:
		return true
	case <-p.closed:
	case <-p.t.closed:
	}
	return false
}

// broke notes the first failure, if err is one, and returns it.
func (p *raftPipeline) broke(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = err
	}
	return p.broken
}

// drain fails the futures that are left. A sender that is between its check
// and its push comes to an end first.
func (p *raftPipeline) drain() {
	p.broke(raft.ErrPipelineShutdown)
	p.sending.Lock()
	defer p.sending.Unlock()
	for {
		select {
		case f := <-p.flying:
			f.pending.Abandon(raft.ErrPipelineShutdown)
			f.respond(raft.ErrPipelineShutdown)
			<-p.slots
		default:
			return
		}
	}
}

// raftFuture is one request of a pipeline.
type raftFuture struct {
	pending *Pending
	args    *raft.AppendEntriesRequest
	resp    *raft.AppendEntriesResponse
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
func (f *raftFuture) Start() time.Time { return f.pending.Sent() }

// Request is what was sent.
func (f *raftFuture) Request() *raft.AppendEntriesRequest { return f.args }

// Response is the answer, once Error returned nil.
func (f *raftFuture) Response() *raft.AppendEntriesResponse { return f.resp }
