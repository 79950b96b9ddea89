package antientropy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/store"
)

// ScrubOptions configure a Scrubber. Members is required; the zero value of the others means their default.
type ScrubOptions struct {
	Members func() []Member
	// Host sets where in the order of buckets a member's pass begins, so that members of a partition read different
	// buckets at a time.
	Host string
	// Deadline is the time in which everything is read once. Default a week; negative: only suspects are read.
	Deadline time.Duration
	// BytesPerSecond bounds what is read, also when a deadline is missed by it. Default 8 MiB.
	BytesPerSecond int64
	// Keep says why damaged bytes of a partition must stay where they are for now, "" when they need not. Besides, nothing
	// is removed unless another member is complete and alive.
	Keep func(partition uint32) string
	// Yield is called before a member is made incomplete, and may block for a moment: to give a leadership away.
	Yield  func(ctx context.Context, partition uint32)
	Events ScrubEvents
	Logger *slog.Logger
}

// ScrubEvents are called from the scrubber's goroutine and must not block.
type ScrubEvents struct {
	Found  func(Find)
	Healed func(partition uint32, bucket uint8)
}

// Find is a bucket that is damaged.
type Find struct {
	Partition uint32
	Report    *store.ScrubReport
	Kept      string             // why nothing was removed, so that nothing heals yet; "" when it was
	Removed   store.DamageReport // when it was
}

func (f *Find) String() string {
	text := fmt.Sprintf("bucket %d: %d records or sums are damaged", f.Report.Bucket, f.Report.Found)
	for i, one := range f.Report.Findings {
		if i == 3 {
			break
		}
		text += "; " + one.String()
	}
	if f.Kept != "" {
		return text + "; kept: " + f.Kept
	}
	if n := len(f.Removed.Buckets); n > 1 {
		text += fmt.Sprintf("; buckets %d to %d share what cannot be read", f.Removed.Buckets[0], f.Removed.Buckets[n-1])
	}
	return text + fmt.Sprintf("; %d documents are pulled again", f.Removed.Documents)
}

// ScrubStats count since the scrubber was made.
type ScrubStats struct {
	Buckets, Bytes int64 // read
	Found, Healed  int64 // buckets
	Kept           int64 // buckets that are damaged now and wait for a peer to heal from
	// OldestPass is when the member whose last whole pass is the oldest finished it; zero while some member has not
	// finished one, or there are no members.
	OldestPass time.Time
}

// ScrubState is how far one member's scrub is.
type ScrubState struct {
	store.ScrubProgress
	Kept    []uint8 // damaged buckets that wait for a peer to heal from, ascending
	Healing []uint8 // buckets that were damaged and are not healed yet, ascending
}

// Scrubber reads what the members of this host hold, bucket after bucket, so that everything is read once in a deadline
// (design §8). What is damaged it takes out, so that the loop heals it from a peer; without a peer that can, it reports
// and leaves everything as it is. It never judges between members: what fits together here is sound.
//
// Run's goroutine does everything; mu guards what others ask for. Safe for concurrent use.
type Scrubber struct {
	o    ScrubOptions
	poke chan struct{}

	mu       sync.Mutex
	suspects map[scrubPlace]time.Time // not to be read before
	checked  map[scrubPlace]time.Time // when a suspect was read last
	members  map[uint32]*scrubMember
	kept     map[scrubPlace]keptPlace
	open     map[scrubPlace]uint64 // removed and not healed up to this index
	uncut    map[scrubPlace]uncutPlace
	stats    ScrubStats
}

type scrubPlace struct {
	partition uint32
	bucket    uint8
}

// keptPlace is a damaged bucket from which nothing was removed.
type keptPlace struct {
	why   string
	again time.Time // when to try next
}

// uncutPlace is a bucket that was removed, but whose damaged block the engine still holds.
type uncutPlace struct {
	again time.Time     // when to try next
	pause time.Duration // before that
}

