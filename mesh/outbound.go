package mesh

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// outbound is one connection of a link, from the need for it to its end: it is
// dialled, carries requests, and dies with all that were not answered.
//
// Goroutines: run (dials, then writes) and readLoop. Requests are queued from
// the start and go out once the handshake is over.
type outbound struct {
	link  *link
	addr  string
	queue *sendQueue

	used  atomic.Bool // a request came since the maintainer last looked
	pulse pulse       // the maintainer's

	mu       sync.Mutex // guards what follows
	stream   *stream    // nil until the handshake is over
	peer     Identity   // then
	pending  map[uint64]*Pending
	waiting  [classes]int // of them, by class, so that entries that wait for a disk do not hold up votes
	lastID   uint64
	earliest time.Time // no pending expires before
	dead     error     // set once; nothing is pending any more
	pingID   uint64    // the last ping, and when it was queued, until answered
	pingAt   time.Time
}

func newOutbound(l *link, addr string) *outbound {
	return &outbound{
		link: l, addr: addr, queue: newSendQueue(l.m.limits.lanes()),
		pending: make(map[uint64]*Pending),
	}
}

// start queues a request. It returns nil when the connection has just been
// closed as idle and the request should go to another one.
func (o *outbound) start(to Target, r Request, now time.Time) *Pending {
	wait := r.Timeout
	if wait <= 0 {
		wait = o.link.m.timing.Request
	}
	p := &Pending{sent: now, class: r.Class, want: to.Incarnation, expires: now.Add(wait), owner: o}
	h := header{typ: frameRequest, class: r.Class, service: r.Service, partition: r.Partition}
	o.used.Store(true)

	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.dead == errIdle:
		return nil
	case o.dead != nil:
		return failedPending(now, o.link.m.linkError(o.link.host, o.dead, true))
	case o.stream != nil && p.want != "" && p.want != o.peer.Incarnation:
		return failedPending(now, &WrongIncarnationError{Host: to.Host, Want: p.want, Have: o.peer.Incarnation})
	case o.waiting[r.Class.index()] >= o.link.m.limits.Pending:
		o.link.m.stats.queueFull.Add(1)
		return failedPending(now, ErrQueueFull)
	}
	o.lastID++
	p.id, h.id = o.lastID, o.lastID
	if err := o.queue.push(outFrame{header: h, payload: r.Payload, pending: p}); err != nil {
		if err == ErrQueueFull {
			o.link.m.stats.queueFull.Add(1)
			return failedPending(now, err)
		}
		return failedPending(now, o.link.m.linkError(o.link.host, o.cause(), true))
	}
	o.pending[p.id] = p
	o.waiting[p.class.index()]++
	if o.earliest.IsZero() || p.expires.Before(o.earliest) {
		o.earliest = p.expires
	}
	return p
}

// cause is why the queue is closed already; o.mu is held.
func (o *outbound) cause() error {
	if o.stream == nil {
		return net.ErrClosed
	}
	return o.stream.why()
}

// linkError is what requests fail with when a link ends; unsent when nothing of them was written.
func (m *Mesh) linkError(host string, cause error, unsent bool) error {
	if cause == nil || m.ctx.Err() != nil {
		return ErrClosed
	}
	return &LinkDownError{Host: host, Cause: cause, Unsent: unsent}
}

// forget is called when a request was abandoned.
func (o *outbound) forget(id uint64) {
	o.mu.Lock()
	o.drop(id)
	o.mu.Unlock()
}

// drop takes a request out of those that wait for a reply; nil if it is none of them. o.mu is held.
func (o *outbound) drop(id uint64) *Pending {
	p := o.pending[id]
	if p != nil {
		delete(o.pending, id)
		o.waiting[p.class.index()]--
	}
	return p
}

// run lives as long as the connection.
func (o *outbound) run() {
	s, w, err := o.link.m.dialLink(o.link.host, o.addr, o.link.kind, o.queue)
	if err != nil {
		o.end(err, true)
		return
	}
	written := o.establish(s, w)
	if written {
		readDone := make(chan struct{})
		go func() {
			defer close(readDone)
			o.readLoop(s)
		}()
		s.writeLoop()
		s.kill(ErrClosed)
		<-readDone
	}
	o.end(s.why(), !written)
}

// establish takes the answer to the handshake: requests for another incarnation
// fail now. It reports false when the link was closed meanwhile.
func (o *outbound) establish(s *stream, w welcome) bool {
	var wrong []*Pending
	o.mu.Lock()
	o.stream, o.peer = s, w.id
	for id, p := range o.pending {
		if p.want != "" && p.want != w.id.Incarnation {
			wrong = append(wrong, o.drop(id))
		}
	}
	o.mu.Unlock()
	for _, p := range wrong {
		p.complete(nil, &WrongIncarnationError{Host: o.link.host, Want: p.want, Have: w.id.Incarnation})
	}
	// The mesh may have begun to close before it could see this stream.
	if o.link.m.ctx.Err() != nil {
		s.kill(ErrClosed)
		return false
	}
	o.link.established(o, w.id)
	return true
}

// streamIfUp is the stream, once there is one.
func (o *outbound) streamIfUp() *stream {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stream
}

// retire marks a connection without requests as idle, so that no request can
// join it any more, and closes it; it reports false when there is one.
func (o *outbound) retire() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stream == nil || o.dead != nil || len(o.pending) > 0 || o.used.Load() {
		return false
	}
	o.dead = errIdle
	o.stream.kill(errIdle)
	return true
}

