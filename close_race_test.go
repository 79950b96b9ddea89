package adamant

import (
	"context"
	"sync"
	"testing"
	"time"
)

// TestCloseBesideEverything: whatever else is under way when a host is closed ends, with an answer or with one of the errors that a caller
// knows of.
func TestCloseBesideEverything(t *testing.T) {
	for round := range 3 {
		c := newTestCluster(t, 3, 4, 3, nil)
		c.ready()
		c.fill(0, 60, 3)
		h, ctx := c.host("h2"), testContext(t)
		begun := make(chan struct{})
		var calls sync.WaitGroup
		for what, call := range everyCall(h, ctx, c) {
			calls.Go(func() {
				<-begun
				for h.usable() == nil {
					if err := call(); err != nil && Code(err) == 0 {
						t.Errorf("%s: %T: %v", what, err, err)
					}
				}
			})
		}
		close(begun)
		time.Sleep(time.Duration(round) * 20 * time.Millisecond) // the moment makes a difference, the result does not depend on it
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		calls.Wait()
	}
}

// everyCall is what an application may do to a host at any time.
func everyCall(h *Host, ctx context.Context, c *testCluster) map[string]func() error {
	key := Key{Space: "game", Key: "doc-7"}
	get := func(level Consistency) func() error {
		return func() error { _, err := h.Get(ctx, key, WithConsistency(level)); return err }
	}
	return map[string]func() error{
		"stale": get(ReadStale), "lease": get(ReadLease), "quorum": get(ReadQuorum),
		"inventory": func() error {
			for _, err := range h.Inventory(ctx, Scope{}, WithConsistency(ReadStale)) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"log": func() error {
			for _, err := range h.Log(ctx, key, WithConsistency(ReadStale)) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"delete":    func() error { return h.Delete(ctx, Key{Space: "game", Key: "doc-8"}) },
		"status":    func() error { h.Status(); return nil },
		"routing":   func() error { h.Routing(); return nil },
		"cluster":   func() error { return h.SetCluster(c.config) },
		"compare":   func() error { _, err := h.Compare(ctx, 0, key); return err },
		"safe mode": func() error { return h.SetSafeMode(0, "") },
		"transfer":  func() error { return h.Transfer(ctx, 0, "h1") },
	}
}
