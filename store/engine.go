package store

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// DocOptions configure a document engine. Dir and the stamp are required, the rest has defaults.
type DocOptions struct {
	Dir string
	FS  vfs.FS // default: the disk, watched for slowness

	// The stamp written when the directory is created; another one is refused with a *WrongOwnerError.
	Cluster, Host, Incarnation string

	CacheBytes    int64 // Pebble's block cache; default 64 MiB
	MemTableBytes int64 // default 32 MiB
	HeadCache     int   // heads kept in memory for all members; default 65,536 (about 20 MiB)
	Ring          int   // recent changes per member for exact summaries; default 8,192

	Logger *slog.Logger
	// OnFatal is called once, with an *EngineFailedError, when a write or fsync failed: from within whatever call or
	// goroutine met the failure, so it must not call the engine or wait for anybody who does. It should end the process.
	OnFatal func(error)
	Events  DocEvents
}

func (o DocOptions) withDefaults() DocOptions {
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes <= 0 {
		o.MemTableBytes = 32 << 20
	}
	if o.HeadCache <= 0 {
		o.HeadCache = 65536
	}
	if o.Ring <= 0 {
		o.Ring = 8192
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// DocEngine is a host's document engine: one Pebble for the documents of all partitions. Safe for concurrent use.
type DocEngine struct {
	*users
	opts  DocOptions
	db    *pebble.DB
	heads *headCache
	syncs syncGroup

	staged atomic.Int64 // bytes that members have staged
	pinned atomic.Int64 // bytes of memory of batches that are staged no more, and are read by views
	bulk   bulkState
	edges  edgeMemory
	ahead  readAhead

	batches sync.Pool // of *docBatch, empty

	mu       sync.Mutex // guards what follows; taken before any member's
	members  map[uint32]*Documents
	unopened map[uint32]bool // partitions that have records here and no Documents

	hostMu sync.Mutex // guards host, and writing what it mirrors; taken last
	host   map[string][]byte
}

// Blocks are read and written one by one, so small ones cost calls of the system, and an index that does not stay in the
// cache. What is read together lies together: the heads of a bucket, the entries of a document.
const (
	blockBytes      = 32 << 10
	indexBlockBytes = 64 << 10
)

// How many tables may lie upon each other in level 0 before they are merged into the next one, and before writes wait for that.
// Keys begin with hashes, so any table of new deltas overlaps all of that level: merging twice as many at once halves what is
// written again. Filters keep the others out of most reads.
const (
	mergeTables = 8
	mostTables  = 24
)

// OpenDocs opens or creates the engine in a directory.
func OpenDocs(o DocOptions) (*DocEngine, error) {
	if o.Dir == "" {
		return nil, errors.New("store: no directory for the documents")
	}
	o = o.withDefaults()
	stop := newFailStop("documents", o.Logger, o.OnFatal)
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref() // the engine holds its own reference
	opts := &pebble.Options{Cache: cache, MemTableSize: uint64(o.MemTableBytes), EventListener: o.Events.listener(o.Logger),
		L0CompactionThreshold: mergeTables, L0StopWritesThreshold: mostTables}
	for i := range opts.Levels {
		opts.Levels[i].BlockSize, opts.Levels[i].IndexBlockSize = blockBytes, indexBlockBytes
	}
	db, err := openPebble(o.Dir, o.FS, stop, opts)
	if err != nil {
		return nil, err
	}
	e := &DocEngine{users: newUsers(stop), opts: o, db: db, heads: newHeadCache(o.HeadCache), members: map[uint32]*Documents{}}
	e.bulk.limits = defaultBulkLimits
	if err := e.stamp(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := errors.Join(e.clearTables(), e.survey()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return e, nil
}

// stored lists the partitions that have records in the engine, in order.
func (e *DocEngine) stored() ([]uint32, error) {
	it, err := e.db.NewIter(&pebble.IterOptions{UpperBound: appendPartition(nil, hostPartition)})
	if err != nil {
		return nil, metaError(hostPartition, err)
	}
	var list []uint32
	for ok := it.First(); ok; {
		k := it.Key()
		if len(k) < 4 {
			err = &CorruptionError{Kind: "meta", Err: fmt.Errorf("%w: key of %d bytes", ErrEncoding, len(k))}
			break
		}
		partition := partitionOf(k)
		list = append(list, partition)
		ok = it.SeekGE(appendPartition(nil, partition+1))
	}
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = metaError(hostPartition, closeErr)
	}
	return list, err
}

// survey learns which partitions have records here, and reads the host's own: there are few, and who has them in memory can
// write them again (see salvage).
func (e *DocEngine) survey() error {
	list, err := e.stored()
	if err != nil {
		return err
	}
	e.unopened, e.host = map[uint32]bool{}, map[string][]byte{}
	for _, partition := range list {
		e.unopened[partition] = true
	}
	lower, upper := prefixRange(hostKey(hostMeta, ""))
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return metaError(hostPartition, err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		name := string(it.Key()[len(lower):])
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			e.host[name] = slices.Clone(v)
		}
	}
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return metaError(hostPartition, err)
	}
	return nil
}

// Sync makes everything written before the call durable. Concurrent callers share one fsync.
func (e *DocEngine) Sync() error {
	if err := e.acquire(); err != nil {
		return err
	}
	defer e.release()
	return e.syncs.do(e.stop.failed, e.stop.check, func() error {
		return e.stop.guard(func() error { return e.db.LogData(nil, pebble.Sync) })
	})
}

// Members lists the partitions that have a member here, in order.
func (e *DocEngine) Members() ([]uint32, error) {
	if err := e.acquire(); err != nil {
		return nil, err
	}
	defer e.release()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.partitions(), nil
}

// partitions lists those that have records here, in order. The caller holds mu.
func (e *DocEngine) partitions() []uint32 {
	list := slices.Collect(maps.Keys(e.members))
	for p := range e.unopened {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

// Member opens a partition's documents, creating an empty member when there is none. The range is fixed at creation.
func (e *DocEngine) Member(partition uint32, r Range) (*Documents, error) {
	if partition == hostPartition {
		return nil, fmt.Errorf("store: partition number %d is reserved", partition)
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if err := e.acquire(); err != nil {
		return nil, err
	}
	defer e.release()
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.members[partition]; d != nil {
		if d.hashes != r {
			return nil, &WrongRangeError{Partition: partition, Have: d.hashes, Want: r}
		}
		return d, nil
	}
	d, err := openDocuments(e, partition, r)
	if err != nil {
		return nil, err
	}
	e.members[partition] = d
	delete(e.unopened, partition)
	return d, nil
}

// Drop removes a partition with everything in it, and the host-wide records of these names (SetMeta) in the same durable step, so
// that no later member takes them for its own; when it returns, that is durable. Later calls of the dropped member's Documents
// return ErrDropped.
func (e *DocEngine) Drop(partition uint32, records ...string) error {
	if partition == hostPartition {
		return fmt.Errorf("store: partition number %d is reserved", partition)
	}
	if err := e.acquire(); err != nil {
		return err
	}
	defer e.release()
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.members[partition]; d != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.dropped.Store(true)
		d.unstage()
		d.epoch.Add(1) // odd for ever: no reader may put a head of the past into the cache again
		delete(e.members, partition)
	}
	delete(e.unopened, partition)
	err := e.erase(partition, records)
	e.heads.dropPartition(partition)
	if err != nil {
		return err
	}
	// Space is reclaimed by compactions, which see the tombstone once it is flushed. Nothing waits for that.
	if _, err := e.db.AsyncFlush(); err != nil {
		e.opts.Logger.Warn("flush after dropping a member", "partition", partition, "err", err)
	}
	return nil
}

// erase removes what is stored of a partition, and host-wide records, at once.
func (e *DocEngine) erase(partition uint32, records []string) error {
	b := e.db.NewBatch()
	defer func() { _ = b.Close() }() // it frees memory only
	lower, upper := prefixRange(appendPartition(nil, partition))
	err := b.DeleteRange(lower, upper, nil)
	e.hostMu.Lock()
	defer e.hostMu.Unlock()
	for _, name := range records {
		delete(e.host, name)
		err = errors.Join(err, b.Delete(hostKey(hostMeta, name), nil))
	}
	if err != nil {
		return fmt.Errorf("store: drop partition %d: %w", partition, err)
	}
	return e.stop.guard(func() error { return b.Commit(pebble.Sync) })
}

// Meta returns a host-wide record.
func (e *DocEngine) Meta(name string) ([]byte, bool, error) {
	if err := e.acquire(); err != nil {
		return nil, false, err
	}
	defer e.release()
	e.hostMu.Lock()
	v, ok := e.host[name]
	e.hostMu.Unlock()
	if !ok {
		return nil, false, nil
	}
	v, err := unseal(v)
	if err != nil {
		return nil, false, &CorruptionError{Partition: hostPartition, Kind: "meta", Err: fmt.Errorf("%q: %w", name, err)}
	}
	return slices.Clone(v), true, nil
}

// SetMeta stores a small host-wide record; it is durable when SetMeta returns. A nil value removes it.
func (e *DocEngine) SetMeta(name string, value []byte) error {
	if err := e.acquire(); err != nil {
		return err
	}
	defer e.release()
	key := hostKey(hostMeta, name)
	e.hostMu.Lock()
	defer e.hostMu.Unlock()
	if value == nil {
		delete(e.host, name)
		return e.stop.guard(func() error { return e.db.Delete(key, pebble.Sync) })
	}
	sealed := seal(slices.Clone(value))
	e.host[name] = sealed
	return e.stop.guard(func() error { return e.db.Set(key, sealed, pebble.Sync) })
}

// Shed forgets cached heads of a partition's documents for which the filter holds, and returns how many.
func (e *DocEngine) Shed(partition uint32, filter func(Key) bool) int {
	return e.heads.shed(partition, filter)
}

// Forget forgets the cached head of one document.
func (e *DocEngine) Forget(partition uint32, key Key) {
	e.heads.drop(partition, place{key: key, hash: key.Hash()})
}

// Close waits for running calls and open views, and closes the engine. A second Close returns ErrClosed. After a
// failure it does not wait: calls that were inside of Pebble when it failed may never come back.
func (e *DocEngine) Close() error {
	if !e.refuse() {
		return ErrClosed
	}
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	for idle := false; !idle && e.stop.check() == nil; {
		select {
		case <-e.idle:
			idle = true
		case <-e.stop.failed:
		case <-patience.C:
			e.opts.Logger.Warn("closing the document engine waits for calls or views that were not closed", "open", e.refs.Load())
		}
	}
	if err := e.stop.check(); err != nil {
		return err
	}
	if err := errors.Join(e.flush(), e.stop.guard(e.db.Close)); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// flush writes what is staged for all members; nobody stages any more.
func (e *DocEngine) flush() (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.members {
		d.mu.Lock()
		err = errors.Join(err, d.flush())
		d.mu.Unlock()
	}
	return err
}

// commitRecords is commit for what a batch of a member gathered.
func (e *DocEngine) commitRecords(b *recordBatch, sync bool) error {
	out := b.out
	if b.out = nil; out == nil {
		out = e.db.NewBatch(pebble.WithInitialSizeBytes(b.size()), pebble.WithMaxRetainedSizeBytes(maxKeptBatch))
	}
	if err := e.stop.guard(func() error { return b.fill(out) }); err != nil {
		return err
	}
	if err := e.commit(out, sync); err != nil {
		return err
	}
	out.Reset()
	b.out = out
	return nil
}

// commit writes a batch. Without sync it is ordered before everything written later, but durable only after a Sync.
func (e *DocEngine) commit(b *pebble.Batch, sync bool) error {
	opts := pebble.NoSync
	if sync {
		opts = pebble.Sync
	}
	return e.stop.guard(func() error { return e.db.Apply(b, opts) })
}