// scrubMember is a member with its progress; only Run's goroutine changes it, holding mu.
type scrubMember struct {
	Member
	docs     *store.Documents
	progress store.ScrubProgress
	first    int       // bucket of each pass
	pause    time.Time // nothing is read of it before: reading failed
}

const (
	scrubGlance  = 30 * time.Second // between two looks at which members there are
	scrubRetry   = 5 * time.Second  // between two looks at what could not be done
	scrubRarely  = 10 * time.Minute // between two attempts to cut out what resists, in the end
	suspectAgain = time.Minute      // between two reads of a suspect that was sound
	mostPlaces   = 1024
)

// NewScrubber makes a scrubber; Run lets it work.
func NewScrubber(o ScrubOptions) (*Scrubber, error) {
	if o.Members == nil {
		return nil, errors.New("antientropy: Members is required")
	}
	if o.BytesPerSecond < 0 {
		return nil, fmt.Errorf("antientropy: BytesPerSecond is negative: %d", o.BytesPerSecond)
	}
	o.Deadline = cmp.Or(o.Deadline, 7*24*time.Hour)
	o.BytesPerSecond = cmp.Or(o.BytesPerSecond, 8<<20)
	if o.Keep == nil {
		o.Keep = func(uint32) string { return "" }
	}
	if o.Yield == nil {
		o.Yield = func(context.Context, uint32) {}
	}
	if o.Events.Found == nil {
		o.Events.Found = func(Find) {}
	}
	if o.Events.Healed == nil {
		o.Events.Healed = func(uint32, uint8) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Scrubber{o: o, poke: make(chan struct{}, 1), suspects: map[scrubPlace]time.Time{}, checked: map[scrubPlace]time.Time{},
		members: map[uint32]*scrubMember{}, kept: map[scrubPlace]keptPlace{}, open: map[scrubPlace]uint64{},
		uncut: map[scrubPlace]uncutPlace{}}, nil
}

// Suspect asks for a bucket to be read at once: somebody met a *store.CorruptionError there. One that was found sound a
// moment ago is not read again so soon.
func (s *Scrubber) Suspect(partition uint32, bucket uint8) {
	p := scrubPlace{partition, bucket}
	s.mu.Lock()
	_, waits := s.suspects[p]
	if !waits && len(s.suspects) < mostPlaces {
		at := time.Time{}
		if last, ok := s.checked[p]; ok {
			at = last.Add(suspectAgain)
		}
		s.suspects[p] = at
	}
	s.mu.Unlock()
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Stats returns what has happened so far.
func (s *Scrubber) Stats() ScrubStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Kept = int64(len(s.kept))
	first := true
	for _, m := range s.members {
		if f := m.progress.Finished; first || f.Before(st.OldestPass) {
			st.OldestPass, first = f, false
		}
	}
	return st
}

// State returns how far a member is; false when the scrubber does not know it yet.
func (s *Scrubber) State(partition uint32) (ScrubState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[partition]
	if m == nil {
		return ScrubState{}, false
	}
	st := ScrubState{ScrubProgress: m.progress}
	for p := range s.kept {
		if p.partition == partition {
			st.Kept = append(st.Kept, p.bucket)
		}
	}
	for p := range s.open {
		if p.partition == partition {
			st.Healing = append(st.Healing, p.bucket)
		}
	}
	slices.Sort(st.Kept)
	slices.Sort(st.Healing)
	return st, true
}

// next is the bucket that the member's pass goes on with.
func (m *scrubMember) next() uint8 { return uint8((m.first + m.progress.Done) % merkle.Buckets) }

// due is when that is to be read.
func (m *scrubMember) due(deadline time.Duration) time.Time {
	at := m.progress.Began.Add(deadline / merkle.Buckets * time.Duration(m.progress.Done))
	if at.Before(m.pause) {
		return m.pause
	}
	return at
}
