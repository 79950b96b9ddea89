package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// Documents are one member's documents of one partition. Safe for concurrent use: one writer at a time, readers beside
// it.
//
// Invariants, after every batch:
//   - a document has exactly one head record; bases and entries exist for its generation only;
//   - a document with a head has no delete record;
//   - bucket sums, counts, applied and holes are of the same batch as the documents they describe.
type Documents struct {
	engine    *DocEngine
	partition uint32
	hashes    Range

	dropped atomic.Bool
	// instants is held for reading while something reads an instant of the engine by several reads: see excise.
	instants sync.RWMutex

	// mu serializes writers: Apply, Stage, Import, holes, progress. Held while a batch is built and committed.
	mu    sync.Mutex
	stage stage
	// sessions are the repair sessions under way, at most one for a bucket. Guarded by mu.
	sessions map[uint8]*Session
	// ingesting counts the ingests under way that rest on a bucket's announcement (metaIngest). Guarded by mu.
	ingesting map[uint8]int
	// installs has its own lock, which is taken under mu and never the other way round.
	installs installGroup

	// epoch is odd while a batch is being committed; see cachedHead.
	epoch  atomic.Uint64
	parked parkedHeads

	// pub guards what follows, which mirrors the committed records. Only the writer changes it, holding mu too, so the
	// writer may read it under mu alone. Held for memory operations only.
	pub     sync.RWMutex
	meta    *memberMeta
	tracker *merkle.Tracker
	learned *bucketCounts // what imports have changed; nil until one does

	version atomic.Uint64            // see Version
	root    atomic.Pointer[rootMemo] // see Status
}

// bucketCounts is a number for each bucket; nil stands for zeros.
type bucketCounts [merkle.Buckets]uint64

func (c *bucketCounts) of(bucket uint8) uint64 {
	if c == nil {
		return 0
	}
	return c[bucket]
}

// rootMemo is the root of the sums at a version.
type rootMemo struct {
	version uint64
	root    merkle.Sum
}

// DocStatus is what a member says of itself.
type DocStatus struct {
	Applied, Ahead uint64
	Holes          interval.Set
	Complete       bool // no holes, and Ahead ≤ Applied
	Documents      int64
	Bytes          int64 // stored deltas and bases, as encoded
	DeleteRecords  int64 // kept while not complete
	Root           merkle.Sum
}

// openDocuments loads a member, or creates it.
func openDocuments(e *DocEngine, partition uint32, r Range) (*Documents, error) {
	meta, err := readMeta(e.db, partition)
	if err != nil {
		return nil, err
	}
	if !meta.hasRange {
		// Not synced: whatever is written later is ordered after it.
		key, value := appendMeta(nil, partition, metaRange), appendRange(nil, r)
		if err := e.stop.guard(func() error { return e.db.Set(key, value, pebble.NoSync) }); err != nil {
			return nil, err
		}
		meta.hasRange, meta.hashRange = true, r
	}
	if meta.hashRange != r {
		return nil, &WrongRangeError{Partition: partition, Have: meta.hashRange, Want: r}
	}
	if err := e.sweepIngests(partition, meta); err != nil {
		return nil, err
	}
	tracker := merkle.NewTracker(*meta.sums, meta.state.applied, e.opts.Ring)
	meta.sums = nil
	return &Documents{engine: e, partition: partition, hashes: r, meta: meta, tracker: tracker}, nil
}

// Partition returns the partition's number.
func (d *Documents) Partition() uint32 { return d.partition }

// Range returns the partition's hash range.
func (d *Documents) Range() Range { return d.hashes }

// acquire precedes every use of the engine; the caller then owes engine.release().
func (d *Documents) acquire() error {
	if err := d.engine.acquire(); err != nil {
		return err
	}
	err := d.spoiled()
	if d.dropped.Load() {
		err = ErrDropped
	}
	if err != nil {
		d.engine.release()
	}
	return err
}

