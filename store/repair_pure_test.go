package store

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/adamantdb/adamant/internal/interval"
)

// Rules that a schedule can be played without, to see that the search would find their absence.
type brokenRules struct {
	absence   bool // absence alone counts as deletion
	deletes   bool // no delete records while sick
	regress   bool // an older command may undo newer knowledge
	ahead     bool // complete before having applied what was already learned
	session   bool // a session also heals what was skipped while it ran
	answers   bool // only the coverage of the first answer counts, though the peer may have crashed since
	exclusive bool // a bucket may have two sessions at a time
	overshoot bool // a delete learned by absence is recorded as of the peer's applied index
	implicit  bool // healing as such does not count as having seen what the peer has applied
	gaps      bool // equal leaves count as equal documents although entries are missing
	past      bool // a healed member tells sums of when it was sick
}

// pureDoc is what a pure node knows of one document. A value; entries are never changed in place.
type pureDoc struct {
	exists  bool
	head    Head
	deleted uint64
	entries []Mark
}

func (d *pureDoc) drop() {
	if len(d.entries) == 0 || d.entries[0].End > d.head.Floor {
		return
	}
	kept := make([]Mark, 0, len(d.entries))
	for _, e := range d.entries {
		if e.End > d.head.Floor {
			kept = append(kept, e)
		}
	}
	d.entries = kept
	d.count()
}

// count keeps Span, on which Gap depends.
func (d *pureDoc) count() {
	d.head.Span = 0
	for _, e := range d.entries {
		d.head.Span += e.End - e.Begin + 1
	}
}

func (d *pureDoc) add(marks ...Mark) {
	if len(marks) == 0 {
		return
	}
	d.entries = slices.Clone(d.entries)
	for _, e := range marks {
		i, found := slices.BinarySearchFunc(d.entries, e.End, func(m Mark, end int64) int { return int(m.End - end) })
		if !found && e.End > d.head.Floor {
			d.entries = slices.Insert(d.entries, i, e)
		}
	}
	d.count()
}

// pureState is what a pure node has; copying it makes a snapshot.
type pureState struct {
	docs           []pureDoc
	applied, ahead uint64
	holes          interval.Set
	healed         []interval.Set // by group
}

func (s *pureState) clone() pureState {
	c := *s
	c.docs, c.healed = slices.Clone(s.docs), slices.Clone(s.healed)
	return c
}

func (s *pureState) covered(group int) interval.Set {
	return interval.Of(1, s.applied).Minus(s.holes).Union(s.healed[group])
}

// pureLog is the log as pure nodes apply it, and what it prescribes.
type pureLog struct {
	h      *history
	marks  [][]Mark     // of each command's deltas
	states []*pureState // after each index, 0 included
	broken brokenRules
}

func newPureLog(h *history, groups int, broken brokenRules) *pureLog {
	return &pureLog{h: h, broken: broken, states: []*pureState{{docs: make([]pureDoc, len(h.keys)), healed: make([]interval.Set, groups)}}}
}

// grow catches up with the history.
func (l *pureLog) grow() {
	for i := len(l.marks); i < len(l.h.log); i++ {
		m := l.h.log[i]
		var marks []Mark
		if m != nil {
			chain := m.Prior
			if m.Kind == Create {
				chain = SeedChain(m.Key)
			}
			for _, d := range m.Deltas {
				chain = chain.Next(d.AppendBinary(nil))
				marks = append(marks, Mark{Begin: d.SeqBegin, End: d.SeqEnd, Index: m.Index, Chain: chain})
			}
		}
		l.marks = append(l.marks, marks)
		s := l.states[i].clone()
		l.apply(&s, uint64(i+1), brokenRules{})
		l.states = append(l.states, &s)
	}
}

