package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// logFault decides about each operation of a disk; swapped while an engine runs.
type logFault struct {
	decide atomic.Pointer[func(errorfs.Op) error]
}

func (f *logFault) set(decide func(errorfs.Op) error) { f.decide.Store(&decide) }

func (f *logFault) wrap(files vfs.FS) vfs.FS {
	return errorfs.Wrap(files, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if d := f.decide.Load(); d != nil {
			return (*d)(op)
		}
		return nil
	}))
}

func isLogSync(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return strings.HasSuffix(op.Path, ".log")
	}
	return false
}

func isLogWrite(op errorfs.Op) bool {
	return strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt)
}

// within fails the test when f does not return: a caller that hangs is what fail-stop must not be.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// checkLogStopped verifies that every call of a failed engine returns the one failure.
func checkLogStopped(t *testing.T, e LogEngine, g LogGroup) {
	t.Helper()
	within(t, "a call of the failed engine", func() {
		_, firstErr := g.FirstIndex()
		_, getErr := g.Get([]byte("CurrentTerm"))
		_, _, markerErr := g.Marker()
		_, groupErr := e.Group(99)
		_, listErr := e.Groups()
		first := g.StoreLog(logEntry(50, 1))
		for i, err := range []error{g.StoreLog(logEntry(51, 1)), g.GetLog(1, &raft.Log{}), g.DeleteRange(1, 2), firstErr, getErr, markerErr,
			g.SaveMarker(logTestMarker(1, 1), true), g.Set([]byte("k"), nil), groupErr, listErr, e.Drop(1), e.Close()} {
			var failed *EngineFailedError
			if !errors.As(err, &failed) || failed.Engine != "log" || !errors.Is(err, first) {
				t.Errorf("call %d after the failure: %v", i, err)
			}
		}
		e.Stats()
	})
}

// TestLogFailedSync fails the disk under 64 groups: nobody is told success, nobody hangs, nothing is tried again, and
// what was acknowledged before is there after a restart.
func TestLogFailedSync(t *testing.T) {
	for name, broken := range map[string]func(errorfs.Op) bool{"sync": isLogSync, "write": isLogWrite} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			var fault logFault
			o := logOptions("/log")
			o.FS = fault.wrap(mem)
			var fatal atomic.Int32
			o.OnFatal = func(err error) { fatal.Add(1) }
			e := openLog(t, logKinds[0], o)
			const groups = 64
			var acked [groups]atomic.Uint64
			var failures, attempts atomic.Int32
			var opened [groups]LogGroup
			for p := range opened { // all of them, before one writer's progress breaks the disk
				opened[p] = openLogGroup(t, e, uint32(p))
			}
			var wg sync.WaitGroup
			for p, g := range opened {
				wg.Go(func() {
					for i := uint64(1); ; i++ {
						err := g.StoreLog(logEntry(i, 1))
						if err != nil {
							if Code(err) == CodeEngineFailed && errors.Is(err, syscall.EIO) {
								failures.Add(1)
							}
							return
						}
						if acked[p].Store(i); i == 20 && p == 0 {
							fault.set(func(op errorfs.Op) error {
								if broken(op) {
									attempts.Add(1)
									return syscall.EIO
								}
								return nil
							})
						}
					}
				})
			}
			within(t, "StoreLogs", wg.Wait)
			if failures.Load() != groups || fatal.Load() != 1 {
				t.Fatalf("%d of %d groups got the failure, OnFatal was called %d times", failures.Load(), groups, fatal.Load())
			}
			before := attempts.Load()
			fault.set(func(op errorfs.Op) error { // the disk works again, which proves nothing
				if isLogSync(op) || isLogWrite(op) {
					attempts.Add(1)
				}
				return nil
			})
			checkLogStopped(t, e, opened[3])
			if attempts.Load() != before {
				t.Error("the log was written after the failure")
			}
			o = logOptions("/log")
			o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
			after := openLog(t, logKinds[0], o)
			for p := range acked {
				if last, err := openLogGroup(t, after, uint32(p)).LastIndex(); err != nil || last < acked[p].Load() {
					t.Errorf("group %d ends at %d (%v), %d was acknowledged", p, last, err, acked[p].Load())
				}
			}
		})
	}
}

// TestLogFailedManifest: Pebble writes the manifest in goroutines of its own, where no caller could take an error; a caller
// that waits for the memtable they flush must get the failure.
func TestLogFailedManifest(t *testing.T) {
	var fault logFault
	o := logOptions("/log")
	o.FS, o.MemTableBytes = fault.wrap(vfs.NewMem()), 256<<10
	fatal := make(chan error, 2)
	o.OnFatal = func(err error) { fatal <- err }
	e := openLog(t, logKinds[0], o)
	g := openLogGroup(t, e, 1)
	fault.set(func(op errorfs.Op) error {
		if strings.HasPrefix(filepath.Base(op.Path), "MANIFEST") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EIO
		}
		return nil
	})
	within(t, "StoreLogs", func() {
		for i := uint64(1); ; i++ {
			if err := g.StoreLogs(largeLogs(i, 1, 1)); err != nil {
				if Code(err) != CodeEngineFailed {
					t.Errorf("store: %v", err)
				}
				return
			}
		}
	})
	within(t, "OnFatal", func() { <-fatal })
	checkLogStopped(t, e, g)
}

