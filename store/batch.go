package store

import (
	"fmt"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// docBatch collects changes of one member and commits them as one Pebble batch, with sums, counts and caches to match.
// It overlays the engine: what it has changed is what it reads back. Documents.mu is held from begin to close.
//
// A change of one document is: document, any of restart, putBase, putEntry, dropEntries, remove, putDeleteRecord and
// assignments to the head's fields, then settle.
type docBatch struct {
	d     *Documents
	batch *pebble.Batch
	docs  map[Key]*docState
	order []*docState // docs in the order of first use, so that equal batches are equal bytes
	key   []byte      // scratch
	value []byte      // scratch

	// The member's records as they will be; only what changed, but for state and holes.
	state        memberState
	holes        interval.Set
	holesChanged bool
	buckets      map[uint8]*bucketState
	healed       map[uint8]interval.Set

	changes []leafChange
	learned bool // state of no index of ours: Tracker.Learn instead of Replace
}

// leafChange is one document's step within the batch, for the tracker.
type leafChange struct {
	index    uint64
	bucket   uint8
	old, new *merkle.Sum
}

// docState is a document within a batch.
type docState struct {
	place
	head *Head // nil: there is no such document

	stored     *Head                // as the engine had it when the batch began; nil: not there
	storedLive bool                 // stored's generation has not been dropped by this batch
	droppedTo  int64                // while storedLive: its entries with SeqEnd ≤ droppedTo are dropped by this batch
	added      map[int64]entryStats // entries of head's generation put by this batch
	deleted    uint64               // delete record; 0: none
	leaf       *merkle.Sum          // as counted in the bucket's sum
	bytes      int64                // as counted in the member's bytes
	dirty      bool
}

// entryStats is what an entry adds to its head's counters.
type entryStats struct{ span, bytes int64 }

// begin starts a batch. The caller holds mu, and closes the batch.
func (d *Documents) begin() *docBatch {
	return &docBatch{d: d, batch: d.engine.db.NewBatch(), docs: map[Key]*docState{},
		state: d.meta.state, holes: d.meta.holes, buckets: map[uint8]*bucketState{}}
}

func (b *docBatch) close() { _ = b.batch.Close() }

// document returns a document's state, reading its head on first use.
func (b *docBatch) document(p place) (*docState, error) {
	if s := b.docs[p.key]; s != nil {
		return s, nil
	}
	s := &docState{place: p}
	h, ok, err := b.d.cachedHead(p)
	if err != nil {
		return nil, err
	}
	if ok {
		stored := h
		sum := leaf(p.key, &h)
		s.head, s.stored, s.storedLive, s.droppedTo = &h, &stored, true, stored.Floor
		s.leaf, s.bytes = &sum, h.Bytes+h.BaseBytes
	} else if b.d.meta.deletes[p.bucket] > 0 {
		if s.deleted, err = readDeleteRecord(b.d.engine.db, b.d.partition, p); err != nil {
			return nil, err
		}
	}
	b.docs[p.key] = s
	b.order = append(b.order, s)
	return s, nil
}

// readDeleteRecord returns the index of a document's delete record, 0 when there is none.
func readDeleteRecord(r pebble.Reader, partition uint32, p place) (uint64, error) {
	v, ok, err := get(r, appendDocument(nil, partition, p, kindDelete))
	if err != nil {
		return 0, readError(partition, p.key, kindDelete, err)
	}
	if !ok {
		return 0, nil
	}
	index, err := decodeDeleteValue(v)
	if err != nil {
		return 0, &CorruptionError{Partition: partition, Key: p.key, Kind: kindDelete.String(), Err: err}
	}
	return index, nil
}

// restart begins a generation with the given head, without entries; what there was of another one goes, and so does a
// delete record.
func (b *docBatch) restart(s *docState, h Head) error {
	if err := b.dropContent(s); err != nil {
		return err
	}
	if err := b.clearDeleteRecord(s); err != nil {
		return err
	}
	s.head = &h
	s.dirty = true
	return nil
}

// remove deletes a document.
func (b *docBatch) remove(s *docState) error {
	if s.head == nil {
		return nil
	}
	if err := b.dropContent(s); err != nil {
		return err
	}
	s.head = nil
	s.dirty = true
	return nil
}

// pointDeletes is up to how many entries are deleted one by one. A range delete costs every later read of the range a
// look at it, and invalidates Pebble's cache of them.
const pointDeletes = 64

// dropContent deletes the base and all entries of the present generation.
func (b *docBatch) dropContent(s *docState) error {
	if s.head == nil {
		return nil
	}
	if s.head.HasBase {
		b.key = appendGeneration(b.key[:0], b.d.partition, s.place, kindBase, s.head.Generation)
		if err := b.batch.Delete(b.key, nil); err != nil {
			return b.failed(s, err)
		}
	}
	if err := b.dropAdded(s, s.head.HeadSeq, nil); err != nil {
		return err
	}
	if s.storedLive && s.stored.Entries > 0 {
		lower, upper := prefixRange(appendGeneration(nil, b.d.partition, s.place, kindEntry, s.stored.Generation))
		if err := b.deleteEntries(s, lower, upper, s.stored.Entries, nil); err != nil {
			return err
		}
	}
	s.storedLive = false
	return nil
}

// dropEntries deletes the entries with SeqEnd ≤ upTo and subtracts them from the head's counters.
func (b *docBatch) dropEntries(s *docState, upTo int64) error {
	h := s.head
	dropped := func(e entryStats) {
		h.Span -= e.span
		h.Bytes -= e.bytes
		h.Entries--
	}
	if err := b.dropAdded(s, upTo, dropped); err != nil {
		return err
	}
	if s.storedLive && upTo > s.droppedTo {
		lower := appendEntry(nil, b.d.partition, s.place, s.stored.Generation, s.droppedTo+1)
		upper := append(appendEntry(nil, b.d.partition, s.place, s.stored.Generation, upTo), 0)
		if err := b.deleteEntries(s, lower, upper, s.stored.Entries, dropped); err != nil {
			return err
		}
		s.droppedTo = upTo
	}
	s.dirty = true
	return nil
}

// dropAdded deletes entries that this batch has put.
func (b *docBatch) dropAdded(s *docState, upTo int64, dropped func(entryStats)) error {
	for seq, stats := range s.added {
		if seq > upTo {
			continue
		}
		b.key = appendEntry(b.key[:0], b.d.partition, s.place, s.head.Generation, seq)
		if err := b.batch.Delete(b.key, nil); err != nil {
			return b.failed(s, err)
		}
		delete(s.added, seq)
		if dropped != nil {
			dropped(stats)
		}
	}
	return nil
}

// deleteEntries deletes the engine's entries within bounds. It reads them when their sizes are asked for, or when there
// are few enough for point deletes.
func (b *docBatch) deleteEntries(s *docState, lower, upper []byte, atMost int64, dropped func(entryStats)) error {
	if dropped == nil && atMost > pointDeletes {
		return b.failed(s, b.batch.DeleteRange(lower, upper, nil))
	}
	it, err := b.d.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(b.d.partition, s.key, kindEntry, err)
	}
	var few [][]byte
	n := 0
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if n++; n <= pointDeletes {
			few = append(few, append([]byte{}, it.Key()...))
		}
		if dropped == nil {
			continue
		}
		var v []byte
		if v, err = it.ValueAndErr(); err != nil {
			break
		}
		var stats entryStats
		if stats.bytes, stats.span, err = entrySize(v); err != nil {
			err = &CorruptionError{Partition: b.d.partition, Key: s.key, Kind: kindEntry.String(), Err: err}
			break
		}
		dropped(stats)
	}
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = readError(b.d.partition, s.key, kindEntry, closeErr)
	}
	if err != nil {
		return err
	}
	if n > pointDeletes {
		return b.failed(s, b.batch.DeleteRange(lower, upper, nil))
	}
	for _, key := range few {
		if err := b.batch.Delete(key, nil); err != nil {
			return b.failed(s, err)
		}
	}
	return nil
}

