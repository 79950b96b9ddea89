package antientropy

import (
	"slices"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

func (e observed) apply(p *plan) {
	pt, i := find(p.parts, e.Partition)
	if pt == nil {
		pt = &part{id: e.Partition}
		pt.due = p.now.Add(time.Duration(p.o.random() * float64(p.o.interval)))
		p.parts = slices.Insert(p.parts, i, pt)
		p.enlist(pt)
	} else if e.Applied != pt.applied || e.Version != pt.version || !sameHosts(e.Peers, pt.peers) {
		p.stir(pt)
	}
	pt.peers, pt.applied, pt.version, pt.voter = e.Peers, e.Applied, e.Version, e.Voter
	pt.known = slices.DeleteFunc(pt.known, func(k *acquaintance) bool {
		return !slices.ContainsFunc(e.Peers, func(peer Peer) bool { return peer.Host == k.host })
	})
	if pt.closing {
		return // holes and progress are about to change together; closed says how
	}
	p.takeHoles(pt, e.Holes, e.Healed)
	p.activate(pt)
}

func sameHosts(a, b []Peer) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Host != b[i].Host && !slices.ContainsFunc(b, func(peer Peer) bool { return peer.Host == a[i].Host }) {
			return false
		}
	}
	return true
}

// stir ends a member's quiet: something has changed, so it is compared within an interval, and not only when it would
// have been in any case.
func (p *plan) stir(pt *part) {
	pt.stirred = true
	if latest := p.now.Add(p.o.interval * 5 / 4); pt.up().After(latest) {
		pt.due, pt.compareAfter = p.now.Add(p.interval()), time.Time{}
		p.enlist(pt)
	}
}

// takeHoles works out what each bucket misses. Something new that is missing calls for a new survey.
func (p *plan) takeHoles(pt *part, holes interval.Set, healed map[uint8]interval.Set) {
	was := pt.sick()
	pt.holes = holes
	if pt.buckets == nil {
		if !pt.sick() {
			return
		}
		pt.buckets = new(buckets)
	}
	for i := range pt.buckets {
		b := &pt.buckets[i]
		missing := holes.Minus(healed[uint8(i)])
		if !b.missing.Covers(missing) {
			pt.surveyed, pt.tries, b.docs = false, 0, -1
		}
		b.missing = missing
		if missing.Empty() {
			b.failures, b.urgent = 0, false
		}
	}
	switch {
	case pt.sick() && !was:
		for _, s := range pt.suspects { // what is certain stays certain; the documents cannot be named any more
			if !s.told {
				p.report(pt, s, nil)
			}
		}
		pt.compareAfter, pt.stuck, pt.suspects = time.Time{}, 0, nil
		pt.progress = Progress{Partition: pt.id, BucketsTotal: merkle.Buckets, Started: p.now}
	case !pt.sick() && was:
		pt.surveyed, pt.wants = false, nil
		pt.due, pt.compareAfter = p.now.Add(p.interval()), time.Time{}
		p.cooling = append(p.cooling, pt)
	}
	p.ordered = false
	p.enlist(pt)
	pt.count()
}

func (pt *part) count() {
	done := 0
	for i := range pt.buckets {
		if pt.buckets[i].missing.Empty() {
			done++
		}
	}
	pt.progress.BucketsDone = done
}

func (e gone) apply(p *plan) {
	pt, i := find(p.parts, e.Partition)
	if pt == nil {
		return
	}
	p.parts, pt.removed = slices.Delete(p.parts, i, i+1), true
	p.activate(pt)
	p.enlist(pt)
	for _, s := range slices.Concat(p.ready, p.callingSessions()) {
		if s.part == pt {
			p.drop(s)
		}
	}
}

func (tick) apply(*plan) {}

func (e wanted) apply(p *plan) {
	pt, _ := find(p.parts, e.Partition)
	if pt == nil || !pt.sick() || pt.buckets[e.Bucket].missing.Empty() || len(pt.wants) >= mostWants {
		return
	}
	pt.buckets[e.Bucket].urgent = true
	if at, ok := pt.fetched[e.Hash]; ok && p.now.Sub(at) < pauseRefused {
		return // asked just now: it may not exist
	}
	if len(pt.fetched) >= mostWants {
		clear(pt.fetched)
	}
	if pt.fetched == nil {
		pt.fetched = map[uint64]time.Time{}
	}
	pt.fetched[e.Hash] = p.now
	pt.wants = append(pt.wants, want{bucket: e.Bucket, hash: e.Hash})
}

