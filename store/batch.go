package store

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

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
	d      *Documents
	pool   *sync.Pool // where its memory came from and goes to
	batch  recordBatch
	docs   map[uint64]*docState // by hash; see docState.twin
	order  []*docState          // docs in the order of first use, so that equal batches are equal bytes
	states docStates            // what docs and order point at
	used   []*docState          // of the last apply, each as often as it changed
	key    []byte               // scratch
	value  []byte               // scratch

	// The member's records as they will be; only what changed, but for state and holes.
	state        memberState
	holes        interval.Set
	holesChanged bool
	buckets      changedBuckets
	healed       map[uint8]interval.Set
	ingests      map[uint8]bool

	users  atomic.Int32 // of a staged batch: the stage, and the views that read it; see release
	left   int          // bytes of records that it moved out of when it grew, and that views may still read; with stage.lock
	pinned int64        // as counted in the engine's; not before part

	changes []leafChange
	learned bool // state of no index of ours: Tracker.Learn instead of Replace
	reset   []bucketReset
}

// bucketReset is a bucket whose sum was counted anew instead of moved along: see Documents.Damage.
type bucketReset struct {
	bucket uint8
	sum    merkle.Bucket
}

// docState is a document within a batch.
type docState struct {
	place
	twin *docState // another document of the same hash
	head *Head     // nil: there is no such document

	stored     *Head        // as the engine had it when the batch began; nil: not there
	storedLive bool         // stored's generation has not been dropped by this batch
	droppedTo  int64        // while storedLive: its entries with SeqEnd ≤ droppedTo are dropped by this batch
	added      []addedEntry // entries of head's generation put by this batch, by seq, but for those of repair; nothing in it ever changes
	base       recordRef    // the base that head has, when this batch put it
	deleted    uint64       // delete record; 0: none
	leaf       leafSum      // as counted in the bucket's sum
	bytes      int64        // as counted in the member's bytes
	dirty      bool
	at         uint64 // index of the newest mutation of it that this batch applied

	read struct { // what the pointers point at first: a state is one piece of memory
		head, stored Head
		added        [2]addedEntry
	}

	// Of a staged batch, guarded by stage.lock.
	showing bool // shown is what there is to see
	shown   stagedDoc
}

// batchDoc is a document of a batch as the rules change it.
type batchDoc struct {
	b *docBatch
	s *docState
}

func (d *batchDoc) Head() *Head                        { return d.s.head }
func (d *batchDoc) Deleted() uint64                    { return d.s.deleted }
func (d *batchDoc) Restart(h Head) error               { return d.b.restart(d.s, h) }
func (d *batchDoc) Remove() error                      { return d.b.remove(d.s) }
func (d *batchDoc) PutDeleteRecord(index uint64) error { return d.b.putDeleteRecord(d.s, index) }
func (d *batchDoc) DropEntries(upTo int64) error       { return d.b.dropEntries(d.s, upTo) }
func (d *batchDoc) Changed()                           { d.s.dirty = true }

func (d *batchDoc) PutBase(seq int64, index uint64, base []byte) error {
	return d.b.putBase(d.s, seq, index, base)
}

func (d *batchDoc) PutEntry(e *Entry) error {
	_, err := d.b.putEntry(d.s, e)
	return err
}

// entryStats is what an entry adds to its head's counters.
type entryStats struct{ span, bytes int64 }

type addedEntry struct {
	seq   int64 // its end
	at    int   // of its value in the batch's records
	stats entryStats
}

// ref returns where its value is.
func (e *addedEntry) ref() recordRef { return recordRef{e.at, int(e.stats.bytes) + entryOverhead} }

// recordRef is a value in the records of a batch.
type recordRef struct{ at, size int }

// find returns where in added an entry is, or belongs.
func (s *docState) find(seq int64) (int, bool) {
	if n := len(s.added); n == 0 || s.added[n-1].seq < seq { // as a rule
		return n, false
	}
	return slices.BinarySearchFunc(s.added, seq, func(e addedEntry, seq int64) int { return cmp.Compare(e.seq, seq) })
}

// document returns a document's state, reading its head on first use.
func (b *docBatch) document(p place) (*docState, error) {
	if s := b.known(p); s != nil {
		return s, nil
	}
	h, ok, err := b.d.cachedHead(p)
	if err != nil {
		return nil, err
	}
	return b.read(p, h, ok)
}

// commanded is document for one that a command changes, whose head should be in memory: see Documents.ReadAhead.
func (b *docBatch) commanded(p place) (*docState, error) {
	if s := b.known(p); s != nil {
		return s, nil
	}
	h, ok, known := b.d.engine.heads.get(b.d.partition, p)
	if !known {
		b.d.engine.late(b.d, p)
		return b.document(p)
	}
	return b.read(p, h, ok)
}

// documents reads the heads of many documents of a bucket, in order, at the cost of reading on.
func (b *docBatch) documents(bucket uint8, n int, at func(int) place) error {
	if n < worthWalking {
		return nil // document reads them
	}
	w, err := newWalker(b.d.engine.db, b.d.partition, bucket, kindHead, at(0).hash, at(n-1).hash)
	if err != nil {
		return err
	}
	defer w.close()
	for i := range n {
		p := at(i)
		if b.known(p) != nil {
			continue
		}
		h, ok, err := w.head(p)
		if err != nil {
			return err
		}
		if _, err := b.read(p, h, ok); err != nil {
			return err
		}
	}
	return nil
}

// worthWalking is how many documents are read together rather than one by one, and through the cache.
const worthWalking = 4

