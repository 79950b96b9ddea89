package mesh

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Mesh is the Network over TCP, with gossip on the same port. See the package
// documentation for its goroutines and locks.
type Mesh struct {
	opts     Options
	limits   Limits
	timing   Timing
	log      *throttledLog
	instance uint64 // tells this process from any other of the same identity
	addr     string // what others reach us at
	tls      *certificates
	listener net.Listener
	gossip   *gossip
	notices  *notices
	verifier *verifier
	stats    counters
	handlers [256]atomic.Pointer[Handler]
	self     loopback

	// ctx ends when Close begins; goroutines started with spawn end with it.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	life   sync.Mutex // guards ended, so that nothing is spawned once Close waits
	ended  bool

	// mu guards the tables. It may be held while a link's lock is taken, not
	// the other way round.
	mu     sync.RWMutex
	closed bool
	peers  map[string]*peer
	conns  connTable
}

// Listen starts a host: it opens the port, begins to join the other hosts, and
// dials links when they are first needed.
func Listen(o Options) (*Mesh, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	m := &Mesh{
		opts: o, limits: o.Limits.WithDefaults(), timing: o.Timing.withDefaults(),
		log:      newThrottledLog(logger.With("host", o.Host)),
		instance: binary.BigEndian.Uint64(random[:]),
		peers:    make(map[string]*peer),
		conns:    connTable{open: make(map[uint64]*handshaking)},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.notices = newNotices(m)
	m.verifier = newVerifier(m)
	m.self.init(o.Identity, m.handler)
	if o.TLS != nil {
		var err error
		if m.tls, err = loadCertificates(*o.TLS, m.log); err != nil {
			return nil, err
		}
	}
	tcp, udp, err := openPort(o.Addr)
	if err != nil {
		return nil, err
	}
	m.listener = tcp
	if err := m.begin(tcp, udp); err != nil {
		_ = tcp.Close()
		_ = udp.Close()
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

// begin starts everything on an open port.
func (m *Mesh) begin(tcp *net.TCPListener, udp *net.UDPConn) error {
	if err := m.checkListener(tcp.Addr().(*net.TCPAddr)); err != nil {
		return err
	}
	m.addr = m.ownAddress(tcp.Addr().(*net.TCPAddr))
	m.spawn(m.notices.run)
	m.spawn(m.verifier.run)
	m.spawn(m.maintain)
	g, err := startGossip(m, udp)
	if err != nil {
		return err
	}
	m.gossip = g
	m.spawn(m.accept)
	m.spawn(m.gossip.join)
	return nil
}

// Self is who this host is.
func (m *Mesh) Self() Identity { return m.opts.Identity }

// Addr is the address the host listens on.
func (m *Mesh) Addr() string { return m.listener.Addr().String() }

// spawn runs f on a goroutine that Close waits for. It reports false, and runs
// nothing, once the mesh is closed.
func (m *Mesh) spawn(f func()) bool {
	m.life.Lock()
	defer m.life.Unlock()
	if m.ended {
		return false
	}
	m.wg.Go(f)
	return true
}

// Handle sets the handler of a service; nil removes it.
func (m *Mesh) Handle(s Service, h Handler) {
	if h == nil {
		m.handlers[s].Store(nil)
		return
	}
	m.handlers[s].Store(&h)
}

func (m *Mesh) handler(s Service) Handler {
	if h := m.handlers[s].Load(); h != nil {
		return *h
	}
	return nil
}

// Start sends a request; see Network.
func (m *Mesh) Start(to Target, r Request) *Pending {
	now := time.Now()
	if r.Class < Urgent || r.Class > Bulk {
		r.Class = Normal
	}
	if limit := m.limits.Payload(r.Class); len(r.Payload) > limit {
		return failedPending(now, &TooLargeError{Size: len(r.Payload), Limit: limit})
	}
	if to.Host == m.opts.Host {
		return m.self.start(to, r, now)
	}
	l, err := m.link(to.Host, kindOf(r.Class))
	if err != nil {
		return failedPending(now, err)
	}
	return l.start(to, r, now)
}

// Call sends a request and waits for the reply; see Network.
func (m *Mesh) Call(ctx context.Context, to Target, r Request) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return Await(ctx, m.Start(to, r))
}

// kindOf is the connection a class travels on.
func kindOf(c Class) linkKind {
	if c == Bulk {
		return linkBulk
	}
	return linkMain
}

// Close leaves the cluster and ends every link and goroutine. Requests without
// a reply fail with ErrClosed.
func (m *Mesh) Close() error { return m.stop(false) }

// Kill is Close as the other hosts see the death of a process: connections are
// reset, nobody is told.
func (m *Mesh) Kill() { _ = m.stop(true) }

func (m *Mesh) stop(abrupt bool) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		m.wg.Wait()
		return nil
	}
	m.closed = true // no request starts from here on
	m.mu.Unlock()
	m.life.Lock()
	m.ended = true // and no goroutine
	m.life.Unlock()
	if m.gossip != nil && !abrupt {
		m.gossip.leave()
	}
	// A link that comes up from now on sees the end of ctx; the others are in
	// the tables.
	m.cancel()
	err := m.listener.Close()
	for _, s := range m.streams() {
		if abrupt {
			s.reset(ErrClosed)
		} else {
			s.kill(ErrClosed)
		}
	}
	m.conns.closeAll()
	if m.gossip != nil {
		m.gossip.shutdown()
	}
	m.self.close()
	m.wg.Wait()
	return err
}

// streams closes every link and lists the connections that stand.
func (m *Mesh) streams() []*stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*stream
	for _, p := range m.peers {
		for _, l := range p.links {
			if s := l.close(); s != nil {
				all = append(all, s)
			}
		}
		for _, in := range p.sessions {
			if in != nil {
				all = append(all, in.stream)
			}
		}
	}
	return all
}