// lock precedes every write but Stage: what is staged is written first.
func (d *Documents) lock() (unlock func(), err error) {
	if unlock, err = d.enter(); err != nil {
		return nil, err
	}
	if err := d.flush(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// enter is lock that leaves alone what is staged. Only under mu is it certain that the member is neither dropped nor spoiled: a write
// that has passed acquire and then waited for Drop would bring back, with its next record, what Drop removed, and one that waited for
// a failure would say that everything that was staged is written.
func (d *Documents) enter() (unlock func(), err error) {
	if err := d.acquire(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	unlock = func() {
		d.mu.Unlock()
		d.engine.release()
	}
	err = d.spoiled()
	if d.dropped.Load() {
		err = ErrDropped
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// place validates a key and computes where it lives.
func (d *Documents) place(key Key) (place, error) {
	if err := key.Validate(); err != nil {
		return place{}, err
	}
	hash := key.Hash()
	if !d.hashes.Contains(hash) {
		return place{}, &KeyError{Key: key, Reason: fmt.Sprintf("hash %016x is outside of partition %d, %s", hash, d.partition, d.hashes)}
	}
	return place{key: key, hash: hash, bucket: d.hashes.Bucket(hash)}, nil
}

// Applied returns the highest index whose effect is held, or recorded as a hole.
func (d *Documents) Applied() uint64 {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return d.meta.state.applied
}

// Coverage returns the indexes whose effect is held: [1, Applied] minus the holes.
func (d *Documents) Coverage() interval.Set {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return d.meta.coverage()
}

// Status returns one consistent view of the member's own records. The root costs a microsecond or two when something has
// changed since it was asked for last; Position does without.
func (d *Documents) Status() DocStatus {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return DocStatus{Applied: d.meta.state.applied, Ahead: d.meta.state.ahead, Holes: d.meta.holes, Complete: d.meta.complete(),
		Documents: d.meta.state.documents, Bytes: d.meta.state.bytes, DeleteRecords: d.meta.state.deleteRecords, Root: d.currentRoot()}
}

// currentRoot is for callers that hold pub. While they do, the version is that of the sums.
func (d *Documents) currentRoot() merkle.Sum {
	version := d.version.Load()
	if m := d.root.Load(); m != nil && m.version == version {
		return m.root
	}
	s, _ := d.tracker.Current()
	m := &rootMemo{version: version, root: s.Root()}
	d.root.Store(m)
	return m.root
}

// Version changes with everything that Status, Coverage and Healed tell of: who has looked at a version need not look
// again while it lasts. It is read before what it is the version of, and costs nothing.
func (d *Documents) Version() uint64 { return d.version.Load() }

// Position is where a member is in the log: Status without what has to be computed.
type Position struct {
	Applied, Ahead uint64
	Holes          interval.Set
	Complete       bool
}

// Position returns one consistent view.
func (d *Documents) Position() Position {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return Position{Applied: d.meta.state.applied, Ahead: d.meta.state.ahead, Holes: d.meta.holes, Complete: d.meta.complete()}
}

// keptAtRest is how many recent changes a member at rest may keep: a kilobyte.
const keptAtRest = 32

// Rest tells the member that it has not changed for long. It lets go of the memory that recent changes take, when that is
// much: SummaryAt then answers for the present index only, which is where others ask while nothing happens.
func (d *Documents) Rest() {
	if !d.mu.TryLock() {
		return // it does not rest
	}
	defer d.mu.Unlock()
	d.pub.Lock()
	defer d.pub.Unlock()
	if d.tracker.Kept() > keptAtRest {
		d.tracker.Forget()
	}
}

// Complete reports whether the member has no holes and has applied all it learned, at the cost of a lock: leaders ask it
// for every operation.
func (d *Documents) Complete() bool {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return d.meta.complete()
}

// Summary returns the bucket sums and the index they are of.
func (d *Documents) Summary() (merkle.Summary, uint64) {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return d.tracker.Current()
}

// SummaryAt returns the exact sums at a recent index. Nil and false when the index is older than the ring, newer than what is
// applied, or older than what was pulled from others: those documents have no past here.
func (d *Documents) SummaryAt(index uint64) (*merkle.Summary, bool) {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return d.summaryAt(index)
}

// summaryAt is SummaryAt for callers that hold pub.
func (d *Documents) summaryAt(index uint64) (*merkle.Summary, bool) {
	if index < d.meta.state.ahead {
		return nil, false
	}
	return d.tracker.At(index)
}

// Head returns a document's head; false when there is no such document.
func (d *Documents) Head(key Key) (Head, bool, error) { return d.headBy(key, d.cachedHead) }

// HeadInMemory is Head that does not read the disk; known is false when only that would tell.
func (d *Documents) HeadInMemory(key Key) (head Head, ok, known bool, err error) {
	known = true
	head, ok, err = d.headBy(key, func(p place) (h Head, ok bool, _ error) {
		h, ok, known = d.engine.heads.get(d.partition, p)
		return h, ok, nil
	})
	return head, ok, known && err == nil, err
}

// headBy is Head with another way to the heads that are not staged.
func (d *Documents) headBy(key Key, written func(place) (Head, bool, error)) (Head, bool, error) {
	p, err := d.place(key)
	if err != nil {
		return Head{}, false, err
	}
	if err := d.acquire(); err != nil {
		return Head{}, false, err
	}
	defer d.engine.release()
	if h, staged := d.stagedHead(p); staged {
		return h.head, h.ok, nil
	}
	head, ok, err := written(p)
	if err == nil {
		err = d.spoiled() // since acquire: then it was staged perhaps, and acknowledged, and is forgotten
	}
	if err != nil {
		return Head{}, false, err
	}
	return head, ok, nil
}

// cachedHead reads through the cache. The cache must never give an older head than the engine: a leader that evaluates
// against one would propose a command that contradicts the log. The writer therefore removes the heads it is about to
// change, with epoch odd, and stores the new ones after the commit; a reader stores what it read only if no commit was
// running when it read, nor began since. If one is running, it is asked to do so in the reader's place (parkedHeads).
func (d *Documents) cachedHead(p place) (Head, bool, error) {
	if h, ok, known := d.engine.heads.get(d.partition, p); known {
		return h, ok, nil
	}
	before := d.epoch.Load()
	h, ok, err := readHead(d.engine.db, d.partition, p)
	if err != nil {
		return Head{}, false, err
	}
	d.cacheHead(p, h, ok, before)
	return h, ok, nil
}

// cacheHead stores a head, or that there is none, which was read after epoch was seen at a value; false when that may be the past.
func (d *Documents) cacheHead(p place, h Head, ok bool, before uint64) bool {
	head := &h
	if !ok {
		head = nil
	}
	if before%2 == 0 && d.engine.heads.put(d.partition, p, head, func() bool { return d.epoch.Load() == before }) {
		return true
	}
	return d.park(&parkedHead{p, h, ok}, before)
}

// parkedHeads are heads that were read while a batch was being committed, as they were before or as they are now. Only the writer
// knows which documents the batch changes, so it stores those of the others when it is done.
type parkedHeads struct {
	mu   sync.Mutex // held, too, when epoch becomes even
	list []parkedHead
}

type parkedHead struct {
	place
	head  Head
	there bool
}

// mostParked is how many heads are kept for the writer.
const mostParked = 64

// park leaves a head, which was read after epoch was seen at a value, to the writer; false unless that is committing the only batch
// since.
func (d *Documents) park(h *parkedHead, before uint64) bool {
	d.parked.mu.Lock()
	defer d.parked.mu.Unlock()
	now := d.epoch.Load()
	if now%2 == 0 || before+1 < now || len(d.parked.list) >= mostParked {
		return false
	}
	d.parked.list = append(d.parked.list, *h)
	return true
}

// unpark stores the parked heads of documents that a batch, which has just been committed, leaves as they were, and ends the commit.
func (b *docBatch) unpark() {
	d := b.d
	d.parked.mu.Lock()
	defer d.parked.mu.Unlock()
	for i := range d.parked.list {
		p := &d.parked.list[i]
		if b.known(p.place) != nil || b.resets(p.bucket) {
			continue
		}
		head := &p.head
		if !p.there {
			head = nil
		}
		d.engine.heads.put(d.partition, p.place, head, nil)
	}
	d.parked.list = nil
	d.epoch.Add(1)
}

// readHead reads a head record; false when there is none.
func readHead(r pebble.Reader, partition uint32, p place) (Head, bool, error) {
	var buf [nameOffset + MaxSpace + MaxKey + 2]byte
	v, closer, err := r.Get(appendDocument(buf[:0], partition, p, kindHead))
	if errors.Is(err, pebble.ErrNotFound) {
		return Head{}, false, nil
	}
	if err != nil {
		return Head{}, false, readError(partition, p.key, kindHead, err)
	}
	h, err := decodeHeadValue(v)
	if closeErr := closer.Close(); err == nil && closeErr != nil {
		return Head{}, false, fmt.Errorf("store: read: %w", closeErr)
	}
	if err != nil {
		return Head{}, false, &CorruptionError{Partition: partition, Key: p.key, Kind: kindHead.String(), Err: err}
	}
	return h, true, nil
}

// readError tells damaged files from other failures of a read.
func readError(partition uint32, key Key, kind recordKind, err error) error {
	return unread(partition, key, kind.String(), err)
}

// metaError is readError for a partition's own records, or the host's; logReadError, for a partition's log.
func metaError(partition uint32, err error) error    { return unread(partition, Key{}, "meta", err) }
func logReadError(partition uint32, err error) error { return unread(partition, Key{}, "log", err) }

func unread(partition uint32, key Key, kind string, err error) error {
	if pebble.IsCorruptionError(err) {
		return &CorruptionError{Partition: partition, Key: key, Kind: kind, Err: err}
	}
	return &ReadError{Partition: partition, Key: key, Kind: kind, Err: err}
}
