package adamant

import (
	"testing"

	"github.com/adamantdb/adamant/partition"
)

// TestLeadershipsAreCountedOnce: a leader whose lease lapsed and that serves again has not been elected again.
func TestLeadershipsAreCountedOnce(t *testing.T) {
	c := newTestCluster(t, 1, 1, 1, nil)
	c.ready()
	h := c.host("h1")
	before, term := h.Metrics().Leaderships, h.Status().Partitions[0].Term
	for _, s := range []struct {
		term    uint64
		refusal partition.Refusal
	}{{term + 7, partition.Serves}, {term + 7, partition.NoLease}, {term + 7, partition.Serves}, {term + 8, partition.Serves}} {
		h.servingChanged(0, s.term, s.refusal)
	}
	if n := h.Metrics().Leaderships - before; n != 2 {
		t.Errorf("%d leaderships in two terms", n)
	}
}