// TestLogFailedBolt fails the writes of one file: the engine stops as a whole, since the files share the disk.
func TestLogFailedBolt(t *testing.T) {
	var files []*os.File
	var mu sync.Mutex
	o := logOptions(t.TempDir())
	var fatal atomic.Int32
	o.OnFatal = func(error) { fatal.Add(1) }
	b, err := openBoltLog(o, boltHooks{openFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		mu.Lock()
		defer mu.Unlock()
		files = append(files, f)
		return f, err
	}})
	mustLog(t, err)
	g, other := openLogGroup(t, b.engine, 1), openLogGroup(t, b.engine, 2)
	mustLog(t, g.StoreLogs(logEntries(1, 9, 1)))
	mustLog(t, other.StoreLogs(logEntries(1, 9, 1)))
	mustLog(t, files[1].Close()) // the file of group 1: EBADF from now on
	if err := g.StoreLog(logEntry(10, 1)); Code(err) != CodeEngineFailed {
		t.Fatalf("store: %v", err)
	}
	checkLogStopped(t, b.engine, other)
	if fatal.Load() != 1 {
		t.Fatalf("OnFatal was called %d times", fatal.Load())
	}
	// The lock lasts until the process ends, because a mapping of the file keeps it; a copy stands for what the next one finds.
	died := logOptions(t.TempDir())
	copyLogDir(t, o.Dir, died.Dir)
	after := openLog(t, logKinds[1], died)
	checkLog(t, openLogGroup(t, after, 1), 0, 0, logEntries(1, 9, 1))
	checkLog(t, openLogGroup(t, after, 2), 0, 0, logEntries(1, 9, 1))
}

// TestLogSharesSyncs holds one fsync until 64 groups are waiting: the next one serves them all.
func TestLogSharesSyncs(t *testing.T) {
	var fault logFault
	o := logOptions("/log")
	o.FS = fault.wrap(vfs.NewMem())
	e := openLog(t, logKinds[0], o)
	const groups = 64
	for p := range uint32(groups) {
		mustLog(t, openLogGroup(t, e, p).StoreLog(logEntry(1, 1)))
	}
	before := e.Stats()
	var syncs atomic.Int32
	release := make(chan struct{})
	fault.set(func(op errorfs.Op) error {
		if isLogSync(op) {
			syncs.Add(1)
			<-release
		}
		return nil
	})
	var wg sync.WaitGroup
	for p := range uint32(groups) {
		g := openLogGroup(t, e, p)
		wg.Go(func() {
			if err := g.StoreLogs(logEntries(2, 5, 1)); err != nil {
				t.Error(err)
			}
		})
		if p == 0 { // its fsync is the one that is held
			waitLog(t, "the first fsync", func() bool { return syncs.Load() == 1 })
		}
	}
	commit := e.(*logEngine).backend.(*pebbleLog).commit
	waitLog(t, "all other groups", func() bool {
		commit.mu.Lock()
		defer commit.mu.Unlock()
		return len(commit.queue) == groups-1
	})
	if w := e.Stats().Waiting; w <= 0 {
		t.Errorf("a stuck disk is not shown: waiting %v", w)
	}
	if last, err := openLogGroup(t, e, 0).LastIndex(); err != nil || last != 1 {
		t.Errorf("an entry is visible before it is durable: last index %d (%v)", last, err)
	}
	close(release)
	wg.Wait()
	s := e.Stats()
	if n := syncs.Load(); n != 2 || s.Syncs-before.Syncs != 2 || s.Writes-before.Writes != groups || s.Entries-before.Entries != 4*groups || s.Waiting != 0 {
		t.Errorf("%d fsyncs, statistics %+v, before %+v", n, s, before)
	}
}

// waitLog waits until a condition holds that is bound to hold soon.
func waitLog(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// TestLogBoltWithoutFiles: a log that can not be opened because the process has too many open files is not called damaged, and opens later.
func TestLogBoltWithoutFiles(t *testing.T) {
	o := logOptions(t.TempDir())
	first := openLog(t, logKinds[1], o)
	mustLog(t, openLogGroup(t, first, 1).StoreLogs(logEntries(1, 9, 1)))
	mustLog(t, first.Close())
	var refuse atomic.Bool
	b, err := openBoltLog(o, boltHooks{openFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if refuse.Load() {
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
		}
		return os.OpenFile(name, flag, mode)
	}})
	mustLog(t, err)
	defer func() { mustLog(t, b.engine.Close()) }()
	refuse.Store(true)
	var open *OpenError
	if _, err := b.engine.Group(1); !errors.As(err, &open) || open.Reason != OpenNoRoom || errors.As(err, new(*CorruptionError)) {
		t.Errorf("too many open files: %v", err)
	}
	refuse.Store(false)
	checkLog(t, openLogGroup(t, b.engine, 1), 0, 0, logEntries(1, 9, 1))
}
