package store

import (
	"errors"

	"github.com/adamantdb/adamant/internal/interval"
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
//   - A document that diverged was not merged, so nothing is healed; nor is by a peer that contradicts itself, or that
//     covers a document of which it has lost a part.
//
// Not safe for concurrent use.
type Session struct {
	d       *Documents
	bucket  uint8
	answers Answers
	bulk    bulkImport // what is imported and not shown yet

	diverged []Divergence // met when what was gathered was written, and not reported yet
}

// BeginSession begins a session for a bucket; another one that is under way is lost.
func (d *Documents) BeginSession(bucket uint8) *Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &Session{d: d, bucket: bucket, answers: Answers{Applied: d.meta.state.applied}}
	if d.sessions == nil {
		d.sessions = map[uint8]*Session{}
	}
	d.sessions[bucket] = s
	return s
}

// Answer takes note of what came with an answer of the peer that is not imported: a Listing.
func (s *Session) Answer(coverage interval.Set, applied, ahead uint64) {
	s.answers.Answer(coverage, applied, ahead)
}

// Import merges a chunk that the peer exported for the bucket: MergeDocument for each document and absence in it, without
// fsync, in batches that hold up commands for a moment only. A chunk that is not well formed, or contradicts itself,
// changes nothing and is a *ChunkError; documents that contradict this member's are left alone and reported, and the
// others of the chunk are taken. A document whose base is needed and was not sent is a *ChunkError, too; what other
// batches hold of the chunk then stays.
//
// Of a large pull, documents that are not here are gathered and written together (see ingest.go). They are there for
// readers when enough have come together, and when the session ends, whichever way; a crash before loses them.
//
// What was learned is the peer's knowledge at its own index, which may be ahead of what is applied here: then the same
// batch records that, and the member is not complete until it has applied as much. How far ahead a peer can be is for
// the caller to know: Import believes it.
func (s *Session) Import(c *Chunk) (ImportReport, error) { return s.take(c, false) }

// ImportAtOnce is Import for a document that a reader waits for.
func (s *Session) ImportAtOnce(c *Chunk) (ImportReport, error) { return s.take(c, true) }

func (s *Session) take(c *Chunk, atOnce bool) (ImportReport, error) {
	s.Answer(c.Coverage, c.Applied, c.Ahead)
	report, err := s.importChunk(c, atOnce)
	report.add(&ImportReport{Divergent: s.Diverged()})
	s.answers.Diverged = s.answers.Diverged || len(report.Divergent) > 0 || errors.As(err, new(*ChunkError))
	return report, err
}

// Finish ends a session whose peer has answered everything, and records that the bucket holds the effect of what it
// returns. Only what lies in the member's holes is kept. It is ordered after everything imported before, and like that
// durable with the next Sync.
//
// The highest index visible in what the peer answered matters even if nothing was imported. A document that neither of
// the two has may have been deleted as late as that, so the bucket does not hold what the log prescribes before the
// member has applied as much.
//
// The session ends whatever Finish returns: a scrub, which may have to remove what Finish failed for, waits for that (ErrScrubBusy).
func (s *Session) Finish() (interval.Set, error) {
	if !s.answers.Given {
		return nil, errors.New("store: session without an answer")
	}
	if err := s.flushBulk(); err != nil {
		s.end()
		return nil, err
	}
	if s.answers.Diverged {
		s.end()
		return nil, ErrSessionDiverged
	}
	healed := s.answers.Heals()
	// That the session is still the bucket's is verified under the lock that imports take: none can slip in between.
	err := s.d.recordHealed(s.bucket, healed, s.answers.Seen, func() error {
		if s.d.sessions[s.bucket] != s {
			return ErrSessionLost
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return healed, nil
}

// Diverged returns the documents that were found to contradict this member's when Finish or Abandon wrote what was gathered;
// no report of Import has them. It returns each once.
func (s *Session) Diverged() []Divergence {
	list := s.diverged
	s.diverged = nil
	return list
}

// Abandon ends the session without healing anything. What was imported stays.
func (s *Session) Abandon() {
	_ = s.flushBulk() // what fails to be written is pulled again
	s.end()
}

// end makes the bucket free for others, if it is the session's.
func (s *Session) end() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.d.sessions[s.bucket] == s {
		s.d.endSession(s.bucket)
	}
}

// endSession forgets a bucket's session; a map that was large once would stay large. The caller holds mu.
func (d *Documents) endSession(bucket uint8) {
	if delete(d.sessions, bucket); len(d.sessions) == 0 {
		d.sessions = nil
	}
}
