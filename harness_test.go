package adamant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

// testCluster runs hosts in this process over real sockets on loopback, each with a directory of its own; or, with a simulation,
// on a network and disks in memory.
type testCluster struct {
	t      *testing.T
	root   string
	config *config.Cluster
	change func(*Options)
	sim    *simulation

	mu     sync.Mutex
	hosts  map[string]*Host
	events []any
}

// simulation is what hosts in a bubble of testing/synctest have instead of a machine.
type simulation struct {
	net *simnet.Net

	mu    sync.Mutex
	disks map[string]*vfs.MemFS
}

func newSimulation() *simulation {
	return &simulation{net: simnet.New(1), disks: map[string]*vfs.MemFS{}}
}

// disk is a host's.
func (s *simulation) disk(host string) *vfs.MemFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disks[host] == nil {
		s.disks[host] = vfs.NewMem()
	}
	return s.disks[host]
}

// simulated is a test on simulated time: who leads, and for how long, does not depend on what a busy machine takes for a step.
func simulated(test func(t *testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// bound is how long tests wait for what must happen, also on a machine that has little time for them.
const bound = 2 * time.Minute

func newTestCluster(t *testing.T, hosts, partitions, voters int, change func(*Options)) *testCluster {
	t.Helper()
	return newClusterOn(t, nil, hosts, partitions, voters, change)
}

// newSimCluster is newTestCluster for simulated tests, in which nothing moves that the test does not move: a leader stays in
// office.
func newSimCluster(t *testing.T, hosts, partitions, voters int, change func(*Options)) *testCluster {
	t.Helper()
	return newClusterOn(t, newSimulation(), hosts, partitions, voters, change)
}

func newClusterOn(t *testing.T, sim *simulation, hosts, partitions, voters int, change func(*Options)) *testCluster {
	t.Helper()
	spec := config.Spec{Cluster: "test", Hosts: map[string]config.Host{}, Partitions: partitions, Voters: voters}
	for i := range hosts {
		addr := fmt.Sprintf("127.0.0.1:%d", 7001+i)
		if sim == nil {
			addr = freeAddr(t)
		}
		spec.Hosts[fmt.Sprintf("h%d", i+1)] = config.Host{Addr: addr, Zone: fmt.Sprint(i % 3)}
	}
	generated, err := config.Generate(spec)
	if err != nil {
		t.Fatal(err)
	}
	c := &testCluster{t: t, config: generated, change: change, sim: sim, hosts: map[string]*Host{}}
	if sim == nil {
		c.root = t.TempDir()
	}
	t.Cleanup(c.close)
	var wg sync.WaitGroup
	for _, name := range generated.HostNames() {
		wg.Go(func() { c.open(name) })
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return c
}

// takenAddrs keeps ports that are to be listened on later from being found twice.
var takenAddrs sync.Map

// loopback is this process's own address where all of 127.0.0.0/8 is the loopback device: other tests that run at the same time,
// and outgoing connections, take no ports of it.
func loopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>15&0x7f, pid>>7&0xff, 1+pid&0x7f)
}

// freeAddr finds a port that is free for TCP and UDP.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", loopback()+":0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			u.Close()
			if _, taken := takenAddrs.LoadOrStore(l.Addr().String(), true); !taken {
				return l.Addr().String()
			}
		}
	}
	t.Fatal("no free port")
	return ""
}

func (c *testCluster) dir(name string) string { return filepath.Join(c.root, name) }

func (c *testCluster) options(name string) Options {
	o := Options{Dir: c.dir(name), Host: name, Cluster: c.config,
		Timing: Timing{Heartbeat: 250 * time.Millisecond, TruncationTick: 100 * time.Millisecond, AntiEntropy: 300 * time.Millisecond}}
	if c.sim != nil {
		o.FS, o.Network = c.sim.disk(name), func(id mesh.Identity) mesh.Network { return c.sim.net.Host(id) }
		o.Clock = time.Now // the bubble's
		o.CacheBytes, o.LogMemoryBytes = 1<<20, 1<<20
	}
	if os.Getenv("ADAMANT_TEST_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("host", name)
	}
	o.Events.CatastrophicFailure = func(e Catastrophe) { c.mu.Lock(); c.events = append(c.events, e); c.mu.Unlock() }
	if c.change != nil {
		c.change(&o)
	}
	return o
}

