package mesh

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLinkBreaksAndComesBack(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	var got sync.WaitGroup
	got.Add(3)
	b.Handle(ServiceRaft, HandlerFunc(func(Identity, Request, func([]byte, error)) { got.Done() }))
	b.Handle(ServiceHost, replyEcho)
	p := newProxy(t, b.Addr())
	bed.place("b", p.addr())
	a := bed.start("a")
	var pending []*Pending
	for range 3 {
		pending = append(pending, a.Start(Target{Host: "b"}, Request{Service: ServiceRaft}))
	}
	got.Wait()
	p.cut()
	for _, p := range pending {
		_, err := p.Result()
		var down *LinkDownError
		if !errors.As(err, &down) || down.Host != "b" || down.Cause == nil || down.Unsent {
			t.Fatalf("pending when the link broke: %v", err)
		}
	}
	soon(t, "the link works again", func() bool {
		_, err := call(t, a, "b", Normal, []byte("x"))
		return err == nil
	})
	if s := a.Stats(); s.LinkBreaks != 1 || s.Dials < 2 {
		t.Fatalf("%+v", s)
	}
}

// TestRefused: who has a link to a process that dies hears that nobody listens there any more, without a request of its own, and
// that somebody does again. A peer that is only cut off is none of that.
func TestRefused(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	b.Handle(ServiceHost, replyEcho)
	var mu sync.Mutex
	var now PeerState
	a := bed.start("a", func(o *Options) {
		o.OnPeer = func(s PeerState) {
			mu.Lock()
			defer mu.Unlock()
			now = s
		}
	})
	refused := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return now.Refused
	}
	up := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return now.LinkUp && !now.Refused
	}
	if _, err := call(t, a, "b", Normal, nil); err != nil {
		t.Fatal(err)
	}
	soon(t, "the link is told", up)
	addr := b.Addr()
	b.Kill()
	soon(t, "the death is told", refused)
	again := bed.start("b", func(o *Options) { o.Addr = addr })
	again.Handle(ServiceHost, replyEcho)
	soon(t, "the return is told", func() bool {
		_, err := call(t, a, "b", Normal, nil)
		return err == nil && up()
	})
	p := newProxy(t, addr)
	bed.place("b", p.addr())
	a2 := bed.start("c")
	if _, err := call(t, a2, "b", Normal, nil); err != nil {
		t.Fatal(err)
	}
	p.cut()
	soon(t, "the link is there again by itself", func() bool {
		for _, s := range a2.Peers() {
			if s.Host == "b" {
				if s.Refused {
					t.Fatal("a peer that was cut off counts as gone")
				}
				return s.LinkUp && a2.Stats().Dials == 2
			}
		}
		return false
	})
}

// A connection that is silently dead is found out in bounded time.
func TestSilentLink(t *testing.T) {
	bed := newTestbed(t)
	short := func(o *Options) { o.Timing.Silence = 200 * time.Millisecond }
	b := bed.start("b")
	b.Handle(ServiceRaft, never)
	b.Handle(ServiceHost, replyEcho)
	p := newProxy(t, b.Addr())
	bed.place("b", p.addr())
	a := bed.start("a", short)
	pending := a.Start(Target{Host: "b"}, Request{Service: ServiceRaft})
	soon(t, "a round trip is measured", func() bool { return a.Peers()[0].RoundTrip > 0 })
	if !b.peerAlive("a") {
		t.Fatal("the acceptor does not see its peer")
	}
	p.freeze()
	start := time.Now()
	_, err := pending.Result()
	var down *LinkDownError
	if !errors.As(err, &down) || !strings.Contains(err.Error(), "no sign of life") {
		t.Fatalf("%v", err)
	}
	if took := time.Since(start); took > patience/2 {
		t.Fatalf("found out after %v", took)
	}
	p.thaw()
	soon(t, "the link works again", func() bool {
		_, err := call(t, a, "b", Normal, []byte("x"))
		return err == nil
	})
}

