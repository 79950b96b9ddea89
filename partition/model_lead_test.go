package partition

import (
	"fmt"
	mathbits "math/bits"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// lead is what a leader does: commands, replication, markers for those it can not replicate to, changes of the
// configuration.
func (m *model) lead(w *world, s *step, begin func(string, int, int) *world, end func()) {
	if w.leader < 0 {
		return
	}
	id := int(w.leader)
	l := &w.m[id]
	tip := m.entries[l.tip]
	if m.may(w, commands) && m.serves(w) {
		for doc := range m.docs {
			for _, kind := range m.commandKinds(tip.truth[doc]) {
				n := begin("m%d proposes", id, 0)
				n.used[commands]++
				n.m[id].tip = m.add(entry0{parent: l.tip, term: w.term, kind: kind, doc: uint8(doc), voters: tip.voters, servers: tip.servers})
				s.detail = n.m[id].tip
				s.problem = m.commits(n)
				end()
			}
		}
	}
	for x := range w.m {
		if x != id && w.m[x].status == slotLive && tip.servers>>x&1 == 1 {
			m.replicate(w, x, s, begin, end)
		}
	}
	if m.may(w, changes) && m.serves(w) {
		m.reconfigure(w, s, begin, end)
	}
	if m.newcomer != "" && m.may(w, joins) && m.serves(w) && w.m[m.voters].status == slotFree && m.entries[m.at(l.tip, l.now.applied)].shown {
		if m.limit[wipes] > 0 && w.used[wipes] == 0 {
			return // it takes the place of the lost one
		}
		n := begin("m%[2]d joins with a marker of m%[1]d", id, m.voters)
		n.used[joins]++
		seed := m.at(l.tip, l.now.applied)
		j := &n.m[m.voters]
		*j = slot{status: slotLive, tip: seed, base: seed}
		m.skip(&j.now, m.entries[seed].index)
		j.disk = j.now
		s.detail = seed
		end()
	}
}

func (m *model) commandKinds(doc docID) []store.Kind {
	var kinds []store.Kind
	for _, k := range m.universe.kinds(doc) {
		if m.kinds == nil || slices.Contains(m.kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// replicate sends x the next entry that it lacks; or the leader's marker, when the leader has that entry no more.
func (m *model) replicate(w *world, x int, s *step, begin func(string, int, int) *world, end func()) {
	l, f := &w.m[w.leader], &w.m[x]
	agreed := m.common(l.tip, f.tip)
	if m.entries[agreed].index >= m.entries[l.base].index {
		if agreed == l.tip || m.entries[agreed].index < m.entries[f.base].index {
			return
		}
		n := begin("m%d sends m%d an entry", int(w.leader), x)
		n.m[x].tip = m.at(l.tip, m.entries[agreed].index+1)
		s.detail = n.m[x].tip
		s.problem = m.commits(n)
		end()
		return
	}
	marker := m.entries[l.base]
	if matchesMarker(uint64(m.entries[f.base].index), uint64(marker.index), uint64(marker.term), m.termOf(f)) {
		return
	}
	for _, crash := range []bool{false, true} {
		if crash && !m.may(w, crashes) {
			return
		}
		n := begin("m%d sends m%d its marker", int(w.leader), x)
		s.detail = l.base
		t := &n.m[x]
		s.problem = m.harvest(w, t, l.base)
		m.skip(&t.now, marker.index)
		t.disk = t.now
		if crash { // the hole is recorded, the marker is not yet
			s.what = "m%d sends m%d its marker, which crashes between hole and marker"
			n.used[crashes]++
			t.pull = session{}
		} else {
			t.base, t.tip = l.base, l.base
		}
		s.problem = firstOf(s.problem, m.commits(n))
		end()
	}
}

// harvest applies what a member's own log proves committed by a marker.
func (m *model) harvest(w *world, t *slot, marker entryID) (problem string) {
	if m.broken == "harvest" {
		return ""
	}
	e := &m.entries[marker]
	k := harvestPoint(e.terms, uint64(e.index), uint64(m.entries[t.tip].index), uint64(t.now.applied), m.termOf(t))
	for i := uint64(t.now.applied) + 1; i <= k; i++ {
		own := m.at(t.tip, uint8(i))
		if !m.precedes(own, w.commit) {
			problem = "an entry that is not committed was harvested"
		}
		problem = firstOf(problem, m.play(&t.now, own))
	}
	return problem
}

// termOf answers the terms of a member's own entries, and of the last one it dropped, as the product's logs do.
func (m *model) termOf(s *slot) func(uint64) (uint64, bool) {
	return func(index uint64) (uint64, bool) {
		if index == 0 || index < uint64(m.entries[s.base].index) || index > uint64(m.entries[s.tip].index) {
			return 0, false
		}
		return uint64(m.entries[m.at(s.tip, uint8(index))].term), true
	}
}

// commits moves the commit index: an entry of the leader's term that a majority of the latest configuration holds.
func (m *model) commits(w *world) (problem string) {
	if w.leader < 0 {
		return ""
	}
	tip := w.m[w.leader].tip
	voters := m.entries[tip].voters
	for c := tip; m.entries[c].term == w.term && m.entries[c].index > 0; c = m.entries[c].parent {
		n := 0
		for x := range w.m {
			if voters>>x&1 == 1 && w.m[x].status == slotLive && m.precedes(c, w.m[x].tip) {
				n++
			}
		}
		if n < mathbits.OnesCount8(voters)/2+1 {
			continue
		}
		switch {
		case m.precedes(c, w.commit):
			return ""
		case !m.precedes(w.commit, c):
			return "two different entries are committed at one index"
		}
		w.commit = c
		return ""
	}
	return ""
}

// reconfigure takes the product's next step towards the cluster file.
func (m *model) reconfigure(w *world, s *step, begin func(string, int, int) *world, end func()) {
	id := int(w.leader)
	l := &w.m[id]
	tip := m.entries[l.tip]
	if m.entries[w.office].index > m.entries[w.commit].index {
		return
	}
	if m.broken != "serial" { // Raft takes the next change when the last one is committed
		for c := l.tip; m.entries[c].index > m.entries[w.commit].index; c = m.entries[c].parent {
			p := m.entries[m.entries[c].parent]
			if m.entries[c].voters != p.voters || m.entries[c].servers != p.servers {
				return
			}
		}
	}
	v := View{Self: m.serverID(id), Desired: m.desired, Peers: map[raft.ServerID]Peer{}, Applied: uint64(l.now.applied)}
	if m.broken == "lagging" { // who has no holes counts, however far behind
		v.Reach = modelLast
	}
	for x := range w.m {
		if w.m[x].status == slotFree {
			continue
		}
		e := &w.m[x].now
		sid := m.serverID(x)
		live := w.m[x].status == slotLive
		v.Peers[sid] = Peer{ID: sid, Alive: live, Ready: live, Complete: m.complete(e) || m.broken == "incomplete", Applied: uint64(e.applied)}
		if tip.servers>>x&1 == 1 {
			server := raft.Server{ID: sid, Suffrage: raft.Nonvoter}
			if tip.voters>>x&1 == 1 {
				server.Suffrage = raft.Voter
			}
			v.Servers = append(v.Servers, server)
		}
	}
	next := nextStep(v)
	for x := range w.m {
		if next.ID != m.serverID(x) {
			continue
		}
		voters, servers, what := tip.voters, tip.servers, ""
		switch next.Kind {
		case StepAdd:
			servers, what = servers|1<<x, "m%d takes in m%d without a vote"
		case StepPromote:
			voters, what = voters|1<<x, "m%d gives m%d the vote"
		case StepDemote:
			voters, what = voters&^(1<<x), "m%d takes the vote from m%d"
		case StepRemove:
			voters, servers, what = voters&^(1<<x), servers&^(1<<x), "m%d removes m%d"
		default:
			return
		}
		n := begin(what, id, x)
		n.used[changes]++
		n.m[id].tip = m.add(entry0{parent: l.tip, term: w.term, voters: voters, servers: servers})
		s.detail = n.m[id].tip
		s.problem = m.commits(n)
		end()
	}
}

// serverID is host@incarnation. The newcomer may be a host that lost its disk, under a new incarnation.
func (m *model) serverID(x int) raft.ServerID {
	if x == m.voters && m.newcomer != "" {
		return raft.ServerID(m.newcomer)
	}
	return raft.ServerID(fmt.Sprintf("h%d@1", x))
}
