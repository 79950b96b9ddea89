package adamant

import (
	"sync"
	"testing"
	"testing/synctest"
)

// TestSetClusterKeepsTheNewest: of configurations that are set at the same time the newest accepted one is in force, not the last one.
func TestSetClusterKeepsTheNewest(t *testing.T) { synctest.Test(t, testSetClusterKeepsTheNewest) }

func testSetClusterKeepsTheNewest(t *testing.T) {
	const rounds, atOnce = 100, 8
	c := newSimCluster(t, 1, 1, 1, nil)
	c.ready()
	h := c.host("h1")
	for range rounds {
		base := h.cluster()
		accepted := make([]uint64, atOnce)
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for i := range accepted {
			next := base.Clone()
			next.Version += uint64(i) + 1
			wg.Go(func() {
				<-begin
				if h.SetCluster(next) == nil {
					accepted[i] = next.Version
				}
			})
		}
		close(begin)
		wg.Wait()
		newest := base.Version
		for _, version := range accepted {
			newest = max(newest, version)
		}
		if got := h.cluster().Version; got != newest || newest == base.Version {
			t.Fatalf("version %d is in force, and %d was accepted after %d", got, newest, base.Version)
		}
	}
}