// hasEntry reports whether an entry of the present generation is there, this batch's changes included.
func (b *docBatch) hasEntry(s *docState, seqEnd int64) (bool, error) {
	h := s.head
	if seqEnd > h.HeadSeq || seqEnd <= h.Floor {
		return false, nil // no entry lies outside of these
	}
	if _, ok := s.added[seqEnd]; ok {
		return true, nil
	}
	if !s.storedLive || s.stored.Entries == 0 || seqEnd > s.stored.HeadSeq || seqEnd <= s.droppedTo {
		return false, nil
	}
	b.key = appendEntry(b.key[:0], b.d.partition, s.place, h.Generation, seqEnd)
	_, closer, err := b.d.engine.db.Get(b.key)
	if err == pebble.ErrNotFound {
		return false, nil
	}
	if err != nil {
		return false, readError(b.d.partition, s.key, kindEntry, err)
	}
	return true, closer.Close()
}

// putEntry stores an entry unless it is there already or lies at or below the floor; false then. Head seq and chain
// move forward with it, never back.
func (b *docBatch) putEntry(s *docState, e *Entry) (bool, error) {
	h := s.head
	if e.SeqEnd <= h.Floor {
		return false, nil
	}
	has, err := b.hasEntry(s, e.SeqEnd)
	if err != nil || has {
		return false, err
	}
	b.key = appendEntry(b.key[:0], b.d.partition, s.place, h.Generation, e.SeqEnd)
	b.value = appendEntryValue(b.value[:0], e)
	if err := b.batch.Set(b.key, b.value, nil); err != nil {
		return false, b.failed(s, err)
	}
	stats := entryStats{span: e.SeqEnd - e.SeqBegin + 1, bytes: int64(len(b.value) - entryOverhead)}
	if s.added == nil {
		s.added = map[int64]entryStats{}
	}
	s.added[e.SeqEnd] = stats
	h.Span += stats.span
	h.Bytes += stats.bytes
	h.Entries++
	if e.SeqEnd > h.HeadSeq {
		h.HeadSeq, h.Chain = e.SeqEnd, e.Chain
	}
	s.dirty = true
	return true, nil
}

