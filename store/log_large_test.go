package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// megabytes are entries of a MiB each, more than one step takes when there are five.
func megabytes(first, last, term uint64) []*raft.Log {
	logs := logEntries(first, last, term)
	for _, l := range logs {
		l.Data = append(l.Data, make([]byte, 1<<20-len(l.Data))...)
	}
	return logs
}

// TestLogTakesWhatMayBeInFlight: Raft hands everything that was proposed while it was busy to the log at once, hundreds of commands of
// megabytes each if the limits allow it. What the log refuses stops the member for good.
func TestLogTakesWhatMayBeInFlight(t *testing.T) {
	command := make([]byte, 4<<20-1) // shared: nothing is copied before the size is looked at
	var s logState
	var logs []*raft.Log
	for i := range uint64(512) {
		logs = append(logs, &raft.Log{Index: i + 1, Term: 1, Type: raft.LogCommand, Data: command[:min(len(command), int(1+i*40_000))]})
	}
	c, err := s.store(logs)
	mustLog(t, err)
	steps := 0
	var got []*raft.Log
	for c != nil {
		rest := c.cut()
		size := int64(0)
		for _, l := range c.entries {
			size += int64(len(l.Data))
		}
		if size > maxLogRound && len(c.entries) > 1 || len(c.entries) == 0 || size != c.bytes {
			t.Fatalf("a step of %d entries, %d bytes, %d of them counted", len(c.entries), size, c.bytes)
		}
		got = append(got, c.entries...)
		steps++
		c = rest
	}
	if !slices.Equal(got, logs) {
		t.Errorf("the steps have %d entries of %d, or others", len(got), len(logs))
	}
	t.Logf("%d steps", steps)
}

// TestLogStoresMuchInSteps: many large entries are stored, in order, and who stages them is told once, when all of them are durable.
// When one of them is refused, none is stored.
func TestLogStoresMuchInSteps(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		o := logOptions(t.TempDir())
		o.EntryCacheBytes = 3 << 20 // others are read from the disk
		e := openLog(t, k, o)
		g := openLogGroup(t, e, 1)
		mustLog(t, g.StoreLogs(megabytes(1, 10, 1)))
		if w := e.Stats().Writes; w < 3 {
			t.Errorf("10 MiB were stored in %d steps", w)
		}
		gap := slices.Concat(megabytes(11, 17, 1), megabytes(19, 20, 1))
		if err := g.StoreLogs(gap); err == nil {
			t.Error("entries with a gap were stored")
		}
		if err := g.Stage(gap, func(error) { t.Error("told of what was refused") }); err == nil {
			t.Error("entries with a gap were staged")
		}
		if last, err := g.LastIndex(); last != 10 || err != nil {
			t.Fatalf("the log ends at %d, %v: a part of what was refused was stored", last, err)
		}
		told := make(chan error, 10)
		mustLog(t, g.Stage(megabytes(11, 20, 1), func(err error) { told <- err }))
		mustLog(t, g.Stage(logEntries(21, 21, 1), func(err error) { told <- err }))
		if last, err := g.LastIndex(); last != 21 || err != nil {
			t.Fatalf("the log ends at %d, %v", last, err)
		}
		mustLog(t, <-told)
		mustLog(t, <-told)
		want := slices.Concat(megabytes(1, 20, 1), logEntries(21, 21, 1))
		checkLog(t, g, 0, 0, want)
		mustLog(t, e.Close())
		if len(told) > 0 {
			t.Error("told more than once")
		}
		e = openLog(t, k, o)
		checkLog(t, openLogGroup(t, e, 1), 0, 0, want)
	})
}

// TestLogFailedWithinLargeStore: when the disk fails between two of the steps, who stored, or staged, is told of the failure, and the
// one who staged once.
func TestLogFailedWithinLargeStore(t *testing.T) {
	for _, staged := range []bool{false, true} {
		t.Run(fmt.Sprintf("staged %v", staged), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			var fault logFault
			o := logOptions("/log")
			o.FS = fault.wrap(mem)
			e := openLog(t, logKinds[0], o)
			g := openLogGroup(t, e, 1)
			mustLog(t, g.StoreLogs(logEntries(1, 3, 1)))
			var mu sync.Mutex
			syncs := 0
			fault.set(func(op errorfs.Op) error {
				mu.Lock()
				defer mu.Unlock()
				if isLogSync(op) {
					if syncs++; syncs > 1 {
						return errorfs.ErrInjected
					}
				}
				return nil
			})
			var failed *EngineFailedError
			within(t, "storing", func() {
				if !staged {
					if err := g.StoreLogs(megabytes(4, 20, 1)); !errors.As(err, &failed) {
						t.Errorf("stored: %v", err)
					}
					return
				}
				told := make(chan error, 10)
				err := g.Stage(megabytes(4, 20, 1), func(err error) { told <- err })
				if err == nil {
					err = <-told
				}
				if !errors.As(err, &failed) || len(told) > 0 {
					t.Errorf("staged: %v, and told %d times more", err, len(told))
				}
			})
			checkLogStopped(t, e, g)
		})
	}
}

