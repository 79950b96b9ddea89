package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// testbed runs meshes that know each other.
type testbed struct {
	t  *testing.T
	mu sync.Mutex
	at map[string]string // overrides and records where hosts listen
}

func newTestbed(t *testing.T) *testbed { return &testbed{t: t, at: map[string]string{}} }

func (b *testbed) resolve(host string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	addr, ok := b.at[host]
	return addr, ok
}

func (b *testbed) place(host, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at[host] = addr
}

func (b *testbed) remove(host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.at, host)
}

// patience bounds waits for what must happen: a busy machine may stand still for seconds.
const patience = time.Minute

// fastTiming suits tests; gossip is left out of them by not naming Hosts.
var fastTiming = Timing{
	Handshake: patience, Ping: 20 * time.Millisecond, Silence: patience, BulkSilence: patience, Write: patience,
	BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond, Join: 100 * time.Millisecond, Tick: 10 * time.Millisecond, Probe: 50 * time.Millisecond,
}

func (b *testbed) options(name string) Options {
	return Options{
		Identity: Identity{Cluster: "c", Host: name, Incarnation: "i-" + name}, Addr: "127.0.0.1:0",
		Resolve: b.resolve, Timing: fastTiming,
	}
}

func (b *testbed) start(name string, adjust ...func(*Options)) *Mesh {
	b.t.Helper()
	o := b.options(name)
	for _, f := range adjust {
		f(&o)
	}
	m, err := Listen(o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = m.Close() })
	if _, ok := b.resolve(name); !ok {
		b.place(name, m.Addr())
	}
	return m
}

func soon(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

var replyEcho = HandlerFunc(func(_ Identity, r Request, reply func([]byte, error)) { reply(r.Payload, nil) })

// never takes requests and does not answer.
var never = HandlerFunc(func(Identity, Request, func([]byte, error)) {})

func call(t *testing.T, m *Mesh, host string, class Class, payload []byte) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return m.Call(ctx, Target{Host: host}, Request{Service: ServiceHost, Class: class, Payload: payload})
}

// rawDial opens a connection to a mesh and writes b.
func rawDial(t *testing.T, m *Mesh, b []byte) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	return c
}

// rawLink does a dialler's handshake by hand and returns a stream.
func rawLink(t *testing.T, m *Mesh, h hello) net.Conn {
	t.Helper()
	c := rawDial(t, m, firstBytes(h))
	typ, payload := rawRead(t, c)
	if typ != frameWelcome {
		t.Fatalf("hello was answered with %s: %q", typ, payload)
	}
	return c
}

// roomyLink is rawLink to a mesh that has hardly any room: it takes some itself for a moment when it looks who answers at its own address.
func roomyLink(t *testing.T, m *Mesh, h hello) (c net.Conn) {
	t.Helper()
	soon(t, "there is room", func() bool {
		var err error
		if c, err = net.Dial("tcp", m.Addr()); err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write(firstBytes(h)) // what it comes to is read
		typ, _, err := rawFrame(c)
		if err != nil || typ != frameWelcome {
			_ = c.Close()
			return false
		}
		t.Cleanup(func() { _ = c.Close() })
		return true
	})
	return c
}

func firstBytes(h hello) []byte {
	return append([]byte{prefaceLink}, encodeFrame(header{typ: frameHello, class: Urgent}, h.append(nil))...)
}

func rawRead(t *testing.T, c net.Conn) (frameType, []byte) {
	t.Helper()
	typ, payload, err := rawFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	return typ, payload
}

func rawFrame(c net.Conn) (frameType, []byte, error) {
	var head [headerBytes]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil, err
	}
	h, n, err := parseHeader(head[:], frameLimits{1 << 20, 1 << 20})
	if err != nil {
		return 0, nil, err
	}
	payload := make([]byte, n)
	_, err = io.ReadFull(c, payload)
	return h.typ, payload, err
}

