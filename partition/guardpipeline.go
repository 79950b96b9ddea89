package partition

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// AppendEntriesPipeline wraps the transport's pipeline so that its acknowledgements count for the lease.
func (g *guard) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := g.inner.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	gp := &guardedPipeline{AppendPipeline: p, g: g, id: id, out: p.Consumer(), stop: make(chan struct{})}
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

	mu   sync.Mutex
	sent []time.Time // of the requests under way, by the guard's clock; the transport does not know it
}

func (p *guardedPipeline) run(out chan<- raft.AppendFuture) {
	for {
		select {
		case f, ok := <-p.AppendPipeline.Consumer():
			if !ok {
				return
			}
			sent := p.oldest()
			if f.Error() == nil {
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
	p.g.hold(args)
	if p.g.direct {
		return p.AppendPipeline.AppendEntries(args, resp)
	}
	p.mu.Lock()
	p.sent = append(p.sent, p.g.now())
	p.mu.Unlock()
	f, err := p.AppendPipeline.AppendEntries(args, resp)
	if err != nil { // it is the newest: Raft hands over one request after the other
		p.mu.Lock()
		p.sent = p.sent[:len(p.sent)-1]
		p.mu.Unlock()
	}
	return f, err
}

// oldest removes the time of the request that is answered next.
func (p *guardedPipeline) oldest() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.sent[0]
	p.sent = p.sent[1:]
	return at
}

func (p *guardedPipeline) Consumer() <-chan raft.AppendFuture { return p.out }

func (p *guardedPipeline) Close() error {
	p.once.Do(func() { close(p.stop) })
	return p.AppendPipeline.Close()
}
