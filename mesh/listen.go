package mesh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// openPort opens one port for TCP and UDP.
func openPort(addr string) (*net.TCPListener, *net.UDPConn, error) {
	// With port 0 the kernel picks a free TCP port whose UDP twin may be taken.
	const attempts = 16
	var err error
	for range attempts {
		var tcp net.Listener
		if tcp, err = net.Listen("tcp", addr); err != nil {
			return nil, nil, listenError(addr, err)
		}
		at := tcp.Addr().(*net.TCPAddr)
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone}); err == nil {
			return tcp.(*net.TCPListener), udp, nil
		}
		_ = tcp.Close()
		if _, port, _ := net.SplitHostPort(addr); port != "0" && port != "" {
			break
		}
	}
	return nil, nil, listenError(addr, err)
}

func listenError(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return &AddressInUseError{Addr: addr, Cause: err}
	}
	return fmt.Errorf("cannot listen on %s: %w", addr, err)
}

// handshaking is an inbound connection of which nothing is known yet, or a link
// or gossip stream that came out of one.
type handshaking struct {
	raw   net.Conn
	known bool
}

// connTable holds every inbound connection, so that their number is bounded
// and Close finds them.
type connTable struct {
	mu      sync.Mutex // guards what follows
	lastID  uint64
	open    map[uint64]*handshaking
	unknown int
	gossip  int
	closed  bool
}

// add takes in a connection. When too many are unfinished the oldest of those
// makes room: a flood of silent connections must not lock the peers out, whose
// handshakes take milliseconds.
func (t *connTable) add(raw net.Conn, l Limits) (id uint64, dropped bool, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.open) >= l.Connections {
		return 0, true, false
	}
	if t.unknown >= l.Handshakes {
		oldest := uint64(0)
		for id, c := range t.open {
			if !c.known && (oldest == 0 || id < oldest) {
				oldest = id
			}
		}
		_ = t.open[oldest].raw.Close() // its goroutine removes it
		t.open[oldest].known = true
		t.unknown--
		dropped = true
	}
	t.lastID++
	t.open[t.lastID] = &handshaking{raw: raw}
	t.unknown++
	return t.lastID, dropped, true
}

// identified notes that the handshake of a connection is over.
func (t *connTable) identified(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.open[id]; c != nil && !c.known {
		c.known = true
		t.unknown--
	}
}

func (t *connTable) remove(id uint64) {
	t.identified(id)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, id)
}

// gossipStream counts a gossip stream in, if there is room.
func (t *connTable) gossipStream(limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gossip >= limit {
		return false
	}
	t.gossip++
	return true
}

func (t *connTable) gossipEnded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gossip--
}

func (t *connTable) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.open {
		_ = c.raw.Close()
	}
}