func strangerHello() hello {
	return hello{
		minVersion: 1, maxVersion: 1, maxFrame: 1 << 20, instance: 5, target: "a", addr: "127.0.0.1:9",
		id: Identity{Cluster: "c", Host: "stranger", Incarnation: "i"},
	}
}

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Whatever comes in through the port, the links that stand go on, the
// connection it came over is closed, and the log says who and what.
func TestGarbageOnThePort(t *testing.T) {
	bed := newTestbed(t)
	var log lockedBuffer
	a := bed.start("a", func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Timing.Handshake = time.Hour // not the reason
	})
	b := bed.start("b")
	a.Handle(ServiceHost, replyEcho)
	if _, err := call(t, b, "a", Normal, []byte("x")); err != nil {
		t.Fatal(err)
	}
	hello := encodeFrame(header{typ: frameHello, class: Urgent}, (&hello{}).append(nil))
	request := encodeFrame(header{typ: frameRequest, class: Normal}, make([]byte, 100))
	huge := encodeFrame(header{typ: frameHello, class: Urgent}, make([]byte, maxHandshakeBytes+1))
	// Only its header: nobody waits for a megabyte from a stranger.
	big := encodeFrame(header{typ: frameRequest, class: Normal}, make([]byte, 1<<20))[:headerBytes]
	garbage := map[string][]byte{
		"big request first":     append([]byte{prefaceLink}, big...),
		"http":                  []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
		"tls":                   {0x16, 3, 1, 0, 0xA5, 1, 0, 0, 0xA1, 3, 3},
		"noise":                 bytes.Repeat([]byte{0xFF, 0x00, 0x13}, 5000),
		"preface and noise":     append([]byte{prefaceLink}, bytes.Repeat([]byte{0x55}, 5000)...),
		"empty hello":           append([]byte{prefaceLink}, hello...),
		"request before hello":  append([]byte{prefaceLink}, request...),
		"oversize hello":        append([]byte{prefaceLink}, huge...),
		"gossip and noise":      append([]byte{prefaceGossip}, bytes.Repeat([]byte{0x77}, 5000)...),
		"gossip of another era": append([]byte{prefaceGossip, 244, 3}, "xyz and so on"...),
	}
	// One first, whose message is surely within what the log lets through.
	_, _ = io.Copy(io.Discard, rawDial(t, a, garbage["http"]))
	soon(t, "the first is logged", func() bool { return strings.Contains(log.String(), "a connection begins with 47") })
	for name, b := range garbage {
		c := rawDial(t, a, b)
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: connection was not closed: %v", name, err)
		}
	}
	if udp, err := net.Dial("udp", a.Addr()); err == nil {
		for _, b := range garbage {
			_, _ = udp.Write(b[:min(len(b), 1400)])
		}
		_ = udp.Close()
	}
	if got, err := call(t, b, "a", Normal, []byte("still there")); err != nil || string(got) != "still there" {
		t.Fatalf("after the garbage: %q, %v", got, err)
	}
	if s := b.Stats(); s.Dials != 1 || s.LinkBreaks != 0 {
		t.Fatalf("the link was disturbed: %+v", s)
	}
	soon(t, "garbage is counted", func() bool { return a.Stats().BadHandshakes >= 7 })
	for _, want := range []string{"turned a connection away", "from=127.0.0.1:", "does not speak the protocol"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
	// The log is rate limited: ten pieces of garbage, five messages.
	if n := strings.Count(log.String(), "turned a connection away"); n > logBurst {
		t.Errorf("%d messages about garbage", n)
	}
}

