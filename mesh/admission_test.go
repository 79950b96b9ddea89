package mesh

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// roll names the hosts of a cluster, and may change.
type roll struct {
	mu    sync.Mutex
	names []string
}

func (r *roll) hosts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.names)
}

func (r *roll) set(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = names
}

func (r *roll) followed(o *Options) {
	o.Hosts = r.hosts
	o.Admit = func(host string) bool { return slices.Contains(r.hosts(), host) }
}

// A certificate of the authority and the cluster's name do not make a member: who is not admitted gets neither links nor gossip, and is
// told why. Once it is, it is served soon, whoever dials first.
func TestHostOutsideTheCluster(t *testing.T) {
	ca := newAuthority(t)
	bed := newTestbed(t)
	known, all := &roll{names: []string{"a", "b"}}, &roll{names: []string{"a", "b", "new"}}
	start := func(name string, r *roll) *Mesh {
		m := bed.start(name, r.followed, withTLS(ca.issue(t.TempDir(), name, "")))
		m.Handle(ServiceHost, replyEcho)
		return m
	}
	a, b, stranger := start("a", known), start("b", known), start("new", all)
	if _, err := call(t, b, "a", Normal, nil); err != nil {
		t.Fatal(err)
	}
	for _, class := range []Class{Normal, Bulk} {
		var refused *StrangerError
		if got, err := call(t, stranger, "a", class, []byte("everything")); !errors.As(err, &refused) || refused.Host != "new" {
			t.Fatalf("it is answered: %q, %v", got, err)
		}
	}
	if _, err := stranger.gossip.list.Join([]string{a.Addr()}); err == nil {
		t.Error("it joined by gossip")
	}
	for _, p := range a.Peers() {
		if p.Host == "new" {
			t.Errorf("it is known: %+v", p)
		}
	}
	if s := a.Stats(); s.Refused < 2 {
		t.Errorf("%d refusals are counted", s.Refused)
	}
	known.set("a", "b", "new")
	soon(t, "it is served", func() bool { _, err := call(t, stranger, "a", Normal, nil); return err == nil })
	soon(t, "gossip takes it in", func() bool { return gossipAlive(a, "new") && gossipAlive(stranger, "a") })
	if _, err := call(t, b, "new", Normal, nil); err != nil {
		t.Fatal(err)
	}
}

// Who was turned away dials at once when the other side has dialled, which shows that it is known now.
func TestStrangerIsForgivenByALink(t *testing.T) {
	bed := newTestbed(t)
	known := &roll{names: []string{"a"}}
	a := bed.start("a", known.followed)
	b := bed.start("b", func(o *Options) { o.Timing.BackoffMin, o.Timing.BackoffMax = time.Hour, time.Hour })
	a.Handle(ServiceHost, replyEcho)
	b.Handle(ServiceHost, replyEcho)
	if _, err := call(t, b, "a", Normal, nil); !errors.As(err, new(*StrangerError)) {
		t.Fatal(err)
	}
	known.set("a", "b")
	if _, err := call(t, a, "b", Normal, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, b, "a", Normal, nil); err != nil {
		t.Fatal(err)
	}
}

// The links of a host that is not admitted any more end, those to it and those from it, and nothing of it is kept.
func TestLinksOfADroppedHostEnd(t *testing.T) {
	bed := newTestbed(t)
	known := &roll{names: []string{"a", "b"}}
	a := bed.start("a", known.followed, func(o *Options) { o.Hosts = nil })
	b := bed.start("b")
	a.Handle(ServiceHost, replyEcho)
	b.Handle(ServiceHost, replyEcho)
	for _, m := range []*Mesh{a, b} {
		other := map[*Mesh]string{a: "b", b: "a"}[m]
		for _, class := range []Class{Normal, Bulk} {
			if _, err := call(t, m, other, class, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	bed.remove("b")
	known.set("a")
	soon(t, "nothing of it is left", func() bool {
		a.mu.RLock()
		defer a.mu.RUnlock()
		return a.peers["b"] == nil
	})
	soon(t, "it is told", func() bool {
		_, err := call(t, b, "a", Normal, nil)
		if err == nil {
			t.Fatal("it is served")
		}
		return errors.As(err, new(*StrangerError))
	})
	if _, err := call(t, a, "b", Normal, nil); !errors.Is(err, ErrUnknownHost) {
		t.Fatalf("it is called: %v", err)
	}
}

// Whoever may gossip tells of hosts that nobody knows: they do not become peers.
func TestGossipOfStrangers(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a", (&roll{names: []string{"a", "b"}}).followed)
	for i := range 200 {
		sendPacket(t, a, labelled("c", aliveAs(fmt.Sprintf("stranger-%d", i))))
	}
	// Gossip is handled newest first: b is heard of while strangers may still wait, so it comes last again and again.
	soon(t, "who is known is heard of", func() bool {
		sendPacket(t, a, labelled("c", aliveAs("b")))
		return gossipAlive(a, "b")
	})
	soon(t, "nothing waits", func() bool { return len(a.gossip.transport.packets) == 0 })
	if in := a.gossip.alive(); len(in) > 2 {
		t.Errorf("%d hosts are alive", len(in))
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if len(a.peers) > 1 {
		t.Errorf("%d peers", len(a.peers))
	}
}

// However many connect: only so many connections are kept, and there is room again when they go.
func TestConnectionBound(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a", func(o *Options) { o.Limits.Connections = 4 })
	var held []net.Conn
	for i := range 4 {
		h := strangerHello()
		h.id.Host += fmt.Sprint(i)
		held = append(held, roomyLink(t, a, h))
	}
	before := a.Stats().HandshakeDrops
	c, err := net.Dial("tcp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Fatalf("one more is kept: %d bytes, %v", n, err)
	}
	if a.Stats().HandshakeDrops == before {
		t.Fatal("none was dropped")
	}
	for _, c := range held {
		_ = c.Close()
	}
	soon(t, "there is room again", func() bool {
		a.conns.mu.Lock()
		defer a.conns.mu.Unlock()
		return len(a.conns.open) == 0
	})
	roomyLink(t, a, strangerHello())
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
