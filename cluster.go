package adamant

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/mesh"
)

// loadCluster returns the configuration to start with: the cluster file's, the one given, or one made up for a single
// host. Watching the file begins here.
func (h *Host) loadCluster() (*config.Cluster, error) {
	switch {
	case h.opts.single():
		return singleCluster(h.opts.Partitions), nil
	case h.opts.Cluster != nil:
		return h.opts.Cluster.Clone(), nil
	}
	last, err := h.lastGood()
	if err != nil {
		return nil, err
	}
	w, err := config.NewWatcher(config.WatchOptions{
		Path: h.opts.ClusterFile, Interval: h.opts.Timing.Poll, Last: last,
		OnChange: func(_, next *config.Cluster) { h.adopt(next) },
		OnReject: h.rejected,
	})
	if err != nil {
		return nil, &ConfigError{File: h.opts.ClusterFile, Err: err}
	}
	h.watcher = w
	c := w.Current()
	if _, ok := c.Hosts[h.opts.Host]; !ok {
		return nil, &ConfigError{File: h.opts.ClusterFile, Version: c.Version, Err: fmt.Errorf("no host is named %q", h.opts.Host)}
	}
	return c, nil
}

// lastGoodFile holds the last good cluster file in the data directory: with it a host starts although the file itself is
// bad at the moment, and versions go on growing across restarts.
const lastGoodFile = "cluster.last.json"

func (h *Host) lastGood() (*config.Cluster, error) {
	path := h.opts.path(lastGoodFile)
	b, err := readFile(h.opts.FS, path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c, err := config.Parse(b, path)
	if err != nil { // an older program's, or damaged: the file itself has to be good then
		h.log.Warn("the kept copy of the cluster file is not usable", "file", path, "error", err)
		return nil, nil
	}
	return c, nil
}

// keepLastGood is best effort: without the copy a restart needs a good file.
func (h *Host) keepLastGood(c *config.Cluster) {
	if h.watcher == nil {
		return
	}
	if err := replaceFile(h.opts.FS, h.opts.Dir, lastGoodFile, c.Marshal()); err != nil {
		h.log.Warn("the cluster file's copy cannot be kept", "error", err)
	}
}

// singleCluster is the configuration of a host that was given nothing but a directory.
func singleCluster(partitions int) *config.Cluster {
	c := &config.Cluster{Name: "local", Version: 1, Hosts: map[string]config.Host{defaultHost: {Addr: "127.0.0.1:1"}}}
	width := ^uint64(0)/uint64(partitions) + 1 // 0 for a single partition
	for i := range partitions {
		c.Partitions = append(c.Partitions, config.Partition{ID: uint32(i), From: uint64(i) * width, Voters: []string{defaultHost}, Prefer: defaultHost})
	}
	return c
}

// adopt takes over a configuration that the watcher or SetCluster found to be a valid successor.
func (h *Host) adopt(next *config.Cluster) {
	if old := h.cluster(); old != nil { // else the file is newer than the copy of it that was kept, and nobody is served yet
		h.admission.follow(old, next, time.Now()) // before they are strangers
	}
	h.config.Store(next)
	h.unrests.Add(1)
	h.keepLastGood(next)
	h.counts.configChanges.Add(1)
	h.note(nil, "config", fmt.Sprintf("version %d in force", next.Version))
	h.log.Info("configuration in force", "version", next.Version)
	h.events.ConfigChanged(next.Version)
	h.routeChanged()
	poke(h.stewardPoke)
}

func (h *Host) rejected(err error) {
	refused := &ConfigError{File: h.opts.ClusterFile, Err: err}
	h.note(nil, "config", "refused: "+err.Error())
	h.log.Warn("cluster file refused, the last good one stays", "file", h.opts.ClusterFile, "error", err)
	h.events.ConfigRejected(refused)
}

// SetCluster replaces the configuration of a host that was opened with Options.Cluster. A configuration that may not
// follow the present one changes nothing. Errors: *ConfigError.
func (h *Host) SetCluster(next *config.Cluster) error {
	if h.opts.Cluster == nil {
		return &ConfigError{Err: fmt.Errorf("this host follows its cluster file or has no cluster")}
	}
	if err := next.Validate(); err != nil {
		return &ConfigError{Version: next.Version, Err: err}
	}
	h.configuring.Lock() // what is checked is what is replaced
	defer h.configuring.Unlock()
	if err := h.cluster().CheckSuccessor(next); err != nil {
		return &ConfigError{Version: next.Version, Err: err}
	}
	h.adopt(next.Clone())
	return nil
}

// meshOptions translates the configuration for the network. Addresses and hosts are looked up in the configuration in
// force, so that hosts may move.
func (h *Host) meshOptions(self mesh.Identity, c *config.Cluster) mesh.Options {
	o := mesh.Options{
		Identity: self, Addr: c.Hosts[h.name].Addr, Insecure: c.Insecure, GossipKey: c.GossipKey, Logger: h.log,
		Resolve: h.addrOf, Admit: h.admits,
		Hosts:      func() []string { return h.cluster().HostNames() },
		OnConflict: func(err error) { h.note(nil, "peer", err.Error()); h.log.Error("host conflict", "error", err) },
		OnPeer:     h.peerChanged,
	}
	if c.TLS != nil {
		t := c.TLS.Resolve(filepath.Dir(h.opts.ClusterFile), h.name)
		o.TLS = &mesh.TLSOptions{CertFile: t.Cert, KeyFile: t.Key, CAFile: t.CA}
	}
	return o
}

// peerChanged is told of what becomes of other hosts, of one thing after the other.
func (h *Host) peerChanged(s mesh.PeerState) {
	if s.Refused {
		h.live.Died(mesh.Identity{Host: s.Host, Incarnation: s.Incarnation}.ID())
	}
	was, known := h.here[s.Host]
	now := PeerChange{Host: s.Host, Incarnation: s.Incarnation, Alive: s.Alive}
	if !known || now.Alive != was.Alive || now.Alive && now != was {
		h.tellPeer(now)
	}
	h.routeChanged()
	poke(h.stewardPoke)
	poke(h.reportPoke)
}

func (h *Host) tellPeer(c PeerChange) {
	h.here[c.Host] = c
	text := c.Host + " is here, incarnation " + c.Incarnation
	if !c.Alive {
		text = c.Host + " is gone"
		if _, member := h.cluster().Hosts[c.Host]; !member {
			delete(h.here, c.Host) // anyone may claim any number of names
		}
	}
	h.note(nil, "peer", text)
	h.events.PeerChanged(c)
}
