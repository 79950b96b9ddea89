package faultproxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// soon bounds what must happen; a while is how long what must not happen is waited for.
const (
	soon  = time.Minute
	while = 50 * time.Millisecond
)

// listen is a target; what arrives there comes out of the channel.
func listen(t *testing.T) (string, <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conns := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	return l.Addr().String(), conns
}

// pair is a proxy with one connection through it.
func pair(t *testing.T) (p *Proxy, dialler, target net.Conn) {
	t.Helper()
	addr, conns := listen(t)
	p, err := Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	dialler = dial(t, p)
	return p, dialler, arrived(t, conns)
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func arrived(t *testing.T, conns <-chan net.Conn) net.Conn {
	t.Helper()
	select {
	case c := <-conns:
		t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(soon):
		t.Fatal("nobody came")
		return nil
	}
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	_ = c.SetReadDeadline(time.Now().Add(soon))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("%q, %v instead of %q", b, err, want)
	}
}

// silent waits in vain for anything, the end of the connection included.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(while))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v through a cut", n, err)
	}
}

// ended waits for the end of the connection, and returns how it ended.
func ended(t *testing.T, c net.Conn) error {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(soon))
	n, err := c.Read(make([]byte, 1))
	if n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v instead of the end", n, err)
	}
	return err
}

func TestPassesEverythingOn(t *testing.T) {
	_, a, b := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), (window+window/4)/16) // more than may be on its way
	go func() {
		_, _ = a.Write(sent)
		_ = a.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	say(t, b, "and back") // the other half is still open
	hear(t, a, "and back")
	b.Close()
	if err := ended(t, a); err != io.EOF {
		t.Error(err)
	}
}

func TestCutHoldsBack(t *testing.T) {
	p, a, b := pair(t)
	for _, c := range []struct {
		direction  Direction
		held, free net.Conn // who sends in vain, and who does not
	}{{Forward, a, b}, {Backward, b, a}} {
		p.Cut(c.direction)
		say(t, c.held, "held")
		silent(t, c.free)
		say(t, c.free, "free")
		hear(t, c.held, "free")
		p.Heal()
		hear(t, c.free, "held")
	}
}

func TestCutHoldsBackTheEnd(t *testing.T) {
	for _, reset := range []bool{false, true} {
		p, a, b := pair(t)
		p.Cut(Both)
		if reset {
			_ = a.(*net.TCPConn).SetLinger(0)
		}
		a.Close()
		silent(t, b)
		p.Heal()
		if err := ended(t, b); reset == (err == io.EOF) {
			t.Errorf("reset %v: %v", reset, err)
		}
	}
}

func TestCutHoldsBackNewConnections(t *testing.T) {
	addr, conns := listen(t)
	p, err := Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Cut(Forward)
	a := dial(t, p)
	say(t, a, "hello")
	select {
	case <-conns:
		t.Fatal("somebody came through a cut")
	case <-time.After(while):
	}
	p.Heal()
	hear(t, arrived(t, conns), "hello")
}

func TestSenderIsStopped(t *testing.T) {
	p, a, b := pair(t)
	p.Cut(Forward)
	_ = a.SetWriteDeadline(time.Now().Add(time.Second))
	sent, err := a.Write(make([]byte, 64<<20)) // the system's own buffers hold some, too
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes into a cut, %v", sent, err)
	}
	p.Heal()
	_ = a.SetWriteDeadline(time.Time{})
	a.Close()
	if n, err := io.Copy(io.Discard, b); err != nil || n != int64(sent) {
		t.Errorf("%d of %d bytes, %v", n, sent, err)
	}
}

func TestDelay(t *testing.T) {
	p, a, b := pair(t)
	const forward, backward = 30 * time.Millisecond, 60 * time.Millisecond
	p.Delay(Forward, forward)
	p.Delay(Backward, backward)
	begun := time.Now()
	say(t, a, "ping")
	hear(t, b, "ping")
	there := time.Since(begun)
	say(t, b, "pong")
	hear(t, a, "pong")
	if back := time.Since(begun) - there; there < forward || back < backward {
		t.Errorf("there in %v, back in %v", there, back)
	}
	// What is sent meanwhile does not wait in line: it is on its way at the same time.
	p.Delay(Both, forward)
	begun = time.Now()
	const pieces = 1000
	for range pieces {
		say(t, a, "x")
		time.Sleep(100 * time.Microsecond)
	}
	hear(t, b, string(bytes.Repeat([]byte("x"), pieces)))
	if took := time.Since(begun); took > pieces/2*forward {
		t.Errorf("%d small pieces took %v", pieces, took)
	}
}

func TestReset(t *testing.T) {
	p, a, b := pair(t)
	p.Cut(Both)
	p.Reset()
	for _, c := range []net.Conn{a, b} {
		if err := ended(t, c); err == io.EOF {
			t.Error("a reset looks like an end")
		}
	}
	p.Heal()
	say(t, dial(t, p), "again") // it goes on
}

func TestTargetThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p, err := Listen(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Cut(Backward)
	a := dial(t, p)
	silent(t, a)
	p.Heal()
	ended(t, a)
}

func TestCloseEndsEverything(t *testing.T) {
	p, a, b := pair(t)
	p.Cut(Both)
	p.Delay(Both, time.Hour)
	say(t, a, "never")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	ended(t, a)
	ended(t, b)
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		c.Close()
		t.Error("a closed proxy accepts")
	}
}
