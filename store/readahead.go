package store

import (
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Commands are known before they are applied: they are in the log, on their way to the disks of a majority. What applying them
// will need from this disk is read meanwhile, by a few goroutines of the host, so that who applies, and keeps others waiting, finds
// it in memory. Nothing rests on that: what is not there in time is read then, and counted (DocMetrics.LateReads).

// Coming is what is known of a command before it is applied, as far as that tells what applying it needs.
type Coming struct {
	Kind       Kind
	Space, Key []byte
	Generation uint64
	Floor      int64
}

// Bounds of what is read ahead: reads at a time, reads that wait, and bytes of one document's entries.
const (
	readersAhead     = 4
	mostAhead        = 1 << 14
	mostEntriesAhead = 4 << 20
)

// readAhead are the reads ahead of a host.
type readAhead struct {
	late atomic.Uint64

	mu      sync.Mutex
	queue   []aheadRead // those from next on
	next    int
	readers [readersAhead]aheadReader
}

// aheadReader is a goroutine that reads ahead; it ends when there is nothing to read.
type aheadReader struct {
	runs    bool
	read    aheadRead     // under way
	waiting chan struct{} // closed at its end; nil while nobody waits
}

// aheadRead is what is to be read for a command.
type aheadRead struct {
	d *Documents
	place
	entries    bool // those that the command drops, too
	generation uint64
	floor      int64
}

// ReadAhead tells that a command will be applied soon, perhaps: what of that needs the disk is read now, in the background. It
// neither waits nor keeps what it is given.
func (d *Documents) ReadAhead(c Coming) {
	drops := c.Kind == Compact || c.Kind == Replace || c.Kind == Delete
	if d.engine.heads.keep(d.partition, hashOf(c.Space, c.Key), c.Space, c.Key) && !drops {
		return
	}
	p, err := d.place(Key{Space: string(c.Space), Key: string(c.Key)})
	if err != nil {
		return // who applies it will say so
	}
	if _, staged := d.stagedHead(p); staged && !drops {
		return
	}
	r := aheadRead{d: d, place: p, entries: drops}
	if c.Kind == Compact {
		r.generation, r.floor = c.Generation, c.Floor
	}
	d.engine.readLater(&r)
}

// readLater queues a read, unless there are too many.
func (e *DocEngine) readLater(r *aheadRead) {
	a := &e.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue)-a.next >= mostAhead {
		return
	}
	if a.next > len(a.queue)/2 && len(a.queue) == cap(a.queue) { // make room in place
		n := copy(a.queue, a.queue[a.next:])
		clear(a.queue[n:])
		a.queue, a.next = a.queue[:n], 0
	}
	a.queue = append(a.queue, *r)
	for i := range a.readers {
		if s := &a.readers[i]; !s.runs {
			if e.acquire() == nil { // else nobody applies any more
				s.runs = true
				go e.runReader(s)
			}
			return
		}
	}
}

// runReader reads until nothing is left to be read. It has acquired the engine.
func (e *DocEngine) runReader(s *aheadReader) {
	defer e.release()
	for e.ahead.advance(s) {
		s.read.run()
	}
}

// advance ends a reader's read and gives it the next one; false when there is none. Only the reader changes its read.
func (a *readAhead) advance(s *aheadReader) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.waiting != nil {
		close(s.waiting)
	}
	s.waiting, s.read = nil, aheadRead{}
	if s.runs = a.next < len(a.queue); !s.runs {
		a.queue, a.next = nil, 0
		return false
	}
	s.read = a.queue[a.next]
	a.queue[a.next] = aheadRead{}
	a.next++
	return true
}

// late notes that who applies a command finds a head missing, and waits if it is being read: to read it once more would take longer.
func (e *DocEngine) late(d *Documents, p place) {
	e.ahead.late.Add(1)
	if done := e.ahead.underWay(d, p); done != nil {
		select {
		case <-done:
		case <-e.stop.failed:
		}
	}
}

// underWay returns what is closed when a document is read that is being read now; nil when it is not.
func (a *readAhead) underWay(d *Documents, p place) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.readers {
		s := &a.readers[i]
		if !s.runs || s.read.d != d || s.read.key != p.key {
			continue
		}
		if s.waiting == nil {
			s.waiting = make(chan struct{})
		}
		return s.waiting
	}
	return nil
}

// run reads. A failure is for those to meet, and to tell, who can not do without.
func (r *aheadRead) run() {
	d := r.d
	if d.acquire() != nil {
		return
	}
	defer d.engine.release()
	h, ok, err := d.settledHead(r.place)
	if err != nil || !ok || !r.entries {
		return
	}
	upTo := r.floor
	switch {
	case r.generation == 0: // all go
		if h.Entries > pointDeletes {
			return // unread
		}
		upTo = h.HeadSeq
	case r.generation != h.Generation:
		return
	}
	if upTo > h.Floor {
		d.touchEntries(r.place, &h, upTo)
	}
}

// settledHead is cachedHead that reads again when what it read can not be cached.
func (d *Documents) settledHead(p place) (h Head, ok bool, err error) {
	for range 3 {
		var known bool
		if h, ok, known = d.engine.heads.get(d.partition, p); known {
			return h, ok, nil
		}
		before := d.epoch.Load()
		if h, ok, err = readHead(d.engine.db, d.partition, p); err != nil || d.cacheHead(p, h, ok, before) {
			return h, ok, err
		}
	}
	return h, ok, nil
}

// touchEntries brings the blocks of a document's entries with Floor < SeqEnd ≤ upTo into the engine's cache.
func (d *Documents) touchEntries(p place, h *Head, upTo int64) {
	it, err := d.engine.db.NewIter(&pebble.IterOptions{LowerBound: appendEntry(nil, d.partition, p, h.Generation, h.Floor+1),
		UpperBound: append(appendEntry(nil, d.partition, p, h.Generation, upTo), 0)})
	if err != nil {
		return
	}
	for ok, n := it.First(), 0; ok && n < mostEntriesAhead; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			break
		}
		n += len(v)
	}
	_ = it.Close()
}

// readDisk reports whether an iterator has read blocks that were not in the engine's cache.
func readDisk(it *pebble.Iterator) bool {
	s := it.Stats().InternalStats
	return s.BlockBytes > s.BlockBytesInCache
}
