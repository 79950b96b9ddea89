package partition

import (
	"context"
	"sync"
	"time"

	"github.com/adamantdb/adamant/internal/clock"
)

// Keeper looks after the leases of a host's members in place of a timer for each of them: the beats extend the leases of all
// that have the same followers at once, so that one look finds a thousand of them extended. It ends the epochs of those that are
// not, and wakes their members.
//
// Always: a member that was left to the keeper is looked at no later than its lease ends, or has been woken since.
type Keeper struct {
	now  clock.Clock
	stir chan struct{} // there may be an earlier end

	mu     sync.Mutex
	ends   map[*Partition]time.Time
	next   time.Time // when it is going to look; zero while it looks
	closed bool
}

// nothingToKeep is how long a keeper sleeps without members.
const nothingToKeep = time.Hour

// NewKeeper makes one that counts by the clock of its members. Its owner calls Run.
func NewKeeper(now clock.Clock) *Keeper {
	return &Keeper{now: now, stir: make(chan struct{}, 1), ends: map[*Partition]time.Time{}, next: now().Add(nothingToKeep)}
}

// Run looks after the leases until the context ends. From then on members do so themselves.
func (k *Keeper) Run(ctx context.Context) {
	timer := time.NewTimer(nothingToKeep)
	defer timer.Stop()
	var due []*Partition
	for {
		select {
		case <-ctx.Done():
			k.shut()
			return
		case <-timer.C:
		case <-k.stir:
		}
		var wait time.Duration
		due, wait = k.look(due[:0])
		timer.Reset(wait)
	}
}

// look extends the leases that end now or soon, and returns for how long there is nothing to do. Those that end soon are looked
// at early, so that leases of hosts that answer at different times come to be looked at together.
func (k *Keeper) look(due []*Partition) ([]*Partition, time.Duration) {
	now := k.now()
	k.mu.Lock()
	k.next = time.Time{}
	for p, end := range k.ends {
		if end.Sub(now) <= p.o.Timing.Lease/8 {
			due = append(due, p)
		}
	}
	k.mu.Unlock()
	for _, p := range due {
		k.extend(p, now)
	}
	clear(due) // it is used again, and holds on to nobody
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next = now.Add(nothingToKeep)
	for _, end := range k.ends {
		if end.Before(k.next) {
			k.next = end
		}
	}
	return due, max(k.next.Sub(k.now()), time.Millisecond)
}

func (k *Keeper) extend(p *Partition, now time.Time) {
	end, ok := p.extend(now)
	k.mu.Lock()
	if !ok {
		delete(k.ends, p)
	} else if _, kept := k.ends[p]; kept {
		k.ends[p] = end
	}
	k.mu.Unlock()
	if !ok {
		p.wake() // it comes back once it serves again
	}
}

// keep leaves a member to the keeper whose lease ends at a time; false when it has to look after that itself.
func (k *Keeper) keep(p *Partition, end time.Time) bool {
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return false
	}
	k.ends[p] = end
	if !k.next.IsZero() && end.Before(k.next) {
		select {
		case k.stir <- struct{}{}:
		default:
		}
	}
	return true
}

// forget ends the care for a member.
func (k *Keeper) forget(p *Partition) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.ends, p)
}

// shut gives all members back.
func (k *Keeper) shut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for p := range k.ends {
		p.wake()
	}
	clear(k.ends)
}

// extend finds out until when the lease of a member holds that serves; false when it does not serve any more, and its epoch is
// over.
func (p *Partition) extend(now time.Time) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lead
	if l == nil || p.serves != Serves {
		return time.Time{}, false
	}
	if end, ok := p.leaseOf(l.term, l.voters, now); ok && end.After(l.lease) {
		l.lease = end
	}
	r, end := p.refresh(now)
	return end, r == Serves
}
