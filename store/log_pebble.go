package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// The layout of keys in the Pebble log engine:
//
//	partition u32 | kind u8                the records of a group, and
//	partition u32 | kind u8 | key          its stable values,
//	partition u32 | kind u8 | index u64    its entries; all numbers are big-endian
//
// Host-wide records are those of stamp.go. Records come first, so that opening a group is one scan, and entries last, so that the
// points deleted from the front are behind a seek to compacted + 1.
const (
	logKindGroup     byte = 1 // present once anything was written
	logKindVote      byte = 2
	logKindMarker    byte = 3
	logKindCompacted byte = 4
	logKindStable    byte = 5
	logKindEntry     byte = 6
)

// logPointDeletes is up to how many entries are removed one by one. A range tombstone costs readers more than it saves
// until it replaces many: each one makes Pebble fragment all of the memtable's range tombstones again.
const logPointDeletes = 4096

func appendLogKey(b []byte, partition uint32, kind byte) []byte {
	return append(appendPartition(b, partition), kind)
}

func appendLogEntryKey(b []byte, partition uint32, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendLogKey(b, partition, logKindEntry), index)
}

// logOpenReason: the directory belongs to the other implementation; opening it would forget votes and entries.
const logOpenReason OpenReason = "it holds a log of another kind"

// pebbleLog is the backend for which all partitions share one Pebble.
type pebbleLog struct {
	engine *logEngine
	db     *pebble.DB
	commit *logCommitter
}

// OpenPebbleLog opens or creates a log engine that keeps all partitions in one Pebble: one write-ahead log, and one fsync
// for as many partitions as are waiting for it.
func OpenPebbleLog(o LogOptions) (LogEngine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	files := o.FS
	if files == nil {
		files = vfs.Default
	}
	if err := makeLogDir(files, o.Dir); err != nil {
		return nil, openError(o.Dir, err)
	}
	if name, err := findBoltLog(files, o.Dir); err != nil || name != "" {
		return nil, &OpenError{Dir: o.Dir, Reason: logOpenReason, Err: errors.Join(err, fmt.Errorf("found %s", name))}
	}
	if err := checkLogTails(files, o.Dir); err != nil {
		return nil, err
	}
	stop := newFailStop("log", o.Logger, o.OnFatal)
	cache := pebble.NewCache(16 << 20)
	defer cache.Unref() // the engine holds its own reference
	db, err := openPebble(o.Dir, o.FS, stop, &pebble.Options{
		Cache:         cache,
		MemTableSize:  uint64(o.MemTableBytes),
		EventListener: DocEvents{}.listener(o.Logger),
		// By then most of what is in level 0 is truncated.
		L0CompactionThreshold: mergeTables, L0StopWritesThreshold: mostTables,
	})
	if err != nil {
		return nil, err
	}
	e := newLogEngine(o, stop)
	p := &pebbleLog{engine: e, db: db}
	e.backend = p
	if err := p.stamp(); err != nil {
		return nil, errors.Join(err, stop.guard(db.Close))
	}
	p.commit = newLogCommitter(db, stop)
	return e, nil
}

// stamp verifies whose directory this is, or writes it into a new one.
func (p *pebbleLog) stamp() error {
	o, key := p.engine.opts, hostKey(hostStamp, "")
	v, ok, err := get(p.db, key)
	if err != nil {
		return err
	}
	if !ok {
		list, err := p.partitions()
		if err != nil {
			return err
		}
		if len(list) > 0 {
			return &CorruptionError{Partition: hostPartition, Kind: "log", Err: fmt.Errorf("directory %s has data but no stamp", o.Dir)}
		}
		value := encodeStamp(o.Cluster, o.Host, o.Incarnation)
		return p.engine.stop.guard(func() error { return p.db.Set(key, value, pebble.Sync) })
	}
	return checkLogStamp(o.Dir, v, o)
}

func checkLogStamp(path string, v []byte, o LogOptions) error {
	cluster, host, incarnation, err := decodeStamp(v)
	if err != nil {
		return &CorruptionError{Partition: hostPartition, Kind: "log", Err: fmt.Errorf("stamp of %s: %w", path, err)}
	}
	return checkOwner(path, [3]string{cluster, host, incarnation}, [3]string{o.Cluster, o.Host, o.Incarnation})
}

