package partition

import (
	mathbits "math/bits"

	"github.com/adamantdb/adamant/store"
)

// model is one search: how many members, what may happen how often, and which rule is left out.
type model struct {
	*universe
	voters   int // slots that vote at the beginning
	docs     int
	newcomer string // the host of the slot after them; "": none
	desired  Desired
	limit    limits
	slow     bool         // answers take time: what they say may be old when it arrives
	alone    bool         // heal by each majority alone, not only by all together
	kinds    []store.Kind // nil: all

	settledSeen map[settled]bool // healing has been tried on these
	unions      int              // of them without any complete member
}

// step is something that happens: successors hands it over with the world it leads to, and with what it shows to be
// wrong, if anything.
type step struct {
	what    string // a format for a and b, which are slots
	a, b    int8
	detail  entryID
	next    world
	problem string
}

// successors calls yield for everything that can happen in w.
func (m *model) successors(w *world, yield func(*step)) {
	s := step{}
	begin := func(what string, a, b int) *world {
		s = step{what: what, a: int8(a), b: int8(b), next: *w}
		return &s.next
	}
	end := func() {
		m.normalise(&s.next)
		yield(&s)
	}
	m.lead(w, &s, begin, end)
	for x := range w.m {
		if w.m[x].status == slotLive {
			m.local(w, x, &s, begin, end)
			m.pulls(w, x, &s, begin, end)
		}
	}
	m.faults(w, &s, begin, end)
}

// normalise forgets what can not matter any more.
func (m *model) normalise(w *world) {
	for i := range w.m {
		s := &w.m[i]
		if s.pull.phase == sessionNone {
			s.pull = session{}
		} else if w.m[s.pull.peer].status != slotLive {
			s.pull = session{}
		}
		if w.used[crashes] >= m.limit[crashes] && s.status == slotLive {
			s.disk = s.now // nothing will be lost
		}
	}
}

// may reports whether something may happen once more.
func (m *model) may(w *world, b budget) bool { return w.used[b] < m.limit[b] }

// serves: the leader is complete and has applied its first entry.

func (m *model) serves(w *world) bool {
	if w.leader < 0 {
		return false
	}
	l := &w.m[w.leader]
	return m.complete(&l.now) && l.now.applied >= m.entries[w.office].index
}

// local is what a member does by itself: apply, sync, truncate, stand for election.
func (m *model) local(w *world, x int, s *step, begin func(string, int, int) *world, end func()) {
	f := &w.m[x]
	tip := m.entries[f.tip]
	if i := f.now.applied + 1; i <= tip.index && i > m.entries[f.base].index {
		if e := m.at(f.tip, i); m.precedes(e, w.commit) {
			n := begin("m%d applies", x, 0)
			s.detail = e
			s.problem = m.play(&n.m[x].now, e)
			end()
		}
	}
	if m.may(w, crashes) && f.disk != f.now {
		n := begin("m%d syncs its documents", x, 0)
		n.m[x].disk = n.m[x].now
		end()
	}
	if m.may(w, markers) && m.mayMark(w, f) {
		n := begin("m%d makes a marker and truncates its log", x, 0)
		n.used[markers]++
		n.m[x].base = m.at(f.tip, f.now.applied)
		s.detail = n.m[x].base
		if m.broken != "truncate" { // what is dropped is durable first
			n.m[x].disk = n.m[x].now
		}
		end()
	}
	if !m.may(w, elections) || tip.voters>>x&1 == 0 {
		return
	}
	if votes := m.votes(w, x, 1<<modelSlots-1); votes >= mathbits.OnesCount8(tip.voters)/2+1 {
		n := begin("m%d is elected", x, 0)
		n.used[elections]++
		m.elect(n, x)
		s.problem = m.commits(n)
		end()
	}
}

// mayMark reports whether what a member applied last can become its marker: Raft applied it from this log, and showed it
// to the state machine. That a marker never lies at one of Raft's no-ops matters: its history of terms does not know them,
// so a member with nothing newer than the no-op would not harvest it.
func (m *model) mayMark(w *world, s *slot) bool {
	if s.now.applied <= m.entries[s.base].index || s.now.applied > m.entries[s.tip].index {
		return false
	}
	e := m.at(s.tip, s.now.applied)
	return m.entries[e].shown && m.precedes(e, w.commit)
}

// votes counts the voters among some slots whose log is not newer than x's.
func (m *model) votes(w *world, x int, among uint8) (n int) {
	mine := m.entries[w.m[x].tip]
	for y := range w.m {
		theirs := m.entries[w.m[y].tip]
		if mine.voters&among>>y&1 == 1 && w.m[y].status == slotLive &&
			(mine.term > theirs.term || mine.term == theirs.term && mine.index >= theirs.index) {
			n++
		}
	}
	return n
}

func (m *model) elect(w *world, x int) {
	w.leader = int8(x)
	w.term++
	tip := m.entries[w.m[x].tip]
	w.office = m.add(entry0{parent: w.m[x].tip, term: w.term, voters: tip.voters, servers: tip.servers})
	w.m[x].tip = w.office
}

// faults are crashes and lost disks.
func (m *model) faults(w *world, s *step, begin func(string, int, int) *world, end func()) {
	for x := range w.m {
		f := &w.m[x]
		if f.status != slotLive || !m.may(w, crashes) || f.disk == f.now && f.pull.phase == sessionNone {
			continue
		}
		n := begin("m%d crashes", x, 0)
		n.used[crashes]++
		t := &n.m[x]
		t.now, t.pull = t.disk, session{}
		if int(n.leader) == x {
			n.leader = -1
		}
		// What opening does (Partition.recoverHole).
		base, last := m.entries[t.base].index, m.entries[t.tip].index
		if m.set(m.coversAll(&t.now)).Max() > uint64(max(base, last)) {
			s.problem = "a member's documents are ahead of its log"
		}
		m.skip(&t.now, base)
		t.disk = t.now
		end()
	}
	if x := m.voters - 1; m.may(w, wipes) && w.m[x].status == slotLive {
		n := begin("m%d loses its disk", x, 0)
		n.used[wipes]++
		if int(n.leader) == x {
			n.leader = -1
		}
		if m.broken == "amnesia" { // it returns under its old identity
			n.m[x] = slot{status: slotLive}
		} else {
			n.m[x].status = slotLost
			n.m[x].pull, n.m[x].now = session{}, n.m[x].disk
		}
		end()
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