// apply mirrors Documents.Apply for one index.
func (l *pureLog) apply(s *pureState, index uint64, broken brokenRules) {
	s.applied = index
	m := l.h.log[index-1]
	if m == nil {
		return
	}
	d := &s.docs[slices.Index(l.h.keys, m.Key)]
	generation := m.Index
	if m.Kind == Append || m.Kind == Compact {
		generation = m.Generation
	}
	if !broken.regress && (d.exists && d.head.Generation > generation || d.deleted >= generation) {
		return
	}
	if m.Kind == Delete {
		*d = pureDoc{deleted: index}
		return
	}
	if !d.exists || d.head.Generation < generation || m.Kind == Create && d.head.Generation != generation {
		*d = pureDoc{exists: true, head: Head{Generation: generation, HeadSeq: -1, Floor: neutralFloor}}
	}
	h := &d.head
	h.LastIndex = max(h.LastIndex, index)
	if m.Kind == Create {
		h.Floor, h.FloorKnown = max(h.Floor, m.Deltas[0].SeqBegin-1), true
	}
	if m.Kind == Compact || m.Kind == Replace {
		if index > h.BaseIndex {
			h.HasBase, h.BaseSeq, h.BaseIndex = true, m.BaseSeq, index
		}
		h.Floor, h.FloorKnown, h.Dropped = max(h.Floor, m.Floor), true, h.Dropped || m.Dropped
	}
	if m.HeadSeq > h.HeadSeq {
		h.HeadSeq, h.Chain = m.HeadSeq, m.Chain
	}
	d.add(l.marks[index-1]...)
	d.drop()
}

// pureNode is a member without an engine.
type pureNode struct {
	l         *pureLog
	groups    int
	now, disk pureState
	sessions  []*pureSession // by group
	past      []pureSums     // oldest first
	learned   []int          // by group: pulls that changed something
}

func newPureNode(l *pureLog, groups int) *pureNode {
	n := &pureNode{l: l, groups: groups, now: l.states[0].clone(), sessions: make([]*pureSession, groups),
		learned: make([]int, groups)}
	n.sync()
	n.forget()
	return n
}

func (n *pureNode) applied() uint64        { return n.now.applied }
func (n *pureNode) coverage() interval.Set { return interval.Of(1, n.now.applied).Minus(n.now.holes) }
func (n *pureNode) close()                 {}
func (n *pureNode) sync()                  { n.disk = n.now.clone() }

func (n *pureNode) crash() {
	n.now = n.disk.clone()
	n.sessions = make([]*pureSession, n.groups)
	n.forget()
}

func (n *pureNode) complete() bool {
	return n.now.holes.Empty() && (n.l.broken.ahead || n.now.ahead <= n.now.applied)
}

// settled forgets delete records that nobody needs; the end of every batch.
func (n *pureNode) settled() {
	if n.l.broken.deletes || n.complete() {
		for i := range n.now.docs {
			n.now.docs[i].deleted = 0
		}
	}
}

func (n *pureNode) apply(upTo uint64) {
	n.l.grow()
	for n.now.applied < upTo {
		n.l.apply(&n.now, n.now.applied+1, n.l.broken)
		n.settled()
		n.remember()
	}
}

func (n *pureNode) recordHole(m uint64) {
	n.now.holes = n.now.holes.Union(interval.Of(n.now.applied+1, m))
	n.now.applied = m
	n.remember()
	n.sync()
}

func (n *pureNode) closeHoles() {
	closed := n.now.holes
	for _, healed := range n.now.healed {
		closed = closed.Intersect(healed)
	}
	if closed.Empty() {
		return
	}
	n.now.holes = n.now.holes.Minus(closed)
	for g := range n.now.healed {
		n.now.healed[g] = n.now.healed[g].Intersect(n.now.holes)
	}
	n.settled()
	n.sync()
	if !n.l.broken.past {
		n.forget()
	}
}

func (n *pureNode) check() error {
	n.l.grow()
	want := n.l.states[n.now.applied]
	for i := range want.docs {
		got, want := &n.now.docs[i], &want.docs[i]
		if got.exists != want.exists || got.exists && (got.head != want.head || !slices.Equal(got.entries, want.entries)) {
			return fmt.Errorf("document %d: %s, should be %s", i, got, want)
		}
	}
	return n.checkPast()
}

func (d *pureDoc) String() string {
	if !d.exists {
		return "absent"
	}
	var b strings.Builder
	h := &d.head
	fmt.Fprintf(&b, "generation %d last %d head %d base %d/%d floor %d:", h.Generation, h.LastIndex, h.HeadSeq, h.BaseSeq, h.BaseIndex, h.Floor)
	for _, e := range d.entries {
		fmt.Fprintf(&b, " [%d,%d]@%d", e.Begin, e.End, e.Index)
	}
	return b.String()
}

// pureSession mirrors Session and what a caller does with it: list the bucket in pages of one document, compare, and pull
// what differs in pieces.
type pureSession struct {
	x, y    *pureNode
	group   int
	applied uint64
	covered interval.Set
	highest uint64 // visible in the peer's answers
	begun   bool
	next    int // document to list
	want    []pureWant
}

