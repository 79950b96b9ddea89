package simnet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant/mesh"
)

// Host is one host of a Net; it is a mesh.Network.
type Host struct {
	net *Net
	id  mesh.Identity

	mu       sync.Mutex // guards what follows; Net.mu may not be taken under it
	handlers map[mesh.Service]mesh.Handler
	pending  map[*call]struct{}
	lastSeq  uint64
	over     bool
	onPeer   func(mesh.PeerState)

	telling sync.Mutex // held while onPeer is called; guards told
	told    map[string]mesh.PeerState
}

var _ mesh.Network = (*Host)(nil)

// errReset is why requests to a dead process fail.
var errReset = errors.New("connection reset")

// errLost is why lost requests fail.
var errLost = errors.New("no sign of life")

// call is a request on its way.
type call struct {
	from     *Host
	to       mesh.Target
	r        mesh.Request
	complete func([]byte, error) bool
	timeout  *time.Timer
	seq      uint64 // of this host's calls
}

// end completes the call, once.
func (c *call) end(payload []byte, err error) {
	c.from.forget(c)
	c.complete(payload, err)
}

func (h *Host) forget(c *call) {
	h.mu.Lock()
	delete(h.pending, c)
	h.mu.Unlock()
	c.timeout.Stop()
}

// Self is who the host is.
func (h *Host) Self() mesh.Identity { return h.id }

// Handle sets the handler of a service; nil removes it.
func (h *Host) Handle(s mesh.Service, handler mesh.Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if handler == nil {
		delete(h.handlers, s)
		return
	}
	h.handlers[s] = handler
}

// OnPeer has fn told of the peers whose state changes; it must not block, nor
// change the network.
func (h *Host) OnPeer(fn func(mesh.PeerState)) {
	h.mu.Lock()
	h.onPeer = fn
	h.mu.Unlock()
	h.tell()
}

// requestTimeout bounds a request that does not say.
const requestTimeout = time.Minute

// Start sends a request; see mesh.Network.
func (h *Host) Start(to mesh.Target, r mesh.Request) *mesh.Pending {
	if r.Class < mesh.Urgent || r.Class > mesh.Bulk {
		r.Class = mesh.Normal
	}
	now := time.Now()
	c := &call{from: h, to: to}
	p, complete := mesh.NewPending(now, func() { h.forget(c) })
	c.complete = complete
	wait := r.Timeout
	if wait <= 0 {
		wait = requestTimeout
	}
	noted := make(chan struct{}) // a wait may be over before its timer is noted
	c.timeout = time.AfterFunc(wait, func() {
		<-noted
		p.Abandon(mesh.ErrTimeout)
	})
	close(noted)
	if err := h.admit(c, r); err != nil {
		c.timeout.Stop()
		complete(nil, err)
		return p
	}
	// The peer gets a copy, as over a wire.
	payload, err := h.net.altered(Message{From: h.id.Host, To: to.Host, Request: r, Payload: bytes.Clone(r.Payload)})
	if err != nil {
		c.end(nil, err)
		return p
	}
	c.r = mesh.Request{Service: r.Service, Class: r.Class, Partition: r.Partition, Payload: payload}
	key := laneKey{path{h.id.Host, to.Host}, r.Class, requests}
	again := func() func() {
		twin := *c
		twin.r.Payload = bytes.Clone(c.r.Payload)
		return twin.arrive
	}
	if !h.net.send(key, len(payload), c.arrive, again, c.lost) {
		c.end(nil, mesh.ErrQueueFull)
	}
	return p
}

// admit checks what can be checked at once, and notes the call.
func (h *Host) admit(c *call, r mesh.Request) error {
	if limit := h.net.limits.Payload(r.Class); len(r.Payload) > limit {
		return &mesh.TooLargeError{Size: len(r.Payload), Limit: limit}
	}
	h.net.mu.Lock()
	known := h.net.hosts[c.to.Host] != nil
	h.net.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.over:
		return mesh.ErrClosed
	case !known:
		return fmt.Errorf("%w: %q", mesh.ErrUnknownHost, c.to.Host)
	case len(h.pending) >= h.net.limits.Pending:
		return mesh.ErrQueueFull
	}
	h.lastSeq++
	c.seq = h.lastSeq
	h.pending[c] = struct{}{}
	return nil
}

// Call is Start and waiting for the result or the context.
func (h *Host) Call(ctx context.Context, to mesh.Target, r mesh.Request) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return mesh.Await(ctx, h.Start(to, r))
}

// lost fails a call when its loss is noticed.
func (c *call) lost() {
	c.from.net.mu.Lock()
	after := c.from.net.detect
	c.from.net.mu.Unlock()
	time.AfterFunc(after, func() { c.end(nil, &mesh.LinkDownError{Host: c.to.Host, Cause: errLost}) })
}

// arrive is the request at its destination. What a crashed host had sent is
// lost with it.
func (c *call) arrive() {
	if c.from.isOver() {
		return
	}
	n := c.from.net
	n.mu.Lock()
	to := n.hosts[c.to.Host]
	n.mu.Unlock()
	to.mu.Lock()
	over, handler := to.over, to.handlers[c.r.Service]
	to.mu.Unlock()
	foreign := n.understood(c.from.id.Host, c.to.Host)
	switch {
	case over:
		c.end(nil, &mesh.LinkDownError{Host: c.to.Host, Cause: errReset})
	case foreign != nil:
		c.end(nil, &mesh.LinkDownError{Host: c.to.Host, Cause: foreign})
	case c.to.Incarnation != "" && c.to.Incarnation != to.id.Incarnation:
		err := &mesh.WrongIncarnationError{Host: c.to.Host, Want: c.to.Incarnation, Have: to.id.Incarnation}
		c.back(to, 0, func() { c.end(nil, err) })
	case handler == nil:
		c.fail(to, mesh.ErrNoHandler)
	default:
		handler.Serve(c.from.id, c.r, c.replier(to))
	}
}

