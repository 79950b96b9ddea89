package antientropy

import (
	"testing"
	"time"
)

// TestSlowPeerHoldsUpLittle: a peer that suddenly takes very long keeps what it was asked for last, and others do the rest.
// What it says in the end is taken, or not, without harm.
func TestSlowPeerHoldsUpLittle(t *testing.T) {
	for name, late := range map[string]time.Duration{"answers late": 20 * time.Second, "never answers": time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, "a", "b", "c")
				defer c.close()
				h := c.load(4000, 2, 200, "a", "b")
				c.latency["a"], c.latency["b"] = 5*time.Millisecond, 5*time.Millisecond
				wiped := c.machines["c"]
				wiped.skip(p0, h.last())
				l := wiped.start(Options{ChunkBytes: 8 << 10})
				eventually(t, "some of it", func() bool { return l.Stats().Pulls > 30 })
				c.mu.Lock()
				c.latency["a"] = late
				c.mu.Unlock()
				start := time.Now()
				eventually(t, "all but what it was asked for", func() bool {
					p := l.Progress()
					return len(p) == 1 && p[0].BucketsDone >= 254
				})
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %s", took)
				}
				wiped.heal()
				c.sameRoots(p0, "a", "b", "c")
				// What was on its way from a had to come from b as well.
				if s := l.Stats(); s.AlreadyHad > 4*(8<<10)/200 || s.Liars+s.Refused+s.Divergences > 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}
