package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/loopback"
)

// cluster runs the hosts of a cluster in this process, over real sockets and disks.
type cluster struct {
	dir    string
	file   string // the cluster file
	config *config.Cluster
	logger *slog.Logger
	log    adamant.LogKind
	open   func(adamant.Options) (node, error)

	mu    sync.Mutex
	live  map[string]node
	names map[string]int // how many directories each host has had
}

// openHost is the real thing.
func openHost(o adamant.Options) (node, error) {
	h, err := adamant.Open(o)
	if err != nil {
		return nil, err // not a typed nil
	}
	return h, nil
}

// newCluster plans a cluster.
func newCluster(dir string, o Options, logger *slog.Logger) (*cluster, error) {
	file := filepath.Join(dir, "cluster.json")
	c, err := loopback.Plan(loopback.Spec{Name: "demo", Hosts: o.Hosts, Partitions: o.Partitions, Voters: 3}, file)
	if err != nil {
		return nil, err
	}
	return &cluster{dir: dir, file: file, config: c, logger: logger, log: o.Log, open: openHost, live: map[string]node{}, names: map[string]int{}}, nil
}

// start opens every host and waits until every partition has a serving leader.
func (c *cluster) start(ctx context.Context) error {
	names := c.config.HostNames()
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { errs[i] = c.run(name) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for name, n := range c.nodes() {
		if err := n.WaitReady(ctx); err != nil {
			return fmt.Errorf("host %s does not become ready: %w", name, err)
		}
	}
	return nil
}

// run opens a host in a directory of its own: an empty one, if it ran before.
func (c *cluster) run(name string) error {
	c.mu.Lock()
	c.names[name]++
	dir := filepath.Join(c.dir, name)
	if n := c.names[name]; n > 1 {
		dir += fmt.Sprintf("-disk%d", n)
	}
	c.mu.Unlock()
	n, err := c.open(adamant.Options{Dir: dir, Host: name, ClusterFile: c.file, Log: c.log, CacheBytes: 16 << 20, LogMemoryBytes: 16 << 20,
		Logger: c.logger.With("host", name)})
	if err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[name] = n
	return nil
}

// kill crashes a host. From the first moment on nobody finds it any more.
func (c *cluster) kill(name string) error {
	c.mu.Lock()
	n := c.live[name]
	delete(c.live, name)
	c.mu.Unlock()
	if n == nil {
		return fmt.Errorf("host %s does not run", name)
	}
	return n.Kill()
}

// nodes returns the hosts that run.
func (c *cluster) nodes() map[string]node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.live)
}

func (c *cluster) node(name string) node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live[name]
}

// close stops every host. Nobody will use them again, so leaderships are not handed over.
func (c *cluster) close() error {
	c.mu.Lock()
	live := c.live
	c.live = map[string]node{}
	c.mu.Unlock()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for name, n := range live {
		wg.Go(func() {
			if err := n.Kill(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("host %s: %w", name, err))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// busiest names the host that leads most of what is still to be written, as the hosts see it: losing it hurts most.
func (c *cluster) busiest(records []*record) string {
	lead := map[string]int64{}
	best := ""
	live := c.nodes()
	names := slices.Sorted(maps.Keys(live))
	if len(names) == 0 {
		return ""
	}
	for _, r := range records {
		leader := live[names[0]].Locate(r.script.key()).Leader
		if live[leader] == nil {
			continue
		}
		lead[leader] += r.left.Load()
	}
	for _, name := range names {
		if best == "" || lead[name] > lead[best] {
			best = name
		}
	}
	return best
}

// members names the hosts that the cluster file gives a document.
func (c *cluster) members(key adamant.Key) []string {
	return c.config.Partitions[c.config.Locate(key.Hash())].Members()
}
