package partition

import (
	"fmt"
	"math"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// Raft waits for its log at two places: a leader before it sends an entry on, and a follower before it looks at the next
// request. watchedLog lets both go on while the disk works (§10.2.1 of the Raft thesis), so that a leader's fsync runs beside
// its followers' and several requests share one. What Raft then takes for stored is not durable yet, so whatever rests on it is
// held back here and by the guard until it is:
//
//   - an answer that acknowledges entries,
//   - the commit index that a leader tells,
//   - the application of an entry, and with it the answer to its proposer.
//
// Entries that are not commands are waited for as ever: Raft itself acts upon a configuration that it takes for committed, and
// the first entry of a new leader makes everything before it durable.

// flight is a run of entries on their way to the disk, in one step of it.
type flight struct{ first, last uint64 }

// waiter waits for an entry to be durable.
type waiter struct {
	index uint64
	tell  func(error) // must not block
}

// stage stores commands without waiting.
func (l *watchedLog) stage(es []*raft.Log) error {
	for part := range store.LogSteps(es) {
		if err := l.stageStep(part); err != nil {
			return err
		}
	}
	return nil
}

func (l *watchedLog) stageStep(es []*raft.Log) error {
	f := flight{es[0].Index, es[len(es)-1].Index}
	l.mu.Lock()
	if err := l.abandoned; err != nil {
		l.mu.Unlock()
		return err
	}
	l.begin()
	l.flights = append(l.flights, f)
	l.mu.Unlock()
	err := l.LogGroup.Stage(es, l.landed)
	if err != nil {
		l.landed(err)
		return err
	}
	l.tellComing(es) // while the disk works
	return nil
}

// tellComing tells of commands that will be applied, if their entries are committed. What can not be read is for who applies it.
func (l *watchedLog) tellComing(es []*raft.Log) {
	if l.coming == nil {
		return
	}
	for _, e := range es {
		if e.Type == raft.LogCommand {
			_ = eachComing(e, l.coming)
		}
	}
}

// landed notes that the oldest run of entries has become durable. After a failure nothing is durable any more that is not yet.
func (l *watchedLog) landed(err error) {
	if err != nil {
		err = fmt.Errorf("store entries: %w", err)
		l.abandon(err)
		l.failed(err)
	}
	l.mu.Lock()
	l.end()
	if len(l.flights) > 0 && l.abandoned == nil {
		l.flights = slices.Delete(l.flights, 0, 1)
	}
	ready := l.ready()
	l.mu.Unlock()
	for _, w := range ready {
		w.tell(nil)
	}
}

// ready takes the waiters whose entries are durable. The caller holds mu.
func (l *watchedLog) ready() []waiter {
	durable := l.durableLocked()
	n := 0
	for n < len(l.waiters) && l.waiters[n].index <= durable {
		n++
	}
	ready := slices.Clone(l.waiters[:n])
	l.waiters = slices.Delete(l.waiters, 0, n)
	return ready
}

// durable is up to which index everything that is in the log is known to be durable.
func (l *watchedLog) durable() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durableLocked()
}

func (l *watchedLog) durableLocked() uint64 {
	if len(l.flights) == 0 {
		return math.MaxUint64
	}
	return l.flights[0].first - 1
}

// whenDurable calls tell, now or later, once the log is durable up to an index, or with the reason why it will never be
// known to be.
func (l *watchedLog) whenDurable(index uint64, tell func(error)) {
	l.mu.Lock()
	err := l.abandoned
	wait := err == nil && index > l.durableLocked()
	if wait {
		at := len(l.waiters)
		for at > 0 && l.waiters[at-1].index > index {
			at--
		}
		l.waiters = slices.Insert(l.waiters, at, waiter{index, tell})
	}
	l.mu.Unlock()
	if !wait {
		tell(err)
	}
}

// await is whenDurable that blocks.
func (l *watchedLog) await(index uint64) error {
	if l.durable() >= index {
		return nil
	}
	done := make(chan error, 1)
	l.whenDurable(index, func(err error) { done <- err })
	return <-done
}

// abandon turns away who waits, now and from now on: the member stops.
func (l *watchedLog) abandon(err error) {
	l.mu.Lock()
	if l.abandoned == nil {
		l.abandoned = err
	}
	left := l.waiters
	l.waiters = nil
	l.mu.Unlock()
	for _, w := range left {
		w.tell(err)
	}
}

// refusal is why nothing may be stored any more; nil while the member runs.
func (l *watchedLog) refusal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.abandoned
}

// begin and end note that a durable step is under way. The caller holds mu.
func (l *watchedLog) begin() {
	if l.underWay == 0 {
		l.since = l.now()
	}
	l.underWay++
}

func (l *watchedLog) end() {
	l.underWay--
	l.since = l.now()
}
