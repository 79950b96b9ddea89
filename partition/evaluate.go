package partition

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/adamantdb/adamant/store"
)

// Limits bound what one operation may propose. The zero value of a field means the default.
type Limits struct {
	DeltaBytes    int // encoded size of one delta; default 1 MiB
	CommandBytes  int // sum of the deltas, or the base, of one operation; default 4 MiB
	DocumentBytes int // stored size of one document; default 256 MiB
	InFlight      int // proposals of one partition at once; default 256
	// InFlightBytes bounds their commands together, but for one that is larger alone; default 64 MiB.
	InFlightBytes int64
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.DeltaBytes, 1<<20)
	set(&l.CommandBytes, 4<<20)
	set(&l.DocumentBytes, 256<<20)
	set(&l.InFlight, 256)
	if l.InFlightBytes <= 0 {
		l.InFlightBytes = 64 << 20
	}
	return l
}

// Operation is what a caller asks of the leader, before evaluation.
type Operation struct {
	Kind    store.Kind
	Key     store.Key
	Deltas  []store.Delta // Create: exactly one; Append: one or more
	Seq     int64         // Compact, Replace: seq of the base
	JSON    []byte        // Compact, Replace: the base
	History int           // Compact: deltas to keep at or before the base
	Cut     bool          // Compact: in place of History, none; for a document of which deltas before the base are lost
	Epoch   uint64        // the leadership to write in, and in no other; 0: any
}

// document is what an evaluation knows of a key: the head it will build upon, and how to look at stored entries. A nil
// document does not exist.
type document struct {
	head store.Head
	view entryView
}

// entryView is the part of store.View that evaluation reads.
type entryView interface {
	// EntryAt returns the entry whose delta ends at seqEnd.
	EntryAt(seqEnd int64) (store.Entry, bool, error)
	// NewestEnds returns the SeqEnds of up to n entries with SeqEnd ≤ seq, newest first.
	NewestEnds(seq int64, n int) ([]int64, error)
}

// verdict is the outcome of an evaluation without error: either a mutation to propose, or nothing because the
// operation's effect is already there.
type verdict struct {
	changes bool  // false: already so
	head    int64 // head seq after the operation
}

// worksheet is what an evaluation writes to.
type worksheet struct {
	mutation store.Mutation // to propose, if the verdict says so
	scratch  []byte         // for the encoding of a delta; may be used for the next evaluation
}

// keptScratch is how much memory a worksheet keeps for the next evaluation.
const keptScratch = 4 << 10

// clear lets go of what belongs to an operation.
func (w *worksheet) clear() {
	w.mutation = store.Mutation{}
	if cap(w.scratch) > keptScratch {
		w.scratch = nil
	}
}

// evaluate decides what an operation does to a document (design §3.3, §12). It is pure but for reads through the view.
// doc is nil for a document that does not exist.
func evaluate(op *Operation, doc *document, limits Limits, w *worksheet) (verdict, error) {
	switch op.Kind {
	case store.Create:
		return evaluateCreate(op, doc, limits, w)
	case store.Append:
		return evaluateAppend(op, doc, limits, w)
	case store.Compact:
		return evaluateCompact(op, doc, limits, w)
	case store.Replace:
		return evaluateReplace(op, doc, limits, w)
	case store.Delete:
		if doc == nil {
			return verdict{}, nil
		}
		w.mutation = store.Mutation{Kind: store.Delete, Key: op.Key, Generation: doc.head.Generation}
		return verdict{changes: true}, nil
	}
	return verdict{}, &store.InvalidError{Key: op.Key, Reason: fmt.Sprintf("unknown operation %d", op.Kind)}
}

func evaluateCreate(op *Operation, doc *document, limits Limits, w *worksheet) (verdict, error) {
	if len(op.Deltas) != 1 {
		return verdict{}, &store.InvalidError{Key: op.Key, Reason: fmt.Sprintf("create takes one delta, got %d", len(op.Deltas))}
	}
	if _, err := checkDeltas(op, limits); err != nil {
		return verdict{}, err
	}
	if doc != nil {
		return verdict{}, &store.ExistsError{Key: op.Key}
	}
	d := op.Deltas[0]
	w.mutation = store.Mutation{Kind: store.Create, Key: op.Key, Deltas: op.Deltas, HeadSeq: d.SeqEnd,
		Chain: store.SeedChain(op.Key).Next(d.AppendBinary(nil))}
	return verdict{changes: true, head: d.SeqEnd}, nil
}

func evaluateAppend(op *Operation, doc *document, limits Limits, w *worksheet) (verdict, error) {
	if len(op.Deltas) == 0 {
		return verdict{}, &store.InvalidError{Key: op.Key, Reason: "append of an empty list"}
	}
	size, err := checkDeltas(op, limits)
	if err != nil {
		return verdict{}, err
	}
	if doc == nil {
		return verdict{}, &store.NotFoundError{Key: op.Key}
	}
	head := doc.head
	last := op.Deltas[len(op.Deltas)-1].SeqEnd
	if first := op.Deltas[0].SeqBegin; first != head.HeadSeq+1 {
		same := false
		if last <= head.HeadSeq {
			if same, err = alreadyApplied(op.Deltas, doc.view); err != nil {
				return verdict{}, err
			}
		}
		if !same {
			return verdict{}, &store.SeqMismatchError{Key: op.Key, Head: head.HeadSeq}
		}
		return verdict{head: head.HeadSeq}, nil
	}
	if total := head.Bytes + head.BaseBytes + int64(size); total > int64(limits.DocumentBytes) {
		return verdict{}, &store.TooLargeError{Key: op.Key, What: "document", Size: total, Limit: int64(limits.DocumentBytes)}
	}
	chain := head.Chain
	w.scratch = slices.Grow(w.scratch[:0], size)
	for i := range op.Deltas {
		w.scratch = op.Deltas[i].AppendBinary(w.scratch[:0])
		chain = chain.Next(w.scratch)
	}
	w.mutation = store.Mutation{Kind: store.Append, Key: op.Key, Generation: head.Generation, Deltas: op.Deltas, HeadSeq: last,
		Prior: head.Chain, Chain: chain}
	return verdict{changes: true, head: last}, nil
}

