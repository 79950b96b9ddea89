package adamant

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestServingKeepsToItsBudget: several workers together send what the budget allows, within a tenth.
func TestServingKeepsToItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRepairPacer(1_000_000, 0)
		reply := make([]byte, 20_000)
		start := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					if _, err := p.serve(t.Context(), func() ([]byte, error) { return reply, nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if rate := 4 * 50 * 20_000 / time.Since(start).Seconds(); rate < 900_000 || rate > 1_100_000 {
			t.Errorf("%.0f bytes a second", rate)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		_, _ = p.serve(ctx, func() ([]byte, error) { return make([]byte, 10_000_000), nil })
		if took := time.Since(start); took > 0 {
			t.Errorf("waited %s when the host closed", took)
		}
	})
}

// TestServingLeavesTheForegroundItsShare: while writes come, and only then.
func TestServingLeavesTheForegroundItsShare(t *testing.T) {
	p := newRepairPacer(0, 0.5)
	now := time.Now()
	if got := p.pause(now, time.Millisecond, 1<<20); got != 0 {
		t.Errorf("%s for nobody", got)
	}
	p.write(now)
	for after, want := range map[time.Duration]time.Duration{0: time.Millisecond, 99 * time.Millisecond: time.Millisecond, 100 * time.Millisecond: 0} {
		if got := p.pause(now.Add(after), time.Millisecond, 1<<20); got != want {
			t.Errorf("%s after a write: %s, want %s", after, got, want)
		}
	}
	if got := p.pause(now, time.Hour, 0); got != mostPause {
		t.Errorf("%s", got)
	}
}

// TestOwnRepairLeavesTheForegroundItsShare: while writes are applied here, a host's own repair does one thing at a time.
func TestOwnRepairLeavesTheForegroundItsShare(t *testing.T) {
	for writes, want := range map[bool]struct {
		took time.Duration
		most int
	}{false: {10 * time.Millisecond, 8}, true: {80 * time.Millisecond, 1}} {
		synctest.Test(t, func(t *testing.T) {
			p := newRepairPacer(0, 0.5)
			if writes {
				p.write(time.Now())
			}
			var mu sync.Mutex
			var wg sync.WaitGroup
			at, most, start := 0, 0, time.Now()
			note := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				at += n
				most = max(most, at)
			}
			for range 8 {
				wg.Go(func() {
					p.work(func() {
						note(1)
						time.Sleep(10 * time.Millisecond)
						note(-1)
					})
				})
			}
			wg.Wait()
			if took := time.Since(start); took != want.took || most != want.most {
				t.Errorf("writes %v: %d at a time, %s", writes, most, took)
			}
		})
	}
}

// TestWritesAreNoticedWhoeverLeads: repair yields on every host that applies them; to found a partition is no write.
func TestWritesAreNoticedWhoeverLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSimCluster(t, 3, 1, 3, nil)
		c.ready()
		c.healthy()
		for name, h := range c.live() {
			if h.repairPace.wrote.Load() != 0 {
				t.Errorf("%s took note of a write before there was one", name)
			}
		}
		if err := c.on(testKey(0), func(h *Host) error { return h.Create(testContext(t), testKey(0), testDelta(1, "first")) }); err != nil {
			t.Fatal(err)
		}
		c.wait("all to apply it", func() error {
			for name, h := range c.live() {
				if h.repairPace.wrote.Load() == 0 {
					return fmt.Errorf("%s took no note of it", name)
				}
			}
			return nil
		})
	})
}
