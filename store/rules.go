package store

import (
	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// This file and merge.go are the rules of design §5 and §6, and nothing else: no engine, no lock, no clock. Applying,
// importing, sessions and holes go through them, and so does the exhaustive search in package partition, which visits
// every state that a few commands and faults can lead to.

// Complete reports whether a member holds exactly what the log prescribes at an index: it has no holes, and nothing that
// it learned from others lies beyond (design §6, "ahead").
func Complete(holes interval.Set, ahead, applied uint64) bool {
	return holes.Empty() && ahead <= applied
}

// Coverage is the set of indexes whose effect a member holds in a bucket: [1, applied] minus its holes, and what the
// bucket has healed of those. For all buckets together healed is empty.
func Coverage(applied uint64, holes, healed interval.Set) interval.Set {
	covered := interval.Of(1, applied).Minus(holes)
	if healed.Empty() {
		return covered
	}
	return covered.Union(healed)
}

// Skip is what the holes of a member become that moves from its applied index to a marker's (design §5.2, §5.4). An
// older marker changes nothing.
func Skip(holes interval.Set, applied, marker uint64) interval.Set {
	if marker <= applied {
		return holes
	}
	return holes.Union(interval.Of(applied+1, marker))
}

// Answers is what a session has to know of a peer's answers to say what they heal (design §6, "session"). Its zero value
// with Applied set is a session that begins.
type Answers struct {
	Applied  uint64       // by the asker, when the session began
	Given    bool         // the peer has answered
	Covered  interval.Set // by all of the peer's answers so far
	Seen     uint64       // the highest index visible in any of them
	Diverged bool         // a document contradicted the peer's, and was not merged
}

// Answer takes note of one answer: what the peer covers of the bucket, has applied, and has learned from others. A peer
// that crashed may come back with less than it had, so the smallest coverage counts.
func (a *Answers) Answer(coverage interval.Set, applied, ahead uint64) {
	a.Seen = max(a.Seen, applied, ahead)
	if !a.Given {
		a.Given, a.Covered = true, coverage
		return
	}
	a.Covered = a.Covered.Intersect(coverage)
}

// Heals is what the bucket holds the effect of once everything that the peer answered was merged. A hole that appeared
// while the session ran lies above Applied and is not healed by it.
func (a *Answers) Heals() interval.Set {
	if !a.Given || a.Diverged {
		return nil
	}
	return a.Covered.Intersect(interval.Of(1, a.Applied))
}

// AddHealed is a bucket's progress after a session: of what it heals, only what lies in the member's holes is kept.
func AddHealed(progress, heals, holes interval.Set) interval.Set {
	return progress.Union(heals.Intersect(holes))
}

// HealedEverywhere is the part of a member's holes that all buckets, numbered from 0, have healed. Nothing less may be
// closed.
func HealedEverywhere(holes interval.Set, buckets int, progress func(bucket int) interval.Set) interval.Set {
	healed := holes
	for i := range buckets {
		if healed.Empty() {
			break
		}
		healed = healed.Intersect(progress(i))
	}
	return healed
}

// DocTarget is one document while a command or a merge changes it.
type DocTarget interface {
	// Head returns the facts, which may be assigned to; nil when there is no document.
	Head() *Head
	// Deleted is the index of the delete record; 0: none. There is none where there is a document.
	Deleted() uint64
	// Restart begins a generation without base and entries; what there was of another one goes, a delete record too.
	Restart(Head) error
	// Remove deletes the document, if there is one.
	Remove() error
	// PutDeleteRecord notes when a document that is not there was deleted; the newest record stays.
	PutDeleteRecord(index uint64) error
	// PutBase stores the base of the present generation in place of the one it has.
	PutBase(seq int64, index uint64, base []byte) error
	// PutEntry stores an entry unless it is there or lies at or below the floor, and moves head seq and chain forward
	// with it, never back. The entry is the caller's.
	PutEntry(e *Entry) error
	// DropEntries drops the entries with SeqEnd ≤ upTo.
	DropEntries(upTo int64) error
	// Changed says that fields of the head were assigned to.
	Changed()
}

// Replay lets one command take effect on a document. It decides nothing, but never lets an older command undo newer
// knowledge (design §6, "no regress"). sick: the member is not Complete even with the command applied; then a delete
// leaves a record. It returns whether the command contradicts what the member holds.
func Replay(t DocTarget, m *Mutation, sick bool) (diverged bool, err error) {
	a := application{t: t}
	return a.replay(m, sick)
}

// application is a mutation meeting a document. It may be used again for the next one.
type application struct {
	t        DocTarget
	m        *Mutation
	sick     bool
	diverged bool

	entry Entry  // scratch
	value []byte // scratch
}

// replay lets the mutation take effect unless its generation is known to be over: a newer one is there, or a delete record
// says so. A record kills every generation up to its index.
func (a *application) replay(m *Mutation, sick bool) (diverged bool, err error) {
	a.m, a.sick, a.diverged = m, sick, false
	generation := a.generation()
	if h := a.t.Head(); h != nil && h.Generation > generation || a.t.Deleted() >= generation {
		return false, nil
	}
	switch m.Kind {
	case Create:
		err = a.create()
	case Append:
		err = a.append()
	case Compact:
		err = a.compact()
	case Replace:
		err = a.replace()
	case Delete:
		err = a.delete()
	default:
		err = m.invalid("unknown kind")
	}
	return a.diverged, err
}

// generation returns which generations the mutation concerns: this one and, what it ends, all before.
func (a *application) generation() uint64 {
	if a.m.Kind == Append || a.m.Kind == Compact {
		return a.m.Generation
	}
	return a.m.Index
}

// create starts a generation. When that generation is there already it was pulled ahead: then only what the source
// lacked is filled in, which is nothing unless the source had not seen the creation itself.
func (a *application) create() error {
	floor := a.m.Deltas[0].SeqBegin - 1
	if h := a.t.Head(); h == nil || h.Generation != a.m.Index {
		err := a.t.Restart(Head{Generation: a.m.Index, LastIndex: a.m.Index, HeadSeq: floor, Chain: SeedChain(a.m.Key),
			Floor: floor, FloorKnown: true})
		if err != nil {
			return err
		}
	} else {
		a.touch(h)
		h.Floor, h.FloorKnown = max(h.Floor, floor), true
	}
	return a.putDeltas(SeedChain(a.m.Key))
}

func (a *application) append() error {
	h := a.t.Head()
	if !a.sick && (h == nil || h.Generation != a.m.Generation || h.HeadSeq+1 < a.m.Deltas[0].SeqBegin) {
		// A member that has seen everything knows what an append follows. The command is wrong, here and everywhere.
		a.diverged = true
	}
	h, err := a.join()
	if err != nil {
		return err
	}
	a.touch(h)
	return a.putDeltas(a.m.Prior)
}

// compact brings a base and raises the floor. Of two bases the one of the higher index stays; floors only rise.
func (a *application) compact() error {
	h, err := a.join()
	if err != nil {
		return err
	}
	a.touch(h)
	if a.m.Index > h.BaseIndex {
		if err := a.t.PutBase(a.m.BaseSeq, a.m.Index, a.m.Base); err != nil {
			return err
		}
	}
	a.forward(h, a.m.Chain)
	h.Floor, h.FloorKnown = max(h.Floor, a.m.Floor), true
	h.Dropped = h.Dropped || a.m.Dropped
	return a.t.DropEntries(h.Floor)
}

// replace starts a generation that consists of a base; of one that was pulled ahead, that is a compaction to the base.
func (a *application) replace() error {
	if h := a.t.Head(); h != nil && h.Generation == a.m.Index {
		return a.compact()
	}
	err := a.t.Restart(Head{Generation: a.m.Index, LastIndex: a.m.Index, HeadSeq: a.m.BaseSeq, Chain: a.m.Chain,
		Floor: a.m.BaseSeq, FloorKnown: true, Dropped: a.m.Dropped})
	if err != nil {
		return err
	}
	return a.t.PutBase(a.m.BaseSeq, a.m.Index, a.m.Base)
}

// delete removes the document. A sick member remembers that: its coverage alone cannot tell others' copies from news.
func (a *application) delete() error {
	if err := a.t.Remove(); err != nil || !a.sick {
		return err
	}
	return a.t.PutDeleteRecord(a.m.Index)
}

// join makes sure that the document is there in the mutation's generation: a sick member may not have seen its
// creation. How far down its deltas go is then unknown.
func (a *application) join() (*Head, error) {
	if h := a.t.Head(); h != nil && h.Generation == a.generation() {
		return h, nil
	}
	err := a.t.Restart(Head{Generation: a.generation(), LastIndex: a.m.Index, HeadSeq: neutralFloor, Floor: neutralFloor})
	return a.t.Head(), err
}

// touch raises the last index.
func (a *application) touch(h *Head) {
	h.LastIndex = max(h.LastIndex, a.m.Index)
	a.t.Changed()
}

// forward moves head seq and chain to the command's when that is ahead of what is there.
func (a *application) forward(h *Head, chain Chain) {
	switch {
	case a.m.HeadSeq > h.HeadSeq:
		h.HeadSeq, h.Chain = a.m.HeadSeq, chain
	case a.m.HeadSeq == h.HeadSeq && h.Chain != chain:
		a.diverged = true
	}
}

// putDeltas stores the mutation's deltas; prior is the chain before the first one, if the caller knows it.
func (a *application) putDeltas(prior Chain) error {
	h := a.t.Head()
	known := prior != Chain{}
	if h.HeadSeq+1 == a.m.Deltas[0].SeqBegin && h.HeadSeq >= 0 {
		// This member's own history decides: if the leader built upon another one, its chain must not cover that up.
		known, prior = true, h.Chain
	}
	e := &a.entry
	for i := range a.m.Deltas {
		*e = Entry{Delta: a.m.Deltas[i], Index: a.m.Index, Term: a.m.Term}
		last := i == len(a.m.Deltas)-1
		if known {
			a.value = e.Delta.AppendBinary(a.value[:0])
			prior = prior.Next(a.value)
			e.Chain = prior
		} else if last {
			e.Chain = a.m.Chain
		}
		if last && e.Chain != a.m.Chain {
			a.diverged = true
		}
		if err := a.t.PutEntry(e); err != nil {
			return err
		}
	}
	a.forward(h, a.m.Chain) // a delta that was there already stays, but it has to be the same
	return nil
}

// Perform does to a document what was decided about it. records: the member keeps delete records, for it will not be
// Complete afterwards. take stores what the decision wants of the peer's (Take, TakeBase).
func (d *Decision) Perform(t DocTarget, records bool, take func() error) error {
	switch d.Action {
	case ActionRecord, ActionDelete:
		if d.Action == ActionDelete {
			if err := t.Remove(); err != nil {
				return err
			}
		}
		if !records {
			return nil
		}
		return t.PutDeleteRecord(d.Deleted)
	case ActionInstall:
		h := d.Head
		h.HasBase, h.BaseSeq, h.BaseIndex, h.BaseBytes = false, 0, 0, 0
		h.Span, h.Entries, h.Bytes = 0, 0, 0
		if err := t.Restart(h); err != nil {
			return err
		}
		return take()
	case ActionUnion:
		m, h := &d.Head, t.Head()
		rises := m.Floor > h.Floor
		h.LastIndex, h.HeadSeq, h.Chain = m.LastIndex, m.HeadSeq, m.Chain
		h.Floor, h.FloorKnown, h.Dropped = m.Floor, m.FloorKnown, m.Dropped
		t.Changed()
		if rises {
			if err := t.DropEntries(h.Floor); err != nil {
				return err
			}
		}
		return take()
	}
	return nil
}

// AddDocument lists a document that lies under a hash, or counts it in Rest; listed: the other side has listed the hash.
func (l *Listing) AddDocument(hash uint64, key Key, h *Head, listed bool) {
	sum, gap := leaf(key, h), h.Gap()
	if h.LastIndex <= l.Since && !gap && !listed {
		l.Rest = l.Rest.Add(merkle.Bucket{Sum: sum, Count: 1})
		return
	}
	l.Rows = append(l.Rows, Row{Hash: hash, LastIndex: h.LastIndex, Generation: h.Generation, Leaf: sum.A, Gap: gap})
}

// AddDelete lists a delete record.
func (l *Listing) AddDelete(hash, index uint64, listed bool) {
	if index > l.Since || listed {
		l.Rows = append(l.Rows, Row{Hash: hash, LastIndex: index})
	}
}
