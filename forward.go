package adamant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
)

// Forwarding (design §9, routing): a host that does not lead a document's partition may send an operation to the one that
// does, if the application wants that. A write leaves the host at most once, and the leader only ever serves what it is sent
// itself: it never sends it on. While leadership moves, both wait for a leader that says it serves, for a few heartbeats.
//
//	refused here, nothing happened ──▶ a leader elsewhere serves? ──no──▶ wait for news, try here again
//	                                      │ yes
//	                                      ▼
//	                       write: send once, whatever comes is the outcome
//	                       read:  send; when it was not served, wait and try again

const (
	// forwardPatience is for how many heartbeats an operation waits for a leader: as long as a fail-over takes, and a little more.
	forwardPatience = 6
	// forwardTimeout bounds an operation that is forwarded for a caller without a deadline of its own.
	forwardTimeout = time.Minute
	// forwardLook is how often one that waits looks, beside news.
	forwardLook = 10 * time.Millisecond
	// forwardsAtOnce bounds the operations of other hosts that a host serves at once; more are refused.
	forwardsAtOnce = 256
	// forwardBulk is the size from which a forwarded write travels beside what is urgent to others.
	forwardBulk = 64 << 10
)

// forwardKey is the key in a context of whether to forward.
type forwardKey struct{}

// Forwarding makes a context whose operations on documents are forwarded to the leader when this host does not lead, or are
// not, whatever Options.Forward says.
func Forwarding(ctx context.Context, on bool) context.Context {
	return context.WithValue(ctx, forwardKey{}, on)
}

func (h *Host) forwards(ctx context.Context) bool {
	if on, ok := ctx.Value(forwardKey{}).(bool); ok {
		return on
	}
	return h.opts.Forward
}

// movable reports whether an operation was refused here because somebody else leads or is about to. Nothing happened then.
func movable(err error) bool {
	var refused *partition.NotServingError
	if errors.As(err, &refused) {
		switch refused.Reason {
		case partition.HandingOver, partition.NoBarrier, partition.NoLease:
			return true
		}
	}
	return errors.As(err, new(*NotLeaderError))
}

// otherLeader is the host elsewhere that says it serves a partition as its leader.
func (h *Host) otherLeader(id uint32) (raft.ServerID, bool) {
	leader, _, serving := h.leaderOf(id, time.Now())
	return leader, serving && leader != h.serverID
}

// patience waits for leadership to settle.
type patience struct {
	host *Host
	end  time.Time // zero: not begun
}

// wait returns after news, or a moment; false when the time is over, the caller's, the host's or that for waiting.
func (p *patience) wait(ctx context.Context, news <-chan struct{}) bool {
	now := time.Now()
	if p.end.IsZero() {
		p.end = now.Add(forwardPatience * p.host.opts.Timing.Heartbeat)
	}
	if !now.Before(p.end) {
		return false
	}
	timer := time.NewTimer(forwardLook)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-p.host.context.Done():
		return false
	case <-news:
	case <-timer.C:
	}
	return true
}

// write does an operation here, or has the leader do it.
func (h *Host) write(ctx context.Context, kind operation, op partition.Operation) (int64, error) {
	if !h.forwards(ctx) {
		return h.writeHere(ctx, op)
	}
	p := patience{host: h}
	for {
		news := h.RoutingChanged()
		head, err := h.writeHere(ctx, op)
		if err == nil || !movable(err) {
			return head, err
		}
		if leader, ok := h.otherLeader(h.partitionOf(op.Key)); ok {
			head, outcome, sent := h.forwardWrite(ctx, leader, kind, op)
			if sent {
				return head, outcome
			}
			if outcome != nil {
				err = outcome
			}
			if errors.As(err, new(*mesh.TooLargeError)) {
				return 0, err
			}
		}
		if !p.wait(ctx, news) {
			return 0, err
		}
	}
}

// forwardWrite sends a write to the leader. sent is false when nothing of it left this host.
func (h *Host) forwardWrite(ctx context.Context, leader raft.ServerID, kind operation, op partition.Operation) (head int64, err error, sent bool) {
	id := h.partitionOf(op.Key)
	reply, err := h.forward(ctx, leader, id, forwarded{kind: kind, write: op})
	switch delivered(err) {
	case unsent:
		return 0, h.unreachable(id, leader, err), false
	case refused:
		return 0, h.unreachable(id, leader, err), true
	case unknown:
		return 0, &AmbiguousError{Partition: id, Key: op.Key, Reason: "it was sent to host " + partition.HostOf(leader) + ", which did not answer", Err: err}, true
	}
	if reply.document != nil {
		return 0, &AmbiguousError{Partition: id, Key: op.Key, Reason: "host " + partition.HostOf(leader) + " answered what was not asked"}, true
	}
	return reply.head, reply.err, true
}

// unreachable says that an operation was not done because its leader could not be asked.
func (h *Host) unreachable(id uint32, leader raft.ServerID, err error) error {
	var large *mesh.TooLargeError
	if errors.As(err, &large) { // it has to be done where the leader is
		refused := h.notLeader(id, 0)
		return fmt.Errorf("%w; it can not be forwarded: %w", refused, err)
	}
	return &UnavailableError{Partition: id, Reason: "the leader, host " + partition.HostOf(leader) + ", can not be asked", Err: err}
}

// read answers a query here, or has the leader answer it. Reads have no effects: one that was not served is repeated.
func (h *Host) read(ctx context.Context, q query) (Document, error) {
	if !h.forwards(ctx) {
		return h.readHere(ctx, q)
	}
	p := patience{host: h}
	for {
		news := h.RoutingChanged()
		d, err := h.readHere(ctx, q)
		if err == nil || !movable(err) {
			return d, err
		}
		if leader, ok := h.otherLeader(h.partitionOf(q.key)); ok {
			var again bool
			if d, err, again = h.forwardRead(ctx, leader, q, err); !again {
				return d, err
			}
		}
		if !p.wait(ctx, news) {
			return Document{}, err
		}
	}
}

