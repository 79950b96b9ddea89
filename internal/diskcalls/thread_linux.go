//go:build amd64 || arm64

package diskcalls

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watched are the calls that wait. Go's runtime makes none of them: a thread that waits within one can be stopped for a collection
// of garbage.
var watched = map[int32]Op{
	unix.SYS_PWRITE64:  Write,
	unix.SYS_FTRUNCATE: Truncate,
	unix.SYS_FSYNC:     Sync,
	unix.SYS_FDATASYNC: Sync,
	unix.SYS_RENAMEAT:  Rename,
	unix.SYS_UNLINKAT:  Remove,
}

// Thread is an operating system thread whose calls are watched. It ends with Close.
type Thread struct {
	work     chan func()
	done     chan struct{} // closed when nobody looks any more
	listener int           // where the kernel says what waits
	stop     [2]int        // a pipe, closed to end the watch

	// looking is held by who looks at a call. What it sees then is ordered by the kernel, which the memory model does not know: whoever
	// calls Do comes by here as well.
	looking sync.Mutex
}

// Start makes a thread. before is called, one at a time and on another goroutine, while each call waits.
func Start(before func(Call)) (*Thread, error) {
	t := &Thread{work: make(chan func()), done: make(chan struct{})}
	if err := unix.Pipe2(t.stop[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("diskcalls: pipe: %w", err)
	}
	began := make(chan error)
	go t.run(began)
	if err := <-began; err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnsupported, err), unix.Close(t.stop[0]), unix.Close(t.stop[1]))
	}
	go t.watch(before)
	return t, nil
}

// Do runs a function on the thread and waits for it. What the caller did before is seen by who looks at the calls, and what that one did
// by the caller afterwards.
func (t *Thread) Do(f func()) {
	done := make(chan struct{})
	t.handOver()
	t.work <- func() { defer close(done); f() }
	<-done
	t.handOver()
}

func (t *Thread) handOver() {
	t.looking.Lock()
	defer t.looking.Unlock()
}

// Close ends the thread. Nothing may be running on it.
func (t *Thread) Close() error {
	close(t.work)
	err := unix.Close(t.stop[1])
	<-t.done
	return errors.Join(err, unix.Close(t.stop[0]), unix.Close(t.listener))
}

// run is the thread: it stays locked, so that Go ends it, filter and all, with the goroutine.
func (t *Thread) run(began chan<- error) {
	runtime.LockOSThread()
	var err error
	t.listener, err = filter()
	began <- err
	if err != nil {
		return
	}
	for f := range t.work {
		f()
	}
}

// filter has the thread's watched calls wait for whom reads from the descriptor.
func filter() (listener int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	// The number of the call is what the kernel's record begins with; the last of the instructions is where a match jumps to.
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	left := uint8(len(watched))
	for number := range watched {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: left, K: uint32(number)})
		left--
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// notice is the kernel's seccomp_notif.
type notice struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is the kernel's seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// watch answers for each call, until Close.
func (t *Thread) watch(before func(Call)) {
	defer close(t.done)
	for {
		ready := []unix.PollFd{{Fd: int32(t.listener), Events: unix.POLLIN}, {Fd: int32(t.stop[0])}}
		if _, err := unix.Poll(ready, -1); err == unix.EINTR {
			continue
		} else if err != nil || ready[1].Revents != 0 {
			return
		}
		if ready[0].Revents&unix.POLLIN == 0 { // the thread has ended
			return
		}
		var n notice
		if err := t.control(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
			continue // a signal took it back; it comes again
		}
		t.looking.Lock()
		before(Call{Op: watched[n.nr], FD: int(n.args[0])})
		t.looking.Unlock()
		// An error means that a signal took the call back meanwhile: it comes again.
		_ = t.control(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}))
	}
}

func (t *Thread) control(request uintptr, what unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(t.listener), request, uintptr(what)); errno != 0 {
		return errno
	}
	return nil
}
