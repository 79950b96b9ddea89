package adamant

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
)

// Whom a host serves: those that its cluster file names, and those that are still in the Raft configuration of a member here, which a
// file that no longer names them takes out step by step. A certificate of the cluster's authority and the cluster's name are not
// enough: a host that was removed has both. One that is out is answered one question for a while, whether it is, upon which it drops
// what it holds. A host whose name comes with a newer file is turned away until that file is read here; it keeps trying.

const (
	// neededAge is how old what is known of the Raft configurations may be when a host asks that the file does not name: there may be
	// thousands to look at. One that is in none any more is served for outlasts, until those who have it in theirs know that it is out,
	// and may ask for farewell.
	neededAge = 250 * time.Millisecond
	outlasts  = 5 * time.Second
	farewell  = time.Minute
)

// admission remembers hosts that the cluster file no longer names.
type admission struct {
	mu     sync.Mutex
	looked time.Time
	needed map[string]bool     // in the Raft configuration of a member here, when that was looked up
	left   map[string]departed // hosts that the file named, or that were needed, a short time ago
}

type departed struct {
	addr   string    // "" when it is not known
	needed time.Time // when it was last seen in a Raft configuration, if it was
	last   time.Time // when it still belonged here
}

// follow notes the hosts that a new file does not name any more.
func (a *admission) follow(old, next *config.Cluster, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looked = time.Time{}
	for host, entry := range old.Hosts {
		if _, stays := next.Hosts[host]; !stays {
			a.left[host] = departed{addr: entry.Addr, last: now}
		}
	}
}

// look returns the hosts that the file does not name and that are needed nevertheless; lookUp lists those of the Raft configurations.
// Nobody changes what it returns.
func (a *admission) look(c *config.Cluster, now time.Time, lookUp func() map[string]bool) map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.looked) < neededAge {
		return a.needed
	}
	for host := range lookUp() {
		if _, listed := c.Hosts[host]; !listed {
			a.left[host] = departed{addr: a.left[host].addr, needed: now, last: now}
		}
	}
	a.needed, a.looked = make(map[string]bool), now
	for host, d := range a.left {
		if now.Sub(d.last) >= farewell {
			delete(a.left, host)
		} else if _, listed := c.Hosts[host]; !listed && now.Sub(d.needed) < outlasts {
			a.needed[host] = true
		}
	}
	return a.needed
}

// guests returns the hosts that the file does not name, that are needed, and that asked for something since reports were sent last.
func (a *admission) guests(now time.Time) map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.looked) > 2*reportEvery {
		return nil
	}
	return a.needed
}

// parting reports whether a host belonged here until a short time ago, and where it listened.
func (a *admission) parting(host string) (addr string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.left[host]
	return d.addr, ok
}

// unlisted lists the hosts that the file does not name and that are needed here.
func (h *Host) unlisted() map[string]bool {
	return h.admission.look(h.cluster(), time.Now(), func() map[string]bool {
		hosts := make(map[string]bool)
		for _, m := range h.allMembers() {
			p := m.running()
			if p == nil {
				continue
			}
			servers, err := p.Configured()
			if err != nil { // it is closing
				continue
			}
			for _, s := range servers {
				hosts[partition.HostOf(raft.ServerID(s.ID))] = true
			}
		}
		delete(hosts, h.name)
		return hosts
	})
}

// serves reports whether a host is one of those that this one serves.
func (h *Host) serves(host string) bool {
	if _, listed := h.cluster().Hosts[host]; listed || host == h.name {
		return true
	}
	return h.unlisted()[host]
}

// admits reports whether a host may have links to this one.
func (h *Host) admits(host string) bool {
	if h.serves(host) {
		return true
	}
	_, ok := h.admission.parting(host)
	return ok
}

// addrOf says where a host listens, also one that has to be told that it is taken out.
func (h *Host) addrOf(host string) (string, bool) {
	if entry, ok := h.cluster().Hosts[host]; ok {
		return entry.Addr, true
	}
	if addr, ok := h.admission.parting(host); ok && addr != "" && h.serves(host) {
		return addr, true
	}
	return "", false
}

// forMembers has a handler serve only whom this host serves.
func (h *Host) forMembers(handler mesh.Handler) mesh.Handler {
	return mesh.HandlerFunc(func(from mesh.Identity, r mesh.Request, reply func([]byte, error)) {
		last := r.Service == mesh.ServiceHost && len(r.Payload) > 0 && r.Payload[0] == callJoin // am I out?
		if h.serves(from.Host) || last && h.admits(from.Host) {
			handler.Serve(from, r, reply)
			return
		}
		h.counts.strangers.Add(1)
		reply(nil, &mesh.StrangerError{Peer: h.name, Host: from.Host})
	})
}
