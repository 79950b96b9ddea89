package mesh

import (
	"sync"
	"testing"
	"time"
)

// seen keeps what OnPeer said of hosts.
type seen struct {
	mu  sync.Mutex
	now map[string]PeerState
	ref map[string]int
}

func (s *seen) note(o *Options) {
	s.now, s.ref = map[string]PeerState{}, map[string]int{}
	o.OnPeer = func(p PeerState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.Refused && !s.now[p.Host].Refused {
			s.ref[p.Host]++
		}
		s.now[p.Host] = p
	}
}

func (s *seen) of(host string) (PeerState, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now[host], s.ref[host]
}

// within waits for what should not happen, and reports whether it did.
func within(d time.Duration, cond func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			return true
		}
	}
	return cond()
}

// TestDeathOverTheirLink: the death of a peer whose own link to this host is the only one is found out, too: it is over that link that a
// leader's beats come.
func TestDeathOverTheirLink(t *testing.T) {
	bed := newTestbed(t)
	var s seen
	a := bed.start("a", s.note)
	a.Handle(ServiceHost, replyEcho)
	b := bed.start("b")
	if _, err := call(t, b, "a", Urgent, nil); err != nil {
		t.Fatal(err)
	}
	soon(t, "the peer is told", func() bool { p, _ := s.of("b"); return p.Alive })
	b.Kill()
	soon(t, "the end of its link is told", func() bool { p, _ := s.of("b"); return !p.LinkUp && len(a.inbounds("b")) == 0 })
	soon(t, "the death is told", func() bool { p, _ := s.of("b"); return p.Refused && p.Incarnation == b.Self().Incarnation })
}

func (m *Mesh) inbounds(host string) (all []*inbound) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range m.peers[host].sessions {
		if in != nil {
			all = append(all, in)
		}
	}
	return all
}

// TestOldRefusal: that an address refused connections before a process listened there says nothing of that process.
func TestOldRefusal(t *testing.T) {
	bed := newTestbed(t)
	var s seen
	a := bed.start("a", s.note, func(o *Options) { o.Timing.BackoffMin, o.Timing.BackoffMax = 20*time.Second, 20*time.Second })
	a.Handle(ServiceHost, replyEcho)
	old := bed.start("b")
	addr := old.Addr()
	old.Kill()
	if _, err := call(t, a, "b", Normal, nil); err == nil {
		t.Fatal("nobody is there")
	}
	soon(t, "the refusal is told", func() bool { _, n := s.of("b"); return n == 1 })
	b := bed.start("b", func(o *Options) { o.Addr = addr })
	b.Handle(ServiceHost, replyEcho)
	p := newProxy(t, a.Addr())
	bed.place("a", p.addr())
	if _, err := call(t, b, "a", Urgent, nil); err != nil {
		t.Fatal(err)
	}
	soon(t, "the return is told", func() bool { p, _ := s.of("b"); return p.Alive && !p.Refused })
	p.cut() // the link alone: b lives on, and nobody has dialled it since
	within(time.Second, func() bool { _, n := s.of("b"); return n > 1 })
	if _, n := s.of("b"); n > 1 {
		t.Errorf("a process that lives and listens is told dead because its address refused an earlier dial (%d dials)", a.Stats().Dials)
	}
}

// TestDeathAfterFlaps: the death of a peer is found out though its links broke early some times before.
func TestDeathAfterFlaps(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	b.Handle(ServiceHost, replyEcho)
	p := newProxy(t, b.Addr())
	bed.place("b", p.addr())
	var s seen
	a := bed.start("a", s.note)
	for i := range maxAsks + 1 {
		soon(t, "a link", func() bool { _, err := call(t, a, "b", Normal, nil); return err == nil })
		if i < maxAsks {
			p.cut()
			soon(t, "its end", func() bool { p, _ := s.of("b"); return !p.LinkUp })
		}
	}
	bed.place("b", b.Addr()) // where a dial would be refused
	b.Kill()
	soon(t, "the death is told", func() bool { p, _ := s.of("b"); return p.Refused })
}
