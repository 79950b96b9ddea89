package store

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
)

// This file plays schedules: members of one partition log and apply commands, jump by markers, crash, and pull from each
// other, all interleaved by a seed. Whatever happens, a member that calls itself complete must hold exactly what the log
// prescribes at its applied index; and when the dust settles, everyone heals.
//
// It plays them with two kinds of nodes: pure ones, which know nothing but MergeDocument and run thousands of schedules
// a second, and ones with a document engine, which go through everything that the product does.

// node is one member as a schedule sees it.
type node interface {
	applied() uint64
	coverage() interval.Set
	complete() bool
	apply(upTo uint64)   // commands after applied; perhaps not yet durable
	recordHole(m uint64) // skips what follows applied, up to m
	sync()
	crash() // loses what is not durable
	closeHoles()
	begin(peer node, group int) pulling
	compare(peer node) proof        // nil: it shows nothing
	damage(group int, r *rand.Rand) // some of its documents are lost, which is found out
	check() error                   // of a member that calls itself complete
	close()
}

// pulling is a session under way.
type pulling interface {
	step() (done bool) // one round trip
}

// world is one schedule.
type world struct {
	r       *rand.Rand
	h       *history
	groups  int // of buckets that are pulled as one
	nodes   []node
	logged  []uint64 // by each node, durably; all of it is committed
	pulls   []*pull
	proofs  []proven
	crashes bool
	proves  bool // members compare at one index, too
	damages bool // documents get damaged
	story   []string
	verbose bool

	touched int // the member that the last action may have changed; -1: none

	damaged int // times that documents were damaged
	heals   int // sessions that closed a hole
	unions  int // schedules that ended without a complete member, or otherwise had none
}

type pull struct {
	x, y, group int
	session     pulling
}

type proven struct {
	x int
	proof
}

func (w *world) tell(format string, a ...any) {
	if w.verbose {
		w.story = append(w.story, fmt.Sprintf(format, a...))
	}
}

// holds reports whether a member can apply an index or has its effect durably: such an index is not lost with the others.
func (w *world) holds(x int, index uint64) bool {
	n := w.nodes[x]
	return n.coverage().Contains(index) || n.applied() < index && index <= w.logged[x]
}

func (w *world) commit(limit int) {
	if len(w.h.log) >= limit {
		return
	}
	w.h.commit()
	if w.verbose {
		m := w.h.log[len(w.h.log)-1]
		if m == nil {
			w.tell("commit %d: no document", len(w.h.log))
			return
		}
		w.tell("commit %d: %s %s, generation %d, head %d, floor %d", len(w.h.log), m.Kind, m.Key, m.Generation, m.HeadSeq, m.Floor)
	}
}

func (w *world) advance(x int) {
	if w.r.IntN(2) == 0 {
		w.logged[x] = min(uint64(len(w.h.log)), w.logged[x]+1+uint64(w.r.IntN(5)))
		w.tell("m%d logged %d", x, w.logged[x])
		return
	}
	if to := min(w.logged[x], w.nodes[x].applied()+1+uint64(w.r.IntN(3))); to > w.nodes[x].applied() {
		w.nodes[x].apply(to)
		w.tell("m%d applied %d", x, to)
	}
}

// marker lets x jump over what it has not logged, provided that a majority without it holds what it skips. What it has
// logged it applies first (harvest, design §5).
func (w *world) marker(x int) {
	if w.logged[x] >= uint64(len(w.h.log)) {
		return
	}
	to := w.logged[x] + 1 + uint64(w.r.IntN(len(w.h.log)-int(w.logged[x])))
	for i := w.logged[x] + 1; i <= to; i++ {
		holders := 0
		for y := range w.nodes {
			if y != x && w.holds(y, i) {
				holders++
			}
		}
		if holders < len(w.nodes)/2+1 {
			return
		}
	}
	if w.logged[x] > w.nodes[x].applied() {
		w.nodes[x].apply(w.logged[x])
	}
	w.tell("m%d marker: hole [%d, %d]", x, w.logged[x]+1, to)
	w.nodes[x].recordHole(to)
	w.logged[x] = to
}

func (w *world) crash(x int) {
	w.tell("m%d crashes", x)
	w.nodes[x].crash()
	kept := w.pulls[:0]
	for _, p := range w.pulls {
		if p.x != x {
			kept = append(kept, p)
		}
	}
	w.pulls = kept
	w.proofs = slices.DeleteFunc(w.proofs, func(p proven) bool { return p.x == x })
}

// damage lets x lose documents that were not lost elsewhere: some other member is complete. What a member that is alone
// finds damaged it keeps.
func (w *world) damage(x int) {
	for y, n := range w.nodes {
		if y == x || !n.complete() {
			continue
		}
		group := w.r.IntN(w.groups)
		w.tell("m%d finds group %d damaged", x, group)
		w.nodes[x].damage(group, w.r)
		w.damaged++
		return
	}
}

