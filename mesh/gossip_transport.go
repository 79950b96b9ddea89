package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossipTransport is memberlist's way to the network: packets over the UDP
// socket, streams over the port that links use, through the same TLS.
type gossipTransport struct {
	m       *Mesh
	udp     *net.UDPConn
	door    gossipDoor
	packets chan *memberlist.Packet
	streams chan net.Conn
	stopped chan struct{}
	once    sync.Once
	reader  sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*gossipTransport)(nil)

func newGossipTransport(m *Mesh, udp *net.UDPConn, keys *memberlist.Keyring) *gossipTransport {
	t := &gossipTransport{
		m: m, udp: udp, door: gossipDoor{label: m.opts.Cluster, keys: keys}, packets: make(chan *memberlist.Packet, 64),
		streams: make(chan net.Conn), stopped: make(chan struct{}),
	}
	_ = udp.SetReadBuffer(1 << 20) // a smaller one works, too
	t.reader.Go(t.read)
	return t
}

// maxPacket is the longest packet taken; memberlist sends 1400 bytes at most.
const maxPacket = 64 << 10

// read hands packets to memberlist until the socket closes.
func (t *gossipTransport) read() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := t.udp.ReadFrom(buf)
		now := time.Now()
		select {
		case <-t.stopped:
			return
		default:
		}
		if err != nil {
			// An ICMP answer to something sent earlier, for instance.
			t.m.log.warn("cannot read a gossip packet", "err", err)
			select {
			case <-t.stopped:
				return
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		if n == 0 {
			continue
		}
		t.m.stats.gossipIn.Add(uint64(n))
		if err := t.door.packet(buf[:n]); err != nil {
			t.m.gossipRefused(from, err)
			continue
		}
		packet := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: now}
		select {
		case t.packets <- packet:
		case <-t.stopped:
			return
		}
	}
}

// FinalAdvertiseAddr is the address told to the others.
func (t *gossipTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	at, err := t.m.lookUp(t.m.addr)
	if err != nil {
		return nil, 0, fmt.Errorf("advertised address %s: %w", t.m.addr, err)
	}
	if at.IP.IsUnspecified() {
		return nil, 0, fmt.Errorf("listening on every interface needs an address to advertise")
	}
	if v4 := at.IP.To4(); v4 != nil {
		at.IP = v4
	}
	return at.IP, at.Port, nil
}

// WriteTo sends a packet.
func (t *gossipTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends a packet.
func (t *gossipTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if len(t.m.opts.GossipKey) == 0 && !t.m.opts.Insecure && !loopbackAddr(a.Addr) {
		return time.Time{}, &InsecureError{What: "gossip without a key to", Addr: a.Addr}
	}
	to, err := net.ResolveUDPAddr("udp", a.Addr)
	if err != nil {
		return time.Time{}, err
	}
	n, err := t.udp.WriteTo(b, to)
	t.m.stats.gossipOut.Add(uint64(n))
	return time.Now(), err
}

// PacketCh yields the packets that came in.
func (t *gossipTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh yields the streams that came in.
func (t *gossipTransport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout opens a stream.
func (t *gossipTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream to a host whose name may be known.
func (t *gossipTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.m.ctx, timeout)
	defer cancel()
	conn, raw, err := t.m.dialRaw(ctx, a.Name, a.Addr, prefaceGossip)
	if err != nil {
		return nil, err
	}
	c := &gossipConn{Conn: conn, raw: raw, m: t.m, door: &t.door}
	c.unwatch = context.AfterFunc(t.m.ctx, func() { _ = raw.Close() })
	return c, nil
}

// Shutdown is called by memberlist before it ends; stop does the work.
func (t *gossipTransport) Shutdown() error {
	t.stop()
	return nil
}

func (t *gossipTransport) stop() {
	t.once.Do(func() {
		close(t.stopped)
		_ = t.udp.Close()
	})
	t.reader.Wait()
}

// gossipConn is a gossip stream of which memberlist sees the one message that
// comes, once that has been judged. It says when memberlist is through with it,
// and its Close does not wait for the peer, as that of TLS may.
type gossipConn struct {
	net.Conn
	raw     net.Conn
	m       *Mesh
	door    *gossipDoor
	once    sync.Once
	done    chan struct{} // inbound streams: closed by Close
	unwatch func() bool   // outbound streams

	// These are the reader's.
	judged  bool
	message []byte // what is left of it
	fault   error  // why there is none
}

// Read gives memberlist the message, and nothing of it before all of it is there.
func (c *gossipConn) Read(b []byte) (int, error) {
	if !c.judged {
		c.judged = true
		c.message, c.fault = c.door.stream(incoming{c}, c.done != nil)
		if errors.As(c.fault, new(*FrameError)) {
			c.m.gossipRefused(c.Conn.RemoteAddr(), c.fault)
		}
	}
	if c.fault != nil {
		return 0, c.fault
	}
	if len(c.message) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.message)
	c.message = c.message[n:]
	return n, nil
}

// incoming counts what is read of a stream.
type incoming struct{ c *gossipConn }

func (i incoming) Read(b []byte) (int, error) {
	n, err := i.c.Conn.Read(b)
	i.c.m.stats.gossipIn.Add(uint64(n))
	return n, err
}

func (c *gossipConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.m.stats.gossipOut.Add(uint64(n))
	return n, err
}

func (c *gossipConn) Close() error {
	c.once.Do(func() {
		if c.done != nil {
			close(c.done)
		}
		if c.unwatch != nil {
			c.unwatch()
		}
	})
	return c.raw.Close()
}
