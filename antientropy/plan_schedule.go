package antientropy

import (
	"slices"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
)

// schedule sends whatever can be sent now, most urgent first: documents that somebody asked for, surveys of sick
// members, sessions under way, new sessions, and what healthy members have to compare, unless that is overdue.
func (p *plan) schedule() {
	p.fetches()
	for _, pt := range p.order() {
		p.closeHoles(pt)
		p.surveys(pt)
	}
	due := p.agenda.due(p.now)
	p.overdue(due)
	p.finish()
	p.sessions()
	p.stalls()
	p.newSessions()
	for i := range p.active {
		p.diagnose(p.active[i])
		p.tell(p.active[i])
	}
	p.comparisons(due)
	p.cool()
	if len(p.active) > 0 {
		p.wakeAt(p.now.Add(p.o.interval)) // whatever it is they wait for
	}
}

// fetches sends for documents that were missed. The bucket's session, if there is one, has to be the way: what another
// peer sends in between may be news where the session's peer knows better.
//
// Readers who come one after the other would never leave as much memory as a large document takes, so they wait for its
// pull once that has waited for them.
func (p *plan) fetches() {
	if p.starving() {
		return
	}
	for _, pt := range p.active {
		waiting := pt.wants[:0]
		for _, w := range pt.wants {
			if !pt.buckets[w.bucket].missing.Empty() && !p.fetch(pt, w) {
				waiting = append(waiting, w)
			}
		}
		pt.wants = waiting
	}
}

// starving reports whether a pull has waited for memory for too long.
func (p *plan) starving() bool {
	return slices.ContainsFunc(p.ready, func(s *session) bool { return !s.starved.IsZero() && p.now.Sub(s.starved) >= patience })
}

func (p *plan) fetch(pt *part, w want) (sent bool) {
	b := &pt.buckets[w.bucket]
	s := b.session
	if b.busy && (s == nil || s.busy || !slices.Contains(s.buckets, w.bucket)) || !p.afford(p.o.limit) {
		return false
	}
	var h *host
	if s != nil {
		if h = s.host; h.inFlight >= p.o.perPeer {
			return false
		}
	} else if h, _ = p.choose(pt, choice{missing: b.missing, avoid: w.avoid}); h == nil {
		return false
	}
	o := fetch{Partition: pt.id, Peer: h.name, Bucket: w.bucket, Hash: w.hash, Limit: p.o.limit}
	if s != nil {
		o.Session, s.busy, s.listing, s.since = s.id, true, false, p.now
		p.unready(s)
	} else {
		b.busy = true
	}
	o.Call = p.call(call{host: h, part: pt, session: s, bucket: w.bucket, want: w, reserved: memoryOf(p.o.limit), tokens: p.cost(p.o.limit)})
	p.emit(o)
	return true
}

func (p *plan) unready(s *session) {
	for i := range p.ready {
		if p.ready[i] == s {
			p.ready = append(p.ready[:i], p.ready[i+1:]...)
			return
		}
	}
}

// closeHoles is for the moment when all buckets have healed some of the holes.
func (p *plan) closeHoles(pt *part) {
	if !pt.sick() || pt.closing || pt.marking {
		return
	}
	missing := interval.Set(nil)
	for i := range pt.buckets {
		if missing = missing.Union(pt.buckets[i].missing); missing.Covers(pt.holes) {
			return
		}
	}
	if !p.passed(pt.closeAt) {
		return
	}
	pt.closing = true
	p.emit(closeHoles{Partition: pt.id})
}

// surveys compares a sick member that has not been since its holes changed, and one for which no peer known so far has
// what is missing.
func (p *plan) surveys(pt *part) {
	if !pt.sick() || pt.surveyed || pt.comparing || pt.closing || !p.passed(pt.compareAfter) {
		return
	}
	p.compare(pt, choice{oldest: pt.stuck > 0})
}

func (p *plan) compare(pt *part, c choice) (sent bool, why obstacle) {
	c.only = pt.atPeer
	h, why := p.choose(pt, c)
	if h == nil && c.only != "" && why != busy { // the peer that was behind has gone: any other, at any index
		pt.at, pt.atPeer, c.only = 0, "", ""
		h, why = p.choose(pt, c)
	}
	if h == nil {
		return false, why
	}
	pt.comparing, pt.stirred = true, false
	p.enlist(pt)
	p.emit(compare{Call: p.call(call{host: h, part: pt}), Partition: pt.id, Peer: h.name, At: pt.at})
	return true, why
}

// finish begins to finish what sessions have pulled. A session's next request does not wait for that, unless so much is being finished
// that this host's disk is what everything waits for.
func (p *plan) finish() {
	waiting := p.ended[:0]
	for _, s := range p.ended {
		if len(p.finishes) >= mostFinishes || len(s.ending) > 0 {
			waiting = append(waiting, s)
			continue
		}
		s.ending, s.ended = s.ended, nil
		p.finishes[s.id] = s
		p.emit(finish{Session: s.id, Buckets: slices.Clone(s.ending)})
	}
	clear(p.ended[len(waiting):])
	p.ended = waiting
}