// A write that does not move breaks the link.
func TestStuckWrite(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	b.Handle(ServiceHost, replyEcho)
	p := newProxy(t, b.Addr())
	bed.place("b", p.addr())
	a := bed.start("a", func(o *Options) { o.Timing.Write, o.Timing.Silence = 100*time.Millisecond, time.Hour })
	if _, err := call(t, a, "b", Normal, nil); err != nil {
		t.Fatal(err)
	}
	p.freeze()
	var pending []*Pending
	for range 8 {
		pending = append(pending, a.Start(Target{Host: "b"}, Request{Service: ServiceHost, Payload: make([]byte, 4<<20)}))
	}
	for _, p := range pending {
		if _, err := p.Result(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
}

// The acceptor finds out, too: a dialler pings.
func TestSilentDialler(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a", func(o *Options) { o.Timing.Silence = 200 * time.Millisecond })
	raw := rawLink(t, a, strangerHello())
	soon(t, "the peer is there", func() bool { return a.peerAlive("stranger") })
	if _, err := io.Copy(io.Discard, raw); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatal(err)
	}
	soon(t, "the peer is gone", func() bool { return !a.peerAlive("stranger") })
}

func (m *Mesh) peerAlive(host string) bool {
	for _, p := range m.Peers() {
		if p.Host == host {
			return p.Alive
		}
	}
	return false
}

// TestPulse: a connection that only one side hears something on is pinged as if it were quiet, because the other side would take it for
// dead. Pings and their answers do not count.
func TestPulse(t *testing.T) {
	const every, opportunities = 5, 2 * rarely
	for name, c := range map[string]struct {
		reads, writes bool
		want          int
	}{
		"quiet": {false, false, opportunities}, "only reads": {true, false, opportunities}, "only writes": {false, true, opportunities},
		"busy": {true, true, 2},
	} {
		var s stream
		var p pulse
		got := 0
		for tick := range opportunities * every {
			if tick%every == every/2 {
				if c.reads {
					s.gotBytes.Add(1)
				}
				if c.writes {
					s.wrote.Add(1)
				}
			}
			if p.due(&s, every) {
				got++
				s.wrote.Add(1) // the ping
				s.gotBytes.Add(1)
			}
		}
		if got != c.want {
			t.Errorf("%s: %d pings at %d opportunities, want %d", name, got, opportunities, c.want)
		}
	}
	timing := Timing{}.withDefaults()
	if main, bulk := timing.pingTicks(linkMain), timing.pingTicks(linkBulk); main != 5 || bulk != 20 {
		t.Errorf("pings every %d and %d ticks", main, bulk)
	}
}

// A process that was paused does not take its links for dead when it goes on.
func TestQuietnessCountsTicks(t *testing.T) {
	var s stream
	q := quietness{limit: 3}
	tick := func(want bool) {
		t.Helper()
		if got := q.tick(&s); got != want {
			t.Fatalf("tick says %v after %d quiet ones", got, q.ticks)
		}
	}
	tick(false)
	tick(false)
	s.gotBytes.Add(1) // a sign of life
	tick(false)
	tick(false)
	tick(false)
	tick(true)
	// A long write that moves on is a sign of life; one that stands is not.
	s.writing.Store(true)
	s.wrote.Add(1)
	tick(false)
	tick(false)
	tick(false)
	tick(true)
	// A write that came to its end says nothing about the peer.
	s.writing.Store(false)
	s.wrote.Add(1)
	tick(true)
}

func TestIdleLinkCloses(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	b.Handle(ServiceHost, replyEcho)
	release := make(chan func([]byte, error), 1)
	b.Handle(ServiceRaft, HandlerFunc(func(_ Identity, _ Request, reply func([]byte, error)) { release <- reply }))
	a := bed.start("a", func(o *Options) { o.Timing.Idle = 50 * time.Millisecond })
	for range 2 {
		if _, err := call(t, a, "b", Normal, nil); err != nil {
			t.Fatal(err)
		}
		soon(t, "the idle link closes", func() bool { return !a.Peers()[0].LinkUp })
	}
	if s := a.Stats(); s.Dials != 2 || s.LinkBreaks != 0 {
		t.Fatalf("%+v", s)
	}
	// A request without its reply keeps the link.
	p := a.Start(Target{Host: "b"}, Request{Service: ServiceRaft})
	reply := <-release
	time.Sleep(200 * time.Millisecond) // four times Idle: it would have been closed
	reply([]byte("late"), nil)
	if got, err := p.Result(); err != nil || string(got) != "late" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestBackoff(t *testing.T) {
	for failures := range 70 {
		d := backoff(failures, 50*time.Millisecond, 2*time.Second)
		full := 2 * time.Second
		if failures <= 5 {
			full = 50 * time.Millisecond << failures
		}
		if d < full/2-1 || d > full {
			t.Errorf("after %d failures: %v of %v", failures, d, full)
		}
	}
}

// While a peer cannot be reached requests fail at once, and it is dialled less
// and less often; gossip that sees it return ends the wait.
func TestUnreachablePeer(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a", func(o *Options) { o.Timing.BackoffMin, o.Timing.BackoffMax = time.Minute, time.Hour })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	bed.place("b", addr)
	for i := range 100 {
		_, err := call(t, a, "b", Normal, nil)
		var down *LinkDownError
		var op *net.OpError
		if !errors.As(err, &down) || !errors.As(err, &op) || !down.Unsent {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if n := a.Stats().Dials; n != 1 {
		t.Fatalf("%d dials", n)
	}
	b := bed.start("b2", func(o *Options) { o.Host, o.Addr = "b", addr })
	b.Handle(ServiceHost, replyEcho)
	if _, err := a.gossip.list.Join([]string{addr}); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, a, "b", Normal, nil); err != nil {
		t.Fatalf("after gossip saw it join: %v", err)
	}
}

// Urgent requests overtake normal ones that wait in the queue, and a bulk
// connection that is stuck holds up neither.
func TestUrgentOvertakes(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	var mu sync.Mutex
	var order []Class
	b.Handle(ServiceHost, HandlerFunc(func(_ Identity, r Request, reply func([]byte, error)) {
		mu.Lock()
		order = append(order, r.Class)
		mu.Unlock()
		reply(nil, nil)
	}))
	p := newProxy(t, b.Addr())
	bed.place("b", p.addr())
	a := bed.start("a", func(o *Options) { o.Timing.Silence = 10 * time.Second })
	if _, err := call(t, a, "b", Normal, nil); err != nil {
		t.Fatal(err)
	}
	p.freeze()
	var pending []*Pending
	for range 12 { // more than the kernel's buffers hold
		pending = append(pending, a.Start(Target{Host: "b"}, Request{Service: ServiceHost, Class: Normal, Payload: make([]byte, 4<<20)}))
	}
	pending = append(pending, a.Start(Target{Host: "b"}, Request{Service: ServiceHost, Class: Urgent}))
	p.thaw()
	for _, p := range pending {
		if _, err := p.Result(); err != nil {
			t.Fatal(err)
		}
	}
	at := 0
	for i, c := range order {
		if c == Urgent {
			at = i
		}
	}
	if at == 0 || at > 9 {
		t.Fatalf("the urgent request came as number %d of %d", at, len(order))
	}
}

func TestUrgentBesideStuckBulk(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	b.Handle(ServiceHost, replyEcho)
	p := newProxy(t, b.Addr())
	bed.place("b", p.addr())
	a := bed.start("a")
	// The bulk connection is made through the proxy and then stuck; the main one
	// goes past it.
	if _, err := call(t, a, "b", Bulk, nil); err != nil {
		t.Fatal(err)
	}
	p.freeze()
	var bulk []*Pending
	for range 4 {
		bulk = append(bulk, a.Start(Target{Host: "b"}, Request{Service: ServiceHost, Class: Bulk, Payload: make([]byte, 8<<20)}))
	}
	bed.place("b", b.Addr())
	for _, class := range []Class{Urgent, Normal} {
		if _, err := call(t, a, "b", class, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range bulk {
		select {
		case <-p.Done():
			_, err := p.Result()
			t.Fatalf("a bulk request was not stuck: %v", err)
		default:
		}
	}
	p.thaw()
	for _, p := range bulk {
		if _, err := p.Result(); err != nil {
			t.Fatal(err)
		}
	}
}

// What waits to be sent is bounded in number and bytes, per class.
func TestQueueBounds(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	b.Handle(ServiceHost, replyEcho)
	p := newProxy(t, b.Addr())
	bed.place("b", p.addr())
	a := bed.start("a", func(o *Options) { o.Limits.QueueFrames, o.Limits.QueueBytes = 10, 1<<20 })
	p.freeze() // the handshake does not get through, so everything queues
	var full int
	var kept []*Pending
	start := func(class Class, size int) error {
		p := a.Start(Target{Host: "b"}, Request{Service: ServiceHost, Class: class, Payload: make([]byte, size)})
		select {
		case <-p.Done():
			_, err := p.Result()
			return err
		default:
			kept = append(kept, p)
			return nil
		}
	}
	for i := range 20 {
		if err := start(Normal, 10); err != nil {
			if err != ErrQueueFull || i < 10 {
				t.Fatalf("request %d: %v", i, err)
			}
			full++
		}
	}
	if full != 10 || a.Stats().QueueFull != 10 {
		t.Fatalf("%d of 20 requests did not fit in a queue of 10", full)
	}
	if err := start(Urgent, 10); err != nil {
		t.Fatalf("an urgent request met a full queue of normal ones: %v", err)
	}
	if err := start(Bulk, 900<<10); err != nil {
		t.Fatal(err)
	}
	if err := start(Bulk, 900<<10); err != ErrQueueFull {
		t.Fatalf("over the bytes: %v", err)
	}
	p.thaw()
	for _, p := range kept {
		if _, err := p.Result(); err != nil {
			t.Fatal(err)
		}
	}
}

// A peer cannot have more served at a time, in number or bytes, than the limits
// say; others are not affected.
func TestInFlightBounds(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b", func(o *Options) { o.Limits.InFlight, o.Limits.InFlightBytes = 10, 1<<20 })
	b.Handle(ServiceRaft, never)
	b.Handle(ServiceHost, replyEcho)
	a, c := bed.start("a"), bed.start("c")
	for range 10 {
		a.Start(Target{Host: "b"}, Request{Service: ServiceRaft})
	}
	if _, err := call(t, a, "b", Normal, nil); !errors.Is(err, ErrOverloaded) {
		t.Fatalf("over the number: %v", err)
	}
	if _, err := call(t, a, "b", Bulk, nil); err != nil {
		t.Fatalf("the other connection: %v", err)
	}
	if _, err := call(t, c, "b", Normal, nil); err != nil {
		t.Fatalf("the other peer: %v", err)
	}
	c.Start(Target{Host: "b"}, Request{Service: ServiceRaft, Payload: make([]byte, 900<<10)})
	if _, err := call(t, c, "b", Normal, make([]byte, 900<<10)); !errors.Is(err, ErrOverloaded) {
		t.Fatalf("over the bytes: %v", err)
	}
	if n := b.Stats().Overloaded; n != 2 {
		t.Fatalf("%d counted", n)
	}
}

// A peer that asks and never reads the answers is cut off before they fill
// the memory.
func TestPeerThatDoesNotRead(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a", func(o *Options) {
		o.Limits.QueueBytes, o.Limits.QueueFrames = 1<<20, 100
		o.Timing.Silence, o.Timing.Write = time.Hour, time.Hour // not the reason
	})
	a.Handle(ServiceHost, HandlerFunc(func(_ Identity, _ Request, reply func([]byte, error)) { reply(make([]byte, 256<<10), nil) }))
	raw := rawLink(t, a, strangerHello())
	request := encodeFrame(header{typ: frameRequest, class: Normal, service: ServiceHost}, nil)
	var err error
	for range 100_000 {
		if _, err = raw.Write(request); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("the peer was not cut off")
	}
	soon(t, "it is gone", func() bool { return !a.peerAlive("stranger") })
}

// A frame limit of the peer that is below ours is respected.
func TestPeerTakesLess(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b", func(o *Options) { o.Limits.FrameBytes = 100 << 10 })
	b.Handle(ServiceHost, replyEcho)
	a := bed.start("a")
	a.Handle(ServiceHost, HandlerFunc(func(_ Identity, _ Request, reply func([]byte, error)) { reply(make([]byte, 200<<10), nil) }))
	var big *TooLargeError
	if _, err := call(t, a, "b", Normal, make([]byte, 200<<10)); !errors.As(err, &big) || big.Limit != 100<<10 {
		t.Fatalf("request: %v", err)
	}
	var remote *RemoteError
	if _, err := call(t, b, "a", Normal, nil); !errors.As(err, &remote) || remote.Num != CodeTooLarge {
		t.Fatalf("reply: %v", err)
	}
	if _, err := call(t, a, "b", Normal, make([]byte, 100<<10)); err != nil {
		t.Fatalf("at the limit: %v", err)
	}
}

// A newer connection of a peer replaces the older one, which is read for the
// last time before the newer one is read for the first.
func TestNewerConnectionReplaces(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a")
	entered, leave := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var order []string
	a.Handle(ServiceHost, HandlerFunc(func(_ Identity, r Request, reply func([]byte, error)) {
		if string(r.Payload) == "old" {
			close(entered)
			<-leave
		}
		mu.Lock()
		order = append(order, string(r.Payload))
		mu.Unlock()
		reply(nil, nil)
	}))
	send := func(c net.Conn, what string) {
		_, _ = c.Write(encodeFrame(header{typ: frameRequest, class: Normal, service: ServiceHost}, []byte(what)))
	}
	old := rawLink(t, a, strangerHello())
	send(old, "old")
	<-entered
	h := strangerHello()
	welcomed := make(chan net.Conn)
	go func() { welcomed <- rawLink(t, a, h) }()
	select {
	case <-welcomed:
		t.Fatal("the newer connection was read while the older one was")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	newer := <-welcomed
	send(newer, "new")
	if typ, _ := rawRead(t, newer); typ != frameResponse {
		t.Fatalf("%s", typ)
	}
	if got := strings.Join(order, " "); got != "old new" {
		t.Fatal(got)
	}
	if _, err := io.Copy(io.Discard, old); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the older connection was not closed: %v", err)
	}
}

// Strangers may claim any number of names; none of them is remembered.
func TestStrangersAreForgotten(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a")
	for i := range 50 {
		h := strangerHello()
		h.id.Host += strings.Repeat("x", i)
		_ = rawLink(t, a, h).Close()
	}
	soon(t, "the table is empty", func() bool {
		a.mu.RLock()
		defer a.mu.RUnlock()
		return len(a.peers) == 0
	})
}

func TestPeerChangesAreTold(t *testing.T) {
	bed := newTestbed(t)
	var mu sync.Mutex
	var last PeerState
	told := 0
	a := bed.start("a", func(o *Options) {
		o.OnPeer = func(p PeerState) {
			mu.Lock()
			defer mu.Unlock()
			last, told = p, told+1
		}
	})
	b := bed.start("b")
	b.Handle(ServiceHost, replyEcho)
	if _, err := call(t, a, "b", Normal, nil); err != nil {
		t.Fatal(err)
	}
	is := func(alive bool) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return last.Host == "b" && last.LinkUp == alive && last.Alive == alive
		}
	}
	soon(t, "the link is told", is(true))
	b.Kill()
	soon(t, "its end is told", is(false))
	mu.Lock()
	defer mu.Unlock()
	if told > 4 {
		t.Fatalf("told %d times", told)
	}
}
