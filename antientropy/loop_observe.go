package antientropy

import (
	"slices"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/store"
)

// seen is a member as it was last looked at.
type seen struct {
	member  Member
	docs    *store.Documents
	version uint64 // of docs
	sick    bool
	peers   []Peer    // the plan's too; not to be changed
	peersAt time.Time // when to ask for them again, if nothing else is a reason to
	since   time.Time // when docs were seen to have changed
	rested  bool
}

// restAfter is for how long a healthy member has to be left alone before it is told to rest.
const restAfter = time.Minute

func (r *runner) observeAll() {
	members := r.l.o.Members()
	known := 0
	for _, m := range members {
		if _, ok := r.members[m.ID()]; ok {
			known++
		}
	}
	if known < len(r.members) {
		r.observeGone(members)
	}
	now := time.Now()
	for _, m := range members {
		if !r.unchanged(m, now) {
			r.observe(m.ID(), m)
		}
	}
}

func (r *runner) observeGone(members []Member) {
	present := map[uint32]bool{}
	for _, m := range members {
		present[m.ID()] = true
	}
	for id := range r.members {
		if !present[id] {
			r.observe(id, nil)
		}
	}
}

func (r *runner) observeWoken(woken map[uint32]bool) {
	for _, m := range r.l.o.Members() {
		if id := m.ID(); woken[id] {
			delete(woken, id)
			r.observe(id, m)
		}
	}
	for id := range woken {
		r.observe(id, nil)
	}
}

// unchanged is the look at a member that is healthy and of which the plan knows everything already: nearly all members of
// a host, nearly always. So it reads a number, and what more it does it does seldom.
func (r *runner) unchanged(m Member, now time.Time) bool {
	id, docs := m.ID(), m.Documents()
	s, ok := r.members[id]
	if !ok || s.docs != docs || s.sick || docs.Version() != s.version {
		return false
	}
	if !s.rested && now.Sub(s.since) >= restAfter {
		docs.Rest()
		s.rested = true
		r.members[id] = s
	}
	if now.Before(s.peersAt) {
		return true
	}
	if !samePeers(m.Peers(), s.peers) {
		return false
	}
	s.peersAt = now.Add(r.l.o.Interval)
	r.members[id] = s
	return true
}

// samePeers compares sets: in which order a member names its peers says nothing.
func samePeers(a, b []Peer) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !slices.Contains(b, a[i]) {
			return false
		}
	}
	return true
}

// observe tells the plan what a member looks like now; nil: it is gone. A member whose documents are others than before
// was removed and came back.
func (r *runner) observe(id uint32, m Member) {
	before, known := r.members[id]
	if known && (m == nil || m.Documents() != before.docs) {
		delete(r.members, id)
		known = false
		r.step(gone{id})
	}
	if m == nil {
		return
	}
	now := time.Now()
	s := seen{member: m, docs: m.Documents(), peers: m.Peers(), peersAt: now.Add(r.l.o.Interval), since: now}
	if !known { // not all members of a host at once
		s.peersAt = now.Add(r.l.o.Interval / 64 * time.Duration(1+id%64))
	}
	if s.version = s.docs.Version(); known && s.version == before.version {
		s.since, s.rested = before.since, before.rested
	}
	holes, applied, healed := look(s.docs)
	s.sick = !holes.Empty()
	r.members[id] = s
	r.step(observed{Partition: id, Applied: applied, Version: s.version, Holes: holes, Healed: healed, Peers: s.peers, Voter: votes(m)})
}

// votes reports whether a majority counts on the member; one that does not say is taken to vote.
func votes(m Member) bool {
	v, ok := m.(Voter)
	return !ok || v.Votes()
}

// look reads a member's holes, and then what its buckets have healed of them.
func look(docs *store.Documents) (holes interval.Set, applied uint64, healed map[uint8]interval.Set) {
	s := docs.Position()
	if s.Holes.Empty() {
		return nil, s.Applied, nil
	}
	healed = map[uint8]interval.Set{}
	for b := range merkle.Buckets {
		if h := docs.Healed(uint8(b)); !h.Empty() {
			healed[uint8(b)] = h
		}
	}
	return s.Holes, s.Applied, healed
}
