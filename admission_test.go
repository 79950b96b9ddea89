package adamant

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/mesh"
)

// askAll has one host ask another for all that members serve each other; it returns what was answered.
func askAll(t *testing.T, from *Host, to string) (served, refused []string) {
	t.Helper()
	read := forwarded{kind: opGet, read: query{kind: opGet, key: testKey(0)}, patience: time.Second}
	for name, r := range map[string]mesh.Request{
		"a forwarded read": {Service: mesh.ServiceHost, Payload: append([]byte{callForward}, read.append(nil)...)},
		"a probe":          {Service: mesh.ServiceHost, Payload: []byte{callProbe}},
		"repair":           {Service: mesh.ServiceRepair, Class: mesh.Bulk, Payload: []byte{1}},
		"Raft":             {Service: mesh.ServiceRaft, Payload: []byte{2}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		_, err := from.net.Call(ctx, mesh.Target{Host: to}, r)
		cancel()
		if err != nil && strings.Contains(err.Error(), "does not serve host") {
			refused = append(refused, name)
		} else {
			served = append(served, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return served, refused
}

// TestHostOutsideTheFile: a host that a newer file names is served nothing by those who have not read it, and everything once they
// have.
func TestHostOutsideTheFile(t *testing.T) { synctest.Test(t, testHostOutsideTheFile) }

func testHostOutsideTheFile(t *testing.T) {
	c := newSimCluster(t, 3, 1, 3, nil)
	c.ready()
	c.fill(0, 5, 2)
	next := c.config.Clone()
	next.Version++
	next.Hosts["h9"] = config.Host{Addr: "127.0.0.1:7009"}
	next.Partitions[0].Replicas = []string{"h9"}
	before := c.live()
	c.config = next
	stranger := c.open("h9")
	for name, h := range before {
		if served, _ := askAll(t, stranger, name); len(served) > 0 {
			t.Errorf("%s, whose file does not name it: %q", name, served)
		}
		if n := h.counts.strangers.Load(); n < 4 {
			t.Errorf("%s counts %d", name, n)
		}
		if s := stranger.Locate(testKey(0)); s.Leader != "" {
			t.Errorf("it knows who leads: %+v", s)
		}
	}
	for name, h := range before {
		if err := h.SetCluster(next); err != nil {
			t.Fatal(err)
		}
		if _, refused := askAll(t, stranger, name); len(refused) > 0 {
			t.Errorf("%s, whose file names it, refuses %q", name, refused)
		}
	}
	c.wait("it to be whole", func() error {
		if ps := stranger.Status().Partitions; len(ps) != 1 || !ps[0].Complete || ps[0].Applied == 0 {
			return fmt.Errorf("%+v", ps)
		}
		return nil
	})
}

// TestRemovedHostHandsOver: one edit takes the host of a leader out of the file altogether. It is served for as long as Raft holds it,
// hands over, drops what it holds, and then is served no more.
func TestRemovedHostHandsOver(t *testing.T) {
	t.Run("simulated", simulated(func(t *testing.T) { testRemovedHostHandsOver(t, newSimCluster(t, 4, 1, 3, nil)) }))
	t.Run("TCP", func(t *testing.T) { testRemovedHostHandsOver(t, newTestCluster(t, 4, 1, 3, nil)) })
}

func testRemovedHostHandsOver(t *testing.T, c *testCluster) {
	c.ready()
	c.fill(0, 20, 2)
	var removed *Host
	c.wait("a leader", func() error {
		for _, h := range c.live() {
			if l := h.Locate(testKey(0)); l.Leader != "" {
				removed = c.host(l.Leader)
				return nil
			}
		}
		return fmt.Errorf("nobody leads")
	})
	voters := c.config.Partitions[0].Voters
	next, _, err := config.Replan(c.config, config.Change{Remove: []string{removed.name}})
	if err != nil {
		t.Fatal(err)
	}
	c.config = next
	for _, h := range c.live() { // the leader last: the others do not know it any more
		if h != removed {
			if err := h.SetCluster(next); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range voters {
		if _, refused := askAll(t, removed, name); len(refused) > 0 {
			t.Errorf("%s refuses a voter %q", name, refused)
		}
	}
	if err := removed.SetCluster(next); err != nil {
		t.Fatal(err)
	}
	c.wait("it to be out and empty", func() error {
		if s := removed.Status(); len(s.Partitions) > 0 {
			return fmt.Errorf("%+v", s.Partitions[0])
		}
		return nil
	})
	for name := range next.Hosts {
		c.wait("it to be a stranger", func() error {
			if served, _ := askAll(t, removed, name); len(served) > 0 {
				return fmt.Errorf("%s serves it %q", name, served)
			}
			return nil
		})
	}
	c.kill(removed.name)
	c.healthy()
	for i := range 20 {
		if err := c.on(testKey(i), func(h *Host) error { _, err := h.Get(testContext(t), testKey(i)); return err }); err != nil {
			t.Fatalf("%s: %v", testKey(i), err)
		}
	}
}