// Garbage over a link that stands closes it, tells the peer why, and leaves
// other links alone.
func TestGarbageOverALink(t *testing.T) {
	oversize := appendHeader(nil, header{typ: frameRequest, class: Normal}, nil)
	oversize[12] = 0x7F // two gigabytes
	flipped := encodeFrame(header{typ: frameRequest, class: Normal, service: 3}, []byte("payload"))
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		bytes []byte
		says  string
	}{
		"noise":            {bytes.Repeat([]byte{0x99}, 64), "begins with 99 99"},
		"oversize frame":   {oversize, "limit"},
		"wrong checksum":   {flipped, "checksum"},
		"response":         {encodeFrame(header{typ: frameResponse, class: Normal}, nil), "unexpected response"},
		"second hello":     {encodeFrame(header{typ: frameHello, class: Urgent}, nil), "unexpected hello"},
		"bulk on the main": {encodeFrame(header{typ: frameRequest, class: Bulk}, nil), "main link"},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newTestbed(t)
			a, b := bed.start("a"), bed.start("b")
			a.Handle(ServiceHost, replyEcho)
			if _, err := call(t, b, "a", Normal, nil); err != nil {
				t.Fatal(err)
			}
			raw := rawLink(t, a, strangerHello())
			if _, err := raw.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			typ, text := rawRead(t, raw)
			for typ == framePong {
				typ, text = rawRead(t, raw)
			}
			if typ != frameGoodbye || !strings.Contains(string(text), c.says) || !strings.Contains(string(text), "stranger at 127.0.0.1") {
				t.Fatalf("%s frame: %q", typ, text)
			}
			if _, err := io.Copy(io.Discard, raw); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatalf("the link was not closed: %v", err)
			}
			if n := a.Stats().BadFrames; n != 1 {
				t.Fatalf("%d bad frames counted", n)
			}
			if _, err := call(t, b, "a", Normal, nil); err != nil || b.Stats().Dials != 1 {
				t.Fatalf("another link was disturbed: %v", err)
			}
		})
	}
}

func TestDiallerMeetsGarbage(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example.org ESMTP, and a long greeting to go with it\r\n"))
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	bed.place("x", l.Addr().String())
	_, err = call(t, a, "x", Normal, nil)
	var down *LinkDownError
	var fault *FrameError
	if !errors.As(err, &down) || !down.Unsent || !errors.As(err, &fault) || !strings.Contains(fault.Peer, "x at 127.0.0.1") {
		t.Fatalf("%v", err)
	}
}

func TestHandshakeRefusals(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	other := bed.start("other", func(o *Options) { o.Cluster = "elsewhere" })
	bed.place("moved", b.Addr())
	a := bed.start("a")

	_, err := call(t, a, "other", Normal, nil)
	var cluster *WrongClusterError
	if !errors.As(err, &cluster) || cluster.Have != "elsewhere" || cluster.Want != "c" {
		t.Errorf("another cluster: %v", err)
	}
	_, err = call(t, a, "moved", Normal, nil)
	var host *WrongHostError
	if !errors.As(err, &host) || host.Have != "b" || host.Want != "moved" {
		t.Errorf("another host: %v", err)
	}
	if n := other.Stats().Refused; n == 0 {
		t.Error("the refusal was not counted")
	}

	// What an acceptor says to diallers that are wrong.
	h := strangerHello()
	h.target = "b"
	refused := func(code refusalCode, change func(*hello)) refusal {
		t.Helper()
		h := h
		change(&h)
		typ, payload := rawRead(t, rawDial(t, b, firstBytes(h)))
		r, err := decodeRefusal(payload)
		if typ != frameRefusal || err != nil || r.code != code || r.id != b.Self() {
			t.Errorf("%s %+v %v, expected a refusal for reason %d", typ, r, err, code)
		}
		return r
	}
	refused(refusedCluster, func(h *hello) { h.id.Cluster = "elsewhere" })
	refused(refusedHost, func(h *hello) { h.target = "another" })
	refused(refusedDuplicate, func(h *hello) { h.id.Host = "b" })
	refused(refusedSelf, func(h *hello) { h.id, h.instance = b.Self(), b.instance })
	if n := b.Stats().Conflicts; n != 1 {
		t.Errorf("%d conflicts", n)
	}
	r := refused(refusedVersion, func(h *hello) { h.minVersion, h.maxVersion = 7, 9 })
	var version *VersionError
	if err := r.asError("b", "b", a.Self()); !errors.As(err, &version) {
		t.Errorf("version: %v", err)
	}
	// A later version that still speaks ours is welcome.
	h.maxVersion = 9
	rawLink(t, b, h)
}

func TestHandshakeMustBeQuick(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a", func(o *Options) { o.Timing.Handshake = 50 * time.Millisecond })
	start := time.Now()
	c := rawDial(t, a, []byte{prefaceLink})
	_, _ = io.Copy(io.Discard, c)
	if took := time.Since(start); took > patience/2 {
		t.Fatalf("a silent connection was kept for %v", took)
	}
	soon(t, "it is counted", func() bool { return a.Stats().BadHandshakes == 1 })
}

