package partition

import (
	"context"
	"time"
)

// Level is how a read is made consistent (design §9).
type Level uint8

const (
	Lease  Level = iota // linearizable: the leader's lease, on bounded clock drift
	Quorum              // linearizable: a round of the voters, no clock assumption
	Stale               // whatever this member has
)

// Staleness says how old what a member holds may be.
type Staleness struct {
	Index    uint64        // the member's applied index
	Age      time.Duration // since it last heard of a leader; 0 on a serving leader
	Complete bool          // false: it has holes, documents may be missing or old
}

// Read returns when the documents of this member may be read at the given level: what they hold from then on includes
// every write acknowledged before the call. Stale reads are always allowed.
func (p *Partition) Read(ctx context.Context, level Level) (Staleness, error) {
	s := Staleness{Index: p.o.Documents.Applied(), Complete: p.o.Documents.Complete()}
	if level == Stale {
		if p.mayServe(NoLease) != nil {
			s.Age = time.Since(p.guard.lastContact())
		}
		return s, nil
	}
	if level == Lease {
		return s, p.mayServe(Serves)
	}
	// NoLease is forgiven: the round is what a lease would have proved.
	since := time.Now()
	if err := p.mayServe(NoLease); err != nil {
		return s, err
	}
	p.mu.Lock()
	l := p.lead
	p.mu.Unlock()
	if l == nil {
		return s, p.mayServe(Serves)
	}
	p.raft.Load().VerifyLeader() // sends heartbeats at once; its own answer counts non-voters and is not used
	if err := p.guard.waitFollowed(ctx, l.term, since, p.voters); err != nil {
		return s, err
	}
	return s, p.mayServe(NoLease)
}

// mayServe returns nil when the member serves, or lacks only what `forgiven` names.
func (p *Partition) mayServe(forgiven Refusal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := p.standing(time.Now())
	if r := s.serving(); r != Serves && r != forgiven {
		return p.notServing(r)
	}
	return nil
}
