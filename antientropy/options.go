package antientropy

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"
)

// Options configure a Loop. Caller and Members are required; the zero value of the others means their default.
type Options struct {
	Caller Caller
	// Members returns this host's members at the moment. It is called about once per Observe.
	Members func() []Member

	// Interval is the pause between two comparisons of a healthy member with a peer, varied by a quarter. Default 10 s.
	Interval time.Duration
	// Quiet is the pause after a comparison that has found the member equal at the index which it has applied and still has,
	// varied by a quarter. Nothing can have changed since but by a defect, so what it finds is rare and it may be long: on a
	// host with very many quiet members it is what they cost. Once something was applied, or the partition has other
	// members, the next comparison is within Interval. Default 60 × Interval; never less than Interval.
	Quiet time.Duration
	// Observe is the pause between two looks at all members. What cannot wait for it calls Wake. Default 1 s. A look at a
	// member that is healthy and has not changed costs next to nothing; its peers are asked for once per Interval.
	Observe time.Duration
	// Timeout bounds one request. Default 30 s.
	Timeout time.Duration

	// PerPeer bounds the requests in flight to one peer. Default 2.
	PerPeer int
	// ChunkBytes is what a reply with documents carries when there is more to send. Default 512 KiB, at most 1 MiB.
	ChunkBytes int
	// MemoryBytes bounds the replies held at a time, compressed and not, with the batches made of them. A single base or
	// delta of more than a third of it is pulled alone. Default 64 MiB.
	MemoryBytes int64
	// LargestBytes bounds the reply that carries a single base or delta which does not fit a usual one. A peer says how
	// large it is before it sends it; a bucket with a larger one is not healed. Default and most 512 MiB.
	LargestBytes int
	// BytesPerSecond bounds what this host pulls. Default 0: no bound.
	BytesPerSecond int64
	// Deadline is by when a member that became sick should be whole: what is missing is pulled no faster than that takes, but at
	// least 1 MiB/s, and within BytesPerSecond. Default 0: as soon as can be.
	Deadline time.Duration

	// Pace runs a piece of work that a pull costs here, of some megabytes at the most, and may put it off for the sake of other work.
	// Default: at once.
	Pace func(work func())

	// Compression says when replies with documents are to be compressed on their way here. Default CompressAuto.
	Compression Compression

	// Highest returns the highest index that a member of the partition may have applied, as far as this host can tell:
	// where its own copy of the log ends, and an allowance for what is on its way here. What a peer knows beyond that is
	// not taken, because the member would have to apply as much before it is complete, and a peer that is wrong about its
	// own index would keep it from that for ever. A peer that is right is asked again when the log has arrived. So the
	// allowance is what a wrong peer can cost: commands to wait for. Default nil: no bound.
	Highest func(partition uint32) uint64

	Events Events
	Logger *slog.Logger
	// Random replaces the source of random numbers in [0, 1), for tests.
	Random func() float64
}

// Events are called from the loop's goroutines and must not block.
type Events struct {
	// Healed is called when a member's last hole was closed. The member is complete as soon as it has applied what it
	// learned ahead, if it did (store.DocStatus.Ahead).
	Healed func(partition uint32)
	// Damaged is called when a pull met a *store.CorruptionError in this member's own bucket: see Scrubber.Suspect.
	Damaged func(partition uint32, bucket uint8)
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.Caller == nil || o.Members == nil {
		errs = append(errs, errors.New("antientropy: Caller and Members are required"))
	}
	durations := []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{{"Interval", &o.Interval, 10 * time.Second}, {"Observe", &o.Observe, time.Second}, {"Timeout", &o.Timeout, 30 * time.Second}}
	for _, d := range durations {
		if *d.value < 0 {
			errs = append(errs, fmt.Errorf("antientropy: %s is negative: %s", d.name, *d.value))
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.Quiet < 0 {
		errs = append(errs, fmt.Errorf("antientropy: Quiet is negative: %s", o.Quiet))
	}
	if o.Quiet == 0 {
		o.Quiet = min(o.Interval, math.MaxInt64/120) * 60
	}
	o.Quiet = max(o.Quiet, o.Interval)
	numbers := []struct {
		name      string
		value     int64
		low, high int64
	}{{"PerPeer", int64(o.PerPeer), 0, 1024}, {"ChunkBytes", int64(o.ChunkBytes), 0, maxBudget},
		{"LargestBytes", int64(o.LargestBytes), 0, maxLimit}, {"MemoryBytes", o.MemoryBytes, 0, 1 << 50}, {"BytesPerSecond", o.BytesPerSecond, 0, 1 << 50}}
	for _, n := range numbers {
		if n.value < n.low || n.value > n.high {
			errs = append(errs, fmt.Errorf("antientropy: %s %d is not between %d and %d", n.name, n.value, n.low, n.high))
		}
	}
	if o.Deadline < 0 {
		errs = append(errs, fmt.Errorf("antientropy: Deadline is negative: %s", o.Deadline))
	}
	if o.Compression > CompressAlways {
		errs = append(errs, fmt.Errorf("antientropy: unknown compression %d", o.Compression))
	}
	o.fill()
	return o, errors.Join(errs...)
}

// fill replaces what is not set and has one value that stands for it.
func (o *Options) fill() {
	if o.PerPeer == 0 {
		o.PerPeer = 2
	}
	if o.ChunkBytes == 0 {
		o.ChunkBytes = maxBudget / 2
	}
	o.ChunkBytes = max(o.ChunkBytes, minBudget)
	if o.LargestBytes == 0 {
		o.LargestBytes = maxLimit
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 64 << 20
	}
	if o.Pace == nil {
		o.Pace = func(work func()) { work() }
	}
	if o.Highest == nil {
		o.Highest = func(uint32) uint64 { return math.MaxUint64 }
	}
	if o.Events.Healed == nil {
		o.Events.Healed = func(uint32) {}
	}
	if o.Events.Damaged == nil {
		o.Events.Damaged = func(uint32, uint8) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
}