// A flood of silent connections does not keep peers out.
func TestSilentFlood(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a", func(o *Options) { o.Limits.Handshakes = 8; o.Timing.Handshake = time.Hour })
	a.Handle(ServiceHost, replyEcho)
	b := bed.start("b")
	for range 50 {
		rawDial(t, a, nil)
	}
	if _, err := call(t, b, "a", Normal, nil); err != nil {
		t.Fatal(err)
	}
	soon(t, "the oldest made room", func() bool { return a.Stats().HandshakeDrops >= 42 })
	soon(t, "those that were dropped are closed", func() bool {
		a.conns.mu.Lock()
		defer a.conns.mu.Unlock()
		return len(a.conns.open) <= 12
	})
}

func TestPortInUse(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a")
	o := bed.options("b")
	o.Addr = a.Addr()
	_, err := Listen(o)
	var used *AddressInUseError
	if !errors.As(err, &used) || used.Addr != a.Addr() || !strings.Contains(err.Error(), a.Addr()) {
		t.Fatalf("tcp: %v", err)
	}
	// The UDP half alone.
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	o.Addr = udp.LocalAddr().String()
	if _, err = Listen(o); !errors.As(err, &used) || used.Addr != o.Addr {
		t.Fatalf("udp: %v", err)
	}
}

func TestInsecure(t *testing.T) {
	o := newTestbed(t).options("a")
	o.Addr, o.GossipKey = "0.0.0.0:0", []byte("0123456789abcdef")
	var insecure *InsecureError
	if _, err := Listen(o); !errors.As(err, &insecure) {
		t.Fatalf("plain listener on every interface: %v", err)
	}
	bed := newTestbed(t)
	a := bed.start("a")
	bed.place("b", "192.0.2.1:7400")
	if _, err := call(t, a, "b", Normal, nil); !errors.As(err, &insecure) || insecure.Addr != "192.0.2.1:7400" {
		t.Fatalf("plain link to another machine: %v", err)
	}
	if _, err := a.gossip.transport.WriteTo([]byte("x"), "192.0.2.1:7400"); !errors.As(err, &insecure) {
		t.Fatalf("plain packet to another machine: %v", err)
	}
	if _, err := a.gossip.transport.DialTimeout("192.0.2.1:7400", time.Second); !errors.As(err, &insecure) {
		t.Fatalf("plain gossip stream to another machine: %v", err)
	}
	for _, addr := range []string{"127.0.0.1:1", "[::1]:1", "127.5.5.5:1"} {
		if err := a.checkDialled("tcp", addr, nil); err != nil {
			t.Errorf("loopback: %v", err)
		}
	}
	o = bed.options("c")
	o.Insecure, o.Addr, o.Advertise = true, "0.0.0.0:0", "127.0.0.1:1"
	m, err := Listen(o)
	if err != nil {
		t.Fatalf("insecure by configuration: %v", err)
	}
	if err := m.checkDialled("tcp", "192.0.2.1:7400", nil); err != nil {
		t.Error(err)
	}
	_ = m.Close()
}

func TestOptionsValidate(t *testing.T) {
	good := newTestbed(t).options("a")
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Options{
		Identity: Identity{Host: strings.Repeat("h", 300)}, Addr: "nonsense", Advertise: "x", GossipKeys: [][]byte{{1}},
		Limits: Limits{FrameBytes: 1, QueueFrames: -1}, Timing: Timing{Ping: -1},
	}
	err := bad.Validate()
	for _, want := range []string{"cluster is empty", "host is longer", "incarnation is empty", `address "nonsense"`, `advertised address "x"`, "older gossip keys", "gossip key: key size", "frame limits", "limit -1", "duration -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported: %v", want, err)
		}
	}
	if _, err := Listen(bad); err == nil {
		t.Error("Listen took them")
	}
}

func ExampleOptions_Validate() {
	o := Options{Identity: Identity{Cluster: "prod", Host: "h1"}, Addr: "10.0.0.1"}
	fmt.Println(o.Validate())
	// Output:
	// mesh: incarnation is empty
	// mesh: address "10.0.0.1": address 10.0.0.1: missing port in address
}
