package partition

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/clock"
	"github.com/adamantdb/adamant/store"
)

// watchedLog is the log as Raft sees it. It knows for how long a durable step has been under way, and it turns failures
// that would make Raft panic, and with it the process, into a stop of this member.
type watchedLog struct {
	store.LogGroup
	now    clock.Clock
	failed func(error)        // stops the member before it returns: nothing enters or leaves Raft any more
	coming func(store.Coming) // is told of commands that were stored; nil: nobody is

	mu        sync.Mutex
	underWay  int
	since     time.Time // when the last durable step ended, or the first of those under way began
	flights   []flight  // entries that are not durable yet, in order and without a gap
	waiters   []waiter  // by index
	abandoned error     // nobody waits any more
}

func (l *watchedLog) step(f func() error) error {
	l.mu.Lock()
	l.begin()
	l.mu.Unlock()
	err := f()
	l.mu.Lock()
	l.end()
	l.mu.Unlock()
	return err
}

// overdue is for how long durable steps have been under way without one ending; 0 when none is.
func (l *watchedLog) overdue(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.underWay == 0 {
		return 0
	}
	return now.Sub(l.since)
}

func (l *watchedLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// StoreLogs stores entries. Raft takes a failure well: a follower refuses the entries, a leader steps down. Commands are not
// durable when it returns. Each step of many large ones counts for itself: else a disk that stores them as fast as any would seem to
// stand still.
//
// Once the member has stopped nothing changes the log any more: what Raft goes on to decide may rest on an entry that it could not read.
func (l *watchedLog) StoreLogs(es []*raft.Log) error {
	if len(es) > 0 && !slices.ContainsFunc(es, func(e *raft.Log) bool { return e.Type != raft.LogCommand }) {
		return l.stage(es)
	}
	if err := l.refusal(); err != nil {
		return err
	}
	l.tellComing(es)
	for part := range store.LogSteps(es) {
		if err := l.step(func() error { return l.LogGroup.StoreLogs(part) }); err != nil {
			l.failed(fmt.Errorf("store entries: %w", err))
			return err
		}
	}
	return nil
}

// DeleteRange drops entries. Of a suffix, Raft takes a failure well; of a prefix, it only logs it.
func (l *watchedLog) DeleteRange(first, last uint64) error {
	if err := l.refusal(); err != nil {
		return err
	}
	err := l.step(func() error { return l.LogGroup.DeleteRange(first, last) })
	if err != nil {
		l.failed(fmt.Errorf("drop the entries %d to %d: %w", first, last, err))
	}
	return err
}

// Set stores a vote. Raft takes a failure well: it does not vote.
func (l *watchedLog) Set(key, value []byte) error {
	if err := l.refusal(); err != nil {
		return err
	}
	err := l.step(func() error { return l.LogGroup.Set(key, value) })
	if err != nil {
		l.failed(fmt.Errorf("store %s: %w", key, err))
	}
	return err
}

// SetUint64 stores a term. Raft panics when that fails, so it is told nothing: by then the member is stopped, and what it
// goes on to do in the term that was not stored reaches nobody.
func (l *watchedLog) SetUint64(key []byte, value uint64) error {
	if l.refusal() != nil {
		return nil
	}
	if err := l.step(func() error { return l.LogGroup.SetUint64(key, value) }); err != nil {
		l.failed(fmt.Errorf("store %s %d: %w", key, value, err))
	}
	return nil
}

// SaveMarker stores a marker. One of this member's own is refused, without harm, when a leader's newer one came in between.
func (l *watchedLog) SaveMarker(m store.Marker, keep bool) error {
	if err := l.refusal(); err != nil {
		return err
	}
	err := l.step(func() error { return l.LogGroup.SaveMarker(m, keep) })
	if errors.As(err, new(*store.EngineFailedError)) {
		l.failed(fmt.Errorf("store the marker at %d: %w", m.Index, err))
	}
	return err
}

// GetLog reads an entry. Where one can not be read that must be there Raft would panic; it gets an empty one in its place,
// after the member was stopped: the state machine applies nothing any more. One that was applied is needed no less: to say that it was
// truncated would have Raft send and take what is behind it without looking at what is before.
func (l *watchedLog) GetLog(index uint64, out *raft.Log) error {
	err := l.LogGroup.GetLog(index, out)
	for looks := 1; errors.Is(err, raft.ErrLogNotFound); looks++ {
		if !l.holds(index) {
			return err
		}
		if looks == mostLooks {
			break
		}
		err = l.LogGroup.GetLog(index, out) // it may have been stored in between
	}
	if err == nil {
		return nil
	}
	l.failed(fmt.Errorf("read entry %d: %w", index, err))
	*out = raft.Log{Index: index, Type: raft.LogNoop}
	return nil
}

// mostLooks is how often an entry that is not found is looked for while the log claims to have it: others store and drop entries meanwhile.
const mostLooks = 4

// holds reports whether the log claims to have an entry.
func (l *watchedLog) holds(index uint64) bool {
	first, err1 := l.FirstIndex()
	last, err2 := l.LastIndex()
	return err1 == nil && err2 == nil && first <= index && index <= last && first > 0
}
