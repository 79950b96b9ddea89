package asyncfs

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// The kernel's threads that sync files (kworkers) are bound to processors and wait for their turn like any other. When all
// processors are busy they may not get it for a second, although the disk is idle and fsync itself would take a millisecond. So
// nobody waits longer for them than patience: then the file is synced in the usual way, and so is everything for a while, longer if
// it comes to that again soon.
const (
	patience     = 50 * time.Millisecond
	leastUsual   = time.Second
	longestUsual = 32 * time.Second
)

// asyncFile has the kernel sync it, through one of two descriptors, and is synced in the usual way through the other.
//
// The kernel tells each open descriptor of a failed write once. A request that nobody waits for any more may take that word away
// from a later one on the same descriptor. Therefore, always: while such a request is under way nothing is synced through its
// descriptor, and what it says of a failure is what the file says from then on.
type asyncFile struct {
	vfs.File
	syncer *syncer

	mu     sync.Mutex            // one sync at a time, and none while the descriptors are closed
	second int                   // descriptor for the usual way; -1 once it is closed
	left   atomic.Int32          // requests under way that nobody waits for
	failed atomic.Pointer[error] // what one of them said
}

// newFile returns the file as it is when there is no second descriptor to be had.
func newFile(f vfs.File, name string, s *syncer) vfs.File {
	second, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return f
	}
	return &asyncFile{File: f, syncer: s, second: second}
}

// Sync makes content and metadata durable.
func (f *asyncFile) Sync() error { return f.sync(opFsync) }

// SyncData makes the content durable, and of the metadata what is needed to read it.
func (f *asyncFile) SyncData() error { return f.sync(opFdatasync) }

// SyncTo has Pebble's writes leave in time for the next sync, through the descriptor that the kernel syncs the file by. It is no more
// than that, so it can wait while a request is under way that nobody waits for.
func (f *asyncFile) SyncTo(length int64) (fullSync bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left.Load() == 0 {
		fullSync, err = f.File.SyncTo(length)
	}
	if failed := f.failed.Load(); failed != nil {
		return false, *failed
	}
	return fullSync, err
}

func (f *asyncFile) sync(op uint16) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.second < 0 {
		return os.ErrClosed // the number is another file's by now
	}
	err := f.attempt(op)
	if failed := f.failed.Load(); failed != nil {
		return *failed
	}
	return err
}

// attempt is sync but for the failures of what nobody waits for.
func (f *asyncFile) attempt(op uint16) error {
	if f.left.Load() > 0 || f.syncer.starved() {
		return f.usual(op)
	}
	done, id, ok := f.syncer.submit(f.Fd(), op)
	if !ok {
		return f.usual(op)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case res := <-done:
		return result(res)
	case <-timer.C:
	}
	if !f.syncer.leave(id, f) {
		return result(<-done)
	}
	f.syncer.starve()
	return f.usual(op)
}

// usual syncs the file through its second descriptor, in the calling thread.
func (f *asyncFile) usual(op uint16) error {
	for {
		var err error
		if op == opFsync {
			err = unix.Fsync(f.second)
		} else {
			err = unix.Fdatasync(f.second)
		}
		if err != unix.EINTR {
			return os.NewSyscallError("fsync", err)
		}
	}
}

// later takes the result of a request that nobody waits for.
func (f *asyncFile) later(err error) {
	if err != nil {
		f.failed.CompareAndSwap(nil, &err)
	}
	f.left.Add(-1) // last: who sees none under way sees what they said
}

// Close closes both descriptors, once; the kernel keeps the file for what is under way.
func (f *asyncFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.File.Close()
	if f.second < 0 {
		return err
	}
	if closeErr := unix.Close(f.second); err == nil {
		err = closeErr
	}
	f.second = -1
	return err
}
