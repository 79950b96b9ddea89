package partition

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// restingTransport has pipelines that can rest.
type restingTransport struct {
	Transport // for everything else
	pipelines *raft.InmemTransport
	leave     chan struct{} // closed: Raft may hear that it is to leave a pipeline
}

func (t *restingTransport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.pipelines.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	p := &restingPipeline{AppendPipeline: inner, leave: t.leave, out: make(chan raft.AppendFuture), stop: make(chan struct{})}
	go p.pass()
	return p, nil
}

type restingPipeline struct {
	raft.AppendPipeline
	leave chan struct{}
	out   chan raft.AppendFuture
	stop  chan struct{}
	once  sync.Once

	mu     sync.Mutex
	flying int
	rested bool
}

func (p *restingPipeline) pass() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			p.mu.Lock()
			p.flying--
			p.mu.Unlock()
			p.offer(f)
		case <-p.stop:
			return
		}
	}
}

func (p *restingPipeline) offer(f raft.AppendFuture) {
	select {
	case p.out <- f:
	case <-p.stop:
	}
}

func (p *restingPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rested {
		return nil, errors.New("rests")
	}
	p.flying++
	return p.AppendPipeline.AppendEntries(args, resp)
}

func (p *restingPipeline) Rest() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rested || p.flying > 0 {
		return false
	}
	p.rested = true
	go func() {
		select {
		case <-p.leave:
			p.offer(refusal{})
		case <-p.stop:
		}
	}()
	return true
}

func (p *restingPipeline) Consumer() <-chan raft.AppendFuture { return p.out }

func (p *restingPipeline) Close() error {
	p.once.Do(func() { close(p.stop) })
	return p.AppendPipeline.Close()
}

// refusal is an answer that says no.
type refusal struct{}

func (refusal) Error() error                          { return nil }
func (refusal) Start() time.Time                      { return time.Now() }
func (refusal) Request() *raft.AppendEntriesRequest   { return &raft.AppendEntriesRequest{Term: 1} }
func (refusal) Response() *raft.AppendEntriesResponse { return &raft.AppendEntriesResponse{} }

// restingGroup is a group whose members' pipelines can rest, and how many of them a member has open.
func restingGroup(t *testing.T, leave chan struct{}) (*group, *hosts, func(*node) int) {
	g, h := newLiveGroup(t, 3, steady, func(o *Options) {
		w := o.Transport.(wired)
		o.Transport = &restingTransport{Transport: w, pipelines: w.Transport.(*raft.InmemTransport), leave: leave}
	})
	return g, h, func(nd *node) int {
		nd.part.guard.mu.Lock()
		defer nd.part.guard.mu.Unlock()
		return len(nd.part.guard.pipelines)
	}
}

// openPipelines makes so much work at once that Raft gets a pipeline to each follower, and returns how often it wrote.
func (g *group) openPipelines(l *node, open func(*node) int) (seq int64) {
	g.t.Helper()
	must(g.t, l.create("a"))
	for seq = 1; open(l) < 2; seq++ {
		if seq > 4*pipelineAfter {
			g.t.Fatalf("%d pipelines are open after %d writes", open(l), seq)
		}
		_, err := l.append("a", seq+1, "{}")
		must(g.t, err)
		synctest.Wait()
	}
	return seq
}

func now() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestFewWritesNeedNoPipeline: of a group that has just elected a leader, and of one that is written to seldom, followers get what
// there is one by one.
func TestFewWritesNeedNoPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, open := restingGroup(t, now())
		l := g.serving()
		must(t, l.create("a"))
		for seq := range int64(4 * pipelineAfter) {
			time.Sleep(restAfter * steady / 2)
			before := time.Now()
			_, err := l.append("a", 2+seq, "{}")
			must(t, err)
			if took := time.Since(before); took > steady/8 {
				t.Errorf("write %d took %v", seq, took)
			}
			synctest.Wait()
			if n := open(l); n != 0 {
				t.Fatalf("%d pipelines after write %d", n, seq)
			}
		}
	})
}

// TestQuietPipelinesRest: Raft leaves the pipelines of a group that is quiet, at once commits what is written then, and has pipelines again
// when there is more of it.
func TestQuietPipelinesRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, open := restingGroup(t, now())
		l := g.serving()
		written := g.openPipelines(l, open)
		for seq := range int64(40) { // not while it is written to, however seldom
			time.Sleep(restAfter * steady / 2)
			if open(l) != 2 {
				t.Fatalf("%d pipelines before write %d", open(l), seq)
			}
			_, err := l.append("a", 1+written+seq, "{}")
			must(t, err)
		}
		time.Sleep(2 * restAfter * steady)
		if open(l) != 0 {
			t.Fatalf("%d pipelines are open in a quiet group", open(l))
		}
		before := time.Now()
		for seq := range int64(pipelineAfter) {
			_, err := l.append("a", 41+written+seq, "{}")
			must(t, err)
			synctest.Wait()
		}
		if took := time.Since(before); took > steady/8 {
			t.Errorf("the first writes after a quiet time took %v", took)
		}
		g.wait("pipelines again", func() bool { return open(l) == 2 })
		g.applied("a", 40+written+pipelineAfter)
		if l != g.serving() {
			t.Error("leadership changed")
		}
	})
}

