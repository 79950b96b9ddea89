package adamant

import (
	"context"
	"errors"
	"iter"

	"github.com/adamantdb/adamant/internal/jsonmerge"
	"github.com/adamantdb/adamant/store"
)

// The three reads of the application contract (design §12), as functions of one consistent view. Each is one pass over
// the entries it needs and linear in them.
//
//	          Floor        BaseSeq                       HeadSeq
//	dropped │   ┌────────────┼──────────────────────────────┐
//	────────┴───┤ kept       │ merged by Get, over the base │
//	            └────────────┴──────────────────────────────┘
//	                  └ after ───── merged by HeadPatch ────┘
//	                  └ to ──────── merged by Rewind ───────┘

// errParted: some of the entries that a read merges are not here, as on a member with holes. What lies outside of a read does not matter
// to it: stale reads work wherever they are exact.
var errParted = errors.New("entries are missing")

// readDocument merges the base, if there is one, and the redo of every delta that ends after it.
func readDocument(ctx context.Context, v *store.View, key Key) (Document, error) {
	d := Document{Head: v.Head.HeadSeq}
	merged := jsonmerge.New(jsonmerge.Document)
	after := v.Head.Floor
	if v.Head.HasBase {
		base, err := v.Base()
		if err != nil {
			return Document{}, err
		}
		if err := merged.Base(base); err != nil {
			return Document{}, &NotJSONError{Key: key, Seq: v.Head.BaseSeq, Err: err}
		}
		d.Reads, after = 1, v.Head.BaseSeq
	}
	return d.merge(ctx, key, merged, whole(after, d.Head, v.Entries(after)), func(e *store.Entry) []byte { return e.Redo })
}

// readHeadPatch merges the redo of every delta that ends after a seq.
func readHeadPatch(ctx context.Context, v *store.View, key Key, after int64) (Document, error) {
	if err := checkKept(v, key, store.OpHeadPatch, after); err != nil {
		return Document{}, err
	}
	d := Document{Head: v.Head.HeadSeq}
	if after == v.Head.HeadSeq {
		d.JSON = []byte("{}")
		return d, nil
	}
	return d.merge(ctx, key, jsonmerge.New(jsonmerge.Patch), whole(max(after, v.Head.Floor), d.Head, v.Entries(after)), func(e *store.Entry) []byte { return e.Redo })
}

// readRewind merges the undo of every delta that ends after a seq, newest first.
func readRewind(ctx context.Context, v *store.View, key Key, to int64) (Document, error) {
	if err := checkKept(v, key, store.OpRewind, to); err != nil {
		return Document{}, err
	}
	d := Document{Head: v.Head.HeadSeq}
	if to == v.Head.HeadSeq {
		d.JSON = []byte("{}")
		return d, nil
	}
	return d.merge(ctx, key, jsonmerge.New(jsonmerge.Patch), whole(max(to, v.Head.Floor), d.Head, v.EntriesReverse(to)), func(e *store.Entry) []byte { return e.Undo })
}

// checkKept refuses a seq above the head, and one below the floor if deltas were dropped there. Below the first delta of
// a document that lost none everything is kept.
func checkKept(v *store.View, key Key, op store.Op, seq int64) error {
	if seq > v.Head.HeadSeq {
		return &FutureError{Key: key, Op: op, Seq: seq, Head: v.Head.HeadSeq}
	}
	if v.Head.Dropped && seq < v.Head.Floor {
		return &HorizonError{Key: key, Op: op, Seq: seq, Horizon: v.Head.Floor}
	}
	return nil
}

// whole passes on the entries that end after a seq, in either order, and errParted behind them unless they fill everything from there to
// the head.
func whole(after, head int64, entries iter.Seq2[store.Entry, error]) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		missing := head - after
		for e, err := range entries {
			if !yield(e, err) {
				return
			}
			missing -= e.SeqEnd - max(e.SeqBegin-1, after) // no two deltas of a document overlap
		}
		if missing != 0 {
			yield(store.Entry{}, errParted)
		}
	}
}

// merge adds one patch of every entry and completes the document. A context that ends stops it: documents may be large.
func (d Document) merge(ctx context.Context, key Key, merged *jsonmerge.Accumulator, entries iter.Seq2[store.Entry, error], patch func(*store.Entry) []byte) (Document, error) {
	for e, err := range entries {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return Document{}, err
		}
		if err := merged.Add(patch(&e)); err != nil {
			return Document{}, &NotJSONError{Key: key, Seq: e.SeqEnd, Err: err}
		}
		d.Reads++
	}
	var err error
	d.JSON, err = merged.Result()
	return d, err
}
