package adamant

import (
	"testing"
	"time"
)

// TestAttention: a host does not hold against another one the time in which it could not have heard of it, or done anything about it.
func TestAttention(t *testing.T) {
	const beat, every = 800 * time.Millisecond, 100 * time.Millisecond
	for name, c := range map[string]struct {
		passed []time.Duration // between looks
		silent bool
		disk   time.Duration
		left   time.Duration // out of account, after these
	}{
		"prompt":                          {[]time.Duration{every, every}, true, 0, 0},
		"late":                            {[]time.Duration{5 * every}, false, 0, 5*every - 3*every/2},
		"late for long":                   {[]time.Duration{100 * every}, false, 0, mostBlind * beat},
		"late and caught up a little":     {[]time.Duration{5 * every, every, every}, false, 0, 5*every - 3*every/2 - every},
		"late and caught up":              {[]time.Duration{2 * every, every, every}, false, 0, 0},
		"the disk waits, all are heard":   {[]time.Duration{every, every}, false, beat, 0},
		"the disk waits for a moment":     {[]time.Duration{every, every}, true, beat / 2, 0},
		"the disk waits, one is silent":   {[]time.Duration{every, every, every / 4}, true, beat/2 + 1, 2*every + every/4},
		"the disk waits for long":         {[]time.Duration{every, every, every, every, every, every, every, every, every, every, every, every, every, every, every, every, every}, true, beat, mostBlind * beat},
		"the disk waits, and the process": {[]time.Duration{every, 3 * every}, true, beat, every + 3*every/2},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			a := attention{beat: beat, last: now}
			var seen time.Time
			for _, d := range c.passed {
				now = now.Add(d)
				seen = a.look(now, every, c.silent, c.disk)
			}
			if left := now.Sub(seen); left != c.left {
				t.Errorf("%v left out of account, want %v", left, c.left)
			}
		})
	}
}