// TestWriteWhileAPipelineComesToRest: what Raft sends when the pipeline takes no more and it has not heard so is dropped by it. It does not
// wait for what follows it.
func TestWriteWhileAPipelineComesToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, open := restingGroup(t, make(chan struct{})) // never: Raft finds out by sending
		l := g.serving()
		written := g.openPipelines(l, open)
		time.Sleep(2 * restAfter * steady)
		if open(l) != 2 {
			t.Fatalf("%d pipelines are open: Raft can not know yet", open(l))
		}
		before := time.Now()
		_, err := l.append("a", written+1, "{}")
		must(t, err)
		if took := time.Since(before); took > steady/8 {
			t.Errorf("a write that came while the pipelines came to rest took %v", took)
		}
		g.applied("a", written+1)
	})
}

// unaskedPipeline comes to rest in the midst of a request: the answer that says no is read before the request is refused.
type unaskedPipeline struct {
	raft.AppendPipeline
	out  chan raft.AppendFuture
	read chan struct{} // closed when Raft has the answer
}

func (p *unaskedPipeline) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.out <- refusal{} // of a Rest that came between the guard's note of the request and this
	<-p.read
	return nil, errors.New("rests")
}
func (p *unaskedPipeline) Rest() bool                         { return true }
func (p *unaskedPipeline) Consumer() <-chan raft.AppendFuture { return p.out }
func (p *unaskedPipeline) Close() error                       { return nil }

// TestRestInTheMidstOfARequest: a pipeline of a transport that is no DirectTransport may come to rest between the guard's note of a request
// and the request itself. The answer that nobody asked for is not that request's.
func TestRestInTheMidstOfARequest(t *testing.T) {
	inner := &unaskedPipeline{out: make(chan raft.AppendFuture), read: make(chan struct{})}
	out := make(chan raft.AppendFuture)
	p := &guardedPipeline{AppendPipeline: inner, g: ruledGuard(time.Now()), id: "f", out: out, stop: make(chan struct{})}
	p.rested.Store(true) // as rest does before it calls Rest
	go p.run(out)
	go func() { <-out; close(inner.read) }()
	defer close(p.stop)
	if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 8}, new(raft.AppendEntriesResponse)); err == nil {
		t.Error("taken")
	}
	if !p.missed.Load() || len(p.sent) != 0 {
		t.Errorf("missed: %v, %d under way", p.missed.Load(), len(p.sent))
	}
}

// TestLogsOfQuietMembersRest: leader and followers tell their logs once that nothing was stored for long, and again after the next
// write.
func TestLogsOfQuietMembersRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newLiveGroup(t, 3, steady, nil)
		l := g.serving()
		must(t, l.create("a"))
		for seq := int64(2); seq < 40; seq++ { // as long as it is written to
			time.Sleep(restAfter * steady / 2)
			_, err := l.append("a", seq, "{}")
			must(t, err)
		}
		for round := range 3 {
			for _, nd := range g.nodes {
				nd.log.mu.Lock()
				if nd.log.rests != round {
					t.Errorf("%s rested %d times in place of %d", nd.id, nd.log.rests, round)
				}
				nd.log.mu.Unlock()
			}
			_, err := l.append("a", int64(40+round), "{}")
			must(t, err)
			time.Sleep(4 * restAfter * steady)
		}
	})
}

// TestPipelineOfASilentFollowerDoesNotRest: Raft takes the answer that it leaves a pipeline by for a sign of life.
func TestPipelineOfASilentFollowerDoesNotRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, h, open := restingGroup(t, now())
		l := g.serving()
		g.openPipelines(l, open)
		silent := g.nodes[0]
		if silent == l {
			silent = g.nodes[1]
		}
		h.isolate(g, silent)
		time.Sleep(4 * restAfter * steady)
		l.part.guard.mu.Lock()
		defer l.part.guard.mu.Unlock()
		if left := l.part.guard.pipelines; len(left) != 1 || left[0].id != silent.id {
			t.Errorf("%d pipelines are left, not the one to the follower that is silent", len(left))
		}
	})
}
