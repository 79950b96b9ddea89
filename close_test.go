package adamant

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestCloseServesUntilItsTurn: a host that has begun to close serves each partition until that one is handed over, and refuses
// everything after.
func TestCloseServesUntilItsTurn(t *testing.T) { synctest.Test(t, testCloseServesUntilItsTurn) }

func testCloseServesUntilItsTurn(t *testing.T) {
	c := newSimCluster(t, 3, 12, 3, nil)
	c.ready()
	const documents = 24
	c.fill(0, documents, 1)
	victim := "h1"
	h := c.host(victim)
	if !h.beginClose() || h.beginClose() { // the first step of Close
		t.Fatal("it can be closed more or less than once")
	}
	served := 0
	for i := range documents {
		if h.Locate(testKey(i)).Leader != victim {
			continue
		}
		if _, err := h.Get(testContext(t), testKey(i)); err == nil {
			served++
		} else if errors.As(err, new(*ClosedError)) {
			t.Fatal(err)
		}
	}
	if served == 0 {
		t.Fatalf("%s serves nothing any more", victim)
	}
	if left := h.handOver(context.Background()); left > 0 {
		t.Fatalf("%d partitions are led by %s still", left, victim)
	}
	h.refuse()
	if _, err := h.Get(testContext(t), testKey(0), WithConsistency(ReadStale)); !errors.As(err, new(*ClosedError)) {
		t.Fatalf("a closed host: %v", err)
	}
	if err := h.shutdown(h.net.Close); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	delete(c.hosts, victim)
	c.mu.Unlock()
	for i := range documents {
		if err := c.on(testKey(i), func(h *Host) error { _, err := h.Get(testContext(t), testKey(i)); return err }); err != nil {
			t.Error(err)
		}
	}
}