// checkDeltas verifies sizes and that the deltas follow each other without a gap; it returns their encoded size.
func checkDeltas(op *Operation, limits Limits) (int, error) {
	total := 0
	for i := range op.Deltas {
		d := &op.Deltas[i]
		if d.SeqBegin < 0 || d.SeqEnd < d.SeqBegin {
			return 0, &store.InvalidError{Key: op.Key, Reason: fmt.Sprintf("delta %d has the seq range [%d, %d]", i, d.SeqBegin, d.SeqEnd)}
		}
		if i > 0 && d.SeqBegin != op.Deltas[i-1].SeqEnd+1 {
			return 0, &store.InvalidError{Key: op.Key, Reason: fmt.Sprintf("delta %d begins at %d, the one before ends at %d", i, d.SeqBegin, op.Deltas[i-1].SeqEnd)}
		}
		size := d.Size()
		if size > limits.DeltaBytes {
			return 0, &store.TooLargeError{Key: op.Key, What: "delta", Size: int64(size), Limit: int64(limits.DeltaBytes)}
		}
		total += size
	}
	if total > limits.CommandBytes {
		return 0, &store.TooLargeError{Key: op.Key, What: "list of deltas", Size: int64(total), Limit: int64(limits.CommandBytes)}
	}
	return total, nil
}

// alreadyApplied reports whether every delta is stored, byte for byte: the caller retries what has succeeded. Deltas that
// compaction dropped cannot be told from others; the caller then gets a sequence mismatch and catches up.
func alreadyApplied(deltas []store.Delta, view entryView) (bool, error) {
	var mine, theirs []byte
	for i := range deltas {
		e, ok, err := view.EntryAt(deltas[i].SeqEnd)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, nil
		}
		mine, theirs = deltas[i].AppendBinary(mine[:0]), e.Delta.AppendBinary(theirs[:0])
		if !bytes.Equal(mine, theirs) {
			return false, nil
		}
	}
	return true, nil
}

// evaluateCompact finds the new floor: the end of the newest delta that is dropped. Of the deltas that end at or before
// the base, the newest `history` are kept.
//
//	seq      1  2  3  4  5  6  7  8         history 2, base at 6
//	entries  ─────────────┤  ├──┤  ├──      5 and 6 kept for HeadPatch and Rewind, 7.. because they follow the base
//	                   floor = 4    ^ base
func evaluateCompact(op *Operation, doc *document, limits Limits, w *worksheet) (verdict, error) {
	if op.History <= 0 && !op.Cut {
		return verdict{}, &store.HistoryError{Key: op.Key, History: op.History}
	}
	if err := checkBase(op, limits); err != nil {
		return verdict{}, err
	}
	if doc == nil {
		return verdict{}, &store.NotFoundError{Key: op.Key}
	}
	head := doc.head
	if op.Seq > head.HeadSeq {
		return verdict{}, &store.FutureError{Key: op.Key, Op: store.OpCompact, Seq: op.Seq, Head: head.HeadSeq}
	}
	if head.HasBase && op.Seq < head.BaseSeq || op.Seq < head.Floor {
		return verdict{head: head.HeadSeq}, nil // older than what is there: changes nothing
	}
	floor, dropped := head.Floor, head.Dropped
	if op.Cut {
		floor, dropped = op.Seq, true
	} else if int64(op.History) < head.Entries {
		ends, err := doc.view.NewestEnds(op.Seq, op.History+1)
		if err != nil {
			return verdict{}, err
		}
		if len(ends) > op.History && ends[op.History] > floor {
			floor, dropped = ends[op.History], true
		}
	}
	w.mutation = store.Mutation{Kind: store.Compact, Key: op.Key, Generation: head.Generation, HeadSeq: head.HeadSeq, Chain: head.Chain,
		BaseSeq: op.Seq, Base: op.JSON, Floor: floor, Dropped: dropped}
	return verdict{changes: true, head: head.HeadSeq}, nil
}

func evaluateReplace(op *Operation, doc *document, limits Limits, w *worksheet) (verdict, error) {
	if err := checkBase(op, limits); err != nil {
		return verdict{}, err
	}
	if doc == nil {
		return verdict{}, &store.NotFoundError{Key: op.Key}
	}
	w.mutation = store.Mutation{Kind: store.Replace, Key: op.Key, HeadSeq: op.Seq, Chain: store.SeedChain(op.Key).Replaced(op.Seq, op.JSON),
		BaseSeq: op.Seq, Base: op.JSON, Floor: op.Seq, Dropped: true}
	return verdict{changes: true, head: op.Seq}, nil
}

func checkBase(op *Operation, limits Limits) error {
	if op.Seq < 0 {
		return &store.InvalidError{Key: op.Key, Reason: fmt.Sprintf("snapshot at the negative seq %d", op.Seq)}
	}
	limit := min(limits.CommandBytes, limits.DocumentBytes)
	if len(op.JSON) > limit {
		return &store.TooLargeError{Key: op.Key, What: "snapshot", Size: int64(len(op.JSON)), Limit: int64(limit)}
	}
	return nil
}
