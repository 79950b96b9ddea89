package store

import (
	"fmt"
	"sort"

	"github.com/adamantdb/adamant/internal/interval"
)

// This file is the merge rule of design §6 for one document: what a member makes of another member's view of it. It is
// pure; listing, exporting and importing buckets put it to work, and a random search drives it through schedules.
//
// The rule in one paragraph. Everything a member knows of a key is a point on a ladder that only leads up:
//
//	generation 3 alive ─ more of its entries ─ all of them ─ generation 3 dead ─ generation 9 alive ─ …
//
// Each command of the log lifts the key to some point, and two members' knowledge merges into the higher point (within
// one living generation: the union). A member whose coverage holds an index stands at least where that command led.
// An absent document is the one case where the point is not written down: then coverage says what absence means, and
// where coverage is not enough, a delete record does.

// Mark identifies one entry without its bytes.
type Mark struct {
	Begin, End int64  // seqs, as in Delta
	Index      uint64 // of the command that brought it
	Chain      Chain  // after it; zero when the member could not know it
}

// DocView is what one member knows of one key.
type DocView struct {
	Exists bool
	Head   Head // when Exists. Span, Entries and Bytes play no part in merging.

	// Deleted says that every generation ≤ Deleted is dead. It is the index of a delete that was applied while the
	// member was sick, or the last index of a document that it removed because a peer no longer had it. 0: no record.
	Deleted uint64

	// Entries are sorted by End. Their side: those at hand, perhaps only some. My side: at least those that overlap one
	// of theirs, and those around the other side's HeadSeq.
	Entries []Mark

	// BaseHash is the hash of the base's bytes; 0 when it is not known.
	BaseHash uint64
}

// Knowledge is what the two members hold of the log, for the bucket in question.
type Knowledge struct {
	Mine, Theirs interval.Set // coverage
	// MineComplete: I have no holes, and have applied everything that I learned from others. A bucket's coverage alone
	// does not say that its documents are whole: where one is known to be deleted later on, its past may be missing.
	MineComplete bool
	// TheirHighest bounds every index that may be visible in their documents: the larger of their applied index and of
	// what they learned from others (ahead).
	TheirHighest uint64
}

// exhausted reports whether I hold exactly what the log prescribes, at an index as high as everything that they can
// know. Then they can teach me nothing, and a difference is damage on one side.
func (k *Knowledge) exhausted() bool {
	return k.MineComplete && k.Mine.Covers(interval.Of(1, k.TheirHighest))
}

// Action is what a Decision asks for.
type Action uint8

const (
	// ActionKeep changes nothing.
	ActionKeep Action = iota
	// ActionRecord: the document is absent here and stays so; the delete record rises to Decision.Deleted.
	ActionRecord
	// ActionDelete removes my document and leaves the delete record Decision.Deleted.
	ActionDelete
	// ActionInstall puts their generation in the place of mine, or of nothing: Decision.Head, their base, Decision.Take.
	// The delete record, if any, goes.
	ActionInstall
	// ActionUnion keeps my generation: Decision.Head, their base if TakeBase, Decision.Take; entries with SeqEnd ≤
	// Decision.Head.Floor go.
	ActionUnion
	// ActionDiverged changes nothing and is to be reported: see Decision.Reason and Seq.
	ActionDiverged
)

