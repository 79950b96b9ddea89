package store

import (
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// maxLogRound bounds what one fsync takes along, well below the size from which Pebble treats a batch as a memtable.
const maxLogRound = 4 << 20

// logCommitter writes the batches of all groups, each round of them as one batch with one fsync: whoever comes while an
// fsync runs shares the next one.
//
//	running ├────────┤
//	queue         a  b  c ├────────┤   one batch, one fsync, for a, b and c
//
// Pebble's commit pipeline would share fsyncs among concurrent callers as well, at the same speed. But when a write
// fails, it panics or stalls with its locks held, and the callers behind would never come back: Raft's main goroutines, which
// could then not even be shut down. Here one goroutine is exposed to that; the others get the failure.
type logCommitter struct {
	db   *pebble.DB
	stop *failStop

	mu     sync.Mutex
	queue  []*logCommit
	closed bool
	failed bool // run has ended after a failure: nothing is taken any more

	promise logPromise // of the last round; owned by whoever writes rounds: run, then close

	wake  chan struct{} // holds one signal while the queue may be non-empty
	ended chan struct{} // closed when run has returned
	syncs atomic.Uint64
}

// logCommit is one waiting batch. The committer owns the batch until done is called.
type logCommit struct {
	batch *pebble.Batch
	lazy  bool        // needs no fsync of its own
	done  func(error) // called once, in the order of arrival; must not block
}

func newLogCommitter(db *pebble.DB, stop *failStop) *logCommitter {
	c := &logCommitter{db: db, stop: stop, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go c.run()
	return c
}

// commit writes a batch and releases it. It returns when the batch is durable, or written when lazy, or the engine has
// failed; then the batch may or may not be there after a restart.
func (c *logCommitter) commit(b *pebble.Batch, lazy bool) error {
	done := make(chan error, 1)
	if err := c.stage(b, lazy, func(err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-c.stop.failed: // the committer may never come back
		return c.stop.check()
	}
}

// stage queues a batch. The committer releases it and then calls done, as commit would return; unless stage fails, or the
// engine does while the committer is inside of the disk and never comes back.
func (c *logCommitter) stage(b *pebble.Batch, lazy bool, done func(error)) error {
	c.mu.Lock()
	if c.closed || c.failed {
		c.mu.Unlock()
		if err := c.stop.check(); err != nil {
			return err
		}
		return ErrClosed
	}
	c.queue = append(c.queue, &logCommit{batch: b, lazy: lazy, done: done})
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

func (c *logCommitter) run() {
	defer close(c.ended)
	for {
		round, closed := c.take()
		switch {
		case len(round) > 0:
			c.write(round)
		case closed:
			return
		default:
			select {
			case <-c.wake:
			case <-c.stop.failed:
				c.turnAway()
				return
			}
		}
	}
}

// turnAway answers what is queued with the engine's failure.
func (c *logCommitter) turnAway() {
	c.mu.Lock()
	c.failed = true
	left := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, w := range left {
		w.done(c.stop.check())
	}
}

// take returns what the next round writes, in the order of arrival.
func (c *logCommitter) take() (round []*logCommit, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, 0
	for n < len(c.queue) {
		if size += c.queue[n].batch.Len(); n > 0 && size > maxLogRound {
			break
		}
		n++
	}
	round = c.queue[:n:n]
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil
	}
	return round, c.closed
}

// write writes a round, with an fsync unless all of it is lazy.
func (c *logCommitter) write(round []*logCommit) {
	lazy := len(round) > 0
	for _, w := range round {
		lazy = lazy && w.lazy
	}
	err := c.stop.guard(func() error { return c.apply(round, lazy) })
	if !lazy && err == nil {
		c.syncs.Add(1)
	}
	for _, w := range round {
		if err == nil {
			_ = w.batch.Close() // only fails for batches that are being committed
		}
		w.done(err)
	}
}

func (c *logCommitter) apply(round []*logCommit, lazy bool) error {
	c.promise.round++
	size := 64
	for _, w := range round {
		size += w.batch.Len()
	}
	merged := c.db.NewBatch(pebble.WithInitialSizeBytes(size))
	if err := merged.LogData(c.promise.encode(), nil); err != nil {
		return err
	}
	for _, w := range round {
		if err := merged.Apply(w.batch, nil); err != nil {
			return err
		}
	}
	opts := pebble.Sync
	if lazy {
		opts = pebble.NoSync
	}
	if err := c.db.Apply(merged, opts); err != nil {
		return err
	}
	if !lazy {
		c.promise.synced = c.promise.round
	}
	return merged.Close()
}

// close waits for what is queued and ends the goroutine. Nobody commits any more. Two empty rounds follow, of which the
// second says that everything before it was synced, so that no damage to that can be taken for a torn tail.
func (c *logCommitter) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	<-c.ended
	for range 2 {
		c.write(nil)
	}
}