func (e compared) apply(p *plan) {
	c := p.settle(&e.result)
	pt := c.part
	if pt.removed {
		return
	}
	pt.comparing, pt.at, pt.atPeer = false, 0, ""
	defer p.enlist(pt)
	switch {
	case e.Failure == local:
		pt.due, pt.compareAfter = p.now.Add(p.interval()), p.now.Add(p.interval())
		return
	case e.Failure != none:
		return // another peer at once, or this one after its pause
	}
	p.heard(pt, c.host.name, e.Coverage)
	switch {
	case e.Outcome == elsewhere:
		pt.at, pt.atPeer = e.Index, c.host.name // the sums at that index come with the next question
		p.compareAgain(pt, 0)
	case e.Outcome == unavailable:
		p.compareAgain(pt, pauseRetry)
		if e.Unable {
			pt.tries = mostTries
		}
	case pt.sick():
		p.survey(pt, c.host.name, &e)
	default:
		p.verdict(pt, c.host.name, &e)
	}
	if pt.tries >= mostTries {
		p.giveUpComparing(pt)
	}
	p.activate(pt)
}

func (p *plan) compareAgain(pt *part, after time.Duration) {
	pt.tries++
	pt.compareAfter = p.now.Add(after)
}

// giveUpComparing: a sick member lists its buckets instead, a healthy one waits for the next time.
func (p *plan) giveUpComparing(pt *part) {
	pt.tries, pt.at, pt.atPeer = 0, 0, ""
	pt.surveyed = pt.sick()
	pt.due, pt.compareAfter = p.now.Add(p.interval()), time.Time{}
}

// survey takes over what a comparison of all buckets of a sick member has shown.
//
// If the peer's sums are the truth at the index, so is every bucket of this member that equals the peer's: it holds the
// effect of [1, index], and what was applied here after index was applied to the right state. A sick peer's sums prove
// nothing: of two members with gaps, equal sums do not say that they lack the same entries, and an equal absence says
// nothing about which of them knows of a delete.
func (p *plan) survey(pt *part, peer string, e *compared) {
	pt.surveyed, pt.tries = true, 0
	if e.Docs != nil {
		pt.progress.BytesTotal = pt.progress.Imported + e.Missing
	}
	differ := map[uint8]bool{}
	for _, b := range e.Differ {
		differ[b] = true
	}
	proven := interval.Of(1, e.Index)
	var same []uint8
	for i := range pt.buckets {
		b := &pt.buckets[i]
		if e.Docs != nil { // no more can differ than there are commands missing
			b.docs = int(min(uint64(e.Docs[i]), 1+b.missing.Len()/uint64(max(1, len(e.Differ)))))
		}
		if e.Theirs && !differ[uint8(i)] && !b.busy && !b.missing.Intersect(proven).Empty() {
			b.busy = true
			same = append(same, uint8(i))
		}
	}
	if len(same) > 0 {
		pt.marking = true
		p.emit(mark{Partition: pt.id, Buckets: same, Healed: proven, Past: e.Past})
	}
}

// verdict is about a healthy member. Both sides hold the truth at the index and differ: one of them is damaged.
func (p *plan) verdict(pt *part, peer string, e *compared) {
	pt.tries = 0
	pause := p.o.interval
	if e.Mine && e.Theirs && len(e.Differ) == 0 && e.Index == pt.applied && !pt.stirred {
		pause = p.o.quiet // until something changes: see stir
	}
	pt.due, pt.compareAfter = p.now.Add(p.about(pause)), time.Time{}
	if !e.Mine || !e.Theirs {
		return
	}
	if len(e.Differ) == 0 && len(pt.reported) == 0 {
		return
	}
	differ := map[uint8]bool{}
	for _, b := range e.Differ {
		differ[b] = true
	}
	for i := range merkle.Buckets {
		if key := suspicion(peer, uint8(i)); !differ[uint8(i)] {
			delete(pt.reported, key)
		} else if !pt.reported[key] {
			if pt.reported == nil {
				pt.reported = map[string]bool{}
			}
			pt.reported[key] = true
			s := &suspect{bucket: uint8(i), peer: peer, index: e.Index, tellAt: p.now.Add(nameWithin)}
			if len(pt.suspects) < mostSuspects {
				pt.suspects = append(pt.suspects, s)
			} else {
				p.report(pt, s, nil)
			}
		}
	}
}

