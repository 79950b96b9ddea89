package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// logBackend is what differs between the engines. A failed write is reported through the engine's failStop.
type logBackend interface {
	partitions() ([]uint32, error)
	disk(partition uint32) logDisk
	usage(*LogStats) // fills in what the backend counts
	// close closes what is shared by all partitions, and the disks.
	close(disks []logDisk) error
}

// logEngine implements LogEngine over a logBackend.
type logEngine struct {
	*users
	opts    LogOptions
	backend logBackend
	recent  logRecent

	writes, entries, bytes, reads, readsDisk atomic.Uint64

	mu     sync.Mutex // guards groups, and opening and dropping them
	groups map[uint32]*logGroup
}

var _ LogEngine = (*logEngine)(nil)

func newLogEngine(o LogOptions, stop *failStop) *logEngine {
	return &logEngine{users: newUsers(stop), opts: o, recent: logRecent{limit: o.EntryCacheBytes},
		groups: map[uint32]*logGroup{}}
}

// Groups implements LogEngine.
func (e *logEngine) Groups() ([]uint32, error) {
	if err := e.acquire(); err != nil {
		return nil, err
	}
	defer e.release()
	list, err := e.backend.partitions()
	if err != nil {
		return nil, fmt.Errorf("store: list logs in %s: %w", e.opts.Dir, err)
	}
	return list, nil
}

// Group implements LogEngine. Everything of the partition is read and verified.
func (e *logEngine) Group(partition uint32) (LogGroup, error) {
	if partition == hostPartition {
		return nil, fmt.Errorf("store: partition number %d is reserved", partition)
	}
	if err := e.acquire(); err != nil {
		return nil, err
	}
	defer e.release()
	e.mu.Lock()
	defer e.mu.Unlock()
	if g := e.groups[partition]; g != nil {
		return g, nil
	}
	g := &logGroup{engine: e, partition: partition, disk: e.backend.disk(partition)}
	if err := g.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("store: open the log of partition %d in %s: %w", partition, e.opts.Dir, err), g.disk.close())
	}
	e.groups[partition] = g
	return g, nil
}

// loadRun is how many entries are kept in memory as one piece when a log is read.
const loadRun = 64

// load reads a group from its disk, verifies it, and keeps its newest entries in memory.
func (g *logGroup) load() error {
	var batch []*raft.Log
	next := uint64(0)
	keep := func() {
		if len(batch) > 0 {
			g.show(&logChange{entries: batch})
			batch = batch[:0]
		}
	}
	s, err := g.disk.load(func(l *raft.Log) error {
		if next > 0 && l.Index != next {
			return g.corrupt(fmt.Errorf("entry %d is missing, the next one is %d", next, l.Index))
		}
		next = l.Index + 1
		if batch = append(batch, l); len(batch) == loadRun {
			keep()
		}
		return nil
	})
	if err == nil {
		keep()
		g.state = s
		if err = s.check(g.term); err != nil {
			err = g.corrupt(err)
		}
	}
	if err != nil {
		g.engine.recent.remove(g.tail)
		return err
	}
	return nil
}

// Drop implements LogEngine.
func (e *logEngine) Drop(partition uint32) error {
	if partition == hostPartition {
		return fmt.Errorf("store: partition number %d is reserved", partition)
	}
	if err := e.acquire(); err != nil {
		return err
	}
	defer e.release()
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.groups[partition]
	if g == nil {
		return e.backend.disk(partition).drop()
	}
	g.write.Lock()
	defer g.write.Unlock()
	g.mu.Lock()
	g.dropped = true
	e.recent.remove(g.tail)
	g.tail = nil
	g.mu.Unlock()
	delete(e.groups, partition)
	return g.disk.drop()
}

// Stats implements LogEngine.
func (e *logEngine) Stats() LogStats {
	s := LogStats{Writes: e.writes.Load(), Entries: e.entries.Load(), Bytes: e.bytes.Load(), Reads: e.reads.Load(),
		ReadsDisk: e.readsDisk.Load(), CacheBytes: e.recent.size()}
	if e.acquire() != nil {
		return s
	}
	defer e.release()
	e.backend.usage(&s)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for _, g := range e.groups {
		s.Waiting = max(s.Waiting, g.waiting(now))
	}
	return s
}

func (e *logEngine) count(c *logChange) {
	if !c.lazy {
		e.writes.Add(1)
	}
	e.entries.Add(uint64(len(c.entries)))
}

// Close implements LogEngine. After a failure it does not wait: what was inside of the disk then may never come back.
func (e *logEngine) Close() error {
	if !e.refuse() {
		return ErrClosed
	}
	select {
	case <-e.idle:
	case <-e.stop.failed:
	}
	if err := e.stop.check(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var disks []logDisk
	for _, g := range e.groups {
		disks = append(disks, g.disk)
	}
	if err := e.backend.close(disks); err != nil {
		return fmt.Errorf("store: close the log in %s: %w", e.opts.Dir, err)
	}
	return nil
}
