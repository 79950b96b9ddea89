package store

import (
	"errors"
	"fmt"
	"log/slog"
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

	mu      sync.Mutex // guards members
	members map[uint32]*Documents
}

// OpenDocs opens or creates the engine in a directory.
func OpenDocs(o DocOptions) (*DocEngine, error) {
	if o.Dir == "" {
		return nil, errors.New("store: no directory for the documents")
	}
	o = o.withDefaults()
	stop := newFailStop("documents", o.Logger, o.OnFatal)
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref() // the engine holds its own reference
	db, err := openPebble(o.Dir, o.FS, stop, &pebble.Options{
		Cache:         cache,
		MemTableSize:  uint64(o.MemTableBytes),
		EventListener: o.Events.listener(o.Logger),
	})
	if err != nil {
		return nil, err
	}
	e := &DocEngine{users: newUsers(stop), opts: o, db: db, heads: newHeadCache(o.HeadCache), members: map[uint32]*Documents{}}
	if err := e.stamp(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return e, nil
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
	return d, nil
}

// Drop removes a partition with everything in it; when it returns, that is durable. Later calls of the dropped
// member's Documents return ErrDropped.
func (e *DocEngine) Drop(partition uint32) error {
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
	lower, upper := prefixRange(appendPartition(nil, partition))
	err := e.stop.guard(func() error { return e.db.DeleteRange(lower, upper, pebble.Sync) })
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

// Meta returns a host-wide record.
func (e *DocEngine) Meta(name string) ([]byte, bool, error) {
	if err := e.acquire(); err != nil {
		return nil, false, err
	}
	defer e.release()
	v, ok, err := get(e.db, hostKey(hostMeta, name))
	if err != nil {
		return nil, false, metaError(hostPartition, err)
	}
	if !ok {
		return nil, false, nil
	}
	if v, err = unseal(v); err != nil {
		return nil, false, &CorruptionError{Partition: hostPartition, Kind: "meta", Err: fmt.Errorf("%q: %w", name, err)}
	}
	return v, true, nil
}

// SetMeta stores a small host-wide record; it is durable when SetMeta returns. A nil value removes it.
func (e *DocEngine) SetMeta(name string, value []byte) error {
	if err := e.acquire(); err != nil {
		return err
	}
	defer e.release()
	key := hostKey(hostMeta, name)
	return e.stop.guard(func() error {
		if value == nil {
			return e.db.Delete(key, pebble.Sync)
		}
		return e.db.Set(key, seal(slices.Clone(value)), pebble.Sync)
	})
}

// Shed forgets cached heads of a partition's documents for which the filter holds, and returns how many.
func (e *DocEngine) Shed(partition uint32, filter func(Key) bool) int {
	return e.heads.shed(partition, filter)
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

// commit writes a batch. Without sync it is ordered before everything written later, but durable only after a Sync.
func (e *DocEngine) commit(b *pebble.Batch, sync bool) error {
	opts := pebble.NoSync
	if sync {
		opts = pebble.Sync
	}
	return e.stop.guard(func() error { return e.db.Apply(b, opts) })
}
