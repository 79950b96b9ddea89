package mesh

import (
	"fmt"
	"time"
)

// quietness tells a silent connection from a slow one. It counts ticks, not
// time: a process that was paused for a minute must not find all of its links
// silent when it goes on.
type quietness struct {
	limit       int // ticks of silence that end the link
	ticks       int
	read, wrote uint64
}

// tick reports whether the stream has been silent for too long: nothing was
// read, nor did a write under way move on.
func (q *quietness) tick(s *stream) bool {
	read, wrote := s.gotBytes.Load(), s.wrote.Load()
	if read != q.read || (s.writing.Load() && wrote != q.wrote) {
		q.ticks = 0
	} else {
		q.ticks++
	}
	q.read, q.wrote = read, wrote
	return q.ticks >= q.limit
}

// pulse says when to ping a connection.
type pulse struct {
	ticks       int    // since the last ping
	read, wrote uint64 // the stream's counts when it was last time for one
}

// rarely is after how many times the usual interval a busy connection is pinged. Connections of hosts with partitions in common are always
// busy: beats go over them.
const rarely = 20

// due reports at each tick whether it is time for a ping. One on which requests leave and answers come shows both ends that it lives, so
// that it is pinged for its round trip alone, and rarely.
func (p *pulse) due(s *stream, every int) bool {
	read, wrote := s.gotBytes.Load(), s.wrote.Load()
	if p.ticks++; p.ticks == 1 { // the last ping and its answer do not count
		p.read, p.wrote = read, wrote
	}
	if p.ticks%every != 0 {
		return false
	}
	moved := read != p.read && wrote != p.wrote
	p.read, p.wrote = read, wrote
	if moved && p.ticks < rarely*every {
		return false
	}
	p.ticks = 0
	return true
}

// maintain pings, finds silent and idle links, and expires requests.
func (m *Mesh) maintain() {
	ticker := time.NewTicker(m.timing.Tick)
	defer ticker.Stop()
	idleTicks := m.timing.ticks(m.timing.Idle)
	unused := make(map[*outbound]int) // ticks without a request
	for ticks := 1; ; ticks++ {
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
		}
		if ticks%m.timing.ticks(m.timing.Join) == 0 {
			m.dismissStrangers()
		}
		outs, streams := m.everything()
		now := time.Now()
		still := make(map[*outbound]int, len(outs))
		for _, o := range outs {
			o.expire(now)
			if s := o.streamIfUp(); s != nil && o.pulse.due(s, m.timing.pingTicks(o.link.kind)) {
				o.ping(now)
			}
			idle := unused[o] + 1
			if o.used.Swap(false) {
				idle = 0
			}
			if idle >= idleTicks {
				o.link.closeIdle()
			}
			still[o] = idle
		}
		unused = still
		for _, s := range streams {
			if s.quiet.tick(s) {
				s.kill(fmt.Errorf("no sign of life for %v", time.Duration(s.quiet.limit)*m.timing.Tick))
			}
		}
	}
}

// everything lists the connections, and the streams of those that stand.
func (m *Mesh) everything() (outs []*outbound, streams []*stream) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, p := range m.peers {
		for _, l := range p.links {
			o := l.connection()
			if o == nil {
				continue
			}
			outs = append(outs, o)
			if s := o.streamIfUp(); s != nil {
				streams = append(streams, s)
			}
		}
		for _, in := range p.sessions {
			if in != nil {
				streams = append(streams, in.stream)
			}
		}
	}
	return outs, streams
}