// forwardRead asks the leader; again is true when it did not answer, or leads no more.
func (h *Host) forwardRead(ctx context.Context, leader raft.ServerID, q query, here error) (d Document, err error, again bool) {
	id := h.partitionOf(q.key)
	reply, err := h.forward(ctx, leader, id, forwarded{kind: q.kind, read: q})
	if ctx.Err() != nil && err != nil {
		return Document{}, h.translate(id, ctx.Err()), false
	}
	var remote *mesh.RemoteError
	switch {
	case errors.As(err, &remote) && remote.Num == mesh.CodeTooLarge:
		return Document{}, fmt.Errorf("%w; the answer can not be forwarded: %w", here, err), false
	case err != nil:
		return Document{}, h.unreachable(id, leader, err), true
	case reply.err != nil:
		return Document{}, reply.err, errors.As(reply.err, new(*NotLeaderError)) || errors.As(reply.err, new(*UnavailableError))
	case reply.document == nil:
		return Document{}, &UnavailableError{Partition: id, Reason: "host " + partition.HostOf(leader) + " answered what was not asked"}, false
	}
	return *reply.document, nil, false
}

// forward makes the call to the leader.
func (h *Host) forward(ctx context.Context, leader raft.ServerID, id uint32, f forwarded) (forwardReply, error) {
	if err := ctx.Err(); err != nil {
		return forwardReply{}, errors.Join(errUnsent, err)
	}
	f.patience = forwardTimeout
	if end, ok := ctx.Deadline(); ok {
		f.patience = min(f.patience, time.Until(end))
	}
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	target, err := mesh.TargetOf(raft.ServerAddress(leader))
	if err != nil {
		return forwardReply{}, errors.Join(errUnsent, err)
	}
	r := mesh.Request{Service: mesh.ServiceHost, Class: mesh.Normal, Partition: id, Payload: f.append([]byte{callForward}), Timeout: forwardTimeout + hostCallTimeout}
	if len(r.Payload) >= forwardBulk {
		r.Class = mesh.Bulk
	}
	h.counts.forwarded.Add(1)
	payload, err := h.net.Call(ctx, target, r)
	if err != nil {
		return forwardReply{}, err
	}
	return decodeForwardReply(payload)
}

// errUnsent marks a call that was not even begun.
var errUnsent = errors.New("nothing was sent")

// delivery is what an error of a call says of the request.
type delivery uint8

const (
	served  delivery = iota // there is an answer
	unsent                  // nothing of it left this host
	refused                 // it arrived, and was not served
	unknown                 // it may have been served, or may yet be
)

func delivered(err error) delivery {
	var down *mesh.LinkDownError
	var remote *mesh.RemoteError
	switch {
	case err == nil:
		return served
	case errors.Is(err, errUnsent), errors.Is(err, mesh.ErrUnknownHost), errors.Is(err, mesh.ErrQueueFull),
		errors.As(err, new(*mesh.TooLargeError)), errors.As(err, new(*mesh.WrongIncarnationError)):
		return unsent
	case errors.As(err, &down) && down.Unsent:
		return unsent
	case errors.As(err, &remote):
		// A host that knows the call answers with errors of its own, inside the payload. Overloaded may be about the reply.
		switch remote.Num {
		case mesh.CodeFailed, mesh.CodeNoHandler, mesh.CodeMalformed:
			return refused
		}
	}
	return unknown
}

// gate lets a bounded number of functions run, each on a goroutine of its own.
type gate struct {
	slots chan struct{}

	mu     sync.Mutex // guards closed, and running against its growth after that
	closed bool
	wg     sync.WaitGroup
}

func newGate(n int) *gate { return &gate{slots: make(chan struct{}, n)} }

// run starts f, unless too many run already or the gate is closed.
func (g *gate) run(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	select {
	case g.slots <- struct{}{}:
	default:
		return false
	}
	g.wg.Go(func() {
		defer func() { <-g.slots }()
		f()
	})
	return true
}

// close waits for those that run.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
}

// serveForward does what another host was asked for, here and nowhere else.
func (h *Host) serveForward(body []byte, reply func([]byte, error)) {
	f, err := decodeForwarded(body)
	if err != nil {
		reply(nil, err)
		return
	}
	if h.forwardGate.run(func() { reply(h.doForwarded(f).append(nil), nil) }) {
		return
	}
	id := h.partitionOf(f.key())
	busy := forwardReply{err: &UnavailableError{Partition: id, Reason: "host " + h.name + " serves too many operations of other hosts, or stops"}}
	reply(busy.append(nil), nil)
}

func (h *Host) doForwarded(f forwarded) (r forwardReply) {
	ctx, cancel := context.WithTimeout(h.context, min(f.patience, forwardTimeout))
	defer cancel()
	h.counts.forwardsServed.Add(1)
	start := time.Now()
	defer func() { h.meter.observe(f.kind, time.Since(start), r.err) }()
	if f.kind.reads() {
		d, err := h.readHere(ctx, f.read)
		return forwardReply{document: &d, err: h.awayFrom(f.key(), err)}
	}
	head, err := h.writeHere(ctx, f.write)
	return forwardReply{head: head, err: h.awayFrom(f.key(), err)}
}

// awayFrom is an error of this host as another host's caller is told of it.
func (h *Host) awayFrom(key Key, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*ClosedError)), errors.As(err, new(*EngineFailedError)): // of this host, not of the caller's
		return &UnavailableError{Partition: h.partitionOf(key), Reason: "host " + h.name + ": " + err.Error()}
	}
	return err
}
