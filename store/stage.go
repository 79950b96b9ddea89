package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// What Stage has taken is written after stageFor at the latest, or when it has come to stageBytes for the member or to
// stageTotal for the host, or when it would fill half of the member's ring of changes: members that write at different
// times have to find an index that both know the sums of.
const (
	stageFor   = 500 * time.Millisecond
	stageBytes = 2 << 20
	stageTotal = 16 << 20
)

// stage holds what a member was told to apply and has not written yet.
//
// A busy document changes its head with every command, and so do the sums of its bucket and the record of what is applied.
// Written for every command these cost the engine three times what the entry itself costs; held back for a moment they are
// written once for many commands. Nothing is lost by that: the log holds the commands until a marker says that the documents
// do, and a marker flushes first.
type stage struct {
	batch *docBatch // nil: nothing is staged. Guarded by Documents.mu
	bytes int64     // as counted in the engine's total. Guarded by Documents.mu
	timer *time.Timer
	busy  bool                  // it is full before its time. Guarded by Documents.mu
	spoil atomic.Pointer[error] // a command could not be staged or written as a whole: nothing is read or written any more

	lock    sync.RWMutex
	heads   map[uint64]*docState // of the documents in batch, by hash; only what is shown of them is read
	shown   *docBatch            // the batch, once something of it is shown
	records []byte               // of the batch, with all that is shown
	reached uint64               // the index that is shown with it
	memory  int64                // that a view keeps which shares the batch
}

// stagedHead is a document as the batch leaves it.
type stagedHead struct {
	head Head
	ok   bool // it is there
}

// stagedDoc is what a view needs to know of one, too. What it points at does not change as long as the batch is used.
type stagedDoc struct {
	stagedHead
	stored    bool         // the engine's entries above droppedTo are its own, besides those added
	droppedTo int64        // while stored
	added     []addedEntry // by seq
	base      recordRef    // of size 0: the engine has it, if there is one
}

// Stage is Apply for a member that need not show at once what it has applied: only Head does, and what is read of the
// documents themselves (View, Inventory, List, Export). Applied, Status, the sums and everything else that tells of the
// member as a whole follow within half a second, or with Flush.
func (d *Documents) Stage(batch []Mutation, last uint64) error {
	unlock, err := d.enter()
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkOrder(batch, last); err != nil {
		return fmt.Errorf("store: partition %d: %w", d.partition, err)
	}
	b := d.stage.batch
	if b == nil {
		if last <= d.meta.state.applied {
			return nil
		}
		b = d.begin()
		b.users.Store(1)
		d.stage.batch = b
		d.stage.timer = time.AfterFunc(stageFor, d.flushLate)
	}
	if last <= b.state.applied {
		return nil
	}
	diverged, err := b.apply(batch, last)
	if err != nil {
		return d.spoil(err)
	}
	d.showStaged(b)
	total := d.countStaged(int64(b.batch.size()))
	if d.stage.busy = b.batch.size() > stageBytes || len(b.changes) > d.engine.opts.Ring/2; d.stage.busy || total > stageTotal {
		err = d.flush()
	}
	d.reportDivergence(diverged)
	return err
}

// showStaged makes what a batch just changed of its documents known to Head and View.
func (d *Documents) showStaged(b *docBatch) {
	d.stage.lock.Lock()
	defer d.stage.lock.Unlock()
	if before := cap(d.stage.records); before != cap(b.batch.buf) && b.users.Load() > 1 {
		b.left += before // views may read it on
	}
	d.stage.shown, d.stage.records, d.stage.reached, d.stage.memory = b, b.batch.buf, b.state.applied, b.memory()
	if d.stage.heads == nil {
		d.stage.heads = map[uint64]*docState{}
	}
	for _, s := range b.used {
		if s.shown = (stagedDoc{}); s.head != nil {
			s.shown = stagedDoc{stagedHead{*s.head, true}, s.storedLive, s.droppedTo, s.added, s.base}
		}
		if !s.showing {
			s.showing = true
			d.stage.heads[s.hash] = b.docs[s.hash] // where the list of twins begins
		}
	}
}

// Shown returns the highest index whose effect a View that is opened from now on shows: Applied, and what is staged.
func (d *Documents) Shown() uint64 {
	d.stage.lock.RLock()
	reached := d.stage.reached
	d.stage.lock.RUnlock()
	return max(reached, d.Applied())
}

