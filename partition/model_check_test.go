package partition

import (
	"fmt"
	mathbits "math/bits"
)

// check says what is wrong with a world; "" when nothing is.
func (m *model) check(w *world) string {
	if w.leader >= 0 && !m.precedes(w.commit, w.m[w.leader].tip) {
		return fmt.Sprintf("m%d leads without an entry that is committed", w.leader)
	}
	if problem := m.checkLemma(w); problem != "" {
		return problem
	}
	for x := range w.m {
		if w.m[x].status == slotLive {
			if problem := m.checkMember(w, x); problem != "" {
				return problem
			}
		}
	}
	return ""
}

// holds is what a member holds of what is committed: its document engine durably covers it, or its log has it and it
// will be applied.
func (m *model) holds(w *world, s *slot) indexes {
	held := m.coversAll(&s.disk)
	first := max(m.entries[s.base].index, s.disk.applied) + 1
	for i := first; i <= m.entries[m.common(s.tip, w.commit)].index; i++ {
		held |= 1 << i
	}
	return held
}

// checkLemma is the lemma of design §5: of every committed index, so few voters lack it that they are no majority. Then
// any majority holds all of the log, and can heal any member. (Of an odd number of voters that is the same as a majority
// holding it; while a voter is being exchanged there is an even number.) The voters are those of the newest committed
// configuration. A lost disk counts with what it held: it never answers, so it is in no majority that heals.
func (m *model) checkLemma(w *world) string {
	c := m.entries[w.commit]
	if c.index == 0 {
		return ""
	}
	majority := mathbits.OnesCount8(c.voters)/2 + 1
	var held [modelSlots]indexes
	for x := range w.m {
		if c.voters>>x&1 == 1 {
			held[x] = m.holds(w, &w.m[x])
		}
	}
	for i := uint8(1); i <= c.index; i++ {
		lack := 0
		for x := range w.m {
			if c.voters>>x&1 == 1 && held[x]>>i&1 == 0 {
				lack++
			}
		}
		if lack >= majority {
			return fmt.Sprintf("the committed index %d is lost to a majority of the voters", i)
		}
	}
	return ""
}

// checkMember compares a member that calls itself complete with what the log prescribes.
func (m *model) checkMember(w *world, x int) string {
	e := &w.m[x].now
	if e.applied > m.entries[w.commit].index {
		return fmt.Sprintf("m%d is at index %d, which is not committed", x, e.applied)
	}
	if !m.complete(e) {
		return ""
	}
	truth := m.entries[m.at(w.commit, e.applied)].truth
	for d := range m.docs {
		if e.docs[d] == truth[d] {
			continue
		}
		got, want := &m.universe.docs[e.docs[d]], &m.universe.docs[truth[d]]
		what := "and is not"
		switch {
		case got.exists && !want.exists:
			what = "and has a deleted document"
		case got.deleted > 0:
			what = "and keeps a delete record"
		}
		return fmt.Sprintf("m%d calls itself complete at index %d %s: d%d is %s, should be %s", x, e.applied, what, d, got, want)
	}
	return ""
}

func (d *docValue) String() string {
	if !d.exists {
		return fmt.Sprintf("absent (delete record %d)", d.deleted)
	}
	text := fmt.Sprintf("generation %d last %d head %d floor %d", d.head.Generation, d.head.LastIndex, d.head.HeadSeq, d.head.Floor)
	if d.head.HasBase {
		text += fmt.Sprintf(" base %d@%d", d.head.BaseSeq, d.head.BaseIndex)
	}
	for _, e := range d.marks[:d.n] {
		text += fmt.Sprintf(" %d@%d", e.End, e.Index)
	}
	return text
}

