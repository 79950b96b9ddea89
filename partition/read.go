package partition

import (
	"context"
	"sync"
	"time"
)

// Level is how a read is made consistent (design §9).
type Level uint8

const (
	Lease  Level = iota // linearizable: the leader's lease, on bounded clock drift
	Quorum              // linearizable: a round of the voters, no clock assumption
	Stale               // whatever this member has
)

// AgeUnknown is the age of what a member holds that has not heard of any leader since it was opened.
const AgeUnknown time.Duration = -1

// Staleness says how old what a member holds may be.
type Staleness struct {
	Index    uint64        // the member's applied index
	Age      time.Duration // since it last heard of a leader; 0 on a serving leader, AgeUnknown when never since it was opened
	Complete bool          // false: it has holes, documents may be missing or old
}

// Read returns when the documents of this member may be read at the given level: what they hold from then on includes
// every write acknowledged before the call. Stale reads are always allowed. Errors: *NotServingError, the context's.
func (p *Partition) Read(ctx context.Context, level Level) (Staleness, error) {
	s := Staleness{Index: p.o.Documents.Applied(), Complete: p.o.Documents.Complete()}
	if err := ctx.Err(); err != nil {
		return s, err
	}
	switch level {
	case Stale:
		s.Age = p.age(p.o.Clock())
		return s, nil
	case Lease:
		return s, p.mayServe(Serves)
	}
	return s, p.confirm(ctx)
}

// age is for how long this member has heard of no leader, itself included.
func (p *Partition) age(now time.Time) time.Duration {
	if p.mayServe(NoLease) == nil {
		return 0
	}
	p.mu.Lock()
	served := p.servedAt
	p.mu.Unlock()
	if heard := p.guard.lastHeard(); heard.After(served) {
		served = heard
	}
	if served.IsZero() {
		return AgeUnknown
	}
	return max(now.Sub(served), 0)
}

// confirm proves by a round of the voters that this member leads. A missing lease is forgiven: the round is what a lease
// would have proved.
func (p *Partition) confirm(ctx context.Context) error {
	since := p.o.Clock()
	if err := p.mayServe(NoLease); err != nil {
		return err
	}
	p.mu.Lock()
	l := p.lead
	p.mu.Unlock()
	if l == nil {
		return p.mayServe(Serves)
	}
	p.guard.demand(since)
	p.verify.run(func() { p.raft.Load().VerifyLeader() })
	if err := p.guard.waitFollowed(ctx, l.term, since, p.voters, l.over); err != nil {
		return err
	}
	return p.mayServe(NoLease)
}

// verification makes Raft send heartbeats at once, for any number of readers one round at a time. Raft's own answer is not
// used, because it counts non-voters. Raft takes the order in its main goroutine, which may be waiting for the disk: nobody
// else waits for that.
type verification struct {
	mu             sync.Mutex
	running, again bool
}

// run starts a round that begins after now, unless one that has not begun yet does that already. Its goroutine ends with
// Raft at the latest.
func (v *verification) run(round func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.running {
		v.again = true
		return
	}
	v.running = true
	go func() {
		for more := true; more; {
			round()
			v.mu.Lock()
			more, v.again = v.again, false
			v.running = more
			v.mu.Unlock()
		}
	}()
}

// mayServe returns nil when the member serves reads, or lacks only what `forgiven` names.
func (p *Partition) mayServe(forgiven Refusal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := p.standing(p.o.Clock())
	if r := s.reading(); r != Serves && r != forgiven {
		return p.notServing(r)
	}
	return nil
}
