package mesh

import (
	"context"
	"sync"
	"time"
)

// Pending is a request on its way. It is done exactly once, whatever happens.
type Pending struct {
	sent time.Time

	// Of the network it was started on; set before anyone else sees it.
	id      uint64
	class   Class
	want    string    // the incarnation it is for, "" any
	expires time.Time // zero: never
	owner   forgetter

	mu      sync.Mutex // guards what follows
	done    chan struct{}
	then    func()
	over    bool
	payload []byte
	err     error
}

// forgetter is told that a request was abandoned.
type forgetter interface{ forget(id uint64) }

// forgetFunc makes a forgetter of a function.
type forgetFunc func()

func (f forgetFunc) forget(uint64) { f() }

// NewPending returns a Pending and the function that completes it, for
// implementations of Network. Only the first completion counts, and the
// function reports whether it was the one. release, which may be nil, is called
// after Abandon completed it, so that the network can forget the request.
func NewPending(sent time.Time, release func()) (*Pending, func(payload []byte, err error) bool) {
	p := &Pending{sent: sent}
	if release != nil {
		p.owner = forgetFunc(release)
	}
	return p, p.complete
}

// failedPending is a request that never left.
func failedPending(sent time.Time, err error) *Pending {
	return &Pending{sent: sent, over: true, err: err}
}

// Sent is the time Start was called, before anything reached the wire. What a
// reply proves about the peer held at Sent or later, so leases count from it.
func (p *Pending) Sent() time.Time { return p.sent }

// Done is closed when the result is there.
func (p *Pending) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = make(chan struct{})
		if p.over {
			close(p.done)
		}
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
	if p.complete(nil, err) && p.owner != nil {
		p.owner.forget(p.id)
	}
}

// Then has f called once the result is there: at once, or by whoever brings it,
// which is the goroutine that reads from the peer; f must not block. There is
// one f at most.
func (p *Pending) Then(f func()) {
	p.mu.Lock()
	over := p.over
	p.then = f
	p.mu.Unlock()
	if over {
		f()
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
	if p.done != nil {
		close(p.done)
	}
	then := p.then
	p.mu.Unlock()
	if then != nil {
		then()
	}
	return true
}

// outcome is Result for who knows that it is over.
func (p *Pending) outcome() (payload []byte, err error, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.payload, p.err, p.over
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
		p.Abandon(ctx.Err())
	}
	return p.Result()
}
