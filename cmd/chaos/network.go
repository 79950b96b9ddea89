//go:build unix

package main

import (
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/faultproxy"
	"github.com/adamantdb/adamant/internal/loopback"
)

// network is between the hosts. One caller at a time.
type network interface {
	name() string
	addr(host string) string                                     // where it listens
	view(c *config.Cluster, host string) *config.Cluster         // the cluster file as the host must have it
	command(host, program string, arguments ...string) *exec.Cmd // of a process in the host's place
	cut(list []path) error                                       // what is sent there is lost, or held, from now on
	join(list []path) error                                      // and no more
	slow(host string, on bool) error                             // what it sends
	disks() bool                                                 // each host has one of its own
	close() error
}

// path leads from one host to another.
type path struct{ from, to string }

// between lists the paths between two groups of hosts, in both directions.
func between(a, b []string) (list []path) {
	for _, x := range a {
		for _, y := range b {
			if x != y {
				list = append(list, path{x, y}, path{y, x})
			}
		}
	}
	return list
}

// wires let faults of links overlap: a path is whole again when its last cut has ended.
type wires struct {
	mu    sync.Mutex
	net   network
	cuts  map[path]int
	slows map[string]int
}

func newWires(n network) *wires {
	return &wires{net: n, cuts: map[path]int{}, slows: map[string]int{}}
}

// cut cuts paths; join ends that once.
func (w *wires) cut(list []path) error { return w.change(list, +1, w.net.cut) }

func (w *wires) join(list []path) error { return w.change(list, -1, w.net.join) }

func (w *wires) change(list []path, by int, do func([]path) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var changed []path
	for _, p := range list {
		before := w.cuts[p]
		if w.cuts[p] += by; (before == 0) != (w.cuts[p] == 0) {
			changed = append(changed, p)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return do(changed)
}

func (w *wires) slow(host string, by int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.slows[host]
	if w.slows[host] += by; (before == 0) == (w.slows[host] == 0) {
		return nil
	}
	return w.net.slow(host, by > 0)
}

// proxies are a network on loopback. Gossip, which is UDP, passes beside them.
type proxies struct {
	addrs map[string]string
	net   *faultproxy.Net
	lost  map[path]bool
}

// newProxies finds free ports for the hosts and makes a proxy for each ordered pair of them.
func newProxies(names []string, dir string) (*proxies, error) {
	p := &proxies{addrs: map[string]string{}, lost: map[path]bool{}}
	c := &config.Cluster{Hosts: map[string]config.Host{}}
	addrs, err := loopback.Addrs(len(names)) // which nobody takes while a host is down
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		p.addrs[name] = addrs[i]
		c.Hosts[name] = config.Host{Addr: addrs[i]}
	}
	p.net, err = faultproxy.New(c, dir)
	return p, err
}

func (p *proxies) name() string            { return "proxies" }
func (p *proxies) disks() bool             { return false }
func (p *proxies) close() error            { return p.net.Close() }
func (p *proxies) addr(host string) string { return p.addrs[host] }

func (p *proxies) view(c *config.Cluster, host string) *config.Cluster {
	own := c.Clone()
	for other, h := range c.Hosts {
		if other != host {
			h.Addr = p.net.Path(host, other).Addr()
			own.Hosts[other] = h
		}
	}
	return own
}

func (p *proxies) command(_, program string, arguments ...string) *exec.Cmd {
	return exec.Command(program, arguments...)
}

func (p *proxies) cut(list []path) error {
	for _, at := range list {
		p.lost[at] = true
		p.net.Cut(at.from, at.to)
	}
	return nil
}

// join ends all cuts of a pair of hosts, and makes anew what stays.
func (p *proxies) join(list []path) error {
	for _, at := range list {
		delete(p.lost, at)
	}
	for _, at := range list {
		p.net.Path(at.from, at.to).Heal()
		p.net.Path(at.to, at.from).Heal()
		if back := (path{at.to, at.from}); p.lost[back] {
			p.net.Cut(back.from, back.to)
		}
	}
	return nil
}

func (p *proxies) slow(host string, on bool) error {
	delay := time.Duration(0)
	if on {
		delay = 60 * time.Millisecond
	}
	for other := range p.addrs {
		if other != host {
			p.net.Delay(host, other, delay)
		}
	}
	return nil
}

// hostNames are h1, h2, ...
func hostNames(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("h%d", i+1))
	}
	return slices.Clip(list)
}
