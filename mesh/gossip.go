package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossip runs hashicorp/memberlist over the mesh's port: it guesses which hosts
// are alive. Its word starts a dial at once or stops waiting for one, and shows
// in PeerState; nothing is decided by it.
//
// The delegate methods below are called with memberlist's lock held: they must
// neither block nor call memberlist.
type gossip struct {
	m         *Mesh
	list      *memberlist.Memberlist
	transport *gossipTransport
	keys      *memberlist.Keyring // nil: not encrypted

	keysMu sync.Mutex // held while keys are changed
}

// A node's meta is a version, the instance and the incarnation: at most 264
// bytes of the 512 that memberlist allows.
const metaVersion = 1

func appendMeta(b []byte, instance uint64, incarnation string) []byte {
	b = append(b, metaVersion)
	b = binary.BigEndian.AppendUint64(b, instance)
	return append(b, incarnation...)
}

func decodeMeta(b []byte) (instance uint64, incarnation string, err error) {
	d := decoder{b: b}
	version := d.u8("meta version")
	instance = d.u64("instance")
	if d.err == nil && (version != metaVersion || len(d.b) == 0 || len(d.b) > maxNameBytes) {
		d.fail("meta of version %d and %d bytes", version, len(b))
	}
	return instance, string(d.b), d.err
}

// startGossip begins the membership protocol on the UDP socket and the gossip
// streams of the TCP port.
func startGossip(m *Mesh, udp *net.UDPConn) (*gossip, error) {
	g := &gossip{m: m}
	if o := &m.opts; len(o.GossipKey) > 0 {
		// Validate has checked the keys.
		g.keys, _ = memberlist.NewKeyring(o.GossipKeys, o.GossipKey)
	}
	g.transport = newGossipTransport(m, udp, g.keys)
	conf := g.config()
	list, err := memberlist.Create(conf)
	if err != nil {
		g.transport.stop()
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g.list = list
	return g, nil
}

// gossipNewsInterval is how soon news goes on to other hosts. Nothing is sent while there are none.
const gossipNewsInterval = 50 * time.Millisecond

// config has every host probed by some other about once per interval; one that is
// silent is suspect an interval later, and dead after three to six more. So gossip
// takes seconds where a link tells at once, and the beats over it (package liveness)
// within a second: it is there for hosts that share no partition, and have
// no link. Probes are what gossip costs while nothing happens, 90 bytes each with
// the answer, which is why they are no more frequent than that.
func (g *gossip) config() *memberlist.Config {
	o, t := &g.m.opts, g.m.timing
	c := memberlist.DefaultLANConfig()
	c.Name = o.Host
	c.Label = o.Cluster
	c.Transport = g.transport
	c.ProbeInterval, c.ProbeTimeout = t.Probe, t.Probe/2
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.IndirectChecks = 2
	c.GossipInterval, c.GossipNodes = min(t.Probe/4, gossipNewsInterval), 3
	c.GossipToTheDeadTime = 30 * time.Second
	c.PushPullInterval = 15 * time.Second
	c.TCPTimeout = t.Dial
	c.EnableCompression = false // messages are small; packing them costs more than it saves
	c.AwarenessMaxMultiplier = 4
	// A host may come back at another address as soon as it is known dead.
	c.DeadNodeReclaimTime = time.Nanosecond
	c.Delegate, c.Events, c.Conflict, c.Alive = g, g, g, g
	c.Logger = log.New(gossipLog{g.m.log}, "", 0)
	c.Keyring = g.keys
	return c
}

// NodeMeta tells the others what this host runs as.
func (g *gossip) NodeMeta(int) []byte {
	return appendMeta(nil, g.m.instance, g.m.opts.Incarnation)
}

// NotifyMsg, GetBroadcasts, LocalState and MergeRemoteState are for messages
// of our own, of which there are none.
func (g *gossip) NotifyMsg([]byte)                {}
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }
func (g *gossip) LocalState(bool) []byte          { return nil }
func (g *gossip) MergeRemoteState([]byte, bool)   {}

// NotifyAlive turns away nodes that do not speak as we do, and those that
// nobody here knows: whoever may gossip could invent any number of them.
func (g *gossip) NotifyAlive(n *memberlist.Node) error {
	if n.Name == "" || len(n.Name) > maxNameBytes {
		return errors.New("node without a proper name")
	}
	if len(n.Addr) != net.IPv4len && len(n.Addr) != net.IPv6len {
		return errors.New("node without a proper address")
	}
	if !g.m.admits(n.Name) {
		return &StrangerError{Peer: g.m.opts.Host, Host: n.Name}
	}
	_, _, err := decodeMeta(n.Meta)
	return err
}

// NotifyJoin, NotifyUpdate and NotifyLeave keep the table of peers.
func (g *gossip) NotifyJoin(n *memberlist.Node)   { g.saw(n, true) }
func (g *gossip) NotifyUpdate(n *memberlist.Node) { g.saw(n, true) }
func (g *gossip) NotifyLeave(n *memberlist.Node)  { g.saw(n, false) }

func (g *gossip) saw(n *memberlist.Node, alive bool) {
	if n.Name == g.m.opts.Host {
		return
	}
	_, incarnation, _ := decodeMeta(n.Meta)
	g.m.mu.Lock()
	p := g.m.peerLocked(n.Name)
	p.gossip = gossipView{known: true, alive: alive, incarnation: incarnation, addr: n.Address()}
	if alive {
		for _, l := range p.links {
			l.encourage()
		}
	}
	g.m.mu.Unlock()
	g.m.notices.changed(n.Name)
}