// sessions sends the next requests of sessions, in the order in which they became ready. One that needs more memory
// than is left holds up those behind it, or it would never get its turn.
func (p *plan) sessions() {
	waiting := p.ready[:0]
	full := len(p.ended) > 0 && len(p.finishes) >= mostFinishes
	blocked := full
	for _, s := range p.ready {
		if s.host.inFlight >= p.o.perPeer || s.pulls > 0 && blocked {
			if full { // it is not memory that it lacks
				s.starved = time.Time{}
			}
			waiting = append(waiting, s)
			continue
		}
		if s.pulls == 0 {
			p.sendList(s, false)
			continue
		}
		limit := max(s.limit, p.o.limit)
		if !p.afford(limit) {
			if !p.fits(limit) && s.starved.IsZero() {
				s.starved = p.now
			}
			blocked = true
			waiting = append(waiting, s)
			continue
		}
		s.starved = time.Time{}
		s.busy, s.listing, s.since = true, false, p.now
		p.emit(pull{Call: p.call(call{host: s.host, part: s.part, session: s, reserved: memoryOf(limit), tokens: p.cost(limit)}),
			Session: s.id, Limit: limit})
	}
	p.ready = waiting
}

func (p *plan) sendList(s *session, first bool) {
	o := list{Call: p.call(call{host: s.host, part: s.part, session: s}), Session: s.id, Partition: s.part.id, Peer: s.host.name}
	if first {
		o.Buckets = append(o.Buckets, s.buckets...)
	}
	s.busy, s.listing, s.since = true, true, p.now
	p.emit(o)
}

func (p *plan) newSession(pt *part) bool {
	if !pt.sick() || !pt.surveyed || pt.closing || !p.room(pt) {
		return false
	}
	todo := p.eligible(pt)
	h, first := p.sessionPeer(pt, todo)
	if h == nil {
		return false
	}
	p.last++
	s := &session{id: p.last, part: pt, host: h}
	s.buckets = p.group(pt, h, todo[first:], len(todo))
	for _, i := range s.buckets {
		pt.buckets[i].busy, pt.buckets[i].session = true, s
	}
	h.sessions++
	pt.sessions++
	pt.source(h.name, 1)
	p.sendList(s, true)
	return true
}

// room reports whether any peer could take on another session. It saves looking at the buckets most of the time.
func (p *plan) room(pt *part) bool {
	for i := range pt.peers {
		if h := p.host(pt.peers[i].Host); h.inFlight < p.o.perPeer && h.sessions < p.o.perPeer {
			return true
		}
	}
	return false
}

// sessionPeer finds the first of the buckets for which there is a peer now.
func (p *plan) sessionPeer(pt *part, todo []uint8) (h *host, first int) {
	hopeless, why := 0, busy
	var before *bucket
	for i, bucket := range todo {
		b := &pt.buckets[bucket]
		if before == nil || b.avoid != before.avoid || !b.missing.Equal(before.missing) { // else the answer is the same
			if h, why = p.choose(pt, choice{missing: b.missing, avoid: b.avoid, session: true}); h != nil {
				return h, i
			}
		}
		before = b
		if why == useless {
			hopeless++
		}
	}
	p.consider(pt, len(todo), hopeless)
	return nil, 0
}

// eligible returns the buckets that a session could take on now, those with missed documents first.
func (p *plan) eligible(pt *part) []uint8 {
	var urgent, others []uint8
	for i := range pt.buckets {
		b := &pt.buckets[i]
		switch {
		case b.missing.Empty() || b.busy || !p.passed(b.until):
		case b.urgent:
			urgent = append(urgent, uint8(i))
		default:
			others = append(others, uint8(i))
		}
	}
	return append(urgent, others...)
}

// group chooses the buckets that a session takes on together with the first: enough to save round trips over small
// buckets, not so many that one peer does all the work. A bucket with failures is alone, so that it fails alone.
func (p *plan) group(pt *part, h *host, todo []uint8, eligible int) []uint8 {
	first := &pt.buckets[todo[0]]
	taken := todo[:1:1]
	if first.failures > 0 {
		return taken
	}
	most := min(sessionBuckets, 1+(eligible-1)/max(1, p.o.perPeer*len(pt.peers)))
	docs := first.expected()
	for _, i := range todo[1:] {
		b := &pt.buckets[i]
		if len(taken) >= most && (docs+b.expected() > smallDocs || len(taken) >= sessionBuckets) {
			break
		}
		if b.failures > 0 || b.avoid == h.name || b.urgent != first.urgent || docs+b.expected() > sessionDocs || !p.covers(pt, h.name, b.missing) {
			continue
		}
		taken, docs = append(taken, i), docs+b.expected()
	}
	return taken
}

func (b *bucket) expected() int {
	if b.docs < 0 {
		return guessedDocs
	}
	return b.docs
}

// consider is for a member that begins no session. When that is because no peer covers what is missing, it asks again
// after a pause: peers heal too.
func (p *plan) consider(pt *part, todo, hopeless int) {
	if todo == 0 || hopeless < todo || pt.sessions > 0 || pt.marking {
		return
	}
	pt.stuck++
	pt.surveyed = false
	pt.compareAfter = p.pause(pt.stuck, pauseStuck, mostStuck)
	p.wakeAt(pt.compareAfter)
}

// diagnose sends for the listings of one suspect bucket.
func (p *plan) diagnose(pt *part) {
	for _, s := range pt.suspects {
		if s.asking {
			return // one after the other
		}
		if !p.passed(s.after) {
			continue
		}
		h, _ := p.choose(pt, choice{only: s.peer})
		if h == nil {
			continue
		}
		s.asking = true
		p.emit(diagnose{Call: p.call(call{host: h, part: pt, suspect: s}), Partition: pt.id, Peer: h.name, Bucket: s.bucket, Index: s.index})
		return
	}
}

// tell reports what is certain already when the documents' names take long to find out.
func (p *plan) tell(pt *part) {
	for _, s := range pt.suspects {
		if !s.told && p.passed(s.tellAt) {
			p.report(pt, s, nil)
		}
	}
}
