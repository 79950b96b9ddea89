package asyncfs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

// TestAnnouncementWithoutCompletion: the kernel lets a completion be taken before it announces it, so an announcement may find that
// another one has brought all there was. The goroutine goes back to sleep, however many requests are under way.
func TestAnnouncementWithoutCompletion(t *testing.T) {
	s := testFile(t).syncer
	first, second := make(chan struct{}), make(chan struct{})
	hold := func(c chan struct{}) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hold = c
	}
	hold(first)
	s.mu.Lock()
	s.waiting[1<<62] = &request{done: make(chan int64, 1)}
	s.mu.Unlock()
	if _, err := s.event.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	awaitReap(t, "chan receive")
	hold(second)
	close(first)
	if state := awaitReap(t, "chan receive", "IO wait"); state != "IO wait" {
		t.Error("it looks again and again while a request is under way")
	}
	hold(nil)
	close(second)
}

// awaitReap waits until the goroutine of the syncer waits for one of some things.
func awaitReap(t *testing.T, states ...string) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b := make([]byte, 1<<20)
		for _, g := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
			head, rest, _ := strings.Cut(g, "\n")
			if !strings.Contains(rest, ".(*syncer).reap(") {
				continue
			}
			for _, state := range states {
				if strings.Contains(head, "["+state) {
					return state
				}
			}
		}
	}
	t.Fatalf("the goroutine never came to %q", states)
	return ""
}

// TestCloseTwice: the number of a descriptor that was closed belongs to whoever opened a file since.
func TestCloseTwice(t *testing.T) {
	fs := New(vfs.Default)
	dir := t.TempDir()
	f, err := fs.Create(filepath.Join(dir, "f"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := f.(*asyncFile)
	if !ok {
		t.Skip("synced in the usual way here")
	}
	number := a.second
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Dup3(a.syncer.fd, number, syscall.O_CLOEXEC); err != nil { // somebody else's now
		t.Fatal(err)
	}
	if err := f.Close(); err == nil {
		t.Error("closed twice")
	}
	if err := f.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("another file was synced: %v", err)
	}
	if err := syscall.Close(number); err != nil {
		t.Errorf("another file was closed: %v", err)
	}
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
}

// toFile counts calls of SyncTo.
type toFile struct {
	vfs.File
	calls int
}

func (f *toFile) SyncTo(int64) (bool, error) { f.calls++; return true, nil }

// TestSyncToKeepsOffTheDescriptor: while a request is under way that nobody waits for nothing is synced through its descriptor, and what
// it says of a failure is what the file says from then on.
func TestSyncToKeepsOffTheDescriptor(t *testing.T) {
	f := testFile(t)
	inner := &toFile{File: f.File}
	f.File = inner
	for _, left := range []int32{0, 1} {
		f.left.Store(left)
		full, err := f.SyncTo(1)
		if err != nil || full != (left == 0) || inner.calls != 1 {
			t.Errorf("%d left: %v, %v, %d calls", left, full, err, inner.calls)
		}
	}
	f.later(syscall.EIO)
	if full, err := f.SyncTo(1); full || !errors.Is(err, syscall.EIO) {
		t.Errorf("after a failure: %v, %v", full, err)
	}
}
