package antientropy

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// agenda holds the healthy members by the time at which they are to be compared: a heap, so that an event costs nothing
// for those that are not due, however many there are.
type agenda []*part

// entry is where the plan keeps a healthy member that waits to be compared.
type entry struct {
	in   waiting
	turn time.Time // in the agenda: when it is to be looked at
	slot int       // in the agenda: its place in the heap
}

type waiting uint8

const (
	nowhere waiting = iota // sick, being compared, or gone; or taken off to be compared now
	inAgenda
	inLate
)

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (a agenda) Len() int { return len(a) }

func (a agenda) Less(i, j int) bool {
	return cmp.Or(a[i].entry.turn.Compare(a[j].entry.turn), cmp.Compare(a[i].id, a[j].id)) < 0
}

func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].entry.slot, a[j].entry.slot = i, j
}

func (a *agenda) Push(x any) {
	pt := x.(*part)
	pt.entry.slot = len(*a)
	*a = append(*a, pt)
}

func (a *agenda) Pop() any {
	last := len(*a) - 1
	pt := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	return pt
}

// due takes off those whose turn has come. The caller puts them back.
func (a *agenda) due(now time.Time) []*part {
	var list []*part
	for len(*a) > 0 && !(*a)[0].entry.turn.After(now) {
		pt := heap.Pop(a).(*part)
		pt.entry.in = nowhere
		list = append(list, pt)
	}
	return list
}

// up is when a healthy member is to be compared.
func (pt *part) up() time.Time {
	if pt.compareAfter.After(pt.due) {
		return pt.compareAfter
	}
	return pt.due
}

// enlist keeps the agenda up to date after a member's state, or the time at which it is to be compared, changed.
func (p *plan) enlist(pt *part) {
	e := &pt.entry
	waits := !pt.removed && !pt.sick() && !pt.comparing
	if e.in == inLate && !waits {
		p.late = slices.DeleteFunc(p.late, func(l *part) bool { return l == pt })
		e.in = nowhere
	}
	switch {
	case e.in == inLate:
	case !waits && e.in == inAgenda:
		heap.Remove(&p.agenda, e.slot)
		e.in = nowhere
	case waits && e.in == inAgenda:
		if turn := pt.up(); !turn.Equal(e.turn) {
			e.turn = turn
			heap.Fix(&p.agenda, e.slot)
		}
	case waits:
		e.in, e.turn = inAgenda, pt.up()
		heap.Push(&p.agenda, pt)
	}
}

// lateTries bounds how many of the late members an event looks at.
const lateTries = 32

// overdue compares those that have been due for an interval. They take precedence over repair that is under way, or a
// long one would hide what is wrong elsewhere: whatever room a peer has, at whatever event, is theirs first.
func (p *plan) overdue(due []*part) {
	for _, pt := range due {
		if !pt.due.Add(p.o.interval).After(p.now) {
			pt.entry.in = inLate
			p.late = append(p.late, pt)
		}
	}
	for range min(len(p.late), lateTries) {
		if !p.anyRoom() {
			break
		}
		pt := p.late[0]
		p.late[0] = nil
		p.late = p.late[1:]
		pt.entry.in = nowhere
		if p.attempt(pt) == busy {
			pt.entry.in = inLate
			p.late = append(p.late, pt)
		}
	}
	if len(p.late) > 0 {
		p.wakeAt(p.now.Add(p.o.interval / 8))
	}
}

// comparisons compares the others whose turn has come.
func (p *plan) comparisons(due []*part) {
	for _, pt := range due {
		if pt.entry.in != nowhere || pt.comparing {
			continue // it was late
		}
		if p.attempt(pt) == busy {
			pt.compareAfter = p.now.Add(p.o.interval / 8)
			p.enlist(pt)
		}
	}
	if len(p.agenda) > 0 {
		p.wakeAt(p.agenda[0].entry.turn)
	}
}

// attempt compares a healthy member if it can be, and says busy if that has to wait for a peer that has enough to do.
// One that has nobody to ask is put off: there is nothing to hold up others for.
func (p *plan) attempt(pt *part) obstacle {
	p.looks++
	sent, why := p.compare(pt, choice{})
	switch {
	case sent:
		return useless
	case why == busy:
		return busy
	}
	pt.due, pt.compareAfter = p.now, p.now.Add(p.o.interval/8)
	if len(pt.peers) == 0 {
		pt.compareAfter = p.now.Add(p.o.interval)
	}
	p.enlist(pt)
	return why
}

// anyRoom reports whether any peer could take on another call.
func (p *plan) anyRoom() bool {
	for _, h := range p.hosts {
		if h.inFlight < p.o.perPeer {
			return true
		}
	}
	return len(p.hosts) == 0
}
