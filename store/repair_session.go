package store

import (
	"errors"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// ErrSessionLost: the session cannot heal its bucket any more; a new one has to begin.
var ErrSessionLost error = &codedError{"store: another session or import took over the bucket", CodeStaleRepair}

// ErrSessionDiverged: the session met documents that contradict the peer's, so the bucket does not hold what the peer
// covers.
var ErrSessionDiverged error = &codedError{"store: the bucket has diverged from the peer's", CodeStaleRepair}

// ErrProofLost: the bucket was changed by what was pulled since the comparison that proved it right.
var ErrProofLost error = &codedError{"store: the bucket changed since it was compared", CodeStaleRepair}

// Session is one member's pull of one bucket from one peer. It keeps the rule that makes healing sound (design §6):
//
//	healed = what the peer covered when it gave the first answer ∩ [1, what was applied here when the session began]
//
// and three more that the rule takes for granted:
//   - A peer that crashes may come back with less than it had. So all its answers count, and the smallest coverage wins.
//   - A bucket has one session at a time, with one peer. What a third member sends in between may be news where it is
//     stale for the peer: a document that the peer had deleted, which then would count as healed.
//   - A document that diverged was not merged, so nothing is healed.
//
// Not safe for concurrent use.
type Session struct {
	d       *Documents
	bucket  uint8
	applied uint64 // here, when the session began

	answered bool
	covered  interval.Set // by all of the peer's answers so far
	seen     uint64       // the highest index visible in any of them
	diverged bool
}

// BeginSession begins a session for a bucket; another one that is under way is lost.
func (d *Documents) BeginSession(bucket uint8) *Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &Session{d: d, bucket: bucket, applied: d.meta.state.applied}
	if d.sessions == nil {
		d.sessions = map[uint8]*Session{}
	}
	d.sessions[bucket] = s
	return s
}

// Answer takes note of what came with an answer of the peer that is not imported: a Listing, an Overview.
func (s *Session) Answer(coverage interval.Set, applied, ahead uint64) {
	s.seen = max(s.seen, applied, ahead)
	if !s.answered {
		s.answered, s.covered = true, coverage
		return
	}
	s.covered = s.covered.Intersect(coverage)
}

// Same reports whether the peer's sum of the bucket proves that there is nothing to pull, and takes note of its answer.
// The peer must be complete: sums do not tell which entries a document with gaps lacks.
func (s *Session) Same(theirs *Overview) bool {
	s.Answer(theirs.Coverage, theirs.Applied, theirs.Ahead)
	mine := s.d.bucketSum(s.bucket)
	return theirs.Complete && mine == theirs.Summary[s.bucket]
}

func (d *Documents) bucketSum(bucket uint8) merkle.Bucket {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return d.tracker.Bucket(bucket)
}

// Import takes note of the answer and imports it.
func (s *Session) Import(c *Chunk) (ImportReport, error) {
	s.Answer(c.Coverage, c.Applied, c.Ahead)
	report, err := s.d.importChunk(s.bucket, c, s)
	s.diverged = s.diverged || len(report.Divergent) > 0
	return report, err
}

// Finish ends a session whose peer has answered everything, and records the bucket's progress as MarkHealed does.
func (s *Session) Finish() (interval.Set, error) {
	if !s.answered {
		return nil, errors.New("store: session without an answer")
	}
	if s.diverged {
		s.Abandon()
		return nil, ErrSessionDiverged
	}
	healed := s.covered.Intersect(interval.Of(1, s.applied))
	if err := s.d.markHealed(s.bucket, healed, s.seen, s); err != nil {
		return nil, err
	}
	return healed, nil
}

// Abandon ends the session without healing anything. What was imported stays.
func (s *Session) Abandon() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.d.sessions[s.bucket] == s {
		delete(s.d.sessions, s.bucket)
	}
}
