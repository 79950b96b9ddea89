package partition

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/clock"
	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// Timing holds the durations of one group. The zero value of a field means the default.
type Timing struct {
	// Heartbeat is a third of the time that a follower waits before it misses a silent leader; see missedAfter. Default 350 ms.
	Heartbeat time.Duration
	// Election is how long a candidate waits, once to twice, before it tries again. Default: Heartbeat.
	Election time.Duration
	// Lease is for how long a voter's acknowledgement binds it to the leader. Default: Heartbeat.
	Lease time.Duration
	// Drift bounds how much faster one host's clock may run than another's, as a share: the leader stops serving at
	// Lease × (1 − Drift). Default 0.05.
	Drift float64
	// Grace is for how long after losing its leader a sick member leaves campaigning to others. Default 5 × Election.
	Grace time.Duration
	// Commit is after what quiet time a leader tells its followers the commit index. Default 100 ms.
	Commit time.Duration
}

func (t Timing) withDefaults() Timing {
	set := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&t.Heartbeat, 350*time.Millisecond)
	set(&t.Election, t.Heartbeat)
	set(&t.Lease, t.Heartbeat)
	set(&t.Grace, 5*t.Election)
	set(&t.Commit, 100*time.Millisecond)
	if t.Drift == 0 {
		t.Drift = 0.05
	}
	return t
}

// Documents is what a partition needs of its documents; *store.Documents with its engine's Sync satisfies it.
type Documents interface {
	Stage(batch []store.Mutation, last uint64) error
	Flush() error
	Applied() uint64
	RecordHole(first, last uint64) error
	Sync() error
	Status() store.DocStatus
	Complete() bool
	Coverage() interval.Set
	Head(store.Key) (store.Head, bool, error)
	ReadAhead(store.Coming)
	HeadInMemory(store.Key) (head store.Head, ok, known bool, err error)
	View(store.Key) (*store.View, error)
}

// Events are called without locks held, from the partition's own goroutines; they must not block nor call the partition
// back. Leader, Serving and Lost come in the order in which things happened.
type Events struct {
	// Leader is called when this member's view of who leads changes; with "" when it knows of nobody.
	Leader func(leader raft.ServerID, term uint64)
	// Serving is called when this member starts or stops serving, with the epoch and the reason.
	Serving func(epoch uint64, r Refusal)
	// Lost is called for every document with writes in flight when leadership ends.
	Lost func(Loss)
	// Hole is called when the member took over a marker that left it with a hole.
	Hole func()
	// Contradicted is called when a leader turns out to lack what was committed, and again every second or so as long as it sends
	// what shows it.
	Contradicted func(Contradiction)
	// Configuration is called with each configuration the state machine sees.
	Configuration func(raft.Configuration)
	// Failed is called once, when a durable step failed and the member stopped.
	Failed func(error)
	// Stuck is called by Tick when this member, a leader, gives up because its log's disk keeps it waiting; once until that has gone on.
	Stuck func()
	// Roused is called when Awake turns true, also with locks held, from any goroutine.
	Roused func()
}

// Loss describes a document whose writes were in flight when leadership was lost (design §9, catastrophic failure).
type Loss struct {
	Key     store.Key
	Epoch   uint64
	LastSeq int64 // newest seq known to be committed; -1 when the document was being created
	Unknown bool  // some of the writes may or may not take effect; false: they did, and were acknowledged
	Reason  string
}

// Options of one member. Log, Documents and Transport are required.
type Options struct {
	ID        uint32
	Self      raft.ServerID // host@incarnation
	Log       store.LogGroup
	Documents Documents
	Transport Transport
	Liveness  Liveness // of the host; nil: Raft's own heartbeats
	// Campaigns takes a token while a member stands for election: its room is how many members of the host may at once. Nil:
	// any number.
	Campaigns chan struct{}
	// Budget, shared by the members of the host, bounds the bytes of all commands in flight that they proposed. Nil: only
	// Limits.InFlightBytes bounds each member's.
	Budget *Budget
	// Keeper, shared by the members of the host, looks after the ends of their leases. Nil: a timer of each member.
	Keeper *Keeper
	// Clock is what leases, promises and contacts are measured by; all of them, and the beats of Liveness, by the same one
	// (package clock). Default time.Now.
	Clock  clock.Clock
	Timing Timing
	Limits Limits
	// Trailing is how many commands about stay in the log behind a marker; more than Limits.InFlight, and always more entries than
	// that. Default 2048.
	Trailing uint64
	// Threshold is how many entries or commands must have been applied since the last marker for Truncate to make a new one.
	// Default 1024.
	Threshold uint64
	// ThresholdBytes is the same in bytes of entries, for large ones. Default 16 MiB.
	ThresholdBytes int64
	// TrailingBytes bounds what stays behind a marker, as long as that is more than Limits.InFlight entries. Default 32 MiB.
	TrailingBytes int64
	// Returned is set for a member that left the group before, under this very id, and dropped what it held: votes and entries
	// that it acknowledged are forgotten (lemma I2 of design §5). It gives no vote until its configuration lists it again.
	// By then its log is longer than that of any candidate who still counts it as the voter that it was.
	Returned bool
	// SafeMode starts the member in safe mode, for the reason given.
	SafeMode string
	Events   Events
	Logger   *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.Self == "" {
		errs = append(errs, errors.New("partition: Self is empty"))
	}
	if o.Log == nil || o.Documents == nil || o.Transport == nil {
		errs = append(errs, errors.New("partition: Log, Documents and Transport are required"))
	}
	o.Timing, o.Limits = o.Timing.withDefaults(), o.Limits.withDefaults()
	if o.Timing.Drift < 0 || o.Timing.Drift >= 1 {
		errs = append(errs, fmt.Errorf("partition: Drift %v is not a share in [0, 1)", o.Timing.Drift))
	}
	if o.Limits.InFlight > MaxInFlight {
		errs = append(errs, fmt.Errorf("partition: InFlight %d is more than %d", o.Limits.InFlight, MaxInFlight))
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Trailing == 0 {
		o.Trailing = 2048
	}
	if o.Trailing <= uint64(o.Limits.InFlight) {
		errs = append(errs, fmt.Errorf("partition: Trailing %d must exceed InFlight %d, or healthy members become sick", o.Trailing, o.Limits.InFlight))
	}
	if o.Threshold == 0 {
		o.Threshold = 1024
	}
	if o.ThresholdBytes <= 0 {
		o.ThresholdBytes = 16 << 20
	}
	if o.TrailingBytes <= 0 {
		o.TrailingBytes = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	none(&o.Events)
	return o, errors.Join(errs...)
}

func none(e *Events) {
	if e.Leader == nil {
		e.Leader = func(raft.ServerID, uint64) {}
	}
	if e.Serving == nil {
		e.Serving = func(uint64, Refusal) {}
	}
	if e.Lost == nil {
		e.Lost = func(Loss) {}
	}
	if e.Contradicted == nil {
		e.Contradicted = func(Contradiction) {}
	}
	if e.Hole == nil {
		e.Hole = func() {}
	}
	if e.Configuration == nil {
		e.Configuration = func(raft.Configuration) {}
	}
	if e.Stuck == nil {
		e.Stuck = func() {}
	}
	if e.Roused == nil {
		e.Roused = func() {}
	}
	if e.Failed == nil {
		e.Failed = func(error) {}
	}
}
