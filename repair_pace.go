package adamant

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// repairPacer keeps what this host sends to peers that heal within its budget, and leaves foreground work its share: while
// writes are applied here, each stretch of serving is followed by a pause as long as the share asks for, and this host's own
// repair does one thing at a time. Safe for concurrent use.
type repairPacer struct {
	rate  int64   // bytes per second; 0: no bound
	share float64 // of the time that foreground work keeps, [0, 1)
	wrote atomic.Int64
	turn  chan struct{} // holds the one of this host's own repair whose turn it is while writes come

	mu   sync.Mutex
	free time.Time // when what was sent so far is paid for
}

// busyFor is for how long after a write the foreground counts as busy, and mostPause the longest pause for its sake: an asker
// waits.
const (
	busyFor   = 100 * time.Millisecond
	mostPause = 250 * time.Millisecond
)

func newRepairPacer(rate int64, share float64) *repairPacer {
	return &repairPacer{rate: rate, share: share, turn: make(chan struct{}, 1)}
}

// write takes note of writes that this host applies, whoever leads.
func (p *repairPacer) write(now time.Time) { p.wrote.Store(now.UnixNano()) }

// yields reports whether repair is to leave the foreground its share now.
func (p *repairPacer) yields(now time.Time) bool {
	return p.share > 0 && now.UnixNano()-p.wrote.Load() < int64(busyFor)
}

// pause returns how long a worker has to wait that took so long to make a reply of so many bytes.
func (p *repairPacer) pause(now time.Time, took time.Duration, bytes int) time.Duration {
	wait := time.Duration(0)
	if p.yields(now) {
		wait = min(mostPause, time.Duration(float64(took)*p.share/(1-p.share)))
	}
	if p.rate == 0 {
		return wait
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(bytes) / float64(p.rate) * float64(time.Second)))
	return max(wait, p.free.Sub(now))
}

// serve runs f, which makes a reply, and waits as long as it has to. A context that ends ends the wait.
func (p *repairPacer) serve(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	start := time.Now()
	b, err := f()
	now := time.Now()
	if wait := p.pause(now, now.Sub(start), len(b)); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return b, err
}

// work runs f, a piece of this host's own repair: what it has to check and to write of a reply. Those of several replies keep both
// processors and the disk busy that this host's part in the writes waits for.
func (p *repairPacer) work(f func()) {
	if p.yields(time.Now()) {
		p.turn <- struct{}{}
		defer func() { <-p.turn }()
	}
	f()
}
