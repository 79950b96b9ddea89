package partition

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes of the commands in flight: of a partition, or, shared by its members, of a host. A command that is larger
// than the whole budget is let through alone.
//
// Who finds room takes it with a step or two of the processor. The others wait in a queue and are served in their order, so that a large
// command gets its turn although small ones never pause: who comes while others wait waits behind them. Always: the first of the queue does not
// fit, or whoever gives bytes back, or joined the queue, is about to look again.
type Budget struct {
	limit int64
	used  atomic.Int64

	waiting atomic.Int64 // the length of queue, for those without mu
	mu      sync.Mutex   // guards queue; never held while something is waited for
	queue   list.List    // of *claim
}

// claim is somebody who waits for bytes. granted is closed when they are his.
type claim struct {
	bytes   int64
	granted chan struct{}
}

// errOfficeEnded: who waited for room needs none, because nothing is proposed any more in the leadership that was to do it.
var errOfficeEnded = errors.New("the leadership ended")

// NewBudget makes one of so many bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// try takes bytes, if there is room and nobody waits. A nil Budget has room for everything.
func (b *Budget) try(bytes int64) bool {
	return b == nil || b.waiting.Load() == 0 && b.fit(bytes)
}

// fit takes bytes if there is room.
func (b *Budget) fit(bytes int64) bool {
	for {
		used := b.used.Load()
		if used > 0 && used+bytes > b.limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+bytes) {
			return true
		}
	}
}

// take waits until there is room and takes it. Without an error the bytes have to be given back; with one nothing was taken: the context's,
// ErrClosed and errOfficeEnded.
func (b *Budget) take(ctx context.Context, bytes int64, closing, over <-chan struct{}) error {
	if b.try(bytes) {
		return nil
	}
	c := &claim{bytes: bytes, granted: make(chan struct{})}
	b.mu.Lock()
	place := b.queue.PushBack(c)
	b.waiting.Add(1)
	b.grant() // what was given back before waiting told that somebody waits
	b.mu.Unlock()
	var err error
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-closing:
		err = ErrClosed
	case <-over:
		err = errOfficeEnded
	}
	b.withdraw(place)
	return err
}

// withdraw ends a claim that nobody waits for any more, which may have been granted meanwhile.
func (b *Budget) withdraw(place *list.Element) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := place.Value.(*claim)
	select {
	case <-c.granted:
		b.used.Add(-c.bytes)
	default:
		b.queue.Remove(place)
		b.waiting.Add(-1)
	}
	b.grant() // there is room again, or those behind were waiting for this one alone
}

// give gives bytes back.
func (b *Budget) give(bytes int64) {
	if b == nil || bytes == 0 {
		return
	}
	b.used.Add(-bytes)
	if b.waiting.Load() > 0 {
		b.mu.Lock()
		b.grant()
		b.mu.Unlock()
	}
}

// grant serves the queue as far as there is room. The caller holds mu.
func (b *Budget) grant() {
	for first := b.queue.Front(); first != nil; first = b.queue.Front() {
		c := first.Value.(*claim)
		if !b.fit(c.bytes) {
			return
		}
		b.queue.Remove(first)
		b.waiting.Add(-1)
		close(c.granted)
	}
}

// tryRoom takes room for a command in the partition's budget and the host's, if both have it. room waits for it.
func (p *Partition) tryRoom(bytes int64) bool {
	if !p.bytes.try(bytes) {
		return false
	}
	if !p.o.Budget.try(bytes) {
		p.bytes.give(bytes)
		return false
	}
	return true
}

// room waits for room in both. The partition's comes first, so that what is taken of the host's goes to somebody who can use it. The
// caller does not hold mu. Errors are those of take.
func (p *Partition) room(ctx context.Context, bytes int64, over <-chan struct{}) error {
	if err := p.bytes.take(ctx, bytes, p.closing, over); err != nil {
		return err
	}
	err := p.o.Budget.take(ctx, bytes, p.closing, over)
	if err != nil {
		p.bytes.give(bytes)
	}
	return err
}

// vacate gives room in both back. mu may be held.
func (p *Partition) vacate(bytes int64) {
	p.bytes.give(bytes)
	p.o.Budget.give(bytes)
}
