package sim

import (
	"sync"
	"time"
)

// clock is one machine's: it runs at its own rate, and may be stepped.
type clock struct {
	mu   sync.Mutex
	rate float64
	at   time.Time // of the simulation, when it showed that
	show time.Time
}

func newClock(rate float64) *clock {
	if rate == 0 {
		rate = 1
	}
	return &clock{rate: rate, at: time.Now(), show: time.Now()}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.show.Add(time.Duration(float64(time.Since(c.at)) * c.rate))
}

func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.show = c.show.Add(d)
}
