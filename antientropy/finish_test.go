package antientropy

import (
	"errors"
	"math"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// TestEndedSessionsAreLetGo: what a worker closed that is not heard any more, because the loop has ended, is let go of all the same; so is a bucket that
// was given to others while its last answer was under way.
func TestEndedSessionsAreLetGo(t *testing.T) {
	state := func(t *testing.T) (*transferState, *store.Session) {
		c := newCluster(t, "a")
		c.machines["a"].apply(p0, 0)
		m := c.machines["a"].member(p0)
		tr := newTransfer(m, "b", []uint8{7, 8}, &limits{func(uint32) uint64 { return math.MaxUint64 }, maxLimit, ownRows})
		s := tr.buckets[7]
		s.Answer(interval.Of(1, 5), 5, 0)
		return &transferState{t: tr, busy: true}, s
	}
	t.Run("end", func(t *testing.T) {
		ts, s := state(t)
		ts.t.close(7) // by a worker, which finds that the context has ended and delivers nothing
		r := &runner{transfers: map[uint64]*transferState{1: ts}}
		r.end()
		if _, err := s.Finish(); !errors.Is(err, store.ErrSessionLost) {
			t.Errorf("the session was not abandoned: %v", err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		ts, s := state(t)
		ts.given = []uint8{7} // by stalls
		ts.t.close(7)         // its last answer arrives late
		ts.free()
		abandonAll(ts.loose)
		if _, err := s.Finish(); !errors.Is(err, store.ErrSessionLost) {
			t.Errorf("the session was not abandoned: %v", err)
		}
	})
}