func (e forgiven) apply(p *plan) {
	if pt, _ := find(p.parts, e.Partition); pt != nil {
		pt.reported, pt.suspects = nil, nil
		p.stir(pt)
		p.activate(pt)
	}
}

func suspicion(peer string, bucket uint8) string { return peer + "/" + string(rune(bucket)) }

func (p *plan) report(pt *part, s *suspect, documents []Document) {
	p.emit(report{Divergence{Partition: pt.id, Peer: s.peer, Bucket: s.bucket, Index: s.index, Documents: documents}, s.told})
	s.told = true
}

func (e diagnosed) apply(p *plan) {
	c := p.settle(&e.result)
	pt := c.part
	if pt.removed {
		return
	}
	s := c.suspect
	s.asking = false
	s.tries++
	again := len(e.Documents) == 0 && s.tries < nameTries && (e.Failure != none || e.Undecided)
	// Even if they are equal now that does not undo that they differed at one index.
	if len(e.Documents) > 0 || !s.told {
		p.report(pt, s, e.Documents)
	}
	if again {
		s.after = p.pause(s.tries, pauseNames, mostNames)
	} else {
		pt.suspects = slices.DeleteFunc(pt.suspects, func(other *suspect) bool { return other == s })
	}
	p.activate(pt)
}

func (e marked) apply(p *plan) {
	pt, _ := find(p.parts, e.Partition)
	if pt == nil || pt.buckets == nil {
		return
	}
	pt.marking = false
	for _, i := range e.Buckets {
		b := &pt.buckets[i]
		b.busy = false
		if e.Err != nil {
			p.punish(b, "")
			continue
		}
		if !slices.Contains(e.Lost, i) { // else a session has to heal it
			b.missing = b.missing.Minus(e.Healed)
		}
	}
	pt.stuck = 0
	pt.count()
}

func (e closed) apply(p *plan) {
	pt, _ := find(p.parts, e.Partition)
	if pt == nil {
		return
	}
	pt.closing = false
	if e.Err == nil {
		pt.failures = 0
		p.takeHoles(pt, e.Holes, e.Healed)
		p.activate(pt)
		return
	}
	// An engine whose fsync failed says so again without trying (design §10).
	pt.failures++
	pt.progress.LastError = "close holes: " + e.Err.Error()
	pt.closeAt = p.pause(pt.failures, pauseBucket, mostBucket)
}

// punish makes a bucket wait after something went wrong with it, and prefer another peer.
func (p *plan) punish(b *bucket, peer string) {
	b.failures++
	b.avoid = peer
	b.until = p.pause(b.failures, pauseBucket, mostBucket)
}

func (e answered) apply(p *plan) {
	c := p.settle(&e.result)
	s := c.session
	s.busy = false
	pt := s.part
	p.end(s, e.Ended)
	p.fail(s, e.Failed)
	if e.Failure == none {
		p.heard(pt, s.host.name, e.Coverage)
	}
	p.advance(pt, &e)
	if s.gone {
		return
	}
	if s.lists, s.pulls, s.limit = e.Lists, e.Pulls, e.Large; e.Large > maxLimit {
		s.limit = 0
	}
	switch {
	case e.Failure != none:
		if e.Failure == local {
			for _, i := range s.buckets {
				p.punish(&pt.buckets[i], s.host.name)
			}
		}
		p.drop(s)
	case len(s.buckets) == 0:
		p.vacate(s)
	case s.lists+s.pulls == 0: // cannot be: but then nothing would ever free the buckets
		p.drop(s)
	default:
		p.ready = append(p.ready, s)
	}
}

// end has buckets of a session finished.
func (p *plan) end(s *session, buckets []uint8) {
	if s.gone {
		return
	}
	before := len(s.ended)
	for _, bucket := range buckets {
		if i := slices.Index(s.buckets, bucket); i >= 0 { // else it is another session's by now, see stalls
			s.buckets = slices.Delete(s.buckets, i, i+1)
			s.ended = append(s.ended, bucket)
		}
	}
	if before == 0 && len(s.ended) > 0 {
		p.ended = append(p.ended, s)
	}
}

// fail takes buckets from a session that went wrong with it.
func (p *plan) fail(s *session, failed []failedBucket) {
	for _, f := range failed {
		if s.has(f.Bucket) { // else it is another session's by now, see stalls
			p.punish(&s.part.buckets[f.Bucket], s.host.name)
			s.release(f.Bucket)
		}
	}
}

