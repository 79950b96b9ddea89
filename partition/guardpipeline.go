package partition

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// pipelineAfter is how many requests with entries a follower is sent, within the time after which a pipeline rests, until it is sent more
// through a pipeline. Each costs goroutines and stacks, and stacks leave holes behind when they go: a thousand groups that have just
// elected a leader would have a pipeline to each follower for what their leaders have to say then.
const pipelineAfter = 8

// follower is what a leader keeps of one of its followers.
type follower struct {
	id       raft.ServerID
	led      uint64    // term last told to live; 0: none
	requests int       // single ones with entries
	since    time.Time // when the first of them was sent
}

// follower returns the record of one, which is made if there is none. The caller holds mu, and does not keep it.
func (g *guard) follower(id raft.ServerID) *follower {
	i := slices.IndexFunc(g.followers, func(f follower) bool { return f.id == id })
	if i < 0 {
		i, g.followers = len(g.followers), append(g.followers, follower{id: id})
	}
	return &g.followers[i]
}

// sends takes note of a single request with entries.
func (g *guard) sends(to raft.ServerID) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.follower(to)
	if now.Sub(f.since) >= g.restAfter {
		f.requests, f.since = 0, now
	}
	f.requests++
}

// busy reports whether a follower is sent so much that a pipeline is worth its while.
func (g *guard) busy(to raft.ServerID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.follower(to).requests >= pipelineAfter
}

// AppendEntriesPipeline wraps the transport's pipeline so that its acknowledgements count for the lease. Raft asks for one whenever a single
// request was answered; to a follower that is sent little there is none, which Raft takes without a word.
func (g *guard) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	if !g.busy(id) {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	p, err := g.inner.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	gp := &guardedPipeline{AppendPipeline: p, g: g, id: id, out: p.Consumer(), stop: make(chan struct{})}
	gp.used.Store(true)
	g.mu.Lock()
	g.pipelines = append(g.pipelines, gp)
	g.mu.Unlock()
	if !g.direct {
		out := make(chan raft.AppendFuture)
		gp.out = out
		go gp.run(out)
	}
	return gp, nil
}

// guardedPipeline passes futures on after noting their acknowledgement, unless the transport does that; its goroutine ends
// when Raft closes it.
type guardedPipeline struct {
	raft.AppendPipeline
	g    *guard
	id   raft.ServerID
	out  <-chan raft.AppendFuture
	stop chan struct{}
	once sync.Once

	used   atomic.Bool // since rest looked last
	idle   time.Time   // when rest first found it unused; its own
	rested atomic.Bool
	missed atomic.Bool // a request came after that

	mu   sync.Mutex
	sent []sentRequest // those under way, in order
}

// sentRequest is a request and when it was sent, by the guard's clock; the transport does not know it.
type sentRequest struct {
	args *raft.AppendEntriesRequest
	at   time.Time
}

func (p *guardedPipeline) run(out chan<- raft.AppendFuture) {
	for {
		select {
		case f, ok := <-p.AppendPipeline.Consumer():
			if !ok {
				return
			}
			if sent, asked := p.answered(f.Request()); asked && f.Error() == nil {
				p.g.noteAck(p.id, f.Request(), f.Response(), sent)
			}
			select {
			case out <- f:
			case <-p.stop:
				return
			}
		case <-p.stop:
			return
		}
	}
}

func (p *guardedPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if err := p.g.mayReplicate(args.Term); err != nil {
		return nil, err
	}
	if err := p.g.keepVote(p.id, args.Entries); err != nil {
		return nil, err
	}
	p.g.hold(args)
	p.used.Store(true)
	if p.g.direct {
		f, err := p.AppendPipeline.AppendEntries(args, resp)
		p.refused(err)
		return f, err
	}
	p.mu.Lock()
	p.sent = append(p.sent, sentRequest{args, p.g.now()})
	p.mu.Unlock()
	f, err := p.AppendPipeline.AppendEntries(args, resp)
	if err != nil {
		p.mu.Lock()
		p.sent = slices.DeleteFunc(p.sent, func(s sentRequest) bool { return s.args == args })
		p.mu.Unlock()
		p.refused(err)
	}
	return f, err
}

// answered removes the request that an answer names, and returns when it was sent. An answer that nobody asked for (restful) names none of
// them: it may come while a request is under way that will be refused.
func (p *guardedPipeline) answered(args *raft.AppendEntriesRequest) (at time.Time, asked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) == 0 || p.sent[0].args != args {
		return at, false
	}
	at, p.sent = p.sent[0].at, p.sent[1:]
	return at, true
}

func (p *guardedPipeline) Consumer() <-chan raft.AppendFuture { return p.out }

// Close is called by Raft when it leaves the pipeline. A request that it tried to send through one that rests is forgotten by it until
// there is another entry.
func (p *guardedPipeline) Close() error {
	p.once.Do(func() { close(p.stop) })
	p.g.mu.Lock()
	p.g.pipelines = slices.DeleteFunc(p.g.pipelines, func(x *guardedPipeline) bool { return x == p })
	p.g.mu.Unlock()
	err := p.AppendPipeline.Close()
	if p.missed.Load() {
		p.g.again()
	}
	return err
}

// restAfter is for how many heartbeats nothing passes a pipeline until it rests.
const restAfter = 16

// restful is a pipeline that Raft can be made to leave while nothing is under way (mesh.RaftTransport). The caller vouches that the follower
// is alive, and sees to requests that are refused from then on. The answer that Raft leaves it by names a request that nobody has sent.
type restful interface{ Rest() bool }

// rest has Raft leave the pipelines that nothing has passed for some time: each costs it a goroutine and stacks. It goes on with single
// requests, and asks for another pipeline with each that is answered.
func (g *guard) rest(term uint64, now time.Time) {
	g.mu.Lock()
	open := g.pipelines
	if len(open) > 0 {
		open = slices.Clone(open)
	}
	g.mu.Unlock()
	for _, p := range open {
		if p.used.Swap(false) {
			p.idle = now
		}
		if p.rested.Load() || now.Sub(p.idle) < g.restAfter {
			continue
		}
		heard := g.beatAcked(p.id, term)
		if inner, ok := p.AppendPipeline.(restful); ok && now.Sub(heard) < g.leaseFor {
			p.rested.Store(true) // before: what is refused is looked at against it
			if !inner.Rest() {
				p.rested.Store(false)
			}
		}
	}
}

// refused notes that a request came too late.
func (p *guardedPipeline) refused(err error) {
	if err != nil && p.rested.Load() {
		p.missed.Store(true)
	}
}
