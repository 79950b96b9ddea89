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
	OtherEpoch                 // it does, but in another term than a write is for
)

// String returns the reason as it stands in errors and in the status.
func (r Refusal) String() string {
	return [...]string{"serving", "not the leader", "failed", "safe mode", "not complete", "barrier not applied", "handing over", "no lease", "another epoch"}[r]
}

// standing is all the serving rule looks at.
type standing struct {
	leader, failed, safeMode, complete, barrier, handingOver, lease bool

	offered bool // handing over has come so far that another may lead any moment
}

// reading is the rule for reads: while leadership is being handed over nothing new is proposed, and reads go on until it is
// offered. Until then nobody else can lead.
func (s standing) reading() Refusal {
	s.handingOver = s.offered
	return s.serving()
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
