package mesh

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// loopback carries the requests of a host to itself: in order, off the caller's
// goroutine, without a connection.
type loopback struct {
	mu      sync.Mutex // guards what follows
	id      Identity
	handler func(Service) Handler
	lanes   [classes][]selfCall // waiting, by class
	running [classes]bool       // the class has a goroutine that empties its lane
	closed  bool
	wg      sync.WaitGroup
	pending map[*Pending]struct{}
}

type selfCall struct {
	r Request
	p *Pending
}

func (l *loopback) init(id Identity, handler func(Service) Handler) {
	l.id, l.handler = id, handler
	l.pending = make(map[*Pending]struct{})
}

// maxSelfPending bounds the requests of a host to itself.
const maxSelfPending = 16384

func (l *loopback) start(to Target, r Request, now time.Time) *Pending {
	if to.Incarnation != "" && to.Incarnation != l.id.Incarnation {
		return failedPending(now, &WrongIncarnationError{Host: to.Host, Want: to.Incarnation, Have: l.id.Incarnation})
	}
	p := &Pending{sent: now}
	p.owner = forgetFunc(func() { l.forget(p) })
	i := int(r.Class) - int(Urgent)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return failedPending(now, ErrClosed)
	}
	if len(l.pending) >= maxSelfPending {
		return failedPending(now, ErrQueueFull)
	}
	l.pending[p] = struct{}{}
	l.lanes[i] = append(l.lanes[i], selfCall{r, p})
	if r.Timeout > 0 {
		time.AfterFunc(r.Timeout, func() { p.Abandon(ErrTimeout) })
	}
	if !l.running[i] {
		l.running[i] = true
		l.wg.Go(func() { l.run(i) })
	}
	return p
}

func (l *loopback) forget(p *Pending) {
	l.mu.Lock()
	delete(l.pending, p)
	l.mu.Unlock()
}

// run serves one class until nothing waits.
func (l *loopback) run(i int) {
	for {
		l.mu.Lock()
		if len(l.lanes[i]) == 0 || l.closed {
			l.lanes[i], l.running[i] = nil, false
			l.mu.Unlock()
			return
		}
		c := l.lanes[i][0]
		l.lanes[i] = l.lanes[i][1:]
		l.mu.Unlock()
		l.serve(c)
	}
}

func (l *loopback) serve(c selfCall) {
	var over atomic.Bool
	reply := func(payload []byte, err error) {
		if !over.CompareAndSwap(false, true) {
			return
		}
		l.forget(c.p)
		if err != nil {
			c.p.complete(nil, AsRemote(l.id.Host, err))
			return
		}
		c.p.complete(payload, nil)
	}
	if h := l.handler(c.r.Service); h != nil {
		h.Serve(l.id, c.r, reply)
	} else {
		reply(nil, ErrNoHandler)
	}
}

// close fails what waits and ends the goroutines.
func (l *loopback) close() {
	l.mu.Lock()
	l.closed = true
	left := l.pending
	l.pending = make(map[*Pending]struct{})
	l.mu.Unlock()
	for p := range left {
		p.complete(nil, ErrClosed)
	}
	l.wg.Wait()
}

// Local is the Network of a host that has no peers and opens no port.
type Local struct {
	self     loopback
	handlers [256]atomic.Pointer[Handler]
}

// NewLocal returns the Network of a single-host cluster.
func NewLocal(id Identity) *Local {
	n := &Local{}
	n.self.init(id, func(s Service) Handler {
		if h := n.handlers[s].Load(); h != nil {
			return *h
		}
		return nil
	})
	return n
}

// Self is who this host is.
func (n *Local) Self() Identity { return n.self.id }

// Handle sets the handler of a service; nil removes it.
func (n *Local) Handle(s Service, h Handler) {
	if h == nil {
		n.handlers[s].Store(nil)
		return
	}
	n.handlers[s].Store(&h)
}

// Start serves requests to this host; any other is unknown.
func (n *Local) Start(to Target, r Request) *Pending {
	now := time.Now()
	if to.Host != n.self.id.Host {
		return failedPending(now, fmt.Errorf("%w: %q", ErrUnknownHost, to.Host))
	}
	if r.Class < Urgent || r.Class > Bulk {
		r.Class = Normal
	}
	return n.self.start(to, r, now)
}

// Call is Start and waiting for the result or the context.
func (n *Local) Call(ctx context.Context, to Target, r Request) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return Await(ctx, n.Start(to, r))
}

// Peers is empty.
func (n *Local) Peers() []PeerState { return nil }

// Close fails what waits.
func (n *Local) Close() error {
	n.self.close()
	return nil
}