func (c *testCluster) open(name string) *Host {
	h, err := Open(c.options(name))
	if err != nil {
		c.t.Errorf("open %s: %v", name, err)
		return nil
	}
	c.mu.Lock()
	c.hosts[name] = h
	c.mu.Unlock()
	return h
}

func (c *testCluster) host(name string) *Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts[name]
}

func (c *testCluster) live() map[string]*Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]*Host{}
	for n, h := range c.hosts {
		out[n] = h
	}
	return out
}

// kill crashes a host.
func (c *testCluster) kill(name string) {
	c.t.Helper()
	c.mu.Lock()
	h := c.hosts[name]
	delete(c.hosts, name)
	c.mu.Unlock()
	if err := h.Kill(); err != nil {
		c.t.Fatalf("kill %s: %v", name, err)
	}
}

// wipe removes a dead host's directory.
func (c *testCluster) wipe(name string) {
	c.t.Helper()
	if c.sim != nil {
		c.sim.mu.Lock()
		delete(c.sim.disks, name)
		c.sim.mu.Unlock()
		return
	}
	if err := os.RemoveAll(c.dir(name)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testCluster) close() {
	for name, h := range c.live() {
		if err := h.Kill(); err != nil {
			c.t.Errorf("close %s: %v", name, err)
		}
	}
}

// ready waits until every partition is served somewhere, as every live host knows.
func (c *testCluster) ready() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	for name, h := range c.live() {
		if err := h.WaitReady(ctx); err != nil {
			c.t.Fatalf("%s is not ready: %v", name, err)
		}
	}
}

// wait polls until done returns nil.
func (c *testCluster) wait(what string, done func() error) {
	c.t.Helper()
	defer func() {
		if c.t.Failed() {
			c.describe()
		}
	}()
	waitFor(c.t, what, done)
}

// describe logs what every host makes of its members.
func (c *testCluster) describe() {
	for n, h := range c.live() {
		for _, p := range h.Status().Partitions {
			c.t.Logf("%s: %+v", n, p)
		}
		since := time.Now().Add(-10 * time.Second)
		for notice, err := range h.History(c.t.Context(), HistoryQuery{Since: since}) {
			c.t.Logf("%s: %+v %v", n, notice, err)
		}
	}
}

func waitFor(t *testing.T, what string, done func() error) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// on runs an operation where the key is served, like a client: it follows the leader and retries what was not done or has
// an unknown outcome, until the bound.
func (c *testCluster) on(key Key, op func(h *Host) error) error {
	deadline := time.Now().Add(bound)
	for {
		err := errors.New("no live host")
		for _, h := range c.live() {
			l := h.Locate(key)
			if l.Leader == "" {
				continue
			}
			target := c.host(l.Leader)
			if target == nil {
				continue
			}
			if err = op(target); !retriable(err) {
				return err
			}
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("gave up: %w", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func retriable(err error) bool {
	var notLeader *NotLeaderError
	var unavailable *UnavailableError
	var ambiguous *AmbiguousError
	var closed *ClosedError
	return errors.As(err, &notLeader) || errors.As(err, &unavailable) || errors.As(err, &ambiguous) || errors.As(err, &closed)
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	t.Cleanup(cancel)
	return ctx
}

// healthy waits until every live host's members are complete voters as the configuration wants, with equal summaries.
func (c *testCluster) healthy() {
	c.t.Helper()
	c.settled(true)
}

// settled waits until every member is complete and where the configuration wants it; with equal summaries if nobody writes.
func (c *testCluster) settled(quiet bool) {
	c.t.Helper()
	c.wait("a healthy cluster", func() error {
		roots := map[uint32]string{}
		for name, h := range c.live() {
			for _, p := range h.Status().Partitions {
				if !p.Complete {
					return fmt.Errorf("%s: partition %d has holes %s (ahead %d, applied %d)", name, p.ID, p.Holes, p.Ahead, p.Applied)
				}
				if p.Role != RoleLeader && p.Role != RoleFollower {
					return fmt.Errorf("%s: partition %d is %s", name, p.ID, p.Role)
				}
				for _, m := range p.Members {
					if m.State != "" {
						return fmt.Errorf("%s: partition %d: %s is %s", name, p.ID, m.Host, m.State)
					}
				}
				if other, ok := roots[p.ID]; quiet && ok && other != p.Root {
					return fmt.Errorf("partition %d: summaries differ", p.ID)
				}
				roots[p.ID] = p.Root
			}
		}
		return nil
	})
}