// stagedHead returns a document's head when the stage has it.
func (d *Documents) stagedHead(p place) (h stagedHead, staged bool) {
	d.stage.lock.RLock()
	defer d.stage.lock.RUnlock()
	if doc := d.stage.doc(p); doc != nil {
		return doc.stagedHead, true
	}
	return stagedHead{}, false
}

// doc returns what there is to see of a document; nil when it is not staged. The caller holds lock.
func (g *stage) doc(p place) *stagedDoc {
	for s := g.heads[p.hash]; s != nil; s = s.twin {
		if s.key == p.key && s.showing {
			return &s.shown
		}
	}
	return nil
}

// countStaged tells the host how much is staged here now, and returns its total. The caller holds mu.
func (d *Documents) countStaged(bytes int64) (total int64) {
	total = d.engine.staged.Add(bytes - d.stage.bytes)
	d.stage.bytes = bytes
	return total
}

// Flush writes what is staged. Like Apply it does not make it durable.
func (d *Documents) Flush() error {
	unlock, err := d.lock()
	if err == nil {
		unlock()
	}
	return err
}

// flushLate is Flush for the timer: who stages next, or flushes, learns of a failure.
func (d *Documents) flushLate() {
	unlock, err := d.enter()
	if err != nil {
		return
	}
	defer unlock()
	if err := d.flush(); err != nil {
		d.engine.opts.Logger.Error("staged commands can not be written", "partition", d.partition, "err", err)
	}
}

// snapshot is an instant of the member with everything that was staged before, for as long as done is not called, and what
// the member knew then for one bucket.
func (d *Documents) snapshot(bucket uint8) (s *pebble.Snapshot, known *bucketMeta, done func(), err error) {
	if err := d.acquire(); err != nil {
		return nil, nil, nil, err
	}
	unlock, err := d.lock() // no batch is between the engine and the member's records
	if err != nil {
		d.engine.release()
		return nil, nil, nil, err
	}
	defer unlock()
	d.instants.RLock() // without a wait: whoever holds it for writing holds the lock, too
	s = d.engine.db.NewSnapshot()
	return s, d.meta.of(bucket), func() {
		_ = s.Close()
		d.instants.RUnlock()
		d.engine.release()
	}, nil
}

// flush writes what is staged. The caller holds mu.
func (d *Documents) flush() error {
	if d.stage.batch == nil {
		return nil
	}
	if err := d.stage.batch.commit(false); err != nil {
		return d.spoil(fmt.Errorf("store: partition %d: write what is staged: %w", d.partition, err))
	}
	d.unstage()
	return nil
}

// spoil ends the use of the member: what is staged has been acknowledged, and can not be written. The caller holds mu.
func (d *Documents) spoil(err error) error {
	d.stage.spoil.Store(&err)
	d.unstage()
	return err
}

func (d *Documents) spoiled() error {
	if err := d.stage.spoil.Load(); err != nil {
		return *err
	}
	return nil
}

// Retry makes a member usable again that a failed read has spoiled, for one who has stopped whatever stages: what was staged
// and not written has to be staged again, from Applied on. It changes nothing on a member that works.
//
// That is sound: nothing of a batch is written before all of it is, and what was published was written.
func (d *Documents) Retry() error {
	if err := d.engine.acquire(); err != nil {
		return err
	}
	defer d.engine.release()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stage.spoil.Store(nil) // nothing is staged any more
	return nil
}

// unstage forgets what is staged. Heads stay known until the written ones can be read. The caller holds mu.
func (d *Documents) unstage() {
	if d.stage.batch == nil {
		return
	}
	d.stage.timer.Stop()
	d.stage.lock.Lock()
	if d.stage.busy || len(d.stage.heads) <= 32 {
		clear(d.stage.heads) // as many follow
	} else {
		d.stage.heads = nil
	}
	d.stage.shown, d.stage.records, d.stage.reached, d.stage.memory = nil, nil, 0, 0
	d.stage.lock.Unlock()
	d.stage.batch.part() // nobody but who reads it already sees its documents any more
	d.stage.batch = nil
	d.countStaged(0)
}
