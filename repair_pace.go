package adamant

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// servePacer keeps what this host sends to peers that heal within its budget, and leaves foreground work its share: while
// this host takes writes, each stretch of serving is followed by a pause as long as the share asks for. Safe for concurrent use.
type servePacer struct {
	rate  int64   // bytes per second; 0: no bound
	share float64 // of the time that foreground work keeps, [0, 1)
	wrote atomic.Int64

	mu   sync.Mutex
	free time.Time // when what was sent so far is paid for
}

// busyFor is for how long after a write the foreground counts as busy, and mostPause the longest pause for its sake: an asker
// waits.
const (
	busyFor   = 100 * time.Millisecond
	mostPause = 250 * time.Millisecond
)

// write takes note of a write that this host has acknowledged.
func (p *servePacer) write(now time.Time) { p.wrote.Store(now.UnixNano()) }

// pause returns how long a worker has to wait that took so long to make a reply of so many bytes.
func (p *servePacer) pause(now time.Time, took time.Duration, bytes int) time.Duration {
	wait := time.Duration(0)
	if now.UnixNano()-p.wrote.Load() < int64(busyFor) && p.share > 0 {
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
func (p *servePacer) serve(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
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
