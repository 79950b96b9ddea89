package antientropy

import (
	"math"
	"time"
)

// Progress is how far the repair of one sick member is.
type Progress struct {
	Partition                 uint32
	BucketsDone, BucketsTotal int
	Bytes                     int64 // of replies
	Documents, Entries        int64 // imported
	Imported                  int64 // bytes of bases and deltas imported
	// BytesTotal is about what Imported will be in the end: by how much a peer's documents were larger than this member's when
	// they were compared, and what had been imported until then. 0: not known.
	BytesTotal int64
	Rate       float64       // bytes of replies per second, of the last seconds
	Remaining  time.Duration // about; 0: not known
	Started    time.Time
	Sources    []string // hosts that it is healed from at the moment, in order of their names
	LastError  string   // of this repair; "": none

	imports float64 // as Rate, of bytes imported
}

// rateSpan is the time over which the rates look back.
const rateSpan = 5 * time.Second

// forget lets the rates fall exponentially.
func (g *Progress) forget(since time.Duration) {
	keep := math.Exp(-since.Seconds() / rateSpan.Seconds())
	g.Rate *= keep
	g.imports *= keep
}

func (g *Progress) take(bytes int, imported int64) {
	g.Rate += float64(bytes) / rateSpan.Seconds()
	g.imports += float64(imported) / rateSpan.Seconds()
}

// show prepares a copy for others. What was rated only began with the repair, so a young one's rates are of less than the span.
func (g *Progress) show(now time.Time) {
	if age := now.Sub(g.Started).Seconds(); age > 0 {
		full := 1 - math.Exp(-age/rateSpan.Seconds())
		g.Rate /= full
		g.imports /= full
	}
	g.Remaining = g.remaining(now)
}

// left is what is still to be imported, as far as is known.
func (g *Progress) left() int64 { return max(0, g.BytesTotal-g.Imported) }

// mostRemaining is where an estimate stops to mean anything.
const mostRemaining = 1000 * time.Hour

// remaining estimates by bytes, or by buckets when the bytes are not known or were not all.
func (g *Progress) remaining(now time.Time) time.Duration {
	seconds := 0.0
	switch left := g.left(); {
	case g.BucketsDone == g.BucketsTotal:
		return 0
	case left > 0 && g.imports > 0:
		seconds = float64(left) / g.imports
	case left == 0 && g.BucketsDone > 0:
		seconds = now.Sub(g.Started).Seconds() * float64(g.BucketsTotal-g.BucketsDone) / float64(g.BucketsDone)
	}
	return time.Duration(min(seconds, mostRemaining.Seconds()) * float64(time.Second))
}
