package clock

import (
	"testing"
	"time"
)

// TestClockKeepsPace with Go's own clock while the machine runs, and never goes back.
func TestClockKeepsPace(t *testing.T) {
	now := New()
	before := time.Now()
	first := now()
	began := time.Now()
	last := first
	for time.Since(began) < 30*time.Millisecond {
		at := now()
		if at.Before(last) {
			t.Fatalf("%s after %s", at, last)
		}
		last = at
	}
	// Two clocks are not read at one moment: what Go's own says before and after bounds what this one may.
	least := time.Since(began)
	got := now().Sub(first)
	if most := time.Since(before); got > most+time.Millisecond || got < least-time.Millisecond {
		t.Errorf("%s passed, of %s to %s", got, least, most)
	}
}
