package store

import (
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// View is one document at one instant: whatever is applied meanwhile, head, base and entries fit together. It pins that
// instant in the engine, so it must be closed, and soon. Not safe for concurrent use.
type View struct {
	Head Head
	Key  Key

	d         *Documents
	engine    *DocEngine
	partition uint32
	place     place
	snapshot  *pebble.Snapshot // nil after Close
}

// View opens a document for reading; *NotFoundError when there is none.
func (d *Documents) View(key Key) (*View, error) {
	p, err := d.place(key)
	if err != nil {
		return nil, err
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	if err := d.flushDocument(key); err != nil {
		d.engine.release()
		return nil, err
	}
	d.instants.RLock()
	snapshot := d.engine.db.NewSnapshot()
	v, err := d.viewAt(p, snapshot)
	if spoiled := d.spoiled(); spoiled != nil { // since acquire: what was staged of the document is not in the snapshot
		err = spoiled
	}
	if err != nil {
		err = errors.Join(err, snapshot.Close())
		d.instants.RUnlock()
		d.engine.release()
		return nil, err
	}
	return v, nil
}

// viewAt makes the view of an instant. The head comes from the snapshot too, never from the cache, which may be ahead.
func (d *Documents) viewAt(p place, snapshot *pebble.Snapshot) (*View, error) {
	h, ok, err := readHead(snapshot, d.partition, p)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &NotFoundError{Key: p.key}
	}
	return &View{Head: h, Key: p.key, d: d, engine: d.engine, partition: d.partition, place: p, snapshot: snapshot}, nil
}

// Close releases the view. Closing twice is harmless.
func (v *View) Close() error {
	if v.snapshot == nil {
		return nil
	}
	err := v.snapshot.Close()
	v.snapshot = nil
	v.d.instants.RUnlock()
	v.engine.release()
	if err != nil {
		return fmt.Errorf("store: close view of %s: %w", v.Key, err)
	}
	return nil
}

// Base returns the base; nil when the document has none (Head.HasBase).
func (v *View) Base() ([]byte, error) {
	if !v.Head.HasBase {
		return nil, nil
	}
	b, ok, err := get(v.snapshot, appendGeneration(nil, v.partition, v.place, kindBase, v.Head.Generation))
	if err != nil {
		return nil, readError(v.partition, v.Key, kindBase, err)
	}
	if !ok {
		return nil, v.corrupt(kindBase, errors.New("missing"))
	}
	if b, err = unseal(b); err != nil {
		return nil, v.corrupt(kindBase, err)
	}
	return b, nil
}

// Entries iterates in order over the entries with SeqEnd > after. The entries' memory is the caller's. After an error
// the iteration ends.
func (v *View) Entries(after int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if after == math.MaxInt64 {
			return
		}
		v.scan(after+1, math.MaxInt64, false, yield)
	}
}

// EntriesReverse iterates, newest first, over the entries with SeqEnd > downTo.
func (v *View) EntriesReverse(downTo int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if downTo == math.MaxInt64 {
			return
		}
		v.scan(downTo+1, math.MaxInt64, true, yield)
	}
}

// EntryAt returns the entry whose delta ends at a seq.
func (v *View) EntryAt(seqEnd int64) (Entry, bool, error) {
	key := appendEntry(nil, v.partition, v.place, v.Head.Generation, seqEnd)
	b, ok, err := get(v.snapshot, key)
	if err != nil {
		return Entry{}, false, readError(v.partition, v.Key, kindEntry, err)
	}
	if !ok {
		return Entry{}, false, nil
	}
	e, err := decodeEntryValue(b)
	if err == nil && e.SeqEnd != seqEnd {
		err = fmt.Errorf("%w: delta ends at %d under the key of %d", ErrEncoding, e.SeqEnd, seqEnd)
	}
	if err != nil {
		return Entry{}, false, v.corrupt(kindEntry, err)
	}
	return e, true, nil
}

// NewestEnds returns the SeqEnds of up to n entries with SeqEnd ≤ seq, newest first, without reading the deltas.
func (v *View) NewestEnds(seq int64, n int) ([]int64, error) {
	it, err := v.iterator(math.MinInt64, seq)
	if err != nil {
		return nil, err
	}
	var ends []int64
	for ok := it.Last(); ok && len(ends) < n; ok = it.Prev() {
		ends = append(ends, seqOf(it.Key()))
	}
	if err := it.Close(); err != nil {
		return nil, readError(v.partition, v.Key, kindEntry, err)
	}
	return ends, nil
}

// seqOf returns the seq that ends an entry's key.
func seqOf(key []byte) int64 { return decodeSeq(key[len(key)-8:]) }

// iterator covers the entries with first ≤ SeqEnd ≤ last.
func (v *View) iterator(first, last int64) (*pebble.Iterator, error) {
	lower := appendEntry(nil, v.partition, v.place, v.Head.Generation, first)
	upper := append(appendEntry(nil, v.partition, v.place, v.Head.Generation, last), 0)
	it, err := v.snapshot.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readError(v.partition, v.Key, kindEntry, err)
	}
	return it, nil
}

// scan yields the entries with first ≤ SeqEnd ≤ last, decoding each as it is reached.
func (v *View) scan(first, last int64, reverse bool, yield func(Entry, error) bool) {
	it, err := v.iterator(first, last)
	if err != nil {
		yield(Entry{}, err)
		return
	}
	start, next := it.First, it.Next
	if reverse {
		start, next = it.Last, it.Prev
	}
	for ok := start(); ok; ok = next() {
		e, err := v.decode(it)
		if !yield(e, err) || err != nil {
			_ = it.Close() // the caller has its error, or wants no more
			return
		}
	}
	if err := it.Close(); err != nil {
		yield(Entry{}, readError(v.partition, v.Key, kindEntry, err))
	}
}

// decode copies and decodes the entry an iterator stands at.
func (v *View) decode(it *pebble.Iterator) (Entry, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return Entry{}, readError(v.partition, v.Key, kindEntry, err)
	}
	e, err := decodeEntryValue(append([]byte(nil), value...))
	if err == nil && e.SeqEnd != seqOf(it.Key()) {
		err = fmt.Errorf("%w: delta ends at %d under the key of %d", ErrEncoding, e.SeqEnd, seqOf(it.Key()))
	}
	if err != nil {
		return Entry{}, v.corrupt(kindEntry, err)
	}
	return e, nil
}

func (v *View) corrupt(kind recordKind, err error) error {
	return &CorruptionError{Partition: v.partition, Key: v.Key, Kind: kind.String(), Err: err}
}
