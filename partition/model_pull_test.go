package partition

import (
	mathbits "math/bits"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// pulls is what a sick member does to heal.
func (m *model) pulls(w *world, x int, s *step, begin func(string, int, int) *world, end func()) {
	f := &w.m[x]
	p := &f.pull
	switch {
	case p.phase != sessionNone:
		n := begin([...]string{sessionListed: "m%d compares with the listing of m%d", sessionPulls: "m%d pulls from m%d",
			sessionChunk: "m%d imports a chunk of m%d"}[p.phase], x, int(p.peer))
		if p.phase == sessionPulls && p.wants == 0 {
			s.what = "m%d ends its session with m%d"
		}
		s.problem = m.goOn(n, x)
		end()
	case m.may(w, sessions) && !m.complete(&f.now):
		for y := range w.m {
			if y == x || w.m[y].status != slotLive {
				continue
			}
			for b := range m.buckets {
				n := begin("m%d begins to pull from m%d", x, y)
				n.used[sessions]++
				m.begin(n, x, y, b)
				end()
			}
		}
	}
	if closed := m.closable(&f.now); closed != 0 {
		n := begin("m%d closes holes", x, 0)
		m.closeHoles(&n.m[x], closed)
		end()
	}
}

func (m *model) begin(w *world, x, y, bucket int) {
	p := &w.m[x].pull
	*p = session{phase: sessionListed, peer: uint8(y), bucket: uint8(bucket), applied: w.m[x].now.applied}
	m.send(w, p)
	if !m.slow {
		m.compare(w, x)
	}
}

// send puts what the peer has of the bucket under way.
func (m *model) send(w *world, p *session) {
	e := &w.m[p.peer].now
	for d := range m.docs {
		if d%m.buckets == int(p.bucket) {
			p.flight[d] = e.docs[d]
		}
	}
	p.flightCovered = m.covers(e, p.bucket)
	p.flightApplied, p.flightTop = e.applied, max(e.applied, e.ahead)
}

// receive takes note of an answer, and empties the way.
func (m *model) receive(p *session) session {
	got := *p
	a := m.answers(p)
	a.Answer(m.set(p.flightCovered), uint64(p.flightApplied), uint64(p.flightTop))
	p.covered, p.seen = bitsOf(a.Covered), uint8(a.Seen)
	p.flight, p.flightCovered, p.flightApplied, p.flightTop = [modelDocs]docID{}, 0, 0, 0
	return got
}

func (m *model) answers(p *session) *store.Answers {
	return &store.Answers{Applied: uint64(p.applied), Seen: uint64(p.seen), Given: p.phase != sessionListed, Covered: m.set(p.covered)}
}

// compare finds out from a listing what to pull.
func (m *model) compare(w *world, x int) {
	e, p := &w.m[x].now, &w.m[x].pull
	got := m.receive(p)
	p.phase = sessionPulls
	since := uint64(0)
	if missing := e.holes &^ e.healed[p.bucket]; missing != 0 {
		since = uint64(mathbits.TrailingZeros16(uint16(missing))) - 1
	}
	covers := m.covers(e, p.bucket)
	for d := range m.docs {
		if d%m.buckets == int(p.bucket) && m.differs(d, e.docs[d], got.flight[d], covers, since) {
			p.wants |= 1 << d
		}
	}
}

// goOn is the next thing a session does.
func (m *model) goOn(w *world, x int) (problem string) {
	p := &w.m[x].pull
	switch {
	case p.phase == sessionListed:
		m.compare(w, x)
	case p.phase == sessionPulls && p.wants == 0:
		m.finish(w, x)
	case p.phase == sessionPulls:
		m.send(w, p)
		p.phase = sessionChunk
		if !m.slow {
			return m.importChunk(w, x)
		}
	default:
		return m.importChunk(w, x)
	}
	return ""
}

// importChunk merges the first wanted document.
func (m *model) importChunk(w *world, x int) (problem string) {
	e, p := &w.m[x].now, &w.m[x].pull
	mine := m.covers(e, p.bucket)
	got := m.receive(p)
	p.phase = sessionPulls
	d := mathbits.TrailingZeros8(p.wants)
	p.wants &^= 1 << d
	r := m.merge(mergeKey{mine: e.docs[d], theirs: got.flight[d], mineCovers: mine, theirsCovers: got.flightCovered, highest: got.flightTop,
		complete: m.complete(e), records: !store.Complete(m.set(e.holes), uint64(max(e.ahead, got.flightTop)), uint64(e.applied))})
	if r.reason != "" {
		return "honest members diverge: " + string(r.reason)
	}
	if r.changed {
		e.docs[d] = r.doc
		if m.broken != "ahead" {
			e.ahead = max(e.ahead, got.flightTop)
		}
		m.settled(e)
	}
	return ""
}

func (m *model) finish(w *world, x int) {
	e, p := &w.m[x].now, &w.m[x].pull
	a := m.answers(p)
	if m.broken == "session" { // holes that appeared meanwhile are healed, too
		a.Applied = uint64(e.applied)
	}
	if now := bitsOf(store.AddHealed(m.set(e.healed[p.bucket]), a.Heals(), m.set(e.holes))); now != e.healed[p.bucket] {
		e.healed[p.bucket] = now
		if m.broken != "ahead" {
			e.ahead = max(e.ahead, p.seen)
		}
	}
	*p = session{}
}

func (m *model) closable(e *engine) indexes {
	if m.broken == "buckets" { // one bucket is enough
		return e.holes & (e.healed[0] | e.healed[1])
	}
	return bitsOf(store.HealedEverywhere(m.set(e.holes), m.buckets, func(b int) interval.Set { return m.set(e.healed[b]) }))
}

// closeHoles syncs, shrinks the holes, and syncs that.
func (m *model) closeHoles(s *slot, closed indexes) {
	s.now.holes &^= closed
	for b := range s.now.healed {
		s.now.healed[b] &= s.now.holes
	}
	m.settled(&s.now)
	s.disk = s.now
}
