package clock

import (
	"testing"
	"time"
)

// TestClockKeepsPace with Go's own clock while the machine runs, and never goes back.
func TestClockKeepsPace(t *testing.T) {
	now := New()
	first, began := now(), time.Now()
	last := first
	for time.Since(began) < 30*time.Millisecond {
		at := now()
		if at.Before(last) {
			t.Fatalf("%s after %s", at, last)
		}
		last = at
	}
	if got, want := now().Sub(first), time.Since(began); got > want+10*time.Millisecond || got < want-10*time.Millisecond {
		t.Errorf("%s passed, of %s", got, want)
	}
}