// replier is what the handler answers with.
func (c *call) replier(to *Host) func([]byte, error) {
	var over atomic.Bool
	return func(payload []byte, err error) {
		if !over.CompareAndSwap(false, true) {
			return
		}
		if limit := c.from.net.limits.Payload(c.r.Class); err == nil && len(payload) > limit {
			err = &mesh.RemoteError{Num: mesh.CodeTooLarge, Text: (&mesh.TooLargeError{Size: len(payload), Limit: limit}).Error()}
		}
		if err != nil {
			c.fail(to, err)
			return
		}
		reply := Message{From: to.id.Host, To: c.from.id.Host, Request: c.r, Reply: true, Payload: bytes.Clone(payload)}
		if payload, err = c.from.net.altered(reply); err != nil {
			c.fail(to, err)
			return
		}
		if !c.back(to, len(payload), func() { c.end(payload, nil) }) {
			c.fail(to, mesh.ErrOverloaded)
		}
	}
}

// fail sends an error back.
func (c *call) fail(to *Host, err error) {
	remote := mesh.AsRemote(to.id.Host, err)
	if !c.back(to, len(remote.Text), func() { c.end(nil, remote) }) {
		c.lost()
	}
}

// back sends an answer on its way, unless the host that answers is gone.
func (c *call) back(to *Host, size int, deliver func()) bool {
	to.mu.Lock()
	over := to.over
	to.mu.Unlock()
	if over {
		c.end(nil, &mesh.LinkDownError{Host: c.to.Host, Cause: errReset})
		return true
	}
	if c.from.isOver() {
		return true // nobody waits
	}
	return c.from.net.send(laneKey{path{to.id.Host, c.from.id.Host}, c.r.Class, replies}, size, deliver, nil, c.lost)
}

// Peers lists the other hosts; see mesh.Network. A host is alive here as long
// as both can reach each other.
func (h *Host) Peers() []mesh.PeerState {
	n := h.net
	n.mu.Lock()
	var all []mesh.PeerState
	var hosts []*Host
	for name, other := range n.hosts {
		if name == h.id.Host {
			continue
		}
		there, back := path{h.id.Host, name}, path{name, h.id.Host}
		reached := !n.blocked(there) && !n.blocked(back)
		linked := reached && n.speaks[name] == n.speaks[h.id.Host]
		all = append(all, mesh.PeerState{
			Host: name, Incarnation: other.id.Incarnation, Addr: name, Alive: linked, Gossip: reached, LinkUp: linked,
			RoundTrip: n.faults(there).Delay + n.faults(back).Delay,
		})
		hosts = append(hosts, other)
	}
	n.mu.Unlock()
	for i, other := range hosts {
		if other.isOver() {
			all[i].Refused = all[i].LinkUp
			all[i].Alive, all[i].Gossip, all[i].LinkUp = false, false, false
		}
	}
	slices.SortFunc(all, func(a, b mesh.PeerState) int { return strings.Compare(a.Host, b.Host) })
	return all
}

func (h *Host) isOver() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over
}

// tell calls onPeer for what changed since the last time.
func (h *Host) tell() {
	h.telling.Lock()
	defer h.telling.Unlock()
	h.mu.Lock()
	fn, over := h.onPeer, h.over
	h.mu.Unlock()
	if fn == nil || over {
		return
	}
	for _, s := range h.Peers() {
		plain := s
		plain.RoundTrip = 0
		if h.told[s.Host] != plain {
			h.told[s.Host] = plain
			fn(s)
		}
	}
}

// Close fails the requests of this host, and from now on those to it.
func (h *Host) Close() error {
	h.end(mesh.ErrClosed)
	h.net.notify()
	return nil
}

// end takes the host off the network. Requests that others have started to it
// find it gone when they arrive; those it was serving fail now.
func (h *Host) end(err error) {
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		return
	}
	h.over = true
	left := h.pending
	h.pending = make(map[*call]struct{})
	h.mu.Unlock()
	for _, c := range inOrder(left, nil) {
		c.timeout.Stop()
		c.complete(nil, err)
	}
	h.net.breakCalls(h)
	h.net.drop(h.id.Host)
}

// breakCalls fails every call of other hosts to h: its connections are gone.
func (n *Net) breakCalls(h *Host) {
	n.mu.Lock()
	hosts := make([]*Host, 0, len(n.hosts))
	for _, other := range n.hosts {
		hosts = append(hosts, other)
	}
	n.mu.Unlock()
	for _, other := range hosts {
		other.mu.Lock()
		broken := inOrder(other.pending, func(c *call) bool { return c.to.Host == h.id.Host })
		other.mu.Unlock()
		for _, c := range broken {
			c.end(nil, &mesh.LinkDownError{Host: h.id.Host, Cause: errReset})
		}
	}
}

// inOrder lists calls in the order they were started; keep may be nil.
func inOrder(calls map[*call]struct{}, keep func(*call) bool) []*call {
	var list []*call
	for c := range calls {
		if keep == nil || keep(c) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *call) int { return cmp.Compare(a.seq, b.seq) })
	return list
}
