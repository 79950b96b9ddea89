package store

import (
	"sort"
	"sync"
	"unsafe"

	"github.com/hashicorp/raft"
)

// logRecent bounds what all groups of a host keep in memory of their newest entries, by bytes; the oldest StoreLogs of
// the host goes first. Replication and application read almost nothing else, so they need no disk. What is staged counts too: it cannot go
// before it is durable, because it is nowhere else, so others go for it.
//
// Locks: a group's mu, then logRecent.mu. Runs are dropped from their group without logRecent.mu held.
type logRecent struct {
	limit int64

	mu             sync.Mutex
	bytes          int64   // of the runs in the list, and of those that are staged
	oldest, newest *logRun // doubly linked, in order of add
}

// logRun is the entries of one StoreLogs: copies, in one piece of memory, which therefore is freed as one.
type logRun struct {
	group   *logGroup
	entries []raft.Log // contiguous, never empty; the group's mu guards the slice, which truncation cuts from the back
	bytes   int64

	// Guarded by logRecent.mu.
	older, newer *logRun
	staged       bool // counted, and not in the list yet
	listed, gone bool // gone: its group has dropped it
}

func newLogRun(g *logGroup, logs []*raft.Log) *logRun {
	size := 0
	for _, l := range logs {
		size += len(l.Data) + len(l.Extensions)
	}
	arena := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		start := len(arena)
		arena = append(arena, b...)
		return arena[start:len(arena):len(arena)]
	}
	run := &logRun{group: g, entries: make([]raft.Log, len(logs))}
	for i, l := range logs {
		run.entries[i] = raft.Log{Index: l.Index, Term: l.Term, Type: l.Type, Data: keep(l.Data), Extensions: keep(l.Extensions),
			AppendedAt: l.AppendedAt}
	}
	run.bytes = int64(size + len(logs)*int(unsafe.Sizeof(raft.Log{})) + int(unsafe.Sizeof(*run)))
	return run
}

func (r *logRun) first() uint64 { return r.entries[0].Index }
func (r *logRun) last() uint64  { return r.entries[len(r.entries)-1].Index }

// stage counts a run that is on its way to the disk, and returns those that must go instead, as add does.
func (c *logRecent) stage(run *logRun) (victims []*logRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	run.staged = true
	c.bytes += run.bytes
	return c.fit()
}

// add lists a run and returns those that must go instead; the caller holds the run's group's mu, and calls
// forget for each after releasing it.
func (c *logRecent) add(run *logRun) (victims []*logRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if run.staged {
		run.staged = false
		c.bytes -= run.bytes
	}
	if run.gone {
		return nil
	}
	run.listed, run.older = true, c.newest
	if c.newest != nil {
		c.newest.newer = run
	} else {
		c.oldest = run
	}
	c.newest = run
	c.bytes += run.bytes
	return c.fit()
}

// fit takes the oldest runs off the list until the others fit. The caller holds mu.
func (c *logRecent) fit() (victims []*logRun) {
	for c.bytes > c.limit && c.oldest != nil {
		victims = append(victims, c.oldest)
		c.unlist(c.oldest)
	}
	return victims
}

// remove takes runs off the list that their group has dropped; the caller holds the group's mu.
func (c *logRecent) remove(runs []*logRun) {
	if len(runs) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, run := range runs {
		if run.gone = true; run.listed {
			c.unlist(run)
		}
	}
}

func (c *logRecent) unlist(run *logRun) {
	if run.older != nil {
		run.older.newer = run.newer
	} else {
		c.oldest = run.newer
	}
	if run.newer != nil {
		run.newer.older = run.older
	} else {
		c.newest = run.older
	}
	run.older, run.newer, run.listed = nil, nil, false
	c.bytes -= run.bytes
}

func (c *logRecent) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// logTail is a group's part: its runs in index order, the newest of its log without a gap. The group's mu guards it.
type logTail []*logRun

func (t logTail) find(index uint64) (*raft.Log, bool) {
	if len(t) == 0 || index < t[0].first() {
		return nil, false
	}
	run := t[len(t)-1]
	if index < run.first() { // mostly the newest run is asked for
		run = t[sort.Search(len(t), func(i int) bool { return t[i].last() >= index })]
	}
	if index > run.last() {
		return nil, false
	}
	return &run.entries[index-run.first()], true
}

// dropFront returns the tail without the runs up to and including index, and those. A run that is covered in part stays
// whole: the state hides what is gone.
func (t logTail) dropFront(index uint64) (rest logTail, gone []*logRun) {
	for len(t) > 0 && t[0].last() <= index {
		gone = append(gone, t[0])
		t[0] = nil
		t = t[1:]
	}
	return t, gone
}

// dropBack returns the tail without the entries from index on, and the runs that are no longer in it.
func (t logTail) dropBack(index uint64) (rest logTail, gone []*logRun) {
	for len(t) > 0 {
		run := t[len(t)-1]
		if run.first() < index {
			if run.last() >= index {
				run.entries = run.entries[:index-run.first()]
			}
			break
		}
		gone = append(gone, run)
		t[len(t)-1] = nil
		t = t[:len(t)-1]
	}
	return t, gone
}

// forget returns the tail without an evicted run. Those before it have been evicted too, by a caller that has not come
// here yet.
func (t logTail) forget(run *logRun) logTail {
	for i := range t {
		if t[i] == run {
			clear(t[:i+1])
			return t[i+1:]
		}
	}
	return t
}
