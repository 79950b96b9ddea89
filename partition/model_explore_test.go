package partition

import (
	"fmt"
	"strings"
	"time"
)

// search is a breadth-first search of all worlds that a model can get into.
type search struct {
	*model
	depth  int // steps; 0: until nothing is new
	states int // at most; 0: no bound
	until  time.Time

	visited map[fingerprint]struct{}
	parents []parent
	reached int  // steps of the longest story
	cut     bool // there was more
}

// parent tells how a world was first reached: by which of the successors of which world.
type parent struct {
	from int32
	nth  uint16
}

// finding is a world that must not be, and the shortest way to it.
type finding struct {
	problem string
	from    int32
	nth     uint16 // 0xffff: the world itself does not heal
}

const itself = 0xffff

// numbered is a world to go on from.
type numbered struct {
	world
	id int32
}

// initial is a partition that was just founded, led by the first member.
func (m *model) initial() world {
	var w world
	for x := range m.voters {
		w.m[x].status = slotLive
	}
	w.term = 1
	return w
}

// stable is how many slots, from the first on, are interchangeable: no configuration tells them apart.
func (m *model) stable() int {
	if m.newcomer != "" || m.limit[wipes] > 0 {
		return m.voters - 1
	}
	return m.voters
}

// run searches until something is found; nil when nothing is wrong.
func (s *search) run() *finding {
	s.visited = map[fingerprint]struct{}{}
	first := s.initial()
	first.order(s.stable(), nil)
	s.visited[first.fingerprint()] = struct{}{}
	s.parents = append(s.parents, parent{from: -1})
	level := []numbered{{first, 0}}
	for len(level) > 0 {
		if s.depth > 0 && s.reached == s.depth {
			s.cut = true
			return nil
		}
		var next []numbered
		for i := range level {
			if found := s.expand(&level[i], &next); found != nil {
				return found
			}
			if s.states > 0 && len(s.parents) >= s.states || !s.until.IsZero() && i%1024 == 0 && time.Now().After(s.until) {
				s.cut = true
				return nil
			}
		}
		level = next
		s.reached++
	}
	return nil
}

// expand visits what follows a world.
func (s *search) expand(from *numbered, next *[]numbered) (found *finding) {
	nth := -1
	s.successors(&from.world, func(t *step) {
		nth++
		if found != nil {
			return
		}
		problem := t.problem
		if problem == "" {
			problem = s.check(&t.next)
		}
		if problem != "" {
			found = &finding{problem: problem, from: from.id, nth: uint16(nth)}
			return
		}
		w := t.next
		w.order(s.stable(), nil)
		key := w.fingerprint()
		if _, seen := s.visited[key]; seen {
			return
		}
		s.visited[key] = struct{}{}
		id := int32(len(s.parents))
		s.parents = append(s.parents, parent{from.id, uint16(nth)})
		if problem := s.heals(&w); problem != "" {
			found = &finding{problem: problem, from: id, nth: itself}
			return
		}
		*next = append(*next, numbered{w, id})
	})
	return found
}

// heals lets the faults end here, when somebody is sick.
func (s *search) heals(w *world) (problem string) {
	sick, live := false, uint8(0)
	for x := range w.m {
		if w.m[x].status == slotLive {
			live |= 1 << x
			sick = sick || !s.complete(&w.m[x].now)
		}
	}
	if !sick {
		return ""
	}
	if !s.alone {
		if problem = s.settle(w, live); problem != "" {
			return "after the faults ended: " + problem
		}
		return ""
	}
	s.majorities(w, func(among uint8) {
		if p := s.settle(w, among); p != "" {
			problem = firstOf(problem, fmt.Sprintf("after the faults ended, with the members %s only: %s", slots(among), p))
		}
	})
	return problem
}

func slots(among uint8) string {
	var list []string
	for x := range modelSlots {
		if among>>x&1 == 1 {
			list = append(list, fmt.Sprintf("m%d", x))
		}
	}
	return strings.Join(list, ", ")
}

// story retells how a finding came about. Members keep the names that they had at first, though every world on the way
// was put in order.
func (s *search) story(f *finding) string {
	path := []uint16{}
	if f.nth != itself {
		path = append(path, f.nth)
	}
	for id := f.from; s.parents[id].from >= 0; id = s.parents[id].from {
		path = append(path, s.parents[id].nth)
	}
	w := s.initial()
	names := [modelSlots]int{0, 1, 2, 3, 4}
	swap := func(a, b int) { names[a], names[b] = names[b], names[a] }
	w.order(s.stable(), swap)
	var b strings.Builder
	for i := len(path) - 1; i >= 0; i-- {
		var taken step
		nth := uint16(0)
		s.successors(&w, func(t *step) {
			if nth == path[i] {
				taken = *t
			}
			nth++
		})
		fmt.Fprintf(&b, "\n%4d  %s", len(path)-i, s.tell(&taken, &names))
		w = taken.next
		if i > 0 || f.nth == itself {
			w.order(s.stable(), swap)
		}
	}
	problem := f.problem
	for x := range names { // the names of the last world's slots
		problem = strings.ReplaceAll(problem, fmt.Sprintf("m%d", x), fmt.Sprintf("m\x00%d", names[x]))
	}
	fmt.Fprintf(&b, "\n      %s", strings.ReplaceAll(problem, "\x00", ""))
	for x := range w.m {
		fmt.Fprintf(&b, "\n      m%d: %s", names[x], s.describe(&w.m[x]))
	}
	return b.String()
}

// tell says what a step is.
func (s *search) tell(t *step, names *[modelSlots]int) string {
	text := t.what
	switch strings.Count(text, "%") {
	case 1:
		text = fmt.Sprintf(text, names[t.a])
	case 2:
		text = fmt.Sprintf(text, names[t.a], names[t.b])
	}
	if e := &s.entries[t.detail]; e.index > 0 {
		what := "no document"
		if e.kind != 0 {
			what = fmt.Sprintf("%s d%d", e.kind, e.doc)
		}
		text += fmt.Sprintf("  [index %d term %d: %s]", e.index, e.term, what)
	}
	return text
}

func (s *search) describe(f *slot) string {
	text := fmt.Sprintf("applied %d (durably %d), holes {%s}, log (%d, %d]", f.now.applied, f.disk.applied, s.set(f.now.holes),
		s.entries[f.base].index, s.entries[f.tip].index)
	switch f.status {
	case slotFree:
		return "free"
	case slotLost:
		return "lost its disk; " + text
	}
	for d := range s.model.docs {
		text += fmt.Sprintf("; d%d %s", d, &s.universe.docs[f.now.docs[d]])
	}
	return text
}
