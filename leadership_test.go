package adamant

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestCloseHandsOver: a host that is closed gives its leaderships away instead of letting them be missed: each goes on in
// the very next term.
func TestCloseHandsOver(t *testing.T) { synctest.Test(t, testCloseHandsOver) }

func testCloseHandsOver(t *testing.T) {
	c := newSimCluster(t, 3, 6, 3, nil)
	c.ready()
	c.fill(0, 40, 1)
	c.healthy()
	led := c.led("h1")
	if len(led) == 0 {
		t.Fatal("h1 leads nothing")
	}
	c.mu.Lock()
	h1 := c.hosts["h1"]
	delete(c.hosts, "h1")
	c.mu.Unlock()
	if err := h1.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h1.Close(); err != nil {
		t.Fatal(err)
	}
	for id, epoch := range led {
		c.wait("a successor", func() error {
			for name, h := range c.live() {
				if l := h.locate(id); l.Leader == name && h.member(id).running().Brief().Serving == 0 {
					if l.Epoch != epoch+1 {
						t.Errorf("partition %d: served in term %d after %d: it was not handed over", id, l.Epoch, epoch)
					}
					return nil
				}
			}
			return fmt.Errorf("partition %d: nobody serves", id)
		})
	}
}

// led lists the partitions that a host serves, with their epochs.
func (c *testCluster) led(name string) map[uint32]uint64 {
	out := map[uint32]uint64{}
	for _, p := range c.host(name).Status().Partitions {
		if p.Serving {
			out[p.ID] = p.Term
		}
	}
	return out
}

// TestDrainedHostIsLeftAlone: after Drain it leads nothing, the others know that it is not to be given anything, and it takes
// no offer.
func TestDrainedHostIsLeftAlone(t *testing.T) { synctest.Test(t, testDrainedHostIsLeftAlone) }

func testDrainedHostIsLeftAlone(t *testing.T) {
	c := newSimCluster(t, 3, 6, 3, nil)
	c.ready()
	c.healthy()
	h1 := c.host("h1")
	if err := h1.Drain(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if led := c.led("h1"); len(led) > 0 {
		t.Fatalf("a drained host leads %v", led)
	}
	for _, name := range []string{"h2", "h3"} {
		h := c.host(name)
		for _, m := range h.allMembers() {
			c.wait("the others to know", func() error {
				if p := h.reports.peers(m.id, time.Now())[h1.serverID]; !p.Draining {
					return fmt.Errorf("%s: partition %d: %+v", name, m.id, p)
				}
				return nil
			})
			if m.running().Brief().Serving == 0 {
				if err := h.Transfer(testContext(t), m.id, "h1"); err == nil {
					t.Fatalf("partition %d went to a draining host", m.id)
				}
				return
			}
		}
	}
}

// faultFS fails the writes to one engine's files while on.
func faultFS(engine string, on *atomic.Bool) vfs.FS {
	return errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !on.Load() || !strings.Contains(op.Path, "/"+engine+"/") {
			return nil
		}
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpFileWrite, errorfs.OpCreate:
			return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	}))
}

