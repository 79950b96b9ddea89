package adamant

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestServingKeepsToItsBudget: several workers together send what the budget allows, within a tenth.
func TestServingKeepsToItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePacer{rate: 1_000_000}
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
	p := servePacer{share: 0.5}
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
