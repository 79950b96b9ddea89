package mesh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// errIdle ends a connection that nobody needs; it is no failure.
var errIdle = errors.New("idle")

// errForgotten meets a request that found a link just before its peer, which
// was not part of the cluster, was forgotten. The next request finds a new one.
var errForgotten = errors.New("the host was not part of the cluster")

// link is this host's side of its requests of one kind to one peer. It has a
// connection while there is need for one: the first request dials, and after
// failures the next dial waits (and requests fail meanwhile) for a growing time.
type link struct {
	m    *Mesh
	host string
	kind linkKind

	mu        sync.Mutex // guards what follows; an outbound's lock may be taken under it
	cur       *outbound  // dialling or up; nil: none
	up        bool       // cur has its handshake behind it
	since     time.Time  // when it came up
	peer      Identity   // who answered last
	addr      string     // where
	failures  int        // dials in a row that failed, or links that broke at once
	broke     bool       // the last link that stood, and nobody was there since or known not to be
	asks      int        // since then
	retryAt   time.Time  // no dial before; zero: none failed
	lastErr   error      // the last failure; nil after success
	roundTrip time.Duration
	closed    bool
}

// start sends r, dialling when there is no connection.
func (l *link) start(to Target, r Request, now time.Time) *Pending {
	for {
		o, err := l.current(now)
		if err != nil {
			return failedPending(now, err)
		}
		if p := o.start(to, r, now); p != nil {
			return p
		}
		// The connection was closed as idle in between: take another one.
	}
}

// current is the connection to use, a new one being dialled if need be.
func (l *link) current(now time.Time) (*outbound, error) {
	l.mu.Lock()
	o, err := l.existing(now)
	l.mu.Unlock()
	if o != nil || err != nil {
		return o, err
	}
	addr, ok := l.m.resolve(l.host)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownHost, l.host)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if o, err := l.existing(now); o != nil || err != nil {
		return o, err
	}
	o = newOutbound(l, addr)
	if !l.m.spawn(o.run) {
		return nil, ErrClosed
	}
	l.cur, l.up = o, false
	return o, nil
}

// existing answers from the state as it is; neither means: dial.
func (l *link) existing(now time.Time) (*outbound, error) {
	switch {
	case l.closed && l.m.ctx.Err() == nil:
		return nil, &LinkDownError{Host: l.host, Cause: errForgotten, Unsent: true}
	case l.closed:
		return nil, ErrClosed
	case l.cur != nil:
		return l.cur, nil
	case now.Before(l.retryAt):
		return nil, &LinkDownError{Host: l.host, Cause: l.lastErr, Unsent: true}
	}
	return nil, nil
}

// established records that o has its handshake behind it.
func (l *link) established(o *outbound, peer Identity) {
	l.mu.Lock()
	if l.cur == o {
		l.up, l.since, l.peer, l.addr, l.lastErr, l.broke = true, time.Now(), peer, o.addr, nil, false
	}
	l.mu.Unlock()
	l.m.notices.changed(l.host)
}

// ended records that o is no more, and when the next dial may be.
func (l *link) ended(o *outbound, cause error) {
	l.mu.Lock()
	if l.cur != o {
		l.mu.Unlock()
		return
	}
	wasUp := l.up
	l.cur, l.up, l.lastErr = nil, false, cause
	if wasUp && time.Since(l.since) >= time.Second {
		l.failures, l.retryAt = 0, time.Time{} // a link that stood: dial at once
	} else {
		l.retryAt = time.Now().Add(backoff(l.failures, l.m.timing.BackoffMin, l.m.timing.BackoffMax))
		l.failures++
	}
	failures, closed := l.failures, l.closed
	if wasUp {
		l.broke, l.asks = true, 0
	}
	l.broke = l.broke && !refused(cause)
	ask, wait := l.kind == linkMain && l.broke && l.asks < maxAsks, time.Until(l.retryAt)
	l.asks++
	l.mu.Unlock()
	l.m.notices.changed(l.host)
	if closed {
		return
	}
	if ask {
		l.m.spawn(func() { l.ask(wait) })
	}
	if wasUp {
		l.m.stats.linkBreaks.Add(1)
		l.m.log.warn("link broke", "peer", l.host, "kind", l.kind.String(), "err", cause)
	} else if failures == 1 {
		l.m.log.info("cannot link", "peer", l.host, "kind", l.kind.String(), "addr", o.addr, "err", cause)
	}
}