// read makes a document's state of its head, if it is there.
func (b *docBatch) read(p place, h Head, ok bool) (*docState, error) {
	deleted := uint64(0)
	if !ok && b.d.meta.deletes[p.bucket] > 0 {
		var err error
		if deleted, err = readDeleteRecord(b.d.engine.db, b.d.partition, p); err != nil {
			return nil, err
		}
	}
	s := b.add(p)
	s.deleted, s.added = deleted, s.read.added[:0]
	if ok {
		s.read.head, s.read.stored = h, h
		s.head, s.stored, s.storedLive, s.droppedTo = &s.read.head, &s.read.stored, true, h.Floor
		s.leaf, s.bytes = leafSum{leaf(p.key, &h), true}, h.Bytes+h.BaseBytes
	}
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
	b.clearDeleteRecord(s)
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

// hasEntry reports whether an entry of the present generation is there, this batch's changes included.
func (b *docBatch) hasEntry(s *docState, seqEnd int64) (bool, error) {
	h := s.head
	if seqEnd > h.HeadSeq || seqEnd <= h.Floor {
		return false, nil // no entry lies outside of these
	}
	if _, ok := s.find(seqEnd); ok {
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
	if missing, err := b.lacks(s, e.SeqEnd); err != nil || !missing {
		return false, err
	}
	b.value = appendEntryValue(b.value[:0], e)
	stats := entryStats{span: e.SeqEnd - e.SeqBegin + 1, bytes: int64(len(b.value) - entryOverhead)}
	added := addedEntry{e.SeqEnd, b.putValue(s, e.SeqBegin, e.SeqEnd, e.Chain), stats}
	if at, _ := s.find(e.SeqEnd); at == len(s.added) { // it is not there
		s.added = append(s.added, added)
	} else {
		s.added = slices.Insert(slices.Clip(s.added), at, added) // a copy: views read what was shown
	}
	return true, nil
}

// putChunkEntry is putEntry for an entry that came from a peer. The batch ends with its document: it does not remember
// what it has put.
func (b *docBatch) putChunkEntry(s *docState, e *ChunkEntry) (bool, error) {
	if missing, err := b.lacks(s, e.End); err != nil || !missing {
		return false, err
	}
	b.value = e.appendValue(b.value[:0])
	b.putValue(s, e.Begin, e.End, e.Chain)
	return true, nil
}

// lacks reports whether an entry belongs to the document and is not there.
func (b *docBatch) lacks(s *docState, end int64) (bool, error) {
	if end <= s.head.Floor {
		return false, nil
	}
	has, err := b.hasEntry(s, end)
	return !has && err == nil, err
}

// putValue stores b.value as the entry of some seqs, and returns where in the records it is.
func (b *docBatch) putValue(s *docState, begin, end int64, chain Chain) (at int) {
	h := s.head
	b.key = appendEntry(b.key[:0], b.d.partition, s.place, h.Generation, end)
	at = b.batch.Set(b.key, b.value)
	h.Span += end - begin + 1
	h.Bytes += int64(len(b.value) - entryOverhead)
	h.Entries++
	if end > h.HeadSeq {
		h.HeadSeq, h.Chain = end, chain
	}
	s.dirty = true
	return at
}

// putBase stores the base of the present generation, in place of the one it has.
func (b *docBatch) putBase(s *docState, seq int64, index uint64, base []byte) error {
	b.key = appendGeneration(b.key[:0], b.d.partition, s.place, kindBase, s.head.Generation)
	b.value = seal(append(b.value[:0], base...))
	s.base = recordRef{b.batch.Set(b.key, b.value), len(b.value)}
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
	b.batch.Set(b.key, b.value)
	if s.deleted == 0 {
		b.countDeleteRecord(s.bucket, 1)
	}
	s.deleted = index
	return nil
}

func (b *docBatch) clearDeleteRecord(s *docState) {
	if s.deleted == 0 {
		return
	}
	b.key = appendDocument(b.key[:0], b.d.partition, s.place, kindDelete)
	b.batch.Delete(b.key)
	b.countDeleteRecord(s.bucket, -1)
	s.deleted = 0
}

func (b *docBatch) countDeleteRecord(bucket uint8, n int64) {
	b.state.deleteRecords += n
	s := b.bucket(bucket)
	s.deleteRecords = uint64(int64(s.deleteRecords) + n)
}

// settle ends one change of one document: its bucket's sum moves by the new leaf minus the old one, at the index that
// changed it. For state learned by repair the index is ignored.
func (b *docBatch) settle(s *docState, index uint64) {
	var now leafSum
	size := int64(0)
	if s.head != nil {
		now, size = leafSum{leaf(s.key, s.head), true}, s.head.Bytes+s.head.BaseBytes
	}
	b.state.bytes += size - s.bytes
	s.bytes = size
	if now == s.leaf {
		return
	}
	bucket := b.bucket(s.bucket)
	if s.leaf.there {
		bucket.Sum = bucket.Sum.Sub(s.leaf.Sum)
		bucket.Count--
		b.state.documents--
	}
	if now.there {
		bucket.Sum = bucket.Sum.Add(now.Sum)
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

// setIngest records whether a bucket may have records without heads.
func (b *docBatch) setIngest(bucket uint8, on bool) {
	if b.ingests == nil {
		b.ingests = map[uint8]bool{}
	}
	b.ingests[bucket] = on
}

// bucket returns a bucket's record for changing; it stays there until the next call.
func (b *docBatch) bucket(bucket uint8) *bucketState {
	s := b.buckets.of(bucket)
	if s == nil {
		s = b.buckets.add(bucket)
		*s = bucketState{Bucket: b.d.tracker.Bucket(bucket), deleteRecords: b.d.meta.deletes[bucket]}
	}
	return s
}

func (b *docBatch) completeAt(applied uint64) bool {
	return Complete(b.holes, b.state.ahead, applied)
}
