package asyncfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/aio_abi.h.
const (
	opFsync     = 2 // IOCB_CMD_FSYNC
	opFdatasync = 3 // IOCB_CMD_FDSYNC

	flagResFD = 1 // IOCB_FLAG_RESFD: tell an eventfd

	depth = 128 // requests under way; more are synced in the usual way
)

// iocb is the kernel's struct iocb on little-endian machines.
type iocb struct {
	data   uint64
	_      [2]uint32 // key, read and write flags
	opcode uint16
	_      int16 // priority
	fd     uint32
	_      [4]uint64 // buffer, bytes, offset, reserved
	flags  uint32
	resFD  uint32
}

// ioEvent is struct io_event.
type ioEvent struct {
	data, obj uint64
	res, res2 int64
}

// syncer hands fsyncs to the kernel. Its goroutine, reap, ends with close.
type syncer struct {
	ctx    uintptr
	event  *os.File // the eventfd, in the poller
	fd     int
	reaped chan struct{}

	usualUntil atomic.Int64 // nanoseconds since begun: the kernel's threads do not get to run, see starve
	begun      time.Time
	usualFor   time.Duration // the last time. Guarded by mu

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]*request
	broken  bool // the kernel refuses such requests: never ask again
	closed  bool
	hold    chan struct{} // tests only: completions are taken when it is closed; nil: at once
}

// request is a sync that the kernel was asked for. Guarded by syncer.mu.
type request struct {
	done chan int64 // takes the result
	left *asyncFile // nobody waits any more: the file takes it
}

var errBigEndian = errors.New("asyncfs: big-endian machine")

func newSyncer() (*syncer, error) {
	one := uint16(1)
	if *(*byte)(unsafe.Pointer(&one)) != 1 {
		return nil, errBigEndian
	}
	s := &syncer{waiting: map[uint64]*request{}, reaped: make(chan struct{}), begun: time.Now()}
	if _, _, e := syscall.Syscall(unix.SYS_IO_SETUP, depth, uintptr(unsafe.Pointer(&s.ctx)), 0); e != 0 {
		return nil, fmt.Errorf("asyncfs: io_setup: %w", e)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_, _, _ = syscall.Syscall(unix.SYS_IO_DESTROY, s.ctx, 0, 0)
		return nil, fmt.Errorf("asyncfs: eventfd: %w", err)
	}
	s.fd, s.event = fd, os.NewFile(uintptr(fd), "eventfd")
	go s.reap()
	return s, nil
}

// submit has the kernel sync a file; false when it does not take the request.
func (s *syncer) submit(fd uintptr, op uint16) (done chan int64, id uint64, ok bool) {
	done, id, ok = s.register()
	if !ok {
		return nil, 0, false
	}
	cb := &iocb{data: id, opcode: op, fd: uint32(fd), flags: flagResFD, resFD: uint32(s.fd)}
	list := [1]*iocb{cb}
	n, _, e := syscall.Syscall(unix.SYS_IO_SUBMIT, s.ctx, 1, uintptr(unsafe.Pointer(&list[0]))) // copies what cb says
	runtime.KeepAlive(cb)
	if e != 0 || n != 1 {
		s.withdraw(id, e)
		return nil, 0, false
	}
	return done, id, true
}

func (s *syncer) register() (chan int64, uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken || s.closed || len(s.waiting) >= depth {
		return nil, 0, false
	}
	s.next++
	done := make(chan int64, 1)
	s.waiting[s.next] = &request{done: done}
	return done, s.next, true
}

// leave has the file take what becomes of a request; false when it is done already.
func (s *syncer) leave(id uint64, f *asyncFile) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.waiting[id]
	if r != nil {
		r.left = f
		f.left.Add(1)
	}
	return r != nil
}

// starve has files synced in the usual way for a while. A request that is left to a thread that does not run may keep pages of the
// file from being written by anybody, so where that goes on the threads are tried less and less often.
func (s *syncer) starve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, until := time.Since(s.begun), time.Duration(s.usualUntil.Load())
	if now < until {
		return
	}
	if s.usualFor == 0 || now-until > s.usualFor {
		s.usualFor = leastUsual
	} else {
		s.usualFor = min(2*s.usualFor, longestUsual)
	}
	s.usualUntil.Store(int64(now + s.usualFor))
}

func (s *syncer) starved() bool {
	until := s.usualUntil.Load()
	return until > 0 && int64(time.Since(s.begun)) < until
}

// withdraw takes back a request that was not submitted. A kernel that knows no such request is not asked again.
func (s *syncer) withdraw(id uint64, e syscall.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
	if e != syscall.EAGAIN {
		s.broken = true
	}
}

// reap waits for completions and tells those who wait for them. A completion is announced after it can be taken: each announcement
// is answered by taking all there are, and one that finds none is of such as were taken with those before.
func (s *syncer) reap() {
	defer close(s.reaped)
	var count [8]byte
	var events [depth]ioEvent
	for {
		if _, err := s.event.Read(count[:]); err != nil {
			return // closed
		}
		if hold := s.held(); hold != nil {
			<-hold
		}
		for n := depth; n == depth; {
			n = s.take(&events)
		}
	}
}

// take takes the completions that there are, as many as there is room for, and returns their number.
func (s *syncer) take(events *[depth]ioEvent) int {
	var n uintptr
	e := syscall.EINTR
	for e == syscall.EINTR {
		n, _, e = syscall.Syscall6(unix.SYS_IO_GETEVENTS, s.ctx, 0, depth, uintptr(unsafe.Pointer(&events[0])), uintptr(unsafe.Pointer(&noWait)), 0)
	}
	if e != 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events[:n] {
		r := s.waiting[events[i].data]
		delete(s.waiting, events[i].data)
		switch {
		case r == nil:
		case r.left != nil:
			r.left.later(result(events[i].res))
		default:
			r.done <- events[i].res
		}
	}
	return int(n)
}

var noWait unix.Timespec

func (s *syncer) held() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hold
}

// result is what the kernel says of a sync.
func result(res int64) error {
	if res < 0 {
		return os.NewSyscallError("fsync", syscall.Errno(-res))
	}
	return nil
}

// close ends the goroutine. Nobody may wait for anything; the kernel finishes what was left.
func (s *syncer) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.event.Close()
	<-s.reaped
	if _, _, e := syscall.Syscall(unix.SYS_IO_DESTROY, s.ctx, 0, 0); e != 0 {
		err = errors.Join(err, os.NewSyscallError("io_destroy", e))
	}
	return err
}
