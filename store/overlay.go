package store

import (
	"bytes"
	"math"
	"sort"

	"github.com/cockroachdb/pebble/v2"
)

// overlay is what was staged of a document when a view of it was opened. The zero value: nothing.
//
// Laid over an instant of the engine that has the batch already, it shows the same as over one that has not: what the batch
// dropped stays hidden, and what it added is taken from here.
type overlay struct {
	stagedDoc
	staged  bool
	batch   *docBatch // whose memory is read, until release; nil: none is
	records []byte
}

// pin takes an instant of the engine, and what is staged of a document and may not be in it. Under the stage's lock nothing is
// shown that was not, nor forgotten because it was written: every acknowledged command is in one of the two, or in both.
//
// As a rule it shares the memory of the batch. Views that stay open would keep the memory of any number of batches, though: where they keep
// as much already as may be staged, a copy is made of what is of the document.
func (d *Documents) pin(p place) (*pebble.Snapshot, overlay) {
	snapshot, o, memory := d.share(p)
	if o.there() && d.engine.pinned.Load()+memory > stageTotal {
		o.own()
	}
	return snapshot, o
}

// share is pin without a copy; memory is that of the batch.
func (d *Documents) share(p place) (s *pebble.Snapshot, o overlay, memory int64) {
	d.stage.lock.RLock()
	defer d.stage.lock.RUnlock()
	return d.engine.db.NewSnapshot(), d.stage.overlay(p), d.stage.memory
}

// overlay returns what is staged of a document, to be released. The caller holds lock.
func (g *stage) overlay(p place) overlay {
	doc := g.doc(p)
	if doc == nil {
		return overlay{}
	}
	g.shown.users.Add(1) // the stage uses it as long as it shows it
	return overlay{*doc, true, g.shown, g.records}
}

// there reports whether the document is staged, be it that it is deleted.
func (o *overlay) there() bool { return o.staged }

// release ends the use of the batch.
func (o *overlay) release() {
	if o.batch != nil {
		o.batch.release()
		o.batch = nil
	}
}

// own copies what is of the document, and ends the use of the batch.
func (o *overlay) own() {
	size := o.base.size
	for i := range o.added {
		size += o.added[i].ref().size
	}
	records, added := make([]byte, 0, size), make([]addedEntry, len(o.added))
	take := func(r recordRef) (at int) {
		at = len(records)
		records = append(records, o.records[r.at:r.at+r.size]...)
		return at
	}
	o.base.at = take(o.base)
	for i, e := range o.added {
		added[i] = addedEntry{e.seq, take(e.ref()), e.stats}
	}
	o.records, o.added = records, added
	o.release()
}

// lowest returns the lowest end of an entry that is taken from the engine; false when none is.
func (o *overlay) lowest() (int64, bool) {
	switch {
	case !o.there():
		return math.MinInt64, true
	case !o.stored:
		return 0, false
	}
	return o.droppedTo + 1, true
}

// shows reports whether an entry that is not staged is taken from the engine, if it has one.
func (o *overlay) shows(end int64) bool {
	lowest, some := o.lowest()
	return some && end >= lowest
}

// baseValue returns a copy of the record of the base, when that is staged.
func (o *overlay) baseValue() ([]byte, bool) {
	if o.base.size == 0 {
		return nil, false
	}
	return o.value(o.base), true
}

// entryValue returns a copy of the record of an entry, when that is staged.
func (o *overlay) entryValue(end int64) ([]byte, bool) {
	i := o.from(end)
	if i == len(o.added) || o.added[i].seq != end {
		return nil, false
	}
	return o.value(o.added[i].ref()), true
}

// value copies a record: the caller keeps it for longer than the batch keeps its memory.
func (o *overlay) value(r recordRef) []byte { return bytes.Clone(o.records[r.at : r.at+r.size]) }

// from returns the place of the first staged entry that ends at a seq or behind it.
func (o *overlay) from(end int64) int {
	return sort.Search(len(o.added), func(i int) bool { return o.added[i].seq >= end })
}

// between returns the staged entries with first ≤ SeqEnd ≤ last.
func (o *overlay) between(first, last int64) []addedEntry {
	to := len(o.added)
	if last < math.MaxInt64 {
		to = o.from(last + 1)
	}
	return o.added[min(o.from(first), to):to]
}

// entryScan goes through entries of a view, those of the engine and those that are staged, in the order of their ends.
type entryScan struct {
	v       *View
	reverse bool
	it      *pebble.Iterator // nil: no entries are taken from the engine
	begun   bool
	stored  bool         // it is at an entry
	passed  bool         // next has moved past that one
	staged  []addedEntry // those that come

	end int64 // of the entry that next has moved to
	at  recordRef
}

// entries begins a scan of the entries with first ≤ SeqEnd ≤ last.
func (v *View) entries(first, last int64, reverse bool) (*entryScan, error) {
	s := &entryScan{v: v, reverse: reverse, staged: v.staged.between(first, last)}
	lowest, some := v.staged.lowest()
	if first = max(first, lowest); !some || first > last {
		return s, nil
	}
	lower := appendEntry(nil, v.partition, v.place, v.Head.Generation, first)
	upper := append(appendEntry(nil, v.partition, v.place, v.Head.Generation, last), 0)
	var err error
	if s.it, err = v.snapshot.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper}); err != nil {
		return nil, readError(v.partition, v.Key, kindEntry, err)
	}
	return s, nil
}

// next moves to the next entry, and reports whether there is one.
func (s *entryScan) next() bool {
	if !s.step() {
		return false
	}
	var stored int64
	if s.stored {
		stored = seqOf(s.it.Key())
	}
	if n := len(s.staged); n > 0 {
		first := &s.staged[0]
		if s.reverse {
			first = &s.staged[n-1]
		}
		if !s.stored || first.seq == stored || (first.seq < stored) != s.reverse {
			s.passed = s.stored && first.seq == stored // the batch was written already: once is enough
			s.end, s.at = first.seq, first.ref()
			if s.reverse {
				s.staged = s.staged[:n-1]
			} else {
				s.staged = s.staged[1:]
			}
			return true
		}
	}
	s.passed, s.end, s.at = s.stored, stored, recordRef{}
	return s.stored
}

// step moves the engine's iterator to the entry that was not passed yet. It reports whether that is known: a staged entry must
// not follow where the engine's can not be read.
func (s *entryScan) step() bool {
	if s.it == nil {
		return true
	}
	switch {
	case !s.begun && s.reverse:
		s.stored = s.it.Last()
	case !s.begun:
		s.stored = s.it.First()
	case s.passed && s.reverse:
		s.stored = s.it.Prev()
	case s.passed:
		s.stored = s.it.Next()
	}
	s.begun, s.passed = true, false
	return s.stored || s.it.Error() == nil
}

// entry decodes a copy of the entry that next has moved to.
func (s *entryScan) entry() (Entry, error) {
	if s.at.size > 0 {
		return s.v.decode(s.v.staged.value(s.at), s.end)
	}
	value, err := s.it.ValueAndErr()
	if err != nil {
		return Entry{}, readError(s.v.partition, s.v.Key, kindEntry, err)
	}
	return s.v.decode(bytes.Clone(value), s.end)
}

// close returns why the scan ended before its end, if it did.
func (s *entryScan) close() error {
	if s.it == nil {
		return nil
	}
	if err := s.it.Close(); err != nil {
		return readError(s.v.partition, s.v.Key, kindEntry, err)
	}
	return nil
}