// prove lets a sick member compare, or record what a comparison has shown.
func (w *world) prove(x int) {
	w.touched = -1
	if n := len(w.proofs); n > 0 && w.r.IntN(3) == 0 {
		i := w.r.IntN(n)
		p := w.proofs[i]
		w.proofs = slices.Delete(w.proofs, i, i+1)
		w.tell("m%d marks what is proven", p.x)
		p.mark()
		w.closeHoles(p.x)
		w.touched = p.x
		return
	}
	y := w.r.IntN(len(w.nodes))
	if x == y || len(w.proofs) > 3 || w.nodes[x].coverage().Max() == w.nodes[x].coverage().Len() {
		return
	}
	if p := w.nodes[x].compare(w.nodes[y]); p != nil {
		w.tell("m%d compares with m%d: %+v", x, y, p)
		w.proofs = append(w.proofs, proven{x, p})
	}
}

// pull begins a session or lets one go on.
func (w *world) pull() {
	if len(w.pulls) == 0 || w.r.IntN(3) == 0 {
		x, y := w.r.IntN(len(w.nodes)), w.r.IntN(len(w.nodes))
		if n := len(w.pulls); n > 0 && w.r.IntN(2) == 0 { // several sources for one member
			x = w.pulls[n-1].x
		}
		if x != y && len(w.pulls) < 4 && (!w.nodes[x].complete() || w.r.IntN(3) == 0) {
			w.start(x, y, w.r.IntN(w.groups))
		}
		return
	}
	w.step(w.r.IntN(len(w.pulls)))
}

func (w *world) start(x, y, group int) *pull {
	p := &pull{x: x, y: y, group: group, session: w.nodes[x].begin(w.nodes[y], group)}
	w.pulls = append(w.pulls, p)
	w.tell("m%d begins to pull group %d of m%d", x, group, y)
	return p
}

func (w *world) step(i int) {
	p := w.pulls[i]
	w.touched = p.x
	done := p.session.step()
	w.tell("m%d pulls group %d of m%d, done %v", p.x, p.group, p.y, done)
	if !done {
		return
	}
	w.pulls = append(w.pulls[:i], w.pulls[i+1:]...)
	if w.r.IntN(3) > 0 {
		w.closeHoles(p.x)
	}
}

func (w *world) closeHoles(x int) {
	was := w.nodes[x].coverage()
	w.nodes[x].closeHoles()
	if now := w.nodes[x].coverage(); !now.Equal(was) {
		w.heals++
		w.tell("m%d covers %s, after %s", x, now, was)
	}
}

// run plays the schedule. It returns what went wrong.
func (w *world) run(steps, commands int) error {
	// Each schedule has its own character: how much of what it does, and whether one member is slower than others.
	actions := []func(int){
		func(int) { w.commit(commands) },
		w.advance,
		w.marker,
		func(x int) { w.nodes[x].sync() },
		func(int) { w.touched = -1; w.pull() },
	}
	most := []int{8, 12, 6, 2, 24}
	if w.proves {
		actions, most = append(actions, w.prove), append(most, 8)
	}
	if w.crashes && w.r.IntN(2) == 0 {
		actions, most = append(actions, w.crash), append(most, 1)
	}
	if w.damages {
		actions, most = append(actions, w.damage), append(most, 3)
	}
	var weights []int
	for i := range actions {
		weights = append(weights, 1+w.r.IntN(most[i]))
	}
	slow, patience := 0, w.r.IntN(4)
	for range steps {
		x := w.r.IntN(len(w.nodes))
		if w.r.IntN(10) == 0 {
			slow = w.r.IntN(len(w.nodes))
		}
		action := pickWeighted(w.r, weights)
		if action == 1 && x == slow && w.r.IntN(4) < patience {
			continue
		}
		w.touched = x
		actions[action](x)
		if err := w.check(); err != nil {
			return err
		}
	}
	return w.settle()
}

func pickWeighted(r *rand.Rand, weights []int) int {
	sum := 0
	for _, weight := range weights {
		sum += weight
	}
	n := r.IntN(sum)
	for i, weight := range weights {
		if n -= weight; n < 0 {
			return i
		}
	}
	panic("unreachable")
}

// check looks at the member that the last action touched.
func (w *world) check() error {
	if w.touched < 0 {
		return nil
	}
	n := w.nodes[w.touched]
	if !n.complete() {
		if !slices.ContainsFunc(w.nodes, node.complete) {
			w.unions++
		}
		return nil
	}
	if err := n.check(); err != nil {
		return fmt.Errorf("m%d calls itself complete at %d and is not: %w", w.touched, n.applied(), err)
	}
	return nil
}

// settle stops commits, markers and crashes: then everyone must become complete, also when nobody is.
func (w *world) settle() error {
	w.pulls = nil
	for x, n := range w.nodes {
		w.logged[x] = uint64(len(w.h.log))
		if n.applied() < w.logged[x] {
			n.apply(w.logged[x])
		}
	}
	for round := 0; ; round++ {
		sick := 0
		for x, n := range w.nodes {
			if n.complete() {
				continue
			}
			sick++
			for y := range w.nodes {
				for group := 0; x != y && group < w.groups; group++ {
					for s := w.start(x, y, group).session; !s.step(); {
					}
				}
			}
			w.pulls = nil
			w.closeHoles(x)
			w.touched = x
			if err := w.check(); err != nil {
				return err
			}
		}
		if sick == 0 {
			return nil
		}
		if round > len(w.nodes) {
			return fmt.Errorf("%d members do not heal", sick)
		}
	}
}
