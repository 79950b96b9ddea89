package faultproxy

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/adamantdb/adamant/config"
)

// Net is a proxy between any two hosts of a cluster, in each direction of dialling, and each host's own cluster file.
type Net struct {
	dir     string
	proxies map[path]*Proxy
}

// path leads from who dials to who is dialled.
type path struct{ from, to string }

// New makes the proxies and writes the files into a directory that exists.
func New(c *config.Cluster, dir string) (*Net, error) {
	n := &Net{dir: dir, proxies: map[path]*Proxy{}}
	for _, from := range c.HostNames() {
		for _, to := range c.HostNames() {
			if from == to {
				continue
			}
			p, err := Listen(c.Hosts[to].Addr)
			if err != nil {
				return nil, errors.Join(err, n.Close())
			}
			n.proxies[path{from, to}] = p
		}
	}
	if err := n.Write(c); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Write writes the files of a later version of the cluster, which has the same hosts at the same addresses.
func (n *Net) Write(c *config.Cluster) error {
	for _, name := range c.HostNames() {
		own := c.Clone()
		for other, h := range c.Hosts {
			if other == name {
				continue
			}
			p := n.proxies[path{name, other}]
			if p == nil || p.target != h.Addr {
				return fmt.Errorf("no proxy between %s and %s at %s", name, other, h.Addr)
			}
			h.Addr = p.Addr()
			own.Hosts[other] = h
		}
		// A host reads its file at any time.
		file := n.File(name)
		if err := os.WriteFile(file+".new", own.Marshal(), 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
	}
	return nil
}

// File is a host's cluster file.
func (n *Net) File(host string) string { return filepath.Join(n.dir, host+".cluster.json") }

// Path is the proxy by which one host dials another, nil if there is none.
func (n *Net) Path(from, to string) *Proxy { return n.proxies[path{from, to}] }

// Cut lets nothing of what one host sends reach the other one, whoever dialled.
func (n *Net) Cut(from, to string) {
	n.Path(from, to).Cut(Forward)
	n.Path(to, from).Cut(Backward)
}

// Isolate cuts a host off from all others, in both directions.
func (n *Net) Isolate(host string) {
	for at, p := range n.proxies {
		if at.from == host || at.to == host {
			p.Cut(Both)
		}
	}
}

// Mute lets nothing of what a host sends reach the others, which it still hears.
func (n *Net) Mute(host string) { n.oneWay(host, Forward, Backward) }

// Deafen lets nothing of what the others send reach a host, which they still hear.
func (n *Net) Deafen(host string) { n.oneWay(host, Backward, Forward) }

// oneWay cuts a direction of a host's own connections, and the other one of those that are made to it.
func (n *Net) oneWay(host string, own, others Direction) {
	for at, p := range n.proxies {
		switch host {
		case at.from:
			p.Cut(own)
		case at.to:
			p.Cut(others)
		}
	}
}

// Split cuts hosts of different sides off from each other. A host of no side keeps all its paths.
func (n *Net) Split(sides ...[]string) {
	side := map[string]int{}
	for i, list := range sides {
		for _, name := range list {
			side[name] = i + 1
		}
	}
	for at, p := range n.proxies {
		if a, b := side[at.from], side[at.to]; a != 0 && b != 0 && a != b {
			p.Cut(Both)
		}
	}
}

// Delay lets everything that one host sends another one arrive so much later, whoever dialled.
func (n *Net) Delay(from, to string, by time.Duration) {
	n.Path(from, to).Delay(Forward, by)
	n.Path(to, from).Delay(Backward, by)
}

// RoundTrip makes that the round trip between any two hosts.
func (n *Net) RoundTrip(d time.Duration) {
	for p := range maps.Values(n.proxies) {
		p.Delay(Forward, d/2)
		p.Delay(Backward, d-d/2)
	}
}

// Heal ends all cuts.
func (n *Net) Heal() {
	for p := range maps.Values(n.proxies) {
		p.Heal()
	}
}

// Reset breaks all connections between two hosts.
func (n *Net) Reset(a, b string) {
	n.Path(a, b).Reset()
	n.Path(b, a).Reset()
}

// Close ends all proxies.
func (n *Net) Close() error {
	var errs []error
	for p := range maps.Values(n.proxies) {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