// accept takes connections until the listener closes.
func (m *Mesh) accept() {
	pause := 5 * time.Millisecond
	for {
		raw, err := m.listener.Accept()
		if m.ctx.Err() != nil {
			if err == nil {
				_ = raw.Close()
			}
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: it may pass.
			m.log.warn("cannot accept connections", "err", err)
			select {
			case <-time.After(pause):
			case <-m.ctx.Done():
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		id, dropped, ok := m.conns.add(raw, m.limits)
		if dropped {
			m.stats.handshakeDrops.Add(1)
			m.log.warn("too many inbound connections", "dropped", !ok, "from", raw.RemoteAddr())
		}
		if !ok || !m.spawn(func() { m.receive(id, raw) }) {
			_ = raw.Close()
			m.conns.remove(id)
		}
	}
}

// receive runs one inbound connection, whatever it turns out to be.
func (m *Mesh) receive(id uint64, raw net.Conn) {
	defer m.conns.remove(id)
	defer raw.Close()
	err := m.serveConn(id, raw)
	if err == nil || m.ctx.Err() != nil {
		return
	}
	m.stats.badHandshakes.Add(1)
	m.log.warn("turned a connection away", "from", raw.RemoteAddr(), "err", err)
}

// serveConn does the handshake of an inbound connection and then serves it. An
// error says why it never became a link or a gossip stream.
func (m *Mesh) serveConn(id uint64, raw net.Conn) error {
	if err := raw.SetDeadline(time.Now().Add(m.timing.Handshake)); err != nil {
		return err
	}
	conn, names, err := m.secureInbound(raw)
	if err != nil {
		return err
	}
	var preface [1]byte
	if _, err := io.ReadFull(conn, preface[:]); err != nil {
		return fmt.Errorf("no preface: %w", err)
	}
	switch preface[0] {
	case prefaceGossip:
		m.conns.identified(id)
		if m.tls != nil && !m.admitsAny(names) {
			return &StrangerError{Peer: m.opts.Host, Host: strings.Join(names, " ")}
		}
		return m.gossip.serve(conn, raw)
	case prefaceLink:
		return m.greet(id, conn, raw, names)
	}
	return &FrameError{Peer: raw.RemoteAddr().String(), What: fmt.Sprintf("a connection begins with % x", preface)}
}

// greet reads a dialler's hello and answers it; a link that is accepted is
// served to its end.
func (m *Mesh) greet(id uint64, conn, raw net.Conn, names []string) error {
	peer := raw.RemoteAddr().String()
	s := newStream(m, conn, raw, linkMain, peer, maxHandshakeBytes, newSendQueue(m.limits.lanes()))
	s.ours = frameLimits{} // nothing but a handshake until it is over
	head, payload, err := s.next()
	if err != nil {
		return err
	}
	if head.typ != frameHello {
		return &FrameError{Peer: peer, What: "a link begins with a " + head.typ.String() + " frame"}
	}
	h, err := decodeHello(payload)
	if err != nil {
		return &FrameError{Peer: peer, What: err.Error()}
	}
	if refused, err := m.judge(&h, peer, names); refused != nil {
		return m.refuse(conn, refused, err)
	}
	w := welcome{version: min(protocolMax, h.maxVersion), maxFrame: uint32(m.limits.FrameBytes), instance: m.instance, id: m.opts.Identity, addr: m.addr}
	if h.kind == linkProbe {
		return writeHandshake(conn, frameWelcome, w.append(nil), m.timing.Handshake)
	}
	s.peer = h.id.Host + " at " + peer
	s.ours, s.theirs = m.limits.frames(), int(h.maxFrame)
	s.quiet.limit = m.timing.silenceTicks(h.kind)
	in := &inbound{m: m, stream: s, kind: h.kind, from: h.id, instance: h.instance, addr: h.addr, readDone: make(chan struct{})}
	if err := m.admit(in); err != nil {
		code := refusedBusy
		var dup *DuplicateHostError
		if errors.As(err, &dup) {
			code = refusedDuplicate
		}
		return m.refuse(conn, m.refusal(code, err.Error()), err)
	}
	m.conns.identified(id)
	in.lifetime(w.append(nil))
	return nil
}

// judge decides on a hello: nil means welcome.
func (m *Mesh) judge(h *hello, peer string, names []string) (*refusal, error) {
	me := m.opts.Identity
	var err error
	code := refusedSelf
	switch {
	case h.minVersion > protocolMax || h.maxVersion < protocolMin:
		code, err = refusedVersion, &VersionError{Peer: peer, Min: protocolMin, Max: protocolMax, TheirMin: h.minVersion, TheirMax: h.maxVersion}
	case h.id.Cluster != me.Cluster:
		code, err = refusedCluster, &WrongClusterError{Peer: peer, Want: me.Cluster, Have: h.id.Cluster}
	case m.tls != nil && !namesHost(names, h.id.Host):
		code, err = refusedIdentity, &IdentityError{Peer: peer, Host: h.id.Host, Names: names}
	case h.target != me.Host:
		code, err = refusedHost, &WrongHostError{Peer: peer, Want: h.target, Have: me.Host}
	case h.instance == m.instance && h.id == me:
		// This host found itself at its own address, which is as it should be.
	case h.id.Host == me.Host:
		dup := &DuplicateHostError{Host: me.Host, One: m.describe(), Other: h.id.Incarnation + " at " + h.addr, AboutMyself: true}
		m.conflict(dup, h.instance)
		code, err = refusedDuplicate, dup
	case !m.admits(h.id.Host):
		code, err = refusedStranger, &StrangerError{Peer: me.Host, Host: h.id.Host}
	default:
		return nil, nil
	}
	text := "this is the dialler itself"
	if err != nil {
		text = err.Error()
	}
	return m.refusal(code, text), err
}

// admits reports whether a host's links and gossip are taken.
func (m *Mesh) admits(host string) bool {
	return host == m.opts.Host || m.opts.Admit == nil || m.opts.Admit(host)
}

// admitsAny reports whether a certificate with these names is that of a host that is admitted.
func (m *Mesh) admitsAny(names []string) bool {
	if slices.ContainsFunc(names, m.admits) {
		return true
	}
	// A certificate may write the name with other capitals.
	return m.opts.Hosts != nil && slices.ContainsFunc(m.opts.Hosts(), func(host string) bool { return namesHost(names, host) && m.admits(host) })
}

// dismissStrangers ends the links of hosts that are not admitted any more.
func (m *Mesh) dismissStrangers() {
	if m.opts.Admit == nil {
		return
	}
	m.mu.RLock()
	hosts := make([]string, 0, len(m.peers))
	for host := range m.peers {
		hosts = append(hosts, host)
	}
	m.mu.RUnlock()
	for _, host := range hosts {
		if !m.admits(host) {
			m.dismissStranger(host)
		}
	}
}

func (m *Mesh) dismissStranger(host string) {
	var streams []*stream
	m.mu.RLock()
	if p := m.peers[host]; p != nil {
		for _, l := range p.links {
			if o := l.connection(); o != nil {
				streams = append(streams, o.streamIfUp())
			}
		}
		for _, in := range p.sessions {
			if in != nil {
				streams = append(streams, in.stream)
			}
		}
	}
	m.mu.RUnlock()
	for _, s := range streams {
		if s != nil {
			s.farewell(&StrangerError{Peer: m.opts.Host, Host: host})
		}
	}
	m.notices.changed(host)
}

func (m *Mesh) refusal(code refusalCode, text string) *refusal {
	return &refusal{
		code: code, minVersion: protocolMin, maxVersion: protocolMax,
		instance: m.instance, id: m.opts.Identity, addr: m.addr, text: text[:min(len(text), 1024)],
	}
}

// refuse sends a refusal and returns its cause.
func (m *Mesh) refuse(conn net.Conn, r *refusal, cause error) error {
	if r.code != refusedSelf {
		m.stats.refused.Add(1)
	}
	_ = writeHandshake(conn, frameRefusal, r.append(nil), m.timing.Handshake)
	return cause
}

// describe says where and as what this host runs.
func (m *Mesh) describe() string { return m.opts.Incarnation + " at " + m.addr }

// writeHandshake writes one handshake frame.
func writeHandshake(conn net.Conn, typ frameType, payload []byte, within time.Duration) error {
	if err := conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	b := appendHeader(nil, header{typ: typ, class: Urgent}, payload)
	_, err := conn.Write(append(b, payload...))
	return err
}