func (p *pebbleLog) partitions() (list []uint32, err error) {
	it, err := p.db.NewIter(&pebble.IterOptions{UpperBound: appendPartition(nil, hostPartition)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		if len(it.Key()) < 5 {
			return nil, &CorruptionError{Partition: hostPartition, Kind: "log", Err: fmt.Errorf("%w: key %x", ErrEncoding, it.Key())}
		}
		partition := partitionOf(it.Key())
		list = append(list, partition)
		ok = it.SeekGE(appendPartition(nil, partition+1))
	}
	return list, it.Error()
}

func (p *pebbleLog) disk(partition uint32) logDisk {
	return &pebbleLogDisk{log: p, partition: partition}
}

func (p *pebbleLog) usage(s *LogStats) {
	m := p.db.Metrics()
	s.Syncs = p.commit.syncs.Load()
	s.DiskBytes = m.DiskSpaceUsage()
	s.WrittenBytes = m.WAL.BytesWritten
	s.TableBytes = tableBytes(m)
}

func (p *pebbleLog) close([]logDisk) error {
	p.commit.close()
	return p.engine.stop.guard(p.db.Close)
}

// pebbleLogDisk is one partition's range of keys.
type pebbleLogDisk struct {
	log       *pebbleLog
	partition uint32
	present   bool // the group record is written; owned by the group's write lock
}

func (d *pebbleLogDisk) key(kind byte) []byte { return appendLogKey(nil, d.partition, kind) }

// record reads one of the group's records.
func (d *pebbleLogDisk) record(kind byte, decode func([]byte) error) error {
	v, ok, err := get(d.log.db, d.key(kind))
	if err != nil || !ok {
		return err
	}
	if err := decode(v); err != nil {
		return &CorruptionError{Partition: d.partition, Kind: "log", Err: err}
	}
	return nil
}

func (d *pebbleLogDisk) load(visit func(*raft.Log) error) (logState, error) {
	var s logState
	err := errors.Join(
		d.record(logKindGroup, func([]byte) error { d.present = true; return nil }),
		d.record(logKindVote, func(v []byte) (err error) { s.vote, err = decodeLogVote(v); return err }),
		d.record(logKindCompacted, func(v []byte) (err error) { s.compacted, err = decodeLogPoint(v); return err }),
		d.record(logKindMarker, func(v []byte) error {
			r := reader{b: v}
			m := r.marker()
			s.marker = &m
			return r.end()
		}),
		d.loadStable(&s))
	if err != nil {
		return s, err
	}
	err = d.scan(s.compacted.index+1, func(l *raft.Log) error {
		if s.first == 0 {
			s.first = l.Index
		}
		s.last = l.Index
		return visit(l)
	})
	return s, err
}

func (d *pebbleLogDisk) loadStable(s *logState) error {
	prefix := d.key(logKindStable)
	return d.each(prefix, d.key(logKindStable+1), func(k, v []byte) error {
		*s = s.after(&logChange{key: k[len(prefix):], value: v})
		return nil
	})
}

// scan visits the entries from index on.
func (d *pebbleLogDisk) scan(index uint64, visit func(*raft.Log) error) error {
	return d.each(appendLogEntryKey(nil, d.partition, index), d.key(logKindEntry+1), func(k, v []byte) error {
		l, err := decodeLogEntryAt(k, v)
		if err != nil {
			return &CorruptionError{Partition: d.partition, Kind: "log", Err: err}
		}
		return visit(&l)
	})
}

// each visits the records of [lower, upper); visit may keep v, but not k.
func (d *pebbleLogDisk) each(lower, upper []byte, visit func(k, v []byte) error) (err error) {
	it, err := d.log.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = visit(it.Key(), append([]byte{}, it.Value()...))
	}
	return errors.Join(err, it.Close()) // Close reports what ended the iteration early
}

// decodeLogEntryAt decodes an entry and verifies that it is the one of its key.
func decodeLogEntryAt(key, v []byte) (raft.Log, error) {
	if len(key) != 4+1+8 {
		return raft.Log{}, fmt.Errorf("%w: entry key %x", ErrEncoding, key)
	}
	index := binary.BigEndian.Uint64(key[5:])
	l, err := decodeLogEntry(v)
	if err == nil && l.Index != index {
		err = fmt.Errorf("%w: it is entry %d", ErrEncoding, l.Index)
	}
	if err != nil {
		return raft.Log{}, fmt.Errorf("entry %d: %w", index, err)
	}
	return l, nil
}

