package adamant

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func testKey(i int) Key { return Key{Space: "game", Key: fmt.Sprintf("doc-%d", i)} }

func testDelta(seq int64, text string) Delta {
	return Delta{SeqBegin: seq, SeqEnd: seq, Redo: fmt.Appendf(nil, `{"s%d":%q}`, seq, text), Undo: fmt.Appendf(nil, `{"s%d":null}`, seq), Who: "tester"}
}

// fill creates n documents of a few deltas each with many writers.
func (c *testCluster) fill(from, n, deltas int) {
	c.t.Helper()
	var wg sync.WaitGroup
	work := make(chan int)
	for range 32 {
		wg.Go(func() {
			for i := range work {
				key := testKey(i)
				err := c.on(key, func(h *Host) error { return h.Create(testContext(c.t), key, testDelta(1, "first")) })
				if err != nil && Code(err) != CodeExists {
					c.t.Errorf("create %s: %v", key, err)
				}
				for seq := int64(2); seq <= int64(deltas); seq++ {
					err := c.on(key, func(h *Host) error {
						_, err := h.Append(testContext(c.t), key, []Delta{testDelta(seq, strings.Repeat("x", 20))})
						return err
					})
					if err != nil {
						c.t.Errorf("append %s %d: %v", key, seq, err)
					}
				}
			}
		})
	}
	for i := from; i < from+n; i++ {
		work <- i
	}
	close(work)
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// TestWipedMemberIsHealedByAntiEntropy: a host's directory is gone; it comes back under a new incarnation, is healed without
// Raft shipping it documents, becomes a voter, and ends up equal.
func TestWipedMemberIsHealedByAntiEntropy(t *testing.T) {
	documents := 20000
	if testing.Short() {
		documents = 2000
	}
	c := newTestCluster(t, 3, 4, 3, nil)
	c.ready()
	c.fill(0, documents, 1)
	old := c.host("h3").Status().Incarnation
	c.kill("h3")
	c.wipe("h3")
	h3 := c.open("h3")
	if now := h3.Status().Incarnation; now == old || now == "" {
		t.Fatalf("incarnation %q after %q", now, old)
	}
	c.healthy()
	if m := h3.Metrics(); m.Raft.CommandBytesIn != 0 || m.Raft.SnapshotBytesIn > 64<<10 {
		t.Errorf("Raft shipped %d bytes of commands and %d of markers to the wiped member", m.Raft.CommandBytesIn, m.Raft.SnapshotBytesIn)
	}
	total := int64(0)
	for _, p := range h3.Status().Partitions {
		total += p.Documents
		for _, s := range p.Members {
			if s.Host == "h3" && s.Incarnation == old {
				t.Errorf("partition %d still lists the old incarnation", p.ID)
			}
		}
	}
	if total != int64(documents) {
		t.Errorf("%d documents after the repair, want %d", total, documents)
	}
	for i := 0; i < documents; i += documents / 100 {
		d, err := h3.Get(context.Background(), testKey(i), WithConsistency(ReadStale))
		if err != nil || d.Head != 1 {
			t.Fatalf("%s: head %d, %v", testKey(i), d.Head, err)
		}
	}
}

// TestHostLossLosesNothing kills a host in mid-load.
func TestHostLossLosesNothing(t *testing.T) {
	c := newTestCluster(t, 5, 8, 3, nil)
	c.ready()
	var wg sync.WaitGroup
	wg.Go(func() { c.fill(0, 300, 5) })
	c.wait("some load", func() error {
		n := int64(0)
		for _, p := range c.host("h1").Status().Partitions {
			n += p.Documents
		}
		if n < 30 {
			return fmt.Errorf("%d documents", n)
		}
		return nil
	})
	c.kill("h2")
	wg.Wait()
	for i := range 300 {
		key := testKey(i)
		var d Document
		err := c.on(key, func(h *Host) (err error) { d, err = h.Get(testContext(t), key); return err })
		if err != nil || d.Head != 5 || !strings.Contains(string(d.JSON), `"s5"`) {
			t.Fatalf("%s: head %d, %s, %v", key, d.Head, d.JSON, err)
		}
	}
	c.wipe("h2")
	c.open("h2")
	c.healthy()
}
