package store

import "sync/atomic"

// users counts who uses an engine, so that nothing is closed under a running call: Close refuses newcomers, and then
// waits until idle is closed, or until the engine has failed, when calls may never come back.
type users struct {
	stop   *failStop
	refs   atomic.Int64 // running calls and open views, plus one until close
	closed atomic.Bool
	idle   chan struct{} // closed when refs gets to zero
}

func newUsers(stop *failStop) *users {
	u := &users{stop: stop, idle: make(chan struct{})}
	u.refs.Store(1)
	return u
}

// acquire must precede every use of the disk, and release follow it.
func (u *users) acquire() error {
	if err := u.stop.check(); err != nil {
		return err
	}
	for {
		n := u.refs.Load()
		if n == 0 || u.closed.Load() {
			return ErrClosed
		}
		if u.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (u *users) release() {
	if u.refs.Add(-1) == 0 {
		close(u.idle)
	}
}

// refuse lets nobody in any more; false when that was so already.
func (u *users) refuse() bool {
	if !u.closed.CompareAndSwap(false, true) {
		return false
	}
	u.release()
	return true
}
