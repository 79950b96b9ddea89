package adamant

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/adamantdb/adamant/config"
)

func testKey(i int) Key { return Key{Space: "game", Key: fmt.Sprintf("doc-%d", i)} }

func testDelta(seq int64, text string) Delta {
	return Delta{SeqBegin: seq, SeqEnd: seq, Redo: fmt.Appendf(nil, `{"s%d":%q}`, seq, text), Undo: fmt.Appendf(nil, `{"s%d":null}`, seq), Who: "tester"}
}

// fill creates n documents of a few deltas each with many writers.
func (c *testCluster) fill(from, n, deltas int) {
	c.t.Helper()
	c.fillBy(32, from, n, deltas)
}

// fillBy is fill with a number of writers. What one of them alone writes is an entry each in the log.
func (c *testCluster) fillBy(writers, from, n, deltas int) {
	c.t.Helper()
	var wg sync.WaitGroup
	work := make(chan int)
	for range writers {
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
	for _, m := range h3.allMembers() {
		if n := m.running().Status().Commands; n != 0 {
			t.Errorf("partition %d: Raft shipped %d documents' commands to the wiped member", m.id, n)
		}
	}
	if m := h3.Metrics(); m.Raft.SnapshotBytesIn > 64<<10 {
		t.Errorf("Raft shipped %d bytes of markers to the wiped member", m.Raft.SnapshotBytesIn)
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

// TestClusterFileMovesMembers: a host is added and another removed by configuration alone; members join as non-voters, heal,
// vote, and what is no longer listed goes, data and all.
func TestClusterFileMovesMembers(t *testing.T) {
	c := newTestCluster(t, 4, 4, 3, nil)
	c.ready()
	c.fill(0, 200, 3)
	addr := freeAddr(t)
	next, moves, err := config.Replan(c.config, config.Change{Add: map[string]config.Host{"h5": {Addr: addr, Zone: "1"}}, Remove: []string{"h1"}})
	if err != nil {
		t.Fatal(err)
	}
	// While members leave it the host has to stay reachable: it goes from the file when it holds nothing any more.
	next.Hosts["h1"] = c.config.Hosts["h1"]
	if moves == 0 {
		t.Fatal("nothing to move")
	}
	c.config = next
	for _, h := range c.live() {
		if err := h.SetCluster(next); err != nil {
			t.Fatal(err)
		}
	}
	c.open("h5")
	c.wait("the old host to be empty", func() error {
		if s := c.host("h1").Status(); len(s.Partitions) > 0 {
			return fmt.Errorf("still a member of %d partitions, the first %+v", len(s.Partitions), s.Partitions[0])
		}
		return nil
	})
	c.healthy()
	for i := range 200 {
		key := testKey(i)
		err := c.on(key, func(h *Host) error {
			d, err := h.Get(testContext(t), key)
			if err == nil && d.Head != 3 {
				err = fmt.Errorf("head %d", d.Head)
			}
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	if held, err := c.host("h1").docs.Members(); err != nil || len(held) > 0 {
		t.Errorf("documents of partitions %v left behind, %v", held, err)
	}
}

// TestDeletedDocumentsStayDeleted (design §13.4): documents deleted while a member was away do not come back with it, and no
// tombstones stay behind.
func TestDeletedDocumentsStayDeleted(t *testing.T) {
	c := newTestCluster(t, 3, 2, 3, func(o *Options) {
		o.Limits = Limits{InFlight: 16, TrailingLogs: 20, MarkerEvery: 10}
	})
	c.ready()
	c.fill(0, 200, 2)
	c.healthy()
	before := map[uint32]uint64{}
	for _, h := range c.live() {
		for _, m := range h.allMembers() {
			last, err := m.log.LastIndex()
			if err != nil {
				t.Fatal(err)
			}
			before[m.id] = max(before[m.id], last)
		}
	}
	c.kill("h2")
	for i := range 100 {
		key := testKey(i)
		if err := c.on(key, func(h *Host) error { return h.Delete(testContext(t), key) }); err != nil {
			t.Fatal(err)
		}
	}
	c.fillBy(1, 200, 100, 2)
	c.wait("the log to be truncated beyond what h2 has", func() error {
		for name, h := range c.live() {
			for _, m := range h.allMembers() {
				if first, err := m.log.FirstIndex(); err != nil || first <= before[m.id]+1 {
					return fmt.Errorf("%s: partition %d begins at %d, %v", name, m.id, first, err)
				}
			}
		}
		return nil
	})
	h2 := c.open("h2")
	c.wait("holes", func() error {
		for _, n := range h2.Status().History {
			if n.Kind == "hole" {
				return nil
			}
		}
		return fmt.Errorf("h2 was brought up to date by Raft: %+v", h2.Status().History)
	})
	c.healthy()
	for name, h := range c.live() {
		for i := range 300 {
			_, err := h.Get(context.Background(), testKey(i), WithConsistency(ReadStale))
			if gone := Code(err) == CodeNotFound; gone != (i < 100) {
				t.Fatalf("%s: %s: %v", name, testKey(i), err)
			}
		}
		for _, m := range h.allMembers() {
			if n := m.docs.Status().DeleteRecords; n != 0 {
				t.Errorf("%s: partition %d keeps %d delete records", name, m.id, n)
			}
		}
	}
}

// TestPartitionGrowsFromOneVoterToThree: group sizes are not fixed.
func TestPartitionGrowsFromOneVoterToThree(t *testing.T) {
	c := newTestCluster(t, 3, 3, 1, nil)
	c.ready()
	c.fill(0, 60, 2)
	next := c.config.Clone()
	next.Version++
	for i := range next.Partitions {
		next.Partitions[i].Voters = []string{"h1", "h2", "h3"}
	}
	c.config = next
	for _, h := range c.live() {
		if err := h.SetCluster(next); err != nil {
			t.Fatal(err)
		}
	}
	c.wait("three voters everywhere", func() error {
		for name, h := range c.live() {
			s := h.Status()
			if len(s.Partitions) != 3 {
				return fmt.Errorf("%s: %d members", name, len(s.Partitions))
			}
			for _, p := range s.Partitions {
				if len(p.Members) != 3 {
					return fmt.Errorf("%s: partition %d: %+v", name, p.ID, p.Members)
				}
			}
		}
		return nil
	})
	c.healthy()
	c.kill("h2")
	c.fill(60, 30, 2)
	for i := range 90 {
		key := testKey(i)
		if err := c.on(key, func(h *Host) error { _, err := h.Get(testContext(t), key); return err }); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
}
