package partition

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// untilWoken is what review says when there is nothing to look at again.
const untilWoken time.Duration = -1

// vigil has a member watched (Partition.watch) while there is something to see. A quiet member has no goroutine for that: its stack would
// be a tenth of what the member holds.
//
// Always: of one member at most one goroutine watches. When none does and the vigil is not over, every word of Raft on gaining or
// losing office was heard, or a call of wake is still to come that announces it.
type vigil struct {
	poke chan struct{} // to the goroutine: look again

	mu      sync.Mutex
	running bool // the goroutine runs, or Open is about to start the first
	over    bool // it has ended for good
}

// wake has the member looked at, now or after the present look.
func (p *Partition) wake() {
	v := &p.vigil
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.over:
	case v.running:
		select {
		case v.poke <- struct{}{}:
		default:
		}
	default:
		v.running = true
		p.watching.Go(p.watch)
	}
}

// rest ends the goroutine, unless it was told to look again.
func (v *vigil) rest() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.running = len(v.poke) > 0
	return !v.running
}

// end lets no goroutine start any more.
func (v *vigil) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.running, v.over = false, true
}

// watch owns the member's view of its own leadership: it proposes the barrier, opens and ends epochs, and tells the
// proposers when office is lost. Of all goroutines it alone raises the events Leader, Serving and Lost, so that they come in
// order.
func (p *Partition) watch() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for !p.isClosing() { // looked at after each wake: Close's is the last, and may find this goroutine about to rest
		p.lookOut()
		p.lookLeader()
		wait := p.review()
		if wait == untilWoken && p.heardAll() && p.vigil.rest() {
			return
		}
		var later <-chan time.Time
		if wait != untilWoken {
			timer.Reset(wait)
			later = timer.C
		}
		select {
		case leads := <-p.notify:
			p.heard = leads
			p.ended("leadership lost")
			if leads {
				p.begun()
			}
		case <-p.vigil.poke:
		case <-later:
		case <-p.closing:
		}
	}
	p.ended("the host is closing")
	p.o.Keeper.forget(p)
	p.vigil.end()
}

func (p *Partition) isClosing() bool {
	select {
	case <-p.closing:
		return true
	default:
		return false
	}
}

// heardAll reports whether Raft has nothing to say about office beyond what was heard. It says so some time after its state has
// changed (observe), which that is compared with: a change that undid another one is announced by a call of wake, which came after
// the word on the first.
func (p *Partition) heardAll() bool {
	return len(p.notify) == 0 && p.heard == (p.raft.Load().State() == raft.Leader)
}

// observe has Raft wake the member when its state changes, and when another leads, or none. Raft calls it in the midst of that.
func (p *Partition) observe(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.LeaderObservation, raft.RaftState:
		p.wake()
	}
	return false // there is no channel
}
