package mesh

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// errSuperseded ends a connection whose peer has made a newer one.
var errSuperseded = errors.New("replaced by a newer connection")

// inbound is the acceptor's side of one connection: it reads requests, hands
// them to the handlers, and writes the replies.
//
// Goroutines: serve (reads) and the stream's writeLoop.
type inbound struct {
	m        *Mesh
	stream   *stream
	kind     linkKind
	from     Identity
	instance uint64
	addr     string // where the peer says it listens
	readDone chan struct{}

	serving [classes]load // by class, so that signs of life and votes are served however much waits for a disk
}

// load is what is being served: requests without a reply, and their payloads.
type load struct{ requests, bytes atomic.Int64 }

// serve reads requests until the connection ends.
func (in *inbound) serve() {
	defer close(in.readDone)
	for {
		h, payload, err := in.stream.next()
		if err != nil {
			in.m.unreadable(in.stream, err)
			return
		}
		switch h.typ {
		case frameRequest:
			if kindOf(h.class) != in.kind {
				in.m.unreadable(in.stream, &FrameError{Peer: in.stream.peer, What: fmt.Sprintf("request of class %d on a %s link", h.class, in.kind)})
				return
			}
			in.dispatch(h, payload)
		case framePing:
			in.push(outFrame{header: header{typ: framePong, class: Urgent, id: h.id}})
		case frameGoodbye:
			in.stream.kill(fmt.Errorf("closed by the peer: %s", payload))
			return
		default:
			in.m.unreadable(in.stream, &FrameError{Peer: in.stream.peer, What: "unexpected " + h.typ.String() + " frame"})
			return
		}
	}
}

// dispatch hands a request to its handler, or refuses it: neither the number
// nor the bytes of a class' requests being served may grow without bound.
func (in *inbound) dispatch(h header, payload []byte) {
	c := &inboundCall{in: in, h: h, size: int64(len(payload))}
	l := &in.serving[h.class.index()]
	n, b := l.requests.Add(1), l.bytes.Add(c.size)
	if n > int64(in.m.limits.InFlight) || (n > 1 && b > int64(in.m.limits.InFlightBytes)) {
		in.m.stats.overloaded.Add(1)
		c.reply(nil, ErrOverloaded)
		return
	}
	handler := in.m.handler(h.service)
	if handler == nil {
		c.reply(nil, ErrNoHandler)
		return
	}
	handler.Serve(in.from, Request{Service: h.service, Class: h.class, Partition: h.partition, Payload: payload}, c.reply)
}

// push queues an answer. A peer that does not read its answers is cut off.
func (in *inbound) push(f outFrame) {
	if err := in.stream.queue.push(f); err == ErrQueueFull {
		in.stream.kill(errors.New("the peer does not read its replies"))
	}
}

// inboundCall is one request being served.
type inboundCall struct {
	in   *inbound
	h    header
	size int64
	over atomic.Bool
}

// reply answers the request, once.
func (c *inboundCall) reply(payload []byte, err error) {
	if !c.over.CompareAndSwap(false, true) {
		return
	}
	h := c.h
	h.typ = frameResponse
	if limit := c.in.m.limits.Payload(h.class); err == nil && len(payload) > limit {
		err = &RemoteError{Num: CodeTooLarge, Text: (&TooLargeError{Size: len(payload), Limit: limit}).Error()}
	}
	if err == nil {
		err = c.in.stream.queue.push(outFrame{header: h, payload: payload})
		if err == nil || err == ErrClosed {
			c.release()
			return
		}
		// Too many bytes wait for this peer: it gets a small answer instead.
		c.in.m.stats.overloaded.Add(1)
		err = ErrOverloaded
	}
	// A failure is small, so it may travel as urgent when its own class is
	// full; the peer finds its request by the id.
	h.typ = frameFailure
	f := outFrame{header: h, payload: failureOf(err)}
	if c.in.stream.queue.push(f) == ErrQueueFull {
		f.header.class = Urgent
		c.in.push(f)
	}
	c.release()
}

func (c *inboundCall) release() {
	l := &c.in.serving[c.h.class.index()]
	l.requests.Add(-1)
	l.bytes.Add(-c.size)
}

// inboundPeer is what a peer has connected, and the processes that spoke for it.
type inboundPeer struct {
	sessions [linkKinds]*inbound
	last     Identity         // who connected last
	instance uint64           // of the process that speaks for the peer now
	former   []formerInstance // of those before it, oldest first
}