// TestFailedStorageStopsTheWholeHost (design §10): when a write of an engine fails, the host acknowledges nothing any more,
// says so once, lives to say it, and others take all of its leaderships.
func TestFailedStorageStopsTheWholeHost(t *testing.T) {
	for _, engine := range []string{logDir, documentsDir} {
		t.Run(engine, func(t *testing.T) {
			var on atomic.Bool
			var failed atomic.Int32
			c := newTestCluster(t, 3, 6, 3, func(o *Options) {
				o.Timing.Heartbeat = time.Second // h1 is to lead when its storage fails, also on a machine that holds it up
				if o.Host == "h1" {
					o.FS = faultFS(engine, &on)
					o.Events.Failed = func(error) { failed.Add(1) }
				}
			})
			c.ready()
			c.fill(0, 60, 1)
			c.healthy()
			h1 := c.host("h1")
			var led map[uint32]uint64
			c.wait("h1 to lead something", func() error {
				if led = c.led("h1"); len(led) == 0 {
					return errors.New("it leads nothing")
				}
				return nil
			})
			on.Store(true)
			c.mu.Lock()
			delete(c.hosts, "h1") // clients turn to the others
			c.mu.Unlock()
			defer func() {
				if err := h1.Kill(); err == nil {
					t.Error("closing a failed host says nothing of the failure")
				}
			}()
			// One write finds out; of the documents only the tick and flushes do.
			for i := range 60 {
				if _, leads := led[h1.partitionOf(testKey(i))]; leads && engine == logDir {
					if _, err := h1.Append(testContext(t), testKey(i), []Delta{testDelta(2, "x")}); Code(err) != CodeAmbiguous {
						t.Fatalf("a write that can not be stored: %v", err)
					}
					break
				}
			}
			if engine == documentsDir {
				if err := h1.docs.Sync(); err == nil {
					t.Fatal("the injected fault does not work")
				}
			}
			for i := range 60 {
				if err := c.on(testKey(i), func(h *Host) error {
					_, err := h.Append(testContext(t), testKey(i), []Delta{testDelta(2, "x")})
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			c.wait("the failed host to say so", func() error {
				if s := h1.Status(); s.Failed == "" || failed.Load() == 0 {
					return fmt.Errorf("failed %q, told %d times", s.Failed, failed.Load())
				}
				return nil
			})
			if _, err := h1.Append(context.Background(), testKey(0), []Delta{testDelta(3, "x")}); Code(err) != CodeEngineFailed {
				t.Errorf("a write at the failed host: %v", err)
			}
			for _, p := range h1.Status().Partitions {
				if p.Serving {
					t.Errorf("the failed host serves partition %d", p.ID)
				}
			}
		})
	}
}

// TestHandlersMayBeSlowAndMayWrite: an application that writes as long as it can when it takes office, in the event itself,
// holds up neither the loss of that office nor Close.
func TestHandlersMayBeSlowAndMayWrite(t *testing.T) {
	synctest.Test(t, testHandlersMayBeSlowAndMayWrite)
}

func testHandlersMayBeSlowAndMayWrite(t *testing.T) {
	var armed atomic.Bool
	var once sync.Once
	took := make(chan *Host, 1)
	ended := make(chan error, 1)
	var c *testCluster
	c = newSimCluster(t, 3, 1, 3, func(o *Options) {
		name := o.Host
		o.Events.LeaderChanged = func(l LeaderChange) {
			if !armed.Load() || !l.Serving {
				return
			}
			once.Do(func() {
				h := c.host(name)
				took <- h
				for seq := int64(2); ; seq++ {
					if _, err := h.Append(context.Background(), testKey(0), []Delta{testDelta(seq, "x")}); err != nil {
						ended <- err
						return
					}
				}
			})
		}
	})
	c.ready()
	c.fill(0, 1, 1)
	c.healthy()
	armed.Store(true)
	from := c.host("h1").Locate(testKey(0)).Leader
	to := "h1"
	if from == "h1" {
		to = "h2"
	}
	if err := c.host(from).Transfer(testContext(t), 0, to); err != nil {
		t.Fatal(err)
	}
	h := <-took
	for name, other := range c.live() {
		if other != h {
			c.kill(name)
		}
	}
	select {
	case err := <-ended:
		if Code(err) == 0 {
			t.Errorf("%v", err)
		}
	case <-time.After(bound):
		t.Fatal("a write from a handler waits for ever after leadership was lost")
	}
}

// TestNobodyLeadsIsToldAndRouted: when a majority is gone, the host that is left says that nobody leads.
func TestNobodyLeadsIsToldAndRouted(t *testing.T) { synctest.Test(t, testNobodyLeadsIsToldAndRouted) }

func testNobodyLeadsIsToldAndRouted(t *testing.T) {
	var mu sync.Mutex
	last := map[string]LeaderChange{}
	c := newSimCluster(t, 3, 1, 3, func(o *Options) {
		name := o.Host
		o.Events.LeaderChanged = func(l LeaderChange) { mu.Lock(); last[name] = l; mu.Unlock() }
	})
	c.ready()
	c.kill("h2")
	c.kill("h3")
	c.wait("the news", func() error {
		mu.Lock()
		defer mu.Unlock()
		if l := last["h1"]; l.Leader != "" || l.Serving {
			return fmt.Errorf("the last news is %+v", l)
		}
		if l := c.host("h1").Locate(testKey(0)); l.Leader != "" {
			return fmt.Errorf("routed to %q", l.Leader)
		}
		return nil
	})
}

// TestTimingMustAgree: a host whose voters promise for less than another's leases last is named.
func TestTimingMustAgree(t *testing.T) { synctest.Test(t, testTimingMustAgree) }

func testTimingMustAgree(t *testing.T) {
	c := newSimCluster(t, 3, 1, 3, func(o *Options) {
		if o.Host == "h3" {
			o.Timing.Lease = 100 * time.Millisecond
		}
	})
	c.ready()
	for _, name := range []string{"h1", "h2"} {
		c.wait("the complaint", func() error {
			for _, n := range c.host(name).Status().History {
				if n.Kind == "peer" && strings.Contains(n.Text, "h3") && strings.Contains(n.Text, "Timing") {
					return nil
				}
			}
			return fmt.Errorf("%s says nothing", name)
		})
	}
}

// TestWritesInOneEpoch: an application that lost a leadership and won it again does not write what it decided in the old one.
func TestWritesInOneEpoch(t *testing.T) { synctest.Test(t, testWritesInOneEpoch) }

func testWritesInOneEpoch(t *testing.T) {
	c := newSimCluster(t, 3, 1, 3, nil)
	c.ready()
	c.fill(0, 1, 1)
	c.healthy()
	ctx := testContext(t)
	leader := func() *Host {
		var l *Host
		c.wait("a serving leader", func() error {
			for _, h := range c.live() {
				if _, err := h.Lease(0); err == nil {
					l = h
					return nil
				}
			}
			return errors.New("nobody serves")
		})
		return l
	}
	first := leader()
	old, err := first.Lease(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Append(InEpoch(ctx, old.Epoch), testKey(0), []Delta{testDelta(2, "x")}); err != nil {
		t.Fatal("in the present epoch:", err)
	}
	for to := ""; to != first.name; {
		from := leader()
		to = first.name
		if from == first {
			to = map[string]string{"h1": "h2", "h2": "h3", "h3": "h1"}[first.name]
		}
		if err := from.Transfer(ctx, 0, to); err != nil {
			t.Fatal(err)
		}
		c.wait("the hand-over", func() error {
			_, err := c.host(to).Lease(0)
			return err
		})
	}
	var stale *EpochError
	for _, write := range []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := first.Append(ctx, testKey(0), []Delta{testDelta(3, "x")})
			return err
		},
		func(ctx context.Context) error { // stored already, which is no answer in another epoch
			_, err := first.Append(ctx, testKey(0), []Delta{testDelta(2, "x")})
			return err
		},
		func(ctx context.Context) error { return first.Delete(ctx, testKey(0)) },
	} {
		if err := write(InEpoch(ctx, old.Epoch)); !errors.As(err, &stale) || stale.Epoch <= old.Epoch || Code(err) != CodeEpoch {
			t.Fatalf("in the epoch before: %v", err)
		}
	}
	if _, err := first.Append(ctx, testKey(0), []Delta{testDelta(3, "x")}); err != nil {
		t.Fatal("in any epoch:", err)
	}
}