// putBase stores the base of the present generation, in place of the one it has.
func (b *docBatch) putBase(s *docState, seq int64, index uint64, base []byte) error {
	b.key = appendGeneration(b.key[:0], b.d.partition, s.place, kindBase, s.head.Generation)
	b.value = seal(append(b.value[:0], base...))
	if err := b.batch.Set(b.key, b.value, nil); err != nil {
		return b.failed(s, err)
	}
	h := s.head
	h.HasBase, h.BaseSeq, h.BaseIndex, h.BaseBytes = true, seq, index, int64(len(base))
	s.dirty = true
	return nil
}

// putDeleteRecord notes that a document that is not there was deleted at an index. Newer records win.
func (b *docBatch) putDeleteRecord(s *docState, index uint64) error {
	if s.head != nil {
		return fmt.Errorf("store: partition %d: delete record for the present document %s", b.d.partition, s.key)
	}
	if index <= s.deleted {
		return nil
	}
	b.key = appendDocument(b.key[:0], b.d.partition, s.place, kindDelete)
	b.value = appendDeleteValue(b.value[:0], index)
	if err := b.batch.Set(b.key, b.value, nil); err != nil {
		return b.failed(s, err)
	}
	if s.deleted == 0 {
		b.countDeleteRecord(s.bucket, 1)
	}
	s.deleted = index
	return nil
}

func (b *docBatch) clearDeleteRecord(s *docState) error {
	if s.deleted == 0 {
		return nil
	}
	b.key = appendDocument(b.key[:0], b.d.partition, s.place, kindDelete)
	if err := b.batch.Delete(b.key, nil); err != nil {
		return b.failed(s, err)
	}
	b.countDeleteRecord(s.bucket, -1)
	s.deleted = 0
	return nil
}

func (b *docBatch) countDeleteRecord(bucket uint8, n int64) {
	b.state.deleteRecords += n
	s := b.bucket(bucket)
	s.deleteRecords = uint64(int64(s.deleteRecords) + n)
}

// settle ends one change of one document: its bucket's sum moves by the new leaf minus the old one, at the index that
// changed it. For state learned by repair the index is ignored.
func (b *docBatch) settle(s *docState, index uint64) {
	var now *merkle.Sum
	size := int64(0)
	if s.head != nil {
		sum := leaf(s.key, s.head)
		now, size = &sum, s.head.Bytes+s.head.BaseBytes
	}
	b.state.bytes += size - s.bytes
	s.bytes = size
	if now == nil && s.leaf == nil || now != nil && s.leaf != nil && *now == *s.leaf {
		return
	}
	bucket := b.bucket(s.bucket)
	if s.leaf != nil {
		bucket.Sum = bucket.Sum.Sub(*s.leaf)
		bucket.Count--
		b.state.documents--
	}
	if now != nil {
		bucket.Sum = bucket.Sum.Add(*now)
		bucket.Count++
		b.state.documents++
	}
	b.changes = append(b.changes, leafChange{index: index, bucket: s.bucket, old: s.leaf, new: now})
	s.leaf = now
}

// advance sets the applied index.
func (b *docBatch) advance(applied uint64) { b.state.applied = applied }

// sickAt reports whether the member is not complete once it has applied an index.
func (b *docBatch) sickAt(index uint64) bool { return !b.completeAt(index) }

// sawAhead records that state of an index was learned from others.
func (b *docBatch) sawAhead(index uint64) { b.state.ahead = max(b.state.ahead, index) }

func (b *docBatch) setHoles(holes interval.Set) {
	b.holes = holes
	b.holesChanged = true
}

// setHealed records a bucket's progress; the empty set removes it.
func (b *docBatch) setHealed(bucket uint8, healed interval.Set) {
	if b.healed == nil {
		b.healed = map[uint8]interval.Set{}
	}
	b.healed[bucket] = healed
}

// bucket returns a bucket's record for changing.
func (b *docBatch) bucket(bucket uint8) *bucketState {
	s := b.buckets[bucket]
	if s == nil {
		s = &bucketState{Bucket: b.d.tracker.Bucket(bucket), deleteRecords: b.d.meta.deletes[bucket]}
		b.buckets[bucket] = s
	}
	return s
}

func (b *docBatch) completeAt(applied uint64) bool {
	return b.holes.Empty() && b.state.ahead <= applied
}

func (b *docBatch) failed(s *docState, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: partition %d: batch for %s: %w", b.d.partition, s.key, err)
}