// NotifyConflict hears of one name at two addresses. It may be a host that
// came back elsewhere before its death was noticed, so both are asked.
func (g *gossip) NotifyConflict(existing, other *memberlist.Node) {
	g.m.verifier.suspect(suspicion{host: other.Name, one: existing.Address(), other: other.Address()})
}

// alive lists the hosts that are members now.
func (g *gossip) alive() []string {
	var names []string
	for _, n := range g.list.Members() {
		names = append(names, n.Name)
	}
	return names
}

const joinsAtOnce = 4

// join contacts every host of the cluster that is not a member, again and
// again: a split cluster of which each half thinks the other dead heals only
// when someone calls the dead.
func (g *gossip) join() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-g.m.ctx.Done():
			return
		case <-timer.C:
		}
		g.m.verifier.checkSelf()
		g.joinMissing()
		timer.Reset(g.m.timing.Join)
	}
}

func (g *gossip) joinMissing() {
	if g.m.opts.Hosts == nil {
		return
	}
	in := g.alive()
	var wg sync.WaitGroup
	slots := make(chan struct{}, joinsAtOnce)
	for _, host := range g.m.opts.Hosts() {
		if host == g.m.opts.Host || slices.Contains(in, host) || g.m.ctx.Err() != nil {
			continue
		}
		addr, ok := g.m.resolve(host)
		if !ok {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if ip, err := g.m.lookUp(addr); err == nil {
				_, _ = g.list.Join([]string{host + "/" + ip.String()})
			}
		})
	}
	wg.Wait()
}

// lookUp turns an address into one of IP and port.
func (m *Mesh) lookUp(addr string) (*net.TCPAddr, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port of %q: %w", addr, err)
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.timing.Dial)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%q has no address", host)
	}
	return &net.TCPAddr{IP: ips[0].IP, Port: int(port), Zone: ips[0].Zone}, nil
}

// gossipRefused counts and logs what memberlist was not shown.
func (m *Mesh) gossipRefused(from net.Addr, err error) {
	m.stats.gossipRefused.Add(1)
	m.log.warn("refused what came by gossip", "from", from, "err", err)
}

// serve takes an inbound gossip stream, on the goroutine of its connection.
func (g *gossip) serve(conn, raw net.Conn) error {
	if !g.m.conns.gossipStream(g.m.limits.GossipStreams) {
		g.m.stats.gossipDropped.Add(1)
		return errors.New("too many gossip streams")
	}
	defer g.m.conns.gossipEnded()
	done := make(chan struct{})
	c := &gossipConn{Conn: conn, raw: raw, m: g.m, door: &g.transport.door, done: done}
	select {
	case g.transport.streams <- c:
	case <-g.m.ctx.Done():
		return nil
	}
	select {
	case <-done:
	case <-g.m.ctx.Done():
	}
	return nil
}

// SetGossipKeys changes the key that gossip is encrypted with, and the other
// keys that are understood. To change the key of a running cluster: give every
// host the new key among the others, then as the key, then drop the old one.
// Gossip that began in the clear stays so.
func (m *Mesh) SetGossipKeys(key []byte, others [][]byte) error {
	g := m.gossip
	if g.keys == nil {
		return errors.New("mesh: gossip was started without a key")
	}
	wanted := append([][]byte{key}, others...)
	for _, k := range wanted {
		if err := memberlist.ValidateKey(k); err != nil {
			return fmt.Errorf("mesh: gossip key: %w", err)
		}
	}
	g.keysMu.Lock()
	defer g.keysMu.Unlock()
	for _, k := range wanted {
		if err := g.keys.AddKey(k); err != nil {
			return fmt.Errorf("mesh: gossip key: %w", err)
		}
	}
	if err := g.keys.UseKey(key); err != nil {
		return fmt.Errorf("mesh: gossip key: %w", err)
	}
	return g.dropKeys(key, wanted)
}

// dropKeys removes the keys that are not wanted. Only the last key of the ring
// is ever removed: removing another one shifts the keys that memberlist's
// readers are looking at (v0.7.0). Wanted ones in the way are moved forward.
func (g *gossip) dropKeys(key []byte, wanted [][]byte) error {
	unwanted := func(k []byte) bool {
		return !slices.ContainsFunc(wanted, func(w []byte) bool { return slices.Equal(w, k) })
	}
	for keys := g.keys.GetKeys(); slices.ContainsFunc(keys, unwanted); keys = g.keys.GetKeys() {
		last := keys[len(keys)-1]
		var err error
		if unwanted(last) {
			err = g.keys.RemoveKey(last)
		} else {
			err = errors.Join(g.keys.UseKey(last), g.keys.UseKey(key))
		}
		if err != nil {
			return fmt.Errorf("mesh: gossip key: %w", err)
		}
	}
	return nil
}

// leaveWait bounds how long Close waits for its farewell to be gossiped.
const leaveWait = 300 * time.Millisecond

// leave tells the others that this host goes on purpose.
func (g *gossip) leave() { _ = g.list.Leave(leaveWait) }

func (g *gossip) shutdown() {
	_ = g.list.Shutdown()
	g.transport.stop()
}