// settle lets the faults end: somebody leads, everything is replicated and applied, and the sick pull from everyone.
// Then all must become complete, whoever was. Only the members in among are there. It returns what went wrong.
func (m *model) settle(from *world, among uint8) (problem string) {
	w := *from
	for x := range w.m {
		w.m[x].pull = session{}
		if among>>x&1 == 0 && w.m[x].status == slotLive {
			w.m[x].status = slotLost
		}
	}
	w.used = m.limit // what is not synced makes no difference any more
	leader := -1
	for x := range w.m {
		voters := m.entries[w.m[x].tip].voters
		if w.m[x].status == slotLive && voters>>x&1 == 1 && m.votes(&w, x, among) >= mathbits.OnesCount8(voters)/2+1 {
			leader = x
			break
		}
	}
	if leader < 0 {
		return "a majority of the voters can elect nobody"
	}
	m.elect(&w, leader)
	if problem := m.catchUp(&w, leader); problem != "" {
		return problem
	}
	w.term, w.used = 0, limits{}
	seen := settled{w.fingerprint(), among}
	if m.settledSeen[seen] {
		return ""
	}
	m.settledSeen[seen] = true
	return m.heal(&w)
}

// catchUp replicates and applies everything.
func (m *model) catchUp(w *world, leader int) (problem string) {
	var s step
	for again := true; again && problem == ""; {
		again = false
		for x := range w.m {
			if x == leader || w.m[x].status != slotLive || m.entries[w.m[leader].tip].servers>>x&1 == 0 {
				continue
			}
			moved := false
			m.replicate(w, x, &s, func(what string, a, b int) *world {
				s = step{next: *w}
				return &s.next
			}, func() { moved = true })
			if moved {
				*w, problem, again = s.next, firstOf(problem, s.problem), true
			}
		}
	}
	for x := range w.m {
		f := &w.m[x]
		for f.status == slotLive && f.now.applied < m.entries[m.common(f.tip, w.commit)].index {
			problem = firstOf(problem, m.play(&f.now, m.at(f.tip, f.now.applied+1)))
		}
		f.disk = f.now
	}
	problem = firstOf(problem, m.checkLemma(w))
	if problem == "" && w.commit != w.m[leader].tip {
		problem = "a majority can commit nothing"
	}
	return problem
}

// heal lets the sick pull until nobody is sick.
func (m *model) heal(w *world) (problem string) {
	servers := m.entries[w.commit].servers // who is not taken in yet need not keep up with what it pulls
	complete := func() (n, sick int) {
		for x := range w.m {
			if w.m[x].status == slotLive && servers>>x&1 == 1 {
				if m.complete(&w.m[x].now) {
					n++
				} else {
					sick++
				}
			}
		}
		return n, sick
	}
	if n, sick := complete(); n == 0 && sick > 0 {
		m.unions++
	}
	for range modelSlots {
		if _, sick := complete(); sick == 0 {
			return m.check(w)
		}
		for x := range w.m {
			for y := range w.m {
				if x == y || w.m[x].status != slotLive || w.m[y].status != slotLive {
					continue
				}
				for b := 0; b < m.buckets && !m.complete(&w.m[x].now); b++ {
					for m.begin(w, x, y, b); w.m[x].pull.phase != sessionNone; {
						if problem = m.goOn(w, x); problem != "" {
							return problem
						}
					}
				}
				if closed := m.closable(&w.m[x].now); closed != 0 {
					m.closeHoles(&w.m[x], closed)
				}
			}
		}
	}
	return "members do not heal"
}

// settled names a world that healing has been tried on.
type settled struct {
	world fingerprint
	among uint8
}

// majorities calls f for every smallest majority of the voters that live.
func (m *model) majorities(w *world, f func(among uint8)) {
	voters := m.entries[w.commit].voters
	need := mathbits.OnesCount8(voters)/2 + 1
	for among := uint8(1); among < 1<<modelSlots; among++ {
		if among&^voters != 0 || mathbits.OnesCount8(among) != need {
			continue
		}
		live := true
		for x := range w.m {
			live = live && (among>>x&1 == 0 || w.m[x].status == slotLive)
		}
		if live {
			f(among)
		}
	}
}
