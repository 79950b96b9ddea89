package store

import (
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// View is one document at one instant: whatever is applied meanwhile, head, base and entries fit together. It pins that
// instant in the engine, and the memory of what was staged then, so it must be closed, and soon. Not safe for concurrent use.
type View struct {
	Head Head
	Key  Key

	d         *Documents
	engine    *DocEngine
	partition uint32
	place     place
	snapshot  *pebble.Snapshot // nil after Close
	staged    overlay
}

// View opens a document for reading; *NotFoundError when there is none. It neither waits for who applies commands, nor writes
// what is staged.
func (d *Documents) View(key Key) (*View, error) {
	p, err := d.place(key)
	if err != nil {
		return nil, err
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	d.instants.RLock()
	snapshot, staged := d.pin(p)
	v, err := d.viewAt(p, snapshot, staged)
	if spoiled := d.spoiled(); spoiled != nil { // since acquire: what was staged of the document is forgotten perhaps
		err = spoiled
	}
	if d.dropped.Load() { // since acquire: nothing is there any more perhaps
		err = ErrDropped
	}
	if err != nil {
		err = errors.Join(err, snapshot.Close())
		staged.release()
		d.instants.RUnlock()
		d.engine.release()
		return nil, err
	}
	return v, nil
}

// viewAt makes the view of an instant. The head comes from there too, never from the cache, which may be ahead.
func (d *Documents) viewAt(p place, snapshot *pebble.Snapshot, staged overlay) (*View, error) {
	h, ok := staged.head, staged.ok
	if !staged.there() {
		var err error
		if h, ok, err = readHead(snapshot, d.partition, p); err != nil {
			return nil, err
		}
	}
	if !ok {
		return nil, &NotFoundError{Key: p.key}
	}
	return &View{Head: h, Key: p.key, d: d, engine: d.engine, partition: d.partition, place: p, snapshot: snapshot, staged: staged}, nil
}

// Close releases the view. Closing twice is harmless.
func (v *View) Close() error {
	if v.snapshot == nil {
		return nil
	}
	err := v.snapshot.Close()
	v.snapshot = nil
	v.staged.release()
	v.staged = overlay{}
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
	b, ok := v.staged.baseValue()
	if !ok {
		var err error
		b, ok, err = get(v.snapshot, appendGeneration(nil, v.partition, v.place, kindBase, v.Head.Generation))
		if err != nil {
			return nil, readError(v.partition, v.Key, kindBase, err)
		}
	}
	if !ok {
		return nil, v.corrupt(kindBase, errors.New("missing"))
	}
	b, err := unseal(b)
	if err != nil {
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
	b, ok := v.staged.entryValue(seqEnd)
	if !ok && v.staged.shows(seqEnd) {
		var err error
		if b, ok, err = get(v.snapshot, appendEntry(nil, v.partition, v.place, v.Head.Generation, seqEnd)); err != nil {
			return Entry{}, false, readError(v.partition, v.Key, kindEntry, err)
		}
	}
	if !ok {
		return Entry{}, false, nil
	}
	e, err := v.decode(b, seqEnd)
	return e, err == nil, err
}

// NewestEnds returns the SeqEnds of up to n entries with SeqEnd ≤ seq, newest first, without reading the deltas.
func (v *View) NewestEnds(seq int64, n int) ([]int64, error) {
	s, err := v.entries(math.MinInt64, seq, true)
	if err != nil {
		return nil, err
	}
	var ends []int64
	for len(ends) < n && s.next() {
		ends = append(ends, s.end)
	}
	return ends, s.close()
}

// seqOf returns the seq that ends an entry's key.
func seqOf(key []byte) int64 { return decodeSeq(key[len(key)-8:]) }

// scan yields the entries with first ≤ SeqEnd ≤ last, decoding each as it is reached.
func (v *View) scan(first, last int64, reverse bool, yield func(Entry, error) bool) {
	s, err := v.entries(first, last, reverse)
	if err != nil {
		yield(Entry{}, err)
		return
	}
	for s.next() {
		e, err := s.entry()
		if !yield(e, err) || err != nil {
			_ = s.close() // the caller has its error, or wants no more
			return
		}
	}
	if err := s.close(); err != nil {
		yield(Entry{}, err)
	}
}

// decode decodes the record of an entry. The entry's slices alias it.
func (v *View) decode(value []byte, end int64) (Entry, error) {
	e, err := decodeEntryValue(value)
	if err == nil && e.SeqEnd != end {
		err = fmt.Errorf("%w: delta ends at %d under the key of %d", ErrEncoding, e.SeqEnd, end)
	}
	if err != nil {
		return Entry{}, v.corrupt(kindEntry, err)
	}
	return e, nil
}

func (v *View) corrupt(kind recordKind, err error) error {
	return &CorruptionError{Partition: v.partition, Key: v.Key, Kind: kind.String(), Err: err}
}
