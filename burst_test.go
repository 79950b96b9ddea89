package adamant

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBurstsAreSentWithoutAPause: what does not fit into one request follows at once, also when nobody writes any more. Raft alone would
// send the rest with the next entry.
func TestBurstsAreSentWithoutAPause(t *testing.T) { synctest.Test(t, testBurstsAreSentWithoutAPause) }

func testBurstsAreSentWithoutAPause(t *testing.T) {
	const heartbeat, writes, size = 400 * time.Millisecond, 200, 1000
	c := newSimCluster(t, 3, 1, 3, func(o *Options) {
		o.Limits.RequestBytes = 4 * size
		o.Timing.Heartbeat = heartbeat
	})
	c.ready()
	c.healthy()
	for burst := range 3 { // from the second one on there are pipelines
		began := time.Now()
		var wg sync.WaitGroup
		for i := range writes {
			wg.Go(func() {
				key := testKey(writes*burst + i)
				if err := c.on(key, func(h *Host) error { return h.Create(t.Context(), key, testDelta(1, strings.Repeat("x", size))) }); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > heartbeat/2 {
			t.Errorf("%d writes of %d bytes took %v", writes, size, took)
		}
	}
}
