package partition

// Refusal says why a member does not serve as leader, in the order in which the reasons are checked.
type Refusal uint8

const (
	Serves      Refusal = iota // it does
	NotLeader                  // Raft knows another leader, or none
	Failed                     // a durable step failed: fail-stop
	InSafeMode                 // divergence, a lost majority or an operator
	Incomplete                 // it has holes, or has not applied all it learned
	NoBarrier                  // no entry of this term applied yet
	HandingOver                // leadership is being given to another member
	NoLease                    // no majority acknowledged it recently enough
)

// String returns the reason as it stands in errors and in the status.
func (r Refusal) String() string {
	return [...]string{"serving", "not the leader", "failed", "safe mode", "not complete", "barrier not applied", "handing over", "no lease"}[r]
}

// standing is all the serving rule looks at.
type standing struct {
	leader, failed, safeMode, complete, barrier, handingOver, lease bool
}

// serving is the rule of design §9: a member serves only as Raft leader, complete, after a barrier of its own term, with
// a valid lease, and outside safe mode.
func (s standing) serving() Refusal {
	switch {
	case s.failed:
		return Failed
	case !s.leader:
		return NotLeader
	case s.safeMode:
		return InSafeMode
	case !s.complete:
		return Incomplete
	case !s.barrier:
		return NoBarrier
	case s.handingOver:
		return HandingOver
	case !s.lease:
		return NoLease
	}
	return Serves
}