func (a Action) String() string {
	switch a {
	case ActionKeep:
		return "keep"
	case ActionRecord:
		return "record"
	case ActionDelete:
		return "delete"
	case ActionInstall:
		return "install"
	case ActionUnion:
		return "union"
	case ActionDiverged:
		return "diverged"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// DivergenceReason says how two members contradict each other.
type DivergenceReason string

// The reasons. All but the last two concern one generation, which one log can only have written in one way.
const (
	DivergedChain   DivergenceReason = "different histories up to one seq"
	DivergedOverlap DivergenceReason = "deltas that overlap"
	DivergedBase    DivergenceReason = "different bases from one index"
	// DivergedKnown: the peer's state would change mine, though I hold every index it can know. One of us lost or made
	// up something. A healthy member must not be changed by a damaged one, so nobody is trusted.
	DivergedKnown DivergenceReason = "the peer knows more than the log it has seen"
)

// Decision is the outcome of merging their view of a document into mine.
type Decision struct {
	Action   Action
	Deleted  uint64 // Record, Delete: the delete record to keep
	Head     Head   // Install, Union: the merged facts; Span, Entries and Bytes are to be counted by who stores entries
	TakeBase bool   // Install, Union: their base is to be stored
	Take     []int  // Install, Union: which of their Entries to store, as positions, ascending

	Reason DivergenceReason // Diverged
	Seq    int64            // Diverged: where, as far as a seq can say it
}

// MergeDocument decides what their view of a document makes of mine. The cases, each with its reason:
//
//	mine     theirs
//	absent   absent    Nothing, but their delete record counts: without it I could believe a third member that still
//	                   has the document, once I cover the delete without covering what came before it.
//	present  absent    Their delete record reaches my generation, or their coverage holds the last change I know of:
//	                   they stood at least there, and stand higher: deleted. I record my last index and not their
//	                   applied one: the key may have been created again in a part of the log that they skipped.
//	                   Otherwise they may never have heard of it: keep.
//	absent   present   The same with the roles swapped; otherwise it is news: install.
//	gen 9    gen 3     Mine was created later, so theirs is dead: keep. In the other order: install.
//	gen 3    gen 3     Contradiction: diverged. Otherwise the union: entries of both, the newer base, the higher floor
//	                   and what it drops, the longer head.
//
// Whatever the case: if I hold every index that they can know, nothing of theirs may change me; see DivergedKnown.
func MergeDocument(mine, theirs *DocView, k *Knowledge) Decision {
	switch {
	case !mine.Exists && !theirs.Exists:
		if theirs.Deleted > mine.Deleted {
			return Decision{Action: ActionRecord, Deleted: theirs.Deleted}
		}
		return Decision{Action: ActionKeep}
	case !theirs.Exists:
		return mergeAbsence(mine, theirs, k)
	case !mine.Exists:
		if mine.Deleted >= theirs.Head.Generation || k.Mine.Contains(theirs.Head.LastIndex) {
			return Decision{Action: ActionKeep}
		}
		return install(theirs, k)
	case mine.Head.Generation > theirs.Head.Generation:
		return Decision{Action: ActionKeep}
	case mine.Head.Generation < theirs.Head.Generation:
		return install(theirs, k)
	}
	if reason, seq := contradiction(mine, theirs); reason != "" {
		return Decision{Action: ActionDiverged, Reason: reason, Seq: seq}
	}
	return union(mine, theirs, k)
}

// mergeAbsence is for a document that I have and they do not.
func mergeAbsence(mine, theirs *DocView, k *Knowledge) Decision {
	recorded := theirs.Deleted >= mine.Head.Generation
	if !recorded && !k.Theirs.Contains(mine.Head.LastIndex) {
		return Decision{Action: ActionKeep}
	}
	if k.exhausted() {
		return Decision{Action: ActionDiverged, Reason: DivergedKnown, Seq: mine.Head.HeadSeq}
	}
	// My generation lived until LastIndex, so no other one was created up to there: all those generations are dead.
	return Decision{Action: ActionDelete, Deleted: max(theirs.Deleted, mine.Head.LastIndex)}
}

// install takes over their generation whole, as far as it is at hand.
func install(theirs *DocView, k *Knowledge) Decision {
	if k.exhausted() {
		return Decision{Action: ActionDiverged, Reason: DivergedKnown, Seq: theirs.Head.HeadSeq}
	}
	d := Decision{Action: ActionInstall, Head: theirs.Head, TakeBase: theirs.Head.HasBase}
	for i := range theirs.Entries {
		if theirs.Entries[i].End > theirs.Head.Floor {
			d.Take = append(d.Take, i)
		}
	}
	return d
}

// union merges two views of one generation that do not contradict each other.
func union(mine, theirs *DocView, k *Knowledge) Decision {
	d := Decision{Action: ActionUnion, Head: mine.Head}
	h, t := &d.Head, &theirs.Head
	changed := false
	if t.HasBase && (!h.HasBase || t.BaseIndex > h.BaseIndex) {
		h.HasBase, h.BaseSeq, h.BaseIndex, h.BaseBytes = true, t.BaseSeq, t.BaseIndex, t.BaseBytes
		d.TakeBase, changed = true, true
	}
	if t.HeadSeq > h.HeadSeq {
		h.HeadSeq, h.Chain, changed = t.HeadSeq, t.Chain, true
	}
	if t.FloorKnown && (!h.FloorKnown || t.Floor > h.Floor) {
		h.Floor, h.FloorKnown, changed = max(h.Floor, t.Floor), true, true
	}
	h.Dropped = h.Dropped || t.Dropped
	for i := range theirs.Entries {
		e := &theirs.Entries[i]
		if e.End > h.Floor && findMark(mine.Entries, e.End) == nil {
			d.Take, changed = append(d.Take, i), true
		}
	}
	if changed && k.exhausted() {
		return Decision{Action: ActionDiverged, Reason: DivergedKnown, Seq: t.HeadSeq}
	}
	// A command may leave no other trace than its index; that is no difference, but the absence rule wants to know it.
	if t.LastIndex > h.LastIndex {
		h.LastIndex, changed = t.LastIndex, true
	}
	if !changed {
		return Decision{Action: ActionKeep}
	}
	return d
}

// contradiction finds what two views of one generation cannot both have from one log. The chain hash covers the whole
// history, so one common seq is as good as all.
func contradiction(mine, theirs *DocView) (DivergenceReason, int64) {
	m, t := &mine.Head, &theirs.Head
	if m.HeadSeq == t.HeadSeq && m.Chain != t.Chain {
		return DivergedChain, m.HeadSeq
	}
	if m.HasBase && t.HasBase && m.BaseIndex == t.BaseIndex {
		if m.BaseSeq != t.BaseSeq || mine.BaseHash != 0 && theirs.BaseHash != 0 && mine.BaseHash != theirs.BaseHash {
			return DivergedBase, m.BaseSeq
		}
	}
	if reason, seq := headContradicts(t, mine.Entries); reason != "" {
		return reason, seq
	}
	if reason, seq := headContradicts(m, theirs.Entries); reason != "" {
		return reason, seq
	}
	for i := range theirs.Entries {
		if reason := marksContradict(mine.Entries, &theirs.Entries[i]); reason != "" {
			return reason, theirs.Entries[i].End
		}
	}
	return "", 0
}

// headContradicts compares a head's chain with the other side's entry that ends where the head does, and finds a delta
// that runs over the head.
func headContradicts(h *Head, marks []Mark) (DivergenceReason, int64) {
	i := sort.Search(len(marks), func(i int) bool { return marks[i].End >= h.HeadSeq })
	if i == len(marks) {
		return "", 0
	}
	e := &marks[i]
	switch {
	case e.End == h.HeadSeq && known(e.Chain) && e.Chain != h.Chain:
		return DivergedChain, h.HeadSeq
	case e.End > h.HeadSeq && e.Begin <= h.HeadSeq:
		return DivergedOverlap, h.HeadSeq
	}
	return "", 0
}

// marksContradict compares one entry with those of the other side that overlap it.
func marksContradict(marks []Mark, e *Mark) DivergenceReason {
	i := sort.Search(len(marks), func(i int) bool { return marks[i].End >= e.Begin })
	for ; i < len(marks) && marks[i].Begin <= e.End; i++ {
		o := &marks[i]
		if o.Begin != e.Begin || o.End != e.End {
			return DivergedOverlap
		}
		if known(o.Chain) && known(e.Chain) {
			if o.Chain != e.Chain {
				return DivergedChain
			}
		} else if o.Index != e.Index { // without chains, only one command can have brought both
			return DivergedChain
		}
	}
	return ""
}

// findMark returns the mark that ends at a seq.
func findMark(marks []Mark, end int64) *Mark {
	i := sort.Search(len(marks), func(i int) bool { return marks[i].End >= end })
	if i < len(marks) && marks[i].End == end {
		return &marks[i]
	}
	return nil
}

func known(c Chain) bool { return c != Chain{} }