// TestLogCrashWithinLargeStore: a power failure while many large entries are stored leaves the first ones, without a gap.
func TestLogCrashWithinLargeStore(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var mu sync.Mutex
	var crashes []*vfs.MemFS
	var fault logFault
	o := logOptions("/log")
	o.FS, o.MemTableBytes = fault.wrap(mem), 64<<20
	e := openLog(t, logKinds[0], o)
	g := openLogGroup(t, e, 1)
	mustLog(t, g.StoreLogs(logEntries(1, 3, 1)))
	fault.set(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if isLogSync(op) {
			crashes = append(crashes, mem.CrashClone(vfs.CrashCloneCfg{}))
		}
		return nil
	})
	want := slices.Concat(logEntries(1, 3, 1), megabytes(4, 20, 1))
	mustLog(t, g.StoreLogs(want[3:]))
	fault.set(func(errorfs.Op) error { return nil })
	mustLog(t, e.Close())
	found := map[uint64]bool{}
	mu.Lock()
	defer mu.Unlock()
	for _, fs := range crashes {
		after := logOptions("/log")
		after.FS = fs
		e := openLog(t, logKinds[0], after)
		g := openLogGroup(t, e, 1)
		last, err := g.LastIndex()
		mustLog(t, err)
		found[last] = true
		checkLog(t, g, 0, 0, want[:last])
		mustLog(t, g.StoreLogs(logEntries(last+1, last+1, 2))) // the log goes on there
		mustLog(t, e.Close())
	}
	if len(found) < 3 || !found[3] {
		t.Errorf("the logs that were found end at %v", found)
	}
}

// TestStagedEntriesCount: what is not durable yet is in memory, whatever may be kept of recent entries; so these go for it, and come
// no more until it is durable.
func TestStagedEntriesCount(t *testing.T) {
	o := logOptions("/log")
	mem := vfs.NewCrashableMem()
	var fault logFault
	o.FS, o.EntryCacheBytes, o.MemTableBytes = fault.wrap(mem), 4<<20, 64<<20
	e := openLog(t, logKinds[0], o)
	a, b := openLogGroup(t, e, 1), openLogGroup(t, e, 2)
	mustLog(t, a.StoreLogs(megabytes(1, 2, 1)))
	kept := e.Stats().CacheBytes
	if kept < 2<<20 {
		t.Fatalf("%d bytes are kept of 2 MiB", kept)
	}
	gate := make(chan struct{})
	fault.set(func(op errorfs.Op) error {
		if isLogSync(op) {
			<-gate
		}
		return nil
	})
	release := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	told := make(chan error, 3)
	stage := func(first, last uint64) {
		mustLog(t, b.Stage(megabytes(first, last, 1), func(err error) { told <- err }))
	}
	stage(1, 3)
	stage(4, 9)
	if got := e.Stats().CacheBytes; got < 9<<20 || got > 9<<20+1<<16 {
		t.Errorf("%d bytes are kept while 9 MiB are on their way to the disk", got)
	}
	before := e.Stats().ReadsDisk
	for i := uint64(1); i <= 9; i++ {
		mustLog(t, b.GetLog(i, &raft.Log{}))
	}
	if n := e.Stats().ReadsDisk - before; n > 0 {
		t.Errorf("%d entries that are not durable were looked for on the disk", n)
	}
	release()
	mustLog(t, <-told)
	mustLog(t, <-told)
	if got := e.Stats().CacheBytes; got > o.EntryCacheBytes || got == 0 {
		t.Errorf("%d bytes are kept of entries that are durable", got)
	}
	checkLog(t, a, 0, 0, megabytes(1, 2, 1))
	checkLog(t, b, 0, 0, megabytes(1, 9, 1))
	stage(10, 10)
	mustLog(t, <-told)
	mustLog(t, b.DeleteRange(1, 10))
	mustLog(t, a.DeleteRange(1, 2))
	if got := e.Stats().CacheBytes; got != 0 {
		t.Errorf("%d bytes are kept of empty logs", got)
	}
}
