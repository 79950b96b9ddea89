package main

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept in microseconds, to three significant digits, up to longestLatency.
const (
	longestLatency    = 10 * time.Minute
	significantDigits = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestLatency.Microseconds(), significantDigits)
}

// recorder gathers the latencies of many writers. They share a few histograms, because one for each of hundreds of
// writers would be more memory than what is measured, and one for all a place to queue at.
type recorder struct {
	shards [8]struct {
		sync.Mutex
		h *hdrhistogram.Histogram
	}
}

func newRecorder() *recorder {
	r := &recorder{}
	for i := range r.shards {
		r.shards[i].h = newHistogram()
	}
	return r
}

// record notes one latency; writer is any number that is the same for one writer.
func (r *recorder) record(writer int, d time.Duration) {
	s := &r.shards[writer%len(r.shards)]
	us := min(max(d, time.Microsecond), longestLatency).Microseconds()
	s.Lock()
	defer s.Unlock()
	_ = s.h.RecordValue(us) // fails only out of its range
}

// snapshot returns everything recorded. Nobody records any more.
func (r *recorder) snapshot() *hdrhistogram.Snapshot {
	sum := newHistogram()
	for i := range r.shards {
		sum.Merge(r.shards[i].h)
	}
	return sum.Export()
}

// merged adds snapshots of several crews up.
func merged(list []*hdrhistogram.Snapshot) *hdrhistogram.Histogram {
	sum := newHistogram()
	for _, s := range list {
		if s != nil {
			sum.Merge(hdrhistogram.Import(s))
		}
	}
	return sum
}

// micros is a duration in µs.
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