// pureWant is a piece of a document: its entries with End ≤ upTo.
type pureWant struct {
	doc  int
	upTo int64
}

func (n *pureNode) begin(peer node, group int) pulling {
	s := &pureSession{x: n, y: peer.(*pureNode), group: group, next: group, applied: n.now.applied}
	n.sessions[group] = s
	return s
}

func (s *pureSession) step() bool {
	broken := &s.x.l.broken
	if !broken.exclusive && s.x.sessions[s.group] != s {
		return true
	}
	if s.next >= len(s.x.now.docs) && len(s.want) == 0 {
		s.finish()
		return true
	}
	covered := s.y.now.covered(s.group)
	s.highest = max(s.highest, s.y.now.applied, s.y.now.ahead)
	switch {
	case !s.begun:
		s.begun, s.covered = true, covered
	case !broken.answers:
		s.covered = s.covered.Intersect(covered)
	}
	if len(s.want) > 0 {
		s.pull(s.want[0])
		s.want = s.want[1:]
		return false
	}
	s.compare(s.next)
	s.next += s.x.groups
	return false
}

func (s *pureSession) finish() {
	n, broken := s.x, &s.x.l.broken
	limit := s.applied
	if broken.session {
		limit = n.now.applied
	}
	healed := n.now.healed[s.group].Union(s.covered.Intersect(interval.Of(1, limit)).Intersect(n.now.holes))
	if !healed.Equal(n.now.healed[s.group]) {
		n.now.healed[s.group] = healed
		if !broken.implicit {
			n.now.ahead = max(n.now.ahead, s.highest)
		}
	}
	if n.sessions[s.group] == s {
		n.sessions[s.group] = nil
	}
}

// compare mirrors Compare for one document.
func (s *pureSession) compare(i int) {
	mine, theirs := &s.x.now.docs[i], &s.y.now.docs[i]
	key := s.x.l.h.keys[i]
	if mine.exists && theirs.exists && leaf(key, &mine.head) == leaf(key, &theirs.head) && (!mine.head.Gap() || s.x.l.broken.gaps) {
		return
	}
	if theirs.exists && len(theirs.entries) > 1 {
		s.want = append(s.want, pureWant{i, theirs.entries[len(theirs.entries)/2-1].End})
	}
	s.want = append(s.want, pureWant{i, math.MaxInt64})
}

// pull mirrors Export and Import of one piece.
func (s *pureSession) pull(w pureWant) {
	broken := &s.x.l.broken
	x, y := &s.x.now, &s.y.now
	mine, theirs := &x.docs[w.doc], &y.docs[w.doc]
	know := Knowledge{Mine: x.covered(s.group), Theirs: y.covered(s.group), TheirHighest: max(y.applied, y.ahead),
		MineComplete: s.x.complete()}
	if broken.absence {
		know = Knowledge{Theirs: interval.Of(1, math.MaxUint64), TheirHighest: 1}
	}
	view := func(d *pureDoc, upTo int64) *DocView {
		v := DocView{Exists: d.exists, Head: d.head, Deleted: d.deleted}
		for _, e := range d.entries {
			if e.End <= upTo {
				v.Entries = append(v.Entries, e)
			}
		}
		return &v
	}
	from := view(theirs, w.upTo)
	decision := MergeDocument(view(mine, math.MaxInt64), from, &know)
	switch decision.Action {
	case ActionKeep:
		return
	case ActionDiverged:
		if *broken == (brokenRules{}) || broken.regress {
			panic(divergedPanic(fmt.Sprintf("diverged: %s at %d", decision.Reason, decision.Seq)))
		}
		return
	case ActionRecord:
		mine.deleted = decision.Deleted
	case ActionDelete:
		*mine = pureDoc{deleted: decision.Deleted}
		if broken.overshoot {
			mine.deleted = max(mine.deleted, y.applied)
		}
	case ActionInstall:
		*mine = pureDoc{exists: true, head: decision.Head}
		mine.count()
	case ActionUnion:
		mine.head = decision.Head
	}
	if mine.exists {
		var take []Mark
		for _, i := range decision.Take {
			take = append(take, from.Entries[i])
		}
		mine.add(take...)
		mine.drop()
	}
	x.ahead = max(x.ahead, know.TheirHighest)
	s.x.settled()
	s.x.learn(s.group)
}

// divergedPanic leaves a schedule in which honest members contradict each other.
type divergedPanic string
