package partition

import (
	"slices"
	"sync"
	"time"
)

const (
	// stuckBeats is for how many heartbeats the disks of others may have had what this member's has not. Healthy disks hold a step up for
	// a second or two now and then, and those that wait for the same thing, on a machine or a storage that they share, do not go on at
	// the very same moment.
	stuckBeats = 6
	// hungBeats is how many a step may take where nothing is known of other disks: electing somebody else takes more steps of them and
	// mends nothing where all of them wait. Not for ever: the main goroutine of Raft may wait for this very step, and then no follower is
	// asked for anything that it could be faster with.
	hungBeats = 20
)

// looksPerBeat bounds how often in a heartbeat a member compares its disk with others': it is asked before each request that leaves.
const looksPerBeat = 16

// strain is what a member knows of its disk beside those of others.
type strain struct {
	mu     sync.Mutex
	looked time.Time // when the disks were compared
	stuck  bool      // what came of it
	told   bool      // that it is stuck
	term   uint64
	ahead  uint64    // up to where the others were ahead then, in that term; 0 while they are not
	since  time.Time // when they were; later by as long as they waited themselves
	others uint64    // up to where they had come at the last look
	moved  time.Time // when they were last seen to go on
}

// strained returns what is known of this member's disk, which most never have to know.
func (p *Partition) strained() *strain {
	if p.strain.Load() == nil {
		p.strain.CompareAndSwap(nil, new(strain))
	}
	return p.strain.Load()
}

// stuck reports whether the disk has been slower than others for so long that another member should lead: one that will do better, as far
// as can be known. A disk that ends a step now and then, and falls behind the others' all the same, is no better than
// one that ends none.
func (p *Partition) stuck(now time.Time) bool {
	late, beat := p.log.overdue(now), p.o.Timing.Heartbeat
	if late == 0 {
		return false
	}
	s := p.strained()
	s.mu.Lock()
	defer s.mu.Unlock()
	if ago := now.Sub(s.looked); ago >= 0 && ago < beat/looksPerBeat {
		return s.stuck
	}
	term := p.Term()
	lag := s.note(term, p.log.durable(), p.othersHold(term), beat, now)
	s.looked, s.stuck = now, lag > stuckBeats*beat || late > hungBeats*beat
	s.told = s.told && s.stuck
	return s.stuck
}

// DiskWaits is for how long durable steps of this member's log have been under way without one ending; 0 when none is.
func (p *Partition) DiskWaits(now time.Time) time.Duration { return p.log.overdue(now) }

// tell reports whether it has not been told yet that the disk is stuck.
func (s *strain) tell() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = true
	return !told
}

// note takes down up to where this disk and those of others have come, and returns for how long at least the others have had what this
// one has not. Time in which they were not seen to go on either does not count: who got something in just before everybody's disk
// stalled is not the faster for it. A leader whose disk keeps it waiting gives them something to do (push).
func (s *strain) note(term, durable, others uint64, beat time.Duration, now time.Time) time.Duration {
	ago := now.Sub(s.looked)
	if s.term != term || others != s.others || ago > beat {
		s.others, s.moved = others, now
	}
	if now.Sub(s.moved) > 2*beat {
		s.since = s.since.Add(ago)
	}
	if s.term != term || durable >= s.ahead {
		s.term, s.ahead, s.since = term, 0, now
		if others > durable {
			s.ahead = others
		}
	}
	return now.Sub(s.since)
}

// othersHold is up to where a majority of the voters, this one not counted, has stored the log of a term; 0 when there is none. Only
// they could elect another leader without this disk.
func (p *Partition) othersHold(term uint64) uint64 {
	voters := p.voters()
	var room [7]uint64
	held := room[:0]
	for _, v := range voters { // of itself nothing is known
		if match, ok := p.guard.match(v, term); ok {
			held = append(held, match)
		}
	}
	majority := len(voters)/2 + 1
	if len(held) < majority {
		return 0
	}
	slices.Sort(held)
	return held[len(held)-majority]
}
