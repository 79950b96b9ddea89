package partition

import (
	"math"
	"sync"
	"time"
)

const (
	// stuckBeats is how many heartbeats a durable step may take where the disks of other members are known to be faster. Healthy disks
	// hold a step up for a second now and then, and an election while they do takes as long.
	stuckBeats = 4
	// outrunBeats is for how many of them the others have to have been ahead. Disks that wait for the same thing do not go on at the very
	// same moment.
	outrunBeats = 2
	// hungBeats is how many it may take where nothing is known of other disks: all of them may wait, on a machine that they share or
	// for a storage that does, and then electing somebody else takes more steps and mends nothing. Not for ever: the main goroutine of
	// Raft may wait for this very step, and then no follower is asked for anything that it could be faster with.
	hungBeats = 10
)

// strain is what a member knows of its disk beside those of others.
type strain struct {
	mu    sync.Mutex
	since time.Time // since when it is known to be outrun; zero while it is not
}

// stuck reports whether the disk has kept a durable step waiting for so long that another member should lead: one that will do
// better, as far as can be known.
func (p *Partition) stuck(now time.Time) bool {
	late, beat := p.log.overdue(now), p.o.Timing.Heartbeat
	if late == 0 {
		p.strain.note(false, now)
		return false
	}
	outrun := p.strain.note(p.outrun(), now)
	return late > stuckBeats*beat && outrun > outrunBeats*beat || late > hungBeats*beat
}

// note takes down whether the member is outrun, and returns for how long it has been.
func (s *strain) note(outrun bool, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !outrun:
		s.since = time.Time{}
		return 0
	case s.since.IsZero():
		s.since = now
	}
	return now.Sub(s.since)
}

// outrun reports whether a majority of the voters, this one not counted, has stored what is not durable here yet. Only they could
// elect another leader without this disk.
func (p *Partition) outrun() bool {
	durable := p.log.durable()
	if durable == math.MaxUint64 {
		return false
	}
	term, voters := p.Term(), p.voters()
	faster := len(voters)/2 + 1
	for _, v := range voters {
		if p.guard.matches(v, term, durable+1) {
			faster--
		}
	}
	return len(voters) > 0 && faster <= 0
}
