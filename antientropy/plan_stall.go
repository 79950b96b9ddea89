package antientropy

import (
	"cmp"
	"slices"
	"time"
)

// A call is late after stallTimes its peer's usual time, and stallLeast at the least.
const (
	stallTimes = 4
	stallLeast = time.Second
)

// stalls takes from sessions whose call is late what they have not begun with, when another peer has room for it. The peer
// may have stopped, or its disk, or the way to it; whether it is dead is for its call's timeout to say. What it was asked
// for last stays with it: it may be on its way.
func (p *plan) stalls() {
	for _, s := range p.callingSessions() {
		rest := s.buckets
		if !s.listing {
			rest = rest[1:]
		}
		if len(rest) == 0 || len(s.part.peers) < 2 || !p.passed(s.since.Add(max(stallLeast, stallTimes*s.host.latency))) {
			continue
		}
		h, _ := p.choose(s.part, choice{missing: s.part.buckets[rest[0]].missing, avoid: s.host.name, session: true})
		if h == nil || h == s.host {
			p.wakeAt(p.now.Add(stallLeast))
			continue
		}
		rest = slices.Clone(rest)
		for _, i := range rest {
			s.part.buckets[i].avoid = s.host.name
		}
		p.leave(s, rest)
	}
}

// callingSessions returns the sessions with a call in flight, oldest first.
func (p *plan) callingSessions() []*session {
	var list []*session
	for _, c := range p.calls {
		if s := c.session; s != nil && len(s.buckets) > 0 {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	return list
}
