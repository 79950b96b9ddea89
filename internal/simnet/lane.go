package simnet

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/adamantdb/adamant/mesh"
)

// laneKey names a lane: requests and replies of one class on one path are
// independent of each other and of those of other classes.
type laneKey struct {
	path
	class mesh.Class
	kind  laneKind
}

type laneKind uint8

const (
	requests laneKind = iota
	replies
)

// message is on its way; deliver runs at its time, lost instead of it when the
// path does not lead there.
type message struct {
	at      time.Time
	size    int
	deliver func()
	lost    func()
	doomed  bool // lost by chance, or blocked when it was sent
}

// lane is a FIFO of messages with their times of arrival. A goroutine delivers
// them; it ends whenever there is nothing to deliver. Guarded by Net.mu.
type lane struct {
	net     *Net
	key     laneKey
	rng     *rand.Rand
	waiting []message // by time of arrival, from head on
	head    int
	bytes   int
	busy    time.Time // when the path has passed on the last byte
	last    time.Time // arrival of the last message
	running bool
	wake    chan struct{} // the first of those waiting is another one now, or there is none
}

// laneFor finds or makes a lane; n.mu is held.
func (n *Net) laneFor(k laneKey) *lane {
	l := n.lanes[k]
	if l == nil {
		l = &lane{net: n, key: k, rng: n.generator(k), wake: make(chan struct{}, 1)}
		n.lanes[k] = l
	}
	return l
}

// send puts a message on its way; false means that the lane is full. again makes
// a second deliver, for a message that is duplicated.
func (n *Net) send(k laneKey, size int, deliver func(), again func() func(), lost func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if from := n.hosts[k.from]; from != nil && from.isOver() {
		return true // what a dead host says is lost with it; nobody would take it off the lane again
	}
	l := n.laneFor(k)
	if l.len() >= n.limits.QueueFrames || (l.len() > 0 && l.bytes+size > n.limits.QueueBytes) {
		return false
	}
	f := n.faults(k.path)
	m := message{at: l.arrival(f, size), size: size, deliver: deliver, lost: lost}
	m.doomed = n.blocked(k.path) || (f.Loss > 0 && l.rng.Float64() < f.Loss)
	l.put(m)
	if again != nil && f.Duplicate > 0 && l.rng.Float64() < f.Duplicate {
		l.put(message{at: l.arrival(f, size), size: size, deliver: again(), lost: func() {}, doomed: m.doomed})
	}
	return true
}

func (l *lane) len() int { return len(l.waiting) - l.head }

// pop takes the first message off.
func (l *lane) pop() message {
	m := l.waiting[l.head]
	l.waiting[l.head] = message{}
	l.head++
	l.bytes -= m.size
	if l.head >= 64 && l.head*2 >= len(l.waiting) {
		l.waiting = slices.Delete(l.waiting, 0, l.head)
		l.head = 0
	}
	return m
}

// drop forgets what is on its way to or from a host: there is nobody any more
// whom it could reach, or who waits for its reply.
func (n *Net) drop(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, l := range n.lanes {
		if k.from == host || k.to == host {
			l.waiting, l.head, l.bytes = nil, 0, 0
			l.signal()
		}
	}
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// arrival is when a message sent now is there.
func (l *lane) arrival(f Faults, size int) time.Time {
	at := time.Now()
	if f.BytesPerSec > 0 {
		if l.busy.After(at) {
			at = l.busy
		}
		at = at.Add(time.Duration(float64(size) / float64(f.BytesPerSec) * float64(time.Second)))
		l.busy = at
	}
	at = at.Add(f.Delay)
	if f.Jitter > 0 {
		at = at.Add(time.Duration(l.rng.Int64N(int64(f.Jitter))))
	}
	if !f.Reorder && at.Before(l.last) {
		at = l.last
	}
	if at.After(l.last) {
		l.last = at
	}
	return at
}

// put inserts a message at its place and sees that someone delivers it.
func (l *lane) put(m message) {
	i := len(l.waiting)
	for i > l.head && m.at.Before(l.waiting[i-1].at) {
		i--
	}
	l.waiting = slices.Insert(l.waiting, i, m)
	l.bytes += m.size
	if !l.running {
		l.running = true
		go l.run()
	} else if i == l.head {
		l.signal()
	}
}

// run delivers until nothing waits.
func (l *lane) run() {
	n := l.net
	for {
		n.mu.Lock()
		if l.len() == 0 {
			l.running = false
			l.waiting, l.head = nil, 0
			n.mu.Unlock()
			return
		}
		m := l.waiting[l.head]
		held := n.paused[l.key.from] || n.paused[l.key.to]
		changed := n.changed
		wait := time.Until(m.at)
		if !held && wait <= 0 {
			l.pop()
			lost := m.doomed || n.blocked(l.key.path)
			n.mu.Unlock()
			if lost {
				m.lost()
			} else {
				m.deliver()
			}
			continue
		}
		n.mu.Unlock()
		if held {
			select {
			case <-changed:
			case <-l.wake:
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.wake:
			timer.Stop()
		}
	}
}
