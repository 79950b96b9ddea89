package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Direction is one of the two of a connection, or both.
type Direction uint8

// The directions, as seen from who dials.
const (
	Forward  Direction = 1 << iota // to the target
	Backward                       // from it
	Both     = Forward | Backward
)

// dialPatience bounds a dial to the target.
const dialPatience = 5 * time.Second

// Proxy passes TCP connections on to one address, with faults. All methods may be called concurrently.
type Proxy struct {
	target   string
	listener net.Listener
	stop     context.CancelFunc
	work     sync.WaitGroup // accept, and everything of the connections

	mu      sync.Mutex // guards what follows
	cut     Direction
	delay   [2]time.Duration // by Direction.index
	changed chan struct{}    // closed when cut changes
	conns   map[*conn]struct{}
}

func (d Direction) index() int { return int(d) - 1 }

// Listen makes a proxy on a free port of 127.0.0.1. The target is dialled once for each connection, when that comes.
func Listen(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy for %s: %w", target, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Proxy{target: target, listener: l, stop: stop, changed: make(chan struct{}), conns: map[*conn]struct{}{}}
	p.work.Go(func() { p.accept(ctx) })
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut holds back what is sent in a direction from now on, and what is on its way.
func (p *Proxy) Cut(d Direction) { p.set(func() { p.cut |= d }) }

// Heal ends all cuts. Delays stay.
func (p *Proxy) Heal() { p.set(func() { p.cut = 0 }) }

// Delay lets everything that is sent in a direction from now on arrive so much later.
func (p *Proxy) Delay(d Direction, by time.Duration) {
	p.set(func() {
		for _, one := range []Direction{Forward, Backward} {
			if d&one != 0 {
				p.delay[one.index()] = by
			}
		}
	})
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Reset breaks all connections there are, at both ends and at once, whatever is cut. New ones may follow.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.end(abort)
	}
}

// Close breaks all connections and ends the proxy.
func (p *Proxy) Close() error {
	p.stop()
	err := p.listener.Close()
	p.Reset()
	p.work.Wait()
	return err
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		in, err := p.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = in.Close()
			}
			return
		case err != nil: // out of file descriptors, most likely: the dialler tries again
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return
			}
			continue
		}
		p.work.Go(func() { p.serve(ctx, in.(*net.TCPConn)) })
	}
}

// serve connects a dialler with the target and passes on what they say.
func (p *Proxy) serve(ctx context.Context, in *net.TCPConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &conn{in: in, cancel: cancel}
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
		c.end(abort)
	}()
	if p.pass(ctx, Forward, time.Now().Add(p.delayed(Forward))) != nil {
		return
	}
	d := net.Dialer{Timeout: dialPatience}
	// A dial that is given up when it has succeeded ends the connection in good order: a reset would look like an end.
	out, err := d.DialContext(context.WithoutCancel(ctx), "tcp", p.target)
	if err != nil {
		_ = p.pass(ctx, Backward, time.Now().Add(p.delayed(Backward))) // the refusal travels, too
		return
	}
	if !c.meet(out.(*net.TCPConn)) {
		return // it was reset meanwhile
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(ctx, c, Forward, in, c.out) })
	pumps.Go(func() { p.pump(ctx, c, Backward, c.out, in) })
	pumps.Wait()
	c.end(func(side *net.TCPConn) { _ = side.Close() }) // both sides have said all, and what they said may still be on its way
}

func (p *Proxy) delayed(d Direction) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay[d.index()]
}

// pass waits until something may arrive that is due at a time.
func (p *Proxy) pass(ctx context.Context, d Direction, due time.Time) error {
	for ctx.Err() == nil {
		p.mu.Lock()
		cut, changed := p.cut&d != 0, p.changed
		p.mu.Unlock()
		wait := time.Until(due)
		if !cut && wait <= 0 {
			return nil
		}
		var timer <-chan time.Time
		if !cut {
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-changed:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// conn is a connection through the proxy.
type conn struct {
	in     *net.TCPConn
	cancel context.CancelFunc

	mu    sync.Mutex // guards what follows
	out   *net.TCPConn
	ended bool
}

// meet takes the target's side, unless the connection was ended.
func (c *conn) meet(out *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out = out; c.ended {
		abort(out)
	}
	return !c.ended
}

// end closes both sides in one way or the other.
func (c *conn) end(how func(*net.TCPConn)) {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	how(c.in)
	if c.out != nil {
		how(c.out)
	}
}

// abort closes a side with a reset. Errors say that it is closed.
func abort(c *net.TCPConn) { _ = errors.Join(c.SetLinger(0), c.Close()) }
