package mesh

import (
	"context"
	"sync"
	"time"
)

// Pending is a request on its way. It is done exactly once, whatever happens.
type Pending struct {
	sent time.Time

	mu      sync.Mutex
	done    chan struct{} // made when first asked for
	over    bool
	payload []byte
	err     error
	then    func([]byte, error)
	release func()
}

// NewPending returns a Pending and the function that completes it, for
// implementations of Network. Only the first completion counts, and the
// function reports whether it was the one. release, which may be nil, runs
// once after completion by Abandon, so that the network can forget the request.
func NewPending(sent time.Time, release func()) (*Pending, func(payload []byte, err error) bool) {
	p := &Pending{sent: sent, release: release}
	return p, p.complete
}

// failedPending is a request that never left.
func failedPending(sent time.Time, err error) *Pending {
	return &Pending{sent: sent, over: true, err: err}
}

// closedChan is what Done answers for a Pending that is over.
var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Sent is the time Start was called, before anything reached the wire. What a
// reply proves about the peer held at Sent or later, so leases count from it.
func (p *Pending) Sent() time.Time { return p.sent }

// Done is closed when the result is there.
func (p *Pending) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return closedChan
	}
	if p.done == nil {
		p.done = make(chan struct{})
	}
	return p.done
}

// Result waits for the request to be done and returns its outcome.
func (p *Pending) Result() ([]byte, error) {
	<-p.Done()
	return p.payload, p.err
}

// Abandon completes the request with err, if it is not done yet. A reply that
// comes later is dropped; whether the peer served the request stays unknown.
func (p *Pending) Abandon(err error) {
	if p.complete(nil, err) && p.release != nil {
		p.release()
	}
}

// complete ends the request; it reports whether it was the first to do so.
func (p *Pending) complete(payload []byte, err error) bool {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return false
	}
	p.over, p.payload, p.err = true, payload, err
	done, then := p.done, p.then
	p.then = nil
	p.mu.Unlock()
	if done != nil {
		close(done)
	}
	if then != nil {
		then(payload, err)
	}
	return true
}

// onDone has fn called with the result: at once when it is there, otherwise
// by whoever completes the request, so fn must not block. One fn at most.
func (p *Pending) onDone(fn func(payload []byte, err error)) {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		fn(p.payload, p.err)
		return
	}
	p.then = fn
	p.mu.Unlock()
}

// isOver reports whether the result is there.
func (p *Pending) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// Await is the second half of Call for every Network: it waits for p or ctx.
func Await(ctx context.Context, p *Pending) ([]byte, error) {
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Abandon(context.Cause(ctx))
	}
	return p.Result()
}
