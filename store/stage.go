package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// What Stage has taken is written after stageFor at the latest, or when it has come to stageBytes for the member or to
// stageTotal for the host.
const (
	stageFor   = 100 * time.Millisecond
	stageBytes = 256 << 10
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
	spoil atomic.Pointer[error] // a command could not be staged or written as a whole: nothing is read or written any more

	lock  sync.RWMutex
	heads map[Key]stagedHead // of the documents in batch
}

// stagedHead is a document as the batch leaves it.
type stagedHead struct {
	head Head
	ok   bool // it is there
}

// Stage is Apply for a member that need not show at once what it has applied: only Head does, and what is read of the
// documents themselves (View, Inventory, List, Export). Applied, Status, the sums and everything else that tells of the
// member as a whole follow within a tenth of a second, or with Flush.
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
	d.showStaged(b, batch)
	total := d.countStaged(int64(b.batch.Len()))
	if b.batch.Len() > stageBytes || total > stageTotal {
		err = d.flush()
	}
	d.reportDivergence(diverged)
	return err
}

// showStaged makes the heads of a batch's documents known to Head.
func (d *Documents) showStaged(b *docBatch, batch []Mutation) {
	d.stage.lock.Lock()
	defer d.stage.lock.Unlock()
	if d.stage.heads == nil {
		d.stage.heads = map[Key]stagedHead{}
	}
	for i := range batch {
		s := b.docs[batch[i].Key]
		switch {
		case s == nil: // skipped: it was applied before
		case s.head == nil:
			d.stage.heads[s.key] = stagedHead{}
		default:
			d.stage.heads[s.key] = stagedHead{*s.head, true}
		}
	}
}

// stagedHead returns a document's head when the stage has it.
func (d *Documents) stagedHead(key Key) (h stagedHead, staged bool) {
	d.stage.lock.RLock()
	defer d.stage.lock.RUnlock()
	h, staged = d.stage.heads[key]
	return h, staged
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

// snapshot is an instant of the member with everything that was staged before, for as long as done is not called.
func (d *Documents) snapshot() (s *pebble.Snapshot, done func(), err error) {
	if err := d.acquire(); err != nil {
		return nil, nil, err
	}
	if err := d.Flush(); err != nil {
		d.engine.release()
		return nil, nil, err
	}
	s = d.engine.db.NewSnapshot()
	return s, func() {
		_ = s.Close()
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

// flushDocument writes what is staged when that changes a document.
func (d *Documents) flushDocument(key Key) error {
	if _, staged := d.stagedHead(key); !staged {
		return nil
	}
	return d.Flush()
}

// unstage forgets what is staged. Heads stay known until the written ones can be read. The caller holds mu.
func (d *Documents) unstage() {
	if d.stage.batch == nil {
		return
	}
	d.stage.timer.Stop()
	d.stage.batch.close()
	d.stage.batch = nil
	d.countStaged(0)
	d.stage.lock.Lock()
	defer d.stage.lock.Unlock()
	if len(d.stage.heads) > 256 {
		d.stage.heads = nil
	} else {
		clear(d.stage.heads)
	}
}