// formerInstance is a process that was replaced by another one under its name.
type formerInstance struct {
	instance uint64
	strikes  int // times it came back while the other one was connected
}

// strikesForConflict is how often a process that was replaced must come back
// for the two to be called duplicates. One that died may leave a hello for each
// kind of link behind, which is read after its successor's.
const strikesForConflict = 3

// formerKept bounds inboundPeer.former.
const formerKept = 8

func (p *inboundPeer) connected() bool {
	for _, s := range p.sessions {
		if s != nil {
			return true
		}
	}
	return false
}

// errStale refuses a process that was replaced, before it is called a duplicate.
var errStale = errors.New("another process of this name is connected")

// admit makes in the connection of its kind from its peer. Whatever connection
// it replaces has stopped reading when admit returns, so that requests stay in
// order. A process that was replaced by another one, which is still connected,
// is turned away.
func (m *Mesh) admit(in *inbound) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	p := &m.peerLocked(in.from.Host).inboundPeer
	if other, strikes := p.strike(in.instance); strikes > 0 {
		m.mu.Unlock()
		if strikes < strikesForConflict {
			return errStale
		}
		dup := &DuplicateHostError{Host: in.from.Host, One: other, Other: in.from.Incarnation + " at " + in.addr}
		m.conflict(dup, in.instance)
		return dup
	}
	replaced := p.replace(in)
	l := m.peers[in.from.Host].links[linkMain]
	m.mu.Unlock()
	l.welcomed()
	for _, old := range replaced {
		old.stream.kill(errSuperseded)
	}
	for _, old := range replaced {
		<-old.readDone
	}
	m.notices.changed(in.from.Host)
	return nil
}

// strike counts the return of a process that was replaced by one that is still
// connected; zero means that it may come in. Mesh.mu is held.
func (p *inboundPeer) strike(instance uint64) (other string, strikes int) {
	if !p.connected() {
		return "", 0
	}
	for i := range p.former {
		if p.former[i].instance == instance {
			p.former[i].strikes++
			return p.describe(), p.former[i].strikes
		}
	}
	return "", 0
}

// replace puts in in its place, and returns the connections that are to end: the
// one of its kind, and all of another process. Mesh.mu is held.
func (p *inboundPeer) replace(in *inbound) (ended []*inbound) {
	if p.instance != in.instance && p.instance != 0 {
		p.former = slices.DeleteFunc(p.former, func(f formerInstance) bool { return f.instance == in.instance })
		p.former = append(p.former, formerInstance{instance: p.instance})
		if len(p.former) > formerKept {
			p.former = slices.Delete(p.former, 0, len(p.former)-formerKept)
		}
		for i, old := range p.sessions {
			if old != nil && i != int(in.kind) {
				ended = append(ended, old)
				p.sessions[i] = nil
			}
		}
	}
	if old := p.sessions[in.kind]; old != nil {
		ended = append(ended, old)
	}
	p.instance, p.sessions[in.kind], p.last = in.instance, in, in.from
	return ended
}

// describe says who is connected; m.mu is held.
func (p *inboundPeer) describe() string {
	for _, s := range p.sessions {
		if s != nil {
			return s.from.Incarnation + " at " + s.addr
		}
	}
	return "unknown"
}

// dismiss takes an ended connection out of the tables.
func (m *Mesh) dismiss(in *inbound) {
	m.mu.Lock()
	var l *link
	if p := m.peers[in.from.Host]; p != nil && p.sessions[in.kind] == in {
		p.sessions[in.kind] = nil
		if in.kind == linkMain {
			l = p.links[linkMain]
		}
	}
	m.mu.Unlock()
	if l != nil && m.ctx.Err() == nil {
		l.bereft()
	}
	m.notices.changed(in.from.Host)
}

// lifetime runs an admitted connection to its end.
func (in *inbound) lifetime(answer []byte) {
	defer in.m.dismiss(in)
	if err := writeHandshake(in.stream.conn, frameWelcome, answer, in.m.timing.Handshake); err != nil || in.m.ctx.Err() != nil {
		in.stream.kill(ErrClosed)
		close(in.readDone)
		return
	}
	_ = in.stream.conn.SetDeadline(time.Time{})
	in.m.stats.accepted.Add(1)
	writeDone := make(chan struct{})
	go func() {
		defer close(writeDone)
		in.stream.writeLoop()
		in.stream.kill(ErrClosed)
	}()
	in.serve()
	<-writeDone
	in.m.log.info("link from peer ended", "peer", in.from.Host, "kind", in.kind.String(), "err", in.stream.why())
}