// maxAsks is after how many dials in a row that fail, and are not refused, nobody asks any more what became of a peer.
const maxAsks = 3

// bereft is told that the peer's own link to here ended. Where there is no other one, it is asked what became of the peer.
func (l *link) bereft() {
	l.mu.Lock()
	alone := !l.up && !l.closed
	if alone {
		l.broke, l.asks = true, 0
		l.forgive()
	}
	wait := time.Until(l.retryAt)
	l.mu.Unlock()
	if alone {
		l.m.spawn(func() { l.ask(wait) })
	}
}

// welcomed is told that the peer made a link to here.
func (l *link) welcomed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgive()
}

// forgive forgets that nobody listened at the peer's address, or did not know this host: somebody does since, or may. The caller holds mu.
func (l *link) forgive() {
	if (refused(l.lastErr) || errors.As(l.lastErr, new(*StrangerError))) && l.cur == nil {
		l.failures, l.retryAt, l.lastErr = 0, time.Time{}, nil
	}
}

// ask dials a peer whose link broke, whether or not there is a request for it: where the process is gone the address refuses, and who
// depends on that peer is told so at once (PeerState.Refused).
func (l *link) ask(wait time.Duration) {
	pause := time.NewTimer(wait)
	defer pause.Stop()
	select {
	case <-pause.C:
		_, _ = l.current(time.Now()) // what comes of it is told (notices)
	case <-l.m.ctx.Done():
	}
}

// refused reports whether nobody listens at the address that was dialled.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// backoff doubles from lowest to highest, and takes off up to half at random so
// that the hosts of a cluster do not dial a returning one all at once.
func backoff(failures int, lowest, highest time.Duration) time.Duration {
	d := highest
	if failures < 20 {
		d = min(lowest<<failures, highest)
	}
	return d - rand.N(d/2+1)
}

// encourage forgets past failures: gossip says that the peer is there.
func (l *link) encourage() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur == nil {
		l.failures, l.retryAt, l.lastErr = 0, time.Time{}, nil
	}
}

// closeIdle gives up a connection without requests; see errIdle.
func (l *link) closeIdle() {
	l.mu.Lock()
	o := l.cur
	if o == nil || !o.retire() {
		l.mu.Unlock()
		return
	}
	l.cur, l.up = nil, false
	l.mu.Unlock()
	l.m.notices.changed(l.host)
}

// close ends the link for good and returns the connection to be killed.
func (l *link) close() *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.cur == nil {
		return nil
	}
	return l.cur.streamIfUp()
}

// linkState is what a link knows of its peer.
type linkState struct {
	up, failing bool
	refused     bool // by the address: nobody listens there
	peer        Identity
	addr        string
	roundTrip   time.Duration
}

func (l *link) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return linkState{up: l.up, failing: !l.up && l.lastErr != nil, refused: !l.up && refused(l.lastErr), peer: l.peer, addr: l.addr, roundTrip: l.roundTrip}
}

// measured takes a round trip into the running estimate.
func (l *link) measured(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.roundTrip == 0 {
		l.roundTrip = d
	} else {
		l.roundTrip += (d - l.roundTrip) / 8
	}
}

// connection is the one at hand, dialling or up.
func (l *link) connection() *outbound {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cur
}

// abandon closes an unused link, so that nobody who still holds it can use it,
// or opens it again; it reports false when the link is in use.
func (l *link) abandon(yes bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur != nil {
		return false
	}
	l.closed = yes
	return true
}