func (d *pebbleLogDisk) entry(index uint64) (raft.Log, bool, error) {
	key := appendLogEntryKey(nil, d.partition, index)
	v, ok, err := get(d.log.db, key)
	if err != nil {
		return raft.Log{}, false, logReadError(d.partition, fmt.Errorf("entry %d: %w", index, err))
	}
	if !ok {
		return raft.Log{}, false, nil
	}
	l, err := decodeLogEntryAt(key, v)
	if err != nil {
		return raft.Log{}, false, &CorruptionError{Partition: d.partition, Kind: "log", Err: err}
	}
	return l, true, nil
}

// apply writes the change as one batch.
func (d *pebbleLogDisk) apply(c *logChange) error {
	b, err := d.batch(c)
	if err != nil {
		return err
	}
	return d.log.commit.commit(b, c.lazy)
}

func (d *pebbleLogDisk) stage(c *logChange, done func(error)) error {
	b, err := d.batch(c)
	if err != nil {
		return err
	}
	return d.log.commit.stage(b, c.lazy, done)
}

// batch encodes a change. It is written next, or the engine has failed.
func (d *pebbleLogDisk) batch(c *logChange) (*pebble.Batch, error) {
	size := 256
	for _, l := range c.entries {
		size += len(l.Data) + len(l.Extensions) + 64
	}
	b := d.log.db.NewBatch(pebble.WithInitialSizeBytes(size))
	if err := d.log.engine.stop.guard(func() error { return d.fill(b, c) }); err != nil {
		return nil, err
	}
	d.present = true
	return b, nil
}

func (d *pebbleLogDisk) fill(b *pebble.Batch, c *logChange) error {
	var errs [6]error
	if !d.present {
		errs[0] = b.Set(d.key(logKindGroup), []byte{1}, nil)
	}
	if c.from > 0 {
		errs[1] = d.remove(b, c.from, c.to)
	}
	if c.compacted != nil {
		errs[2] = b.Set(d.key(logKindCompacted), appendLogPoint(nil, *c.compacted), nil)
	}
	if c.marker != nil {
		errs[3] = b.Set(d.key(logKindMarker), c.marker.AppendBinary(nil), nil)
	}
	if c.vote != nil {
		errs[4] = b.Set(d.key(logKindVote), appendLogVote(nil, c.vote), nil)
	}
	if c.key != nil {
		errs[5] = b.Set(append(d.key(logKindStable), c.key...), c.value, nil)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	key := d.key(logKindEntry)
	for _, l := range c.entries {
		size := logEntrySize(l)
		set := b.SetDeferred(len(key)+8, size)
		binary.BigEndian.PutUint64(set.Key[copy(set.Key, key):], l.Index)
		if made := appendLogEntry(set.Value[:0:size], l); len(made) != size {
			return fmt.Errorf("entry %d takes %d bytes, not %d", l.Index, len(made), size)
		}
		if err := set.Finish(); err != nil {
			return err
		}
		d.log.engine.bytes.Add(uint64(size))
	}
	return nil
}

// remove deletes the entries of [from, to].
func (d *pebbleLogDisk) remove(b *pebble.Batch, from, to uint64) error {
	if to-from >= logPointDeletes {
		return b.DeleteRange(appendLogEntryKey(nil, d.partition, from), appendLogEntryKey(nil, d.partition, to+1), nil)
	}
	key := d.key(logKindEntry)
	for i := from; i <= to; i++ {
		if err := b.Delete(binary.BigEndian.AppendUint64(key[:5], i), nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *pebbleLogDisk) drop() error {
	b := d.log.db.NewBatch()
	err := d.log.engine.stop.guard(func() error {
		return b.DeleteRange(appendPartition(nil, d.partition), appendPartition(nil, d.partition+1), nil)
	})
	if err != nil {
		return err
	}
	return d.log.commit.commit(b, false)
}

func (d *pebbleLogDisk) close() error { return nil }