// end fails everything that is pending, in order, after the link knows; unsent when no request was ever written.
func (o *outbound) end(cause error, unsent bool) {
	o.mu.Lock()
	if o.dead == nil {
		o.dead = cause
	}
	left := make([]*Pending, 0, len(o.pending))
	for _, p := range o.pending {
		left = append(left, p)
	}
	clear(o.pending)
	o.waiting = [classes]int{}
	o.mu.Unlock()
	o.queue.close()
	o.link.ended(o, cause)
	slices.SortFunc(left, func(a, b *Pending) int { return cmp.Compare(a.id, b.id) })
	err := o.link.m.linkError(o.link.host, cause, unsent)
	for _, p := range left {
		p.complete(nil, err)
	}
}

// readLoop takes replies until the connection ends.
func (o *outbound) readLoop(s *stream) {
	for {
		h, payload, err := s.next()
		if err != nil {
			o.link.m.unreadable(s, err)
			return
		}
		switch h.typ {
		case frameResponse:
			o.reply(h.id, payload, nil)
		case frameFailure:
			remote, err := decodeFailure(o.link.host, payload)
			if err != nil {
				o.link.m.unreadable(s, &FrameError{Peer: s.peer, What: err.Error()})
				return
			}
			o.reply(h.id, nil, remote)
		case framePong:
			o.ponged(h.id)
		case frameGoodbye:
			s.kill(fmt.Errorf("closed by the peer: %s", payload))
			return
		default:
			o.link.m.unreadable(s, &FrameError{Peer: s.peer, What: "unexpected " + h.typ.String() + " frame"})
			return
		}
	}
}

// unreadable ends a stream that cannot be read any further. Garbage is counted,
// logged and answered; the end of a connection is not.
func (m *Mesh) unreadable(s *stream, err error) {
	var garbage *FrameError
	if !errors.As(err, &garbage) {
		if err == io.EOF {
			err = errors.New("closed by the peer")
		}
		s.kill(err)
		return
	}
	m.stats.badFrames.Add(1)
	m.log.warn("closing a link over which garbage came", "err", garbage)
	s.farewell(garbage)
}

// reply completes a request, unless it was abandoned.
func (o *outbound) reply(id uint64, payload []byte, err error) {
	o.mu.Lock()
	p := o.drop(id)
	o.mu.Unlock()
	if p != nil {
		p.complete(payload, err)
	}
}

// ping asks for a sign of life, unless the last one is still unanswered.
func (o *outbound) ping(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stream == nil || !o.pingAt.IsZero() {
		return
	}
	o.pingID++
	if o.queue.push(outFrame{header: header{typ: framePing, class: Urgent, id: o.pingID}}) == nil {
		o.pingAt = now
	}
}

func (o *outbound) ponged(id uint64) {
	o.mu.Lock()
	at := o.pingAt
	known := id == o.pingID && !at.IsZero()
	if known {
		o.pingAt = time.Time{}
	}
	o.mu.Unlock()
	if known {
		o.link.measured(time.Since(at))
	}
}

// expire fails the requests whose time is over.
func (o *outbound) expire(now time.Time) {
	o.mu.Lock()
	if o.earliest.IsZero() || now.Before(o.earliest) {
		o.mu.Unlock()
		return
	}
	var late []*Pending
	o.earliest = time.Time{}
	for id, p := range o.pending {
		if !now.Before(p.expires) {
			late = append(late, o.drop(id))
		} else if o.earliest.IsZero() || p.expires.Before(o.earliest) {
			o.earliest = p.expires
		}
	}
	o.mu.Unlock()
	slices.SortFunc(late, func(a, b *Pending) int { return cmp.Compare(a.id, b.id) })
	for _, p := range late {
		o.link.m.stats.timeouts.Add(1)
		p.complete(nil, ErrTimeout)
	}
}

// A failure's payload is a code and a text.
func appendFailure(b []byte, code int, text string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, text[:min(len(text), maxFailureBytes-4)]...)
}

func decodeFailure(host string, b []byte) (*RemoteError, error) {
	d := decoder{b: b}
	code := d.u32("error code")
	if d.err != nil {
		return nil, d.err
	}
	return &RemoteError{Host: host, Num: int(code), Text: string(d.b)}, nil
}

// AsRemote is a handler's error as the caller on host's other side sees it: a
// code, its own if it has one, and the text.
func AsRemote(host string, err error) *RemoteError {
	e := &RemoteError{Host: host, Num: CodeFailed, Text: err.Error()}
	var coded interface{ Code() int }
	if remote, ok := err.(*RemoteError); ok {
		e.Num, e.Text = remote.Num, remote.Text
		return e
	}
	switch {
	case errors.As(err, &coded):
		e.Num = coded.Code()
	case errors.Is(err, ErrUnknownPartition):
		e.Num = CodeUnknownPartition
	case errors.Is(err, ErrOverloaded):
		e.Num = CodeOverloaded
	case errors.Is(err, ErrMalformed):
		e.Num = CodeMalformed
	case errors.Is(err, ErrNoHandler):
		e.Num = CodeNoHandler
	}
	return e
}

func failureOf(err error) []byte {
	e := AsRemote("", err)
	return appendFailure(nil, e.Num, e.Text)
}
