package store

import (
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// Bounds of one call of Wants, so that a query fits into memory and a frame.
const (
	maxWants      = 1024  // hashes
	maxWantRanges = 16384 // held ranges, of all documents together
	maxWantScan   = 65536 // entries read to find them: a query asks for little of a long document at a time anyway
)

// Wants describes what this member has under some hashes of a bucket (ascending; from a Plan, or wherever documents
// are missed), for an export query that starts at a cursor. It may describe fewer hashes than given, but at least one
// unless all lie before the cursor: the caller asks for the rest afterwards.
//
// A document without a gap is described by its head alone. Otherwise the keys of its entries are read.
func (d *Documents) Wants(bucket uint8, hashes []uint64, from Cursor) ([]Want, error) {
	return d.wants(bucket, hashes, from, wantRoom{ranges: maxWantRanges, scan: maxWantScan})
}

// wantRoom is what is left of the bounds of a call.
type wantRoom struct{ ranges, scan int }

func (r *wantRoom) used() bool { return r.ranges <= 0 || r.scan <= 0 }

func (d *Documents) wants(bucket uint8, hashes []uint64, from Cursor, room wantRoom) ([]Want, error) {
	snapshot, known, done, err := d.snapshot(bucket)
	if err != nil {
		return nil, err
	}
	defer done()
	if len(hashes) == 0 {
		return nil, nil
	}
	w := wanter{snapshot: snapshot, partition: d.partition, bucket: bucket, from: from, room: room}
	defer w.close()
	if w.heads, err = newWalker(snapshot, d.partition, bucket, kindHead, hashes[0], hashes[len(hashes)-1]); err != nil {
		return nil, err
	}
	if known.deleteRecords > 0 {
		if w.deletes, err = newWalker(snapshot, d.partition, bucket, kindDelete, hashes[0], hashes[len(hashes)-1]); err != nil {
			return nil, err
		}
	}
	var wants []Want
	for _, hash := range hashes {
		if hash < from.Hash {
			continue
		}
		if len(wants) > 0 && (len(wants) == maxWants || w.room.used()) {
			break
		}
		have, err := w.under(hash)
		if err != nil {
			return nil, err
		}
		wants = append(wants, Want{Hash: hash, Have: have})
	}
	return wants, nil
}

// wanter reads what a member has, from one snapshot.
type wanter struct {
	snapshot       *pebble.Snapshot
	partition      uint32
	bucket         uint8
	from           Cursor
	heads, deletes *walker // deletes: nil unless the bucket has delete records
	room           wantRoom
}

func (w *wanter) close() {
	w.heads.close()
	w.deletes.close()
}

// under describes all documents and delete records of one hash.
func (w *wanter) under(hash uint64) (have []Have, err error) {
	var places []place
	var heads []Head
	err = w.heads.under(w.bucket, hash, func(k recordKey, v []byte) error {
		h, err := decodeHeadBody(v)
		places, heads = append(places, k.place()), append(heads, h)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range heads {
		one := Have{Key: places[i].key, Upto: math.MaxInt64}
		if err := w.hold(&one, places[i], &heads[i]); err != nil {
			return nil, err
		}
		have = append(have, one)
	}
	if w.deletes == nil {
		return have, nil
	}
	err = w.deletes.under(w.bucket, hash, func(k recordKey, v []byte) error {
		deleted, err := decodeDeleteBody(v)
		have = append(have, Have{Key: k.key, Upto: math.MaxInt64, Deleted: deleted})
		return err
	})
	return have, err
}

// hold fills in what a document's head and entries say.
func (w *wanter) hold(have *Have, p place, h *Head) error {
	have.Generation = h.Generation
	if h.HasBase {
		have.BaseIndex = h.BaseIndex
	}
	after, _ := w.from.within(p.key, h.Generation)
	if after == math.MaxInt64 || h.Entries == 0 {
		return nil
	}
	if !h.Gap() {
		w.room.ranges--
		have.Held = []SeqRange{{First: h.Floor + 1, Last: h.HeadSeq, Chain: h.Chain}}
		return nil
	}
	lower := appendEntry(nil, w.partition, p, h.Generation, after+1)
	upper := successor(appendGeneration(nil, w.partition, p, kindEntry, h.Generation))
	it, err := w.snapshot.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(w.partition, p.key, kindEntry, err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if w.room.used() && len(have.Held) > 0 {
			have.Upto = have.Held[len(have.Held)-1].Last
			break
		}
		var mark Mark
		if mark, err = readMark(it); err != nil {
			err = &CorruptionError{Partition: w.partition, Key: p.key, Kind: kindEntry.String(), Err: err}
			break
		}
		w.room.scan--
		if n := len(have.Held); n > 0 && have.Held[n-1].Last+1 == mark.Begin {
			have.Held[n-1].Last, have.Held[n-1].Chain = mark.End, mark.Chain
			continue
		}
		w.room.ranges--
		have.Held = append(have.Held, SeqRange{First: mark.Begin, Last: mark.End, Chain: mark.Chain})
	}
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = readError(w.partition, p.key, kindEntry, closeErr)
	}
	return err
}

// readMark reads the entry that an iterator stands at, without its delta and without verifying the delta.
func readMark(it *pebble.Iterator) (Mark, error) {
	v, err := it.ValueAndErr()
	if err != nil {
		return Mark{}, err
	}
	_, span, err := entrySize(v)
	if err != nil {
		return Mark{}, err
	}
	end := seqOf(it.Key())
	if span < 1 || span > end+1 {
		return Mark{}, fmt.Errorf("%w: delta of %d seqs ends at %d", ErrEncoding, span, end)
	}
	m := Mark{Begin: end - span + 1, End: end, Index: (&reader{b: v}).u64()}
	copy(m.Chain[:], v[16:])
	return m, nil
}
