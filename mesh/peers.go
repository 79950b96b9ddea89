package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// peer is all that is known of another host. Its fields but links (which lock
// themselves) are guarded by Mesh.mu.
type peer struct {
	host   string
	links  [linkKinds]*link
	gossip gossipView
	inboundPeer
}

// gossipView is what the membership protocol says of a host.
type gossipView struct {
	known, alive bool
	incarnation  string
	addr         string
}

// peerLocked finds or makes the entry of a host; m.mu is held for writing.
func (m *Mesh) peerLocked(host string) *peer {
	p := m.peers[host]
	if p == nil {
		p = &peer{host: host}
		for kind := range p.links {
			p.links[kind] = &link{m: m, host: host, kind: linkKind(kind), closed: m.closed}
		}
		m.peers[host] = p
	}
	return p
}

// link finds the link of a kind to a host.
func (m *Mesh) link(host string, kind linkKind) (*link, error) {
	m.mu.RLock()
	p, closed := m.peers[host], m.closed
	m.mu.RUnlock()
	if closed {
		return nil, ErrClosed
	}
	if p != nil {
		return p.links[kind], nil
	}
	if _, ok := m.resolve(host); !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownHost, host)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peerLocked(host).links[kind], nil
}

// forgetStranger drops the entry of a host that is neither in the cluster, nor
// connected, nor known to gossip: anyone may claim any number of names. It
// reports whether there is no entry any more.
func (m *Mesh) forgetStranger(host string) bool {
	if _, ok := m.resolve(host); ok {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[host]
	if p == nil {
		return true
	}
	if p.gossip.known || p.connected() {
		return false
	}
	for i, l := range p.links {
		if !l.abandon(true) {
			for _, l := range p.links[:i] {
				l.abandon(false)
			}
			return false
		}
	}
	delete(m.peers, host)
	return true
}

// stateLocked sums up a peer; m.mu is held.
//
// A connection that stands proves more than gossip does; a link that cannot be
// made disproves it, until gossip sees the host join again.
func (p *peer) stateLocked() PeerState {
	main := p.links[linkMain].state()
	s := PeerState{Host: p.host, Incarnation: main.peer.Incarnation, Gossip: p.gossip.alive, LinkUp: main.up, Refused: main.refused && !p.connected(), RoundTrip: main.roundTrip}
	s.Alive = main.up || p.connected() || (p.gossip.alive && !main.failing)
	s.Addr = p.gossip.addr
	if main.up {
		s.Addr = main.addr
		return s
	}
	for _, in := range p.sessions {
		if in != nil {
			s.Incarnation = in.from.Incarnation
			return s
		}
	}
	if p.gossip.incarnation != "" {
		s.Incarnation = p.gossip.incarnation
	}
	if s.Incarnation == "" {
		s.Incarnation = p.last.Incarnation
	}
	return s
}

// Peers lists every other host of the cluster, and any that showed up; see Network.
func (m *Mesh) Peers() []PeerState {
	var names []string
	if m.opts.Hosts != nil {
		names = m.opts.Hosts()
	}
	m.mu.RLock()
	known := make(map[string]PeerState, len(m.peers))
	for host, p := range m.peers {
		known[host] = p.stateLocked()
	}
	m.mu.RUnlock()
	for _, host := range names {
		if _, ok := known[host]; !ok && host != m.opts.Host {
			known[host] = PeerState{Host: host}
		}
	}
	all := make([]PeerState, 0, len(known))
	for host, s := range known {
		if addr, ok := m.resolve(host); ok {
			s.Addr = addr
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b PeerState) int { return cmp.Compare(a.Host, b.Host) })
	return all
}

// notices tells the owner of the mesh what happened, from one goroutine, so
// that a slow callback holds up nothing but later callbacks.
type notices struct {
	m    *Mesh
	wake chan struct{}

	mu        sync.Mutex // guards what follows
	hosts     map[string]bool
	conflicts []error

	told map[string]PeerState // owned by run: what OnPeer heard last
}

// maxConflicts bounds the conflicts that wait for a slow OnConflict.
const maxConflicts = 64

func newNotices(m *Mesh) *notices {
	return &notices{m: m, wake: make(chan struct{}, 1), hosts: make(map[string]bool), told: make(map[string]PeerState)}
}

// changed notes that the state of a host may be another one.
func (n *notices) changed(host string) {
	n.mu.Lock()
	n.hosts[host] = true
	n.mu.Unlock()
	n.signal()
}

func (n *notices) conflict(err error) {
	n.mu.Lock()
	if len(n.conflicts) < maxConflicts {
		n.conflicts = append(n.conflicts, err)
	}
	n.mu.Unlock()
	n.signal()
}

func (n *notices) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *notices) run() {
	for {
		select {
		case <-n.m.ctx.Done():
			return
		case <-n.wake:
		}
		n.mu.Lock()
		hosts, conflicts := n.hosts, n.conflicts
		n.hosts, n.conflicts = make(map[string]bool), nil
		n.mu.Unlock()
		for _, err := range conflicts {
			if n.m.opts.OnConflict != nil {
				n.m.opts.OnConflict(err)
			}
		}
		for host := range hosts {
			n.tell(host)
			if n.m.forgetStranger(host) {
				delete(n.told, host)
			}
		}
	}
}

// tell reports the state of a host if it differs from what was told last.
func (n *notices) tell(host string) {
	n.m.mu.RLock()
	p := n.m.peers[host]
	var s PeerState
	if p != nil {
		s = p.stateLocked()
	}
	n.m.mu.RUnlock()
	if p == nil {
		delete(n.told, host)
		return
	}
	if addr, ok := n.m.resolve(host); ok {
		s.Addr = addr
	}
	plain := s
	plain.RoundTrip = 0
	if n.told[host] == plain {
		return
	}
	n.told[host] = plain
	if n.m.opts.OnPeer != nil {
		n.m.opts.OnPeer(s)
	}
}
