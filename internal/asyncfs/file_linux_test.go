package asyncfs

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func testFile(t *testing.T) *asyncFile {
	fs := New(vfs.Default)
	f, err := fs.Create(filepath.Join(t.TempDir(), "f"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(f.Close(), fs.Close()); err != nil {
			t.Error(err)
		}
	})
	a, ok := f.(*asyncFile)
	if !ok {
		t.Skip("synced in the usual way here")
	}
	return a
}

// TestErrorsOfTheDisk: what is said of a sync is what the caller gets.
func TestErrorsOfTheDisk(t *testing.T) {
	f := testFile(t)
	r, w, err := os.Pipe() // can not be synced
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	pipe := &asyncFile{File: f.File, syncer: f.syncer, second: int(w.Fd())}
	if err := pipe.usual(opFsync); !errors.Is(err, syscall.EINVAL) {
		t.Fatalf("a pipe was synced: %v", err)
	}
	if err := result(-int64(syscall.EIO)); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
}

// TestNobodyWaitsForTheKernelsThreads: a sync whose completion does not come is done in the usual way, as are those after it, and
// the file is synced by the kernel again when that has finished.
func TestNobodyWaitsForTheKernelsThreads(t *testing.T) {
	f := testFile(t)
	s, hold := f.syncer, make(chan struct{})
	s.mu.Lock()
	s.hold = hold
	s.mu.Unlock()
	asked := func() uint64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.next
	}
	for range 3 {
		if _, err := f.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := f.SyncData(); err != nil {
			t.Fatal(err)
		}
		s.usualUntil.Store(0) // as if a while had passed
	}
	if n := asked(); n != 1 || f.left.Load() != 1 {
		t.Fatalf("the kernel was asked %d times, of which %d are under way", n, f.left.Load())
	}
	close(hold)
	for deadline := time.Now().Add(30 * time.Second); f.left.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the completion was not taken")
		}
	}
	if err := f.Sync(); err != nil || asked() != 2 {
		t.Fatalf("%v, the kernel was asked %d times", err, asked())
	}
}

// TestFailureThatNobodyWaitedFor: the kernel tells of it once.
func TestFailureThatNobodyWaitedFor(t *testing.T) {
	f := testFile(t)
	f.left.Add(1)
	f.later(syscall.EIO)
	for range 2 {
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("the next sync: %v", err)
		}
	}
	f.syncer.starve()
	if err := f.SyncData(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the next one in the usual way: %v", err)
	}
}

// TestStarvedThreadsAreTriedLessOften, and as often as ever once they run.
func TestStarvedThreadsAreTriedLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &syncer{begun: time.Now()}
		for want := leastUsual; want <= 2*longestUsual; want *= 2 {
			s.starve()
			s.starve() // a file beside it
			time.Sleep(min(want, longestUsual) - 1)
			if !s.starved() {
				t.Fatalf("tried before %v", want)
			}
			time.Sleep(time.Nanosecond)
			if s.starved() {
				t.Fatalf("not tried after %v", want)
			}
		}
		time.Sleep(longestUsual + 1)
		s.starve()
		time.Sleep(leastUsual)
		if s.starved() {
			t.Error("threads that ran for a long time are not tried soon")
		}
	})
}
