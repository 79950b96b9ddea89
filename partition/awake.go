package partition

import "sync/atomic"

// alertness is whether a member has something to watch (Partition.Awake). It calls roused when it gets something, from within
// whatever locks are held.
type alertness struct {
	on     atomic.Bool
	roused func()
}

func (a *alertness) Load() bool { return a.on.Load() }

func (a *alertness) Store(on bool) {
	if a.on.Load() == on {
		return
	}
	if !a.on.Swap(on) && on {
		a.roused()
	}
}
