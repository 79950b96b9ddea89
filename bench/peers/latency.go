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

// recorder gathers the latencies of many writers, who share a few histograms: one for all would be a place to queue at.
type recorder struct {
	shards [8]struct {
		sync.Mutex
		h *hdrhistogram.Histogram
	}
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestLatency.Microseconds(), significantDigits)
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

// merged is everything recorded. Nobody records any more.
func (r *recorder) merged() *hdrhistogram.Histogram {
	sum := newHistogram()
	for i := range r.shards {
		sum.Merge(r.shards[i].h)
	}
	return sum
}

// micros is a duration in µs.
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
