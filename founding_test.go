package adamant

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/partition"
)

// movedCluster has one partition on h1, h2, h3 with 20 documents; these three are then killed, and the file moves the
// partition to h4, h5, h6.
func movedCluster(t *testing.T, change func(*Options)) *testCluster {
	hosts := map[string]config.Host{}
	for i := range 6 {
		hosts[fmt.Sprintf("h%d", i+1)] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7001+i)}
	}
	first := &config.Cluster{Name: "test", Version: 1, Hosts: hosts, Partitions: []config.Partition{{ID: 0, Voters: []string{"h1", "h2", "h3"}, Prefer: "h1"}}}
	if err := first.Validate(); err != nil {
		t.Fatal(err)
	}
	c := &testCluster{t: t, config: first, change: change, sim: newSimulation(), hosts: map[string]*Host{}}
	t.Cleanup(c.close)
	for n := range hosts {
		c.open(n)
	}
	c.ready()
	c.fill(0, 20, 3)
	for _, n := range []string{"h1", "h2", "h3"} {
		c.kill(n)
	}
	next := first.Clone()
	next.Version = 2
	next.Partitions[0].Voters, next.Partitions[0].Prefer = []string{"h4", "h5", "h6"}, "h4"
	c.config = next
	for _, h := range c.live() {
		if err := h.SetCluster(next); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestPartitionIsBornOnce (design §10, bootstrap rule): the hosts that held a partition are down while the file moves it. It
// is not founded anew where the file wants it; when they are back, everything moves.
func TestPartitionIsBornOnce(t *testing.T) { synctest.Test(t, testPartitionIsBornOnce) }

func testPartitionIsBornOnce(t *testing.T) {
	c := movedCluster(t, nil)
	c.wait("the founder to say what it waits for", func() error {
		if m := c.host("h4").member(0); m == nil || !strings.Contains(m.waitsFor(), "h1, h2, h3") {
			return fmt.Errorf("%q", m.waitsFor())
		}
		return nil
	})
	for _, n := range []string{"h1", "h2", "h3"} {
		c.open(n)
	}
	c.wait("the partition to have moved", func() error {
		for _, n := range []string{"h1", "h2", "h3"} {
			if s := c.host(n).Status(); len(s.Partitions) > 0 {
				return fmt.Errorf("%s is still a member", n)
			}
		}
		return nil
	})
	c.healthy()
	for i := range 20 {
		if err := c.on(testKey(i), func(h *Host) error {
			d, err := h.Get(testContext(t), testKey(i))
			if err == nil && d.Head != 3 {
				err = fmt.Errorf("head %d", d.Head)
			}
			return err
		}); err != nil {
			t.Fatalf("%s: %v", testKey(i), err)
		}
	}
}

// TestSecondFoundingDestroysNothing: an operator forces the founding although the data lies on hosts that are down. When they
// are back nobody drops anything: both sides go into safe mode and name each other.
func TestSecondFoundingDestroysNothing(t *testing.T) {
	synctest.Test(t, testSecondFoundingDestroysNothing)
}

func testSecondFoundingDestroysNothing(t *testing.T) {
	c := movedCluster(t, func(o *Options) { o.ForceBootstrap = o.Host == "h4" })
	c.wait("the second founding", func() error { // of all three: in safe mode nobody is taken in any more
		for _, n := range []string{"h4", "h5", "h6"} {
			ps := c.host(n).Status().Partitions
			if len(ps) != 1 || ps[0].Leader == "" || ps[0].Applied == 0 {
				return fmt.Errorf("%s has not been taken in", n)
			}
		}
		return nil
	})
	for _, n := range []string{"h1", "h2", "h3"} {
		c.open(n)
	}
	c.wait("safe mode on both sides", func() error {
		for n, h := range c.live() {
			for _, p := range h.Status().Partitions {
				if !strings.Contains(p.SafeMode, "founded twice") {
					return fmt.Errorf("%s: %q", n, p.SafeMode)
				}
			}
		}
		return nil
	})
	for _, n := range []string{"h1", "h2", "h3"} {
		for i := range 20 {
			c.wait("the documents", func() error { // a follower may still be applying the last ones
				d, err := c.host(n).Get(testContext(t), testKey(i), WithConsistency(ReadStale))
				if err == nil && d.Head != 3 {
					err = fmt.Errorf("%s: %s: head %d", n, testKey(i), d.Head)
				}
				return err
			})
		}
	}
}

// TestShrinkWhileEverybodyIsDown: the file takes two of three voters away while no host runs. The rest of the group agrees on
// it, the others drop what they hold, and nothing is lost.
func TestShrinkWhileEverybodyIsDown(t *testing.T) { synctest.Test(t, testShrinkWhileEverybodyIsDown) }

func testShrinkWhileEverybodyIsDown(t *testing.T) {
	c := newSimCluster(t, 3, 1, 3, nil)
	c.ready()
	c.fill(0, 20, 2)
	for n := range c.live() {
		c.kill(n)
	}
	next := c.config.Clone()
	next.Version++
	next.Partitions[0].Voters, next.Partitions[0].Prefer = []string{"h1"}, "h1"
	c.config = next
	var wg sync.WaitGroup
	for _, n := range []string{"h1", "h2", "h3"} {
		wg.Go(func() { c.open(n) })
	}
	wg.Wait()
	c.wait("the others to be out", func() error {
		for _, n := range []string{"h2", "h3"} {
			if s := c.host(n).Status(); len(s.Partitions) > 0 {
				return fmt.Errorf("%s is still a member: %+v", n, s.Partitions[0])
			}
		}
		return nil
	})
	for i := range 20 {
		if err := c.on(testKey(i), func(h *Host) error { _, err := h.Get(testContext(t), testKey(i)); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestListedForAWhile: the file lists a host for a partition and takes that back before the host could join. Nothing of it
// stays.
func TestListedForAWhile(t *testing.T) { synctest.Test(t, testListedForAWhile) }

func testListedForAWhile(t *testing.T) {
	c := newSimCluster(t, 4, 1, 3, nil)
	c.ready()
	p := c.config.Partitions[0]
	out := ""
	for _, n := range c.config.HostNames() {
		if !lists(partition.Desired{Voters: p.Voters}, n) {
			out = n
		}
	}
	h := c.host(out)
	listed := c.config.Clone()
	listed.Version++
	listed.Partitions[0].Replicas = []string{out}
	if err := h.SetCluster(listed); err != nil { // the others do not know yet
		t.Fatal(err)
	}
	c.wait("the member to run", func() error {
		if m := h.member(0); m == nil || m.running() == nil {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	back := c.config.Clone()
	back.Version += 2
	if err := h.SetCluster(back); err != nil {
		t.Fatal(err)
	}
	c.wait("the member to be forgotten", func() error {
		if s := h.Status(); len(s.Partitions) > 0 {
			return fmt.Errorf("%+v", s.Partitions[0])
		}
		if held, err := h.holdsData(0); err != nil || held {
			return fmt.Errorf("something is left, %v", err)
		}
		return nil
	})
}