func (e settled) apply(p *plan) {
	s := p.finishes[e.Session]
	delete(p.finishes, e.Session)
	pt := s.part
	for _, f := range e.Finished {
		b := &pt.buckets[f.Bucket]
		b.missing = b.missing.Minus(f.Healed)
		b.failures, b.avoid, b.urgent = 0, "", false
		if !f.Healed.Empty() {
			pt.stuck = 0
		}
		s.release(f.Bucket)
	}
	p.fail(s, e.Failed)
	s.ending = nil
	if e.Text != "" {
		pt.progress.LastError = e.Text
	}
	pt.count()
	if s.vacated {
		p.vacate(s)
	}
}

// advance keeps the figures that operators see.
func (p *plan) advance(pt *part, e *answered) {
	g := &pt.progress
	g.Bytes += int64(e.Bytes)
	g.Documents += int64(e.Documents)
	g.Entries += int64(e.Entries)
	g.Imported += e.Imported
	g.forget(p.now.Sub(pt.rated))
	g.take(e.Bytes, e.Imported)
	pt.rated = p.now
	if e.Failure == none && e.Text != "" {
		g.LastError = e.Text // of a bucket
	}
	pt.count()
}

func (e fetched) apply(p *plan) {
	c := p.settle(&e.result)
	if c.session != nil {
		s := c.session
		s.busy = false
		switch {
		case s.gone:
		case len(s.buckets) == 0: // the member went meanwhile
			p.vacate(s)
		case e.Failure != none:
			p.drop(s)
		default:
			p.ready = append(p.ready, s)
		}
	}
	pt := c.part
	if pt.removed {
		return
	}
	b := &pt.buckets[c.bucket]
	if c.session == nil {
		b.busy = false
	}
	// One that has healed some other way meanwhile misses nothing.
	if w := c.want; e.Failure != none && w.tries+1 < mostTries && pt.sick() {
		w.tries, w.avoid = w.tries+1, c.host.name
		pt.wants = append(pt.wants, w)
	}
}

// has reports whether a bucket is the session's.
func (s *session) has(bucket uint8) bool {
	return slices.Contains(s.buckets, bucket) || slices.Contains(s.ended, bucket) || slices.Contains(s.ending, bucket)
}

// release makes a bucket free for others.
func (s *session) release(bucket uint8) {
	if !s.has(bucket) {
		return
	}
	for _, list := range []*[]uint8{&s.buckets, &s.ended, &s.ending} {
		*list = slices.DeleteFunc(*list, func(i uint8) bool { return i == bucket })
	}
	b := &s.part.buckets[bucket]
	b.busy, b.session = false, nil
}

// vacate is for a session that has nothing to ask any more: its place at the peer is another's. It is forgotten once nothing of it is
// to be finished.
func (p *plan) vacate(s *session) {
	if s.gone {
		return
	}
	p.unready(s)
	if !s.vacated {
		s.vacated = true
		s.host.sessions--
	}
	if len(s.ended) == 0 && len(s.ending) == 0 {
		p.forget(s)
	}
}

func (p *plan) forget(s *session) {
	s.gone = true
	s.part.sessions--
	s.part.source(s.host.name, -1)
	p.emit(drop{Session: s.id})
}

// source counts the sessions with a host.
func (pt *part) source(host string, n int) {
	if pt.sources == nil {
		pt.sources = map[string]int{}
	}
	if pt.sources[host] += n; pt.sources[host] == 0 {
		delete(pt.sources, host)
	}
}

// drop ends a session that still had something to ask. What was answered is finished.
func (p *plan) drop(s *session) {
	if s.gone {
		return
	}
	p.leave(s, slices.Clone(s.buckets))
}

// leave takes buckets from a session that has not begun with them, or got no further.
func (p *plan) leave(s *session, buckets []uint8) {
	for _, bucket := range buckets {
		s.release(bucket)
	}
	if len(s.buckets) == 0 {
		p.vacate(s)
	}
	if !s.gone && len(buckets) > 0 {
		p.emit(giveUp{Session: s.id, Buckets: buckets})
	}
}

// interval is a pause between two comparisons.
func (p *plan) interval() time.Duration { return p.about(p.o.interval) }

// about varies a pause by a quarter, so that members do not fall into step.
func (p *plan) about(d time.Duration) time.Duration {
	return time.Duration((0.75 + 0.5*p.o.random()) * float64(d))
}
