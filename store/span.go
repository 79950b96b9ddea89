package store

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
)

// walker reads records of one kind in a span of a bucket's hashes. It only goes forward, so that reading one document
// after the other costs no more than reading on: an iterator for each would cost more than a small document does.
type walker struct {
	partition uint32
	kind      recordKind
	it        *pebble.Iterator
	begun     bool
	key       []byte // scratch
}

func newWalker(r pebble.Reader, partition uint32, bucket uint8, kind recordKind, from, to uint64) (*walker, error) {
	lower, upper := hashSpan(partition, bucket, kind, from, to)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readError(partition, Key{}, kind, err)
	}
	return &walker{partition: partition, kind: kind, it: it}, nil
}

// seek moves to the first record at or behind a key, and reports whether there is one. Keys come in ascending order.
func (w *walker) seek(key []byte) bool {
	switch {
	case !w.begun:
		w.begun = true
		return w.it.SeekGE(key)
	case !w.it.Valid():
		return false
	case bytes.Compare(w.it.Key(), key) >= 0:
		return true
	}
	return w.it.SeekGE(key)
}

func (w *walker) next() bool { return w.it.Next() }

// under visits the heads or delete records of one hash.
func (w *walker) under(bucket uint8, hash uint64, visit func(recordKey, []byte) error) error {
	prefix := binary.BigEndian.AppendUint64(appendKind(w.key[:0], w.partition, bucket, w.kind), hash)
	w.key = prefix
	for ok := w.seek(prefix); ok && bytes.HasPrefix(w.it.Key(), prefix); ok = w.next() {
		k, err := decodeRecordKey(w.it.Key())
		if err != nil {
			return w.corrupt(Key{}, err)
		}
		v, err := w.value(k.key)
		if err != nil {
			return err
		}
		if err := visit(k, v); err != nil {
			return w.corrupt(k.key, err)
		}
	}
	return w.failed(Key{})
}

// head returns one document's head; false when there is none.
func (w *walker) head(p place) (Head, bool, error) {
	key := appendDocument(w.key[:0], w.partition, p, kindHead)
	w.key = key
	if !w.seek(key) || !bytes.Equal(w.it.Key(), key) {
		return Head{}, false, w.failed(p.key)
	}
	v, err := w.value(p.key)
	if err != nil {
		return Head{}, false, err
	}
	h, err := decodeHeadBody(v)
	if err != nil {
		return Head{}, false, w.corrupt(p.key, err)
	}
	return h, true, nil
}

// failed returns why the walker found nothing, if that is not because there is nothing.
func (w *walker) failed(key Key) error {
	if err := w.it.Error(); err != nil {
		return readError(w.partition, key, w.kind, err)
	}
	return nil
}

// value returns the sealed part of the record at hand, verified. It is valid until the walker moves.
func (w *walker) value(key Key) ([]byte, error) {
	v, err := w.it.ValueAndErr()
	if err != nil {
		return nil, readError(w.partition, key, w.kind, err)
	}
	if v, err = unseal(v); err != nil {
		return nil, w.corrupt(key, err)
	}
	return v, nil
}

func (w *walker) corrupt(key Key, err error) error {
	return &CorruptionError{Partition: w.partition, Key: key, Kind: w.kind.String(), Err: err}
}

// close may be called for a walker that was never opened.
func (w *walker) close() {
	if w != nil {
		_ = w.it.Close() // failed and value have reported its errors
	}
}
