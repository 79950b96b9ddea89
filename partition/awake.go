package partition

import "sync/atomic"

// alertness is whether a member has something to watch (Partition.Awake). It calls roused when it gets something, from within
// whatever locks are held.
type alertness struct {
	state  atomic.Uint64 // lowest bit: awake; the rest counts what it was woken for
	roused func()
}

func (a *alertness) Load() bool { return a.state.Load()&1 == 1 }

// wake says that there is something to watch.
func (a *alertness) wake() {
	for {
		old := a.state.Load()
		if a.state.CompareAndSwap(old, (old|1)+2) {
			if old&1 == 0 {
				a.roused()
			}
			return
		}
	}
}

// look begins a look at the member, which settle ends.
func (a *alertness) look() (since uint64) { return a.state.Load() }

// settle says what a look has found. Rest is found only of what was there when the look began: it may not have seen what the member was
// woken for since.
func (a *alertness) settle(on bool, since uint64) {
	if on {
		a.wake()
		return
	}
	a.state.CompareAndSwap(since, since&^1)
}
