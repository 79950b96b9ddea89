package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// joined starts hosts that join each other through gossip.
func joined(bed *testbed, names []string, adjust ...func(*Options)) map[string]*Mesh {
	hosts := func(o *Options) { o.Hosts = func() []string { return names } }
	meshes := map[string]*Mesh{}
	for _, name := range names {
		meshes[name] = bed.start(name, append([]func(*Options){hosts}, adjust...)...)
	}
	return meshes
}

func gossipAlive(m *Mesh, host string) bool {
	for _, p := range m.Peers() {
		if p.Host == host {
			return p.Gossip
		}
	}
	return false
}

func TestGossipJoinAndDeath(t *testing.T) {
	for _, key := range []string{"", "0123456789abcdef", "0123456789abcdef01234567", "0123456789abcdef0123456789abcdef"} {
		t.Run(fmt.Sprintf("key of %d bytes", len(key)), func(t *testing.T) {
			t.Parallel()
			bed := newTestbed(t)
			names := []string{"a", "b", "c", "d"}
			hosts := joined(bed, names, func(o *Options) { o.GossipKey = []byte(key); o.Timing.Probe = 0 }) // as in production
			soon(t, "all know all", func() bool {
				for _, m := range hosts {
					for _, name := range names {
						if name != m.Self().Host && !gossipAlive(m, name) {
							return false
						}
					}
				}
				return true
			})
			for _, p := range hosts["a"].Peers() {
				if !p.Alive || p.Incarnation != "i-"+p.Host || p.LinkUp {
					t.Errorf("known from gossip alone: %+v", p)
				}
			}
			hosts["d"].Kill()
			start := time.Now()
			for _, name := range names[:3] {
				soon(t, "the death is noticed", func() bool { return !gossipAlive(hosts[name], "d") })
			}
			took := time.Since(start)
			t.Logf("death noticed by all after %v", took)
			if took > patience/2 {
				t.Errorf("death noticed after %v", took)
			}
			// An orderly end is known at once.
			start = time.Now()
			_ = hosts["c"].Close()
			for _, name := range names[:2] {
				soon(t, "the farewell is noticed", func() bool { return !gossipAlive(hosts[name], "c") })
			}
			t.Logf("farewell noticed by all after %v", time.Since(start))
			// And both come back, one at another address.
			bed.remove("d")
			for _, name := range []string{"c", "d"} {
				bed.start(name, func(o *Options) {
					o.GossipKey, o.Incarnation, o.Hosts = []byte(key), "new", func() []string { return names }
					if addr, ok := bed.resolve(name); ok {
						o.Addr = addr
					}
				})
			}
			soon(t, "both are back", func() bool {
				for _, m := range []*Mesh{hosts["a"], hosts["b"]} {
					for _, p := range m.Peers() {
						if !p.Gossip || (p.Host > "b" && p.Incarnation != "new") {
							return false
						}
					}
				}
				return true
			})
			for _, m := range hosts {
				if n := m.Stats().Conflicts; n != 0 {
					t.Errorf("%d conflicts", n)
				}
			}
		})
	}
}

// Hosts of another cluster, or with another key, are not taken in.
func TestGossipKeepsOut(t *testing.T) {
	bed := newTestbed(t)
	key := func(k string) func(*Options) { return func(o *Options) { o.GossipKey = []byte(k) } }
	a := bed.start("a", key("0123456789abcdef"))
	same := bed.start("same", key("0123456789abcdef"))
	otherKey := bed.start("otherKey", key("xxxxxxxxxxxxxxxx"))
	noKey := bed.start("noKey")
	otherCluster := bed.start("otherCluster", key("0123456789abcdef"), func(o *Options) { o.Cluster = "elsewhere" })
	for _, m := range []*Mesh{otherKey, noKey, otherCluster} {
		if n, err := m.gossip.list.Join([]string{a.Addr()}); err == nil {
			t.Errorf("%s joined %d hosts", m.Self().Host, n)
		}
		if _, err := a.gossip.list.Join([]string{m.Addr()}); err == nil {
			t.Errorf("a joined %s", m.Self().Host)
		}
	}
	if _, err := same.gossip.list.Join([]string{a.Addr()}); err != nil {
		t.Errorf("the same key: %v", err)
	}
	soon(t, "a knows those with its key", func() bool { return gossipAlive(a, "same") })
	for _, p := range a.Peers() {
		if p.Host == "otherKey" || p.Host == "noKey" || p.Host == "otherCluster" {
			t.Errorf("%+v", p)
		}
	}
}

// The key of a running cluster can be changed without anyone being cut off.
func TestGossipKeyChange(t *testing.T) {
	older, newer := []byte("0123456789abcdef"), []byte("fedcba9876543210")
	bed := newTestbed(t)
	a := bed.start("a", func(o *Options) { o.GossipKey = older })
	b := bed.start("b", func(o *Options) { o.GossipKey = older })
	meet := func(want bool) {
		t.Helper()
		for _, pair := range [][2]*Mesh{{a, b}, {b, a}} {
			if _, err := pair[0].gossip.list.Join([]string{pair[1].Addr()}); (err == nil) != want {
				t.Fatalf("%s joins %s: %v", pair[0].Self().Host, pair[1].Self().Host, err)
			}
		}
	}
	meet(true)
	for _, step := range []struct {
		key   []byte
		other [][]byte
	}{{older, [][]byte{newer}}, {newer, [][]byte{older}}, {newer, nil}} {
		for _, m := range []*Mesh{a, b} {
			if err := m.SetGossipKeys(step.key, step.other); err != nil {
				t.Fatal(err)
			}
			meet(true)
		}
	}
	third := []byte("third key, as is")
	for _, keys := range [][][]byte{{newer, older, third}, {third, newer}, {older, third}, {older}} {
		if err := a.SetGossipKeys(keys[0], keys[1:]); err != nil {
			t.Fatal(err)
		}
		if got := a.gossip.keys.GetKeys(); len(got) != len(keys) || !bytes.Equal(got[0], keys[0]) {
			t.Fatalf("%q are installed instead of %q", got, keys)
		}
	}
	meet(false)
	if err := a.SetGossipKeys([]byte("short"), nil); err == nil {
		t.Fatal("a key of five bytes was taken")
	}
	if err := bed.start("c").SetGossipKeys(older, nil); err == nil {
		t.Fatal("gossip in the clear took a key")
	}
}

// conflicts collects what OnConflict hears.
type conflicts struct {
	mu   sync.Mutex
	errs []*DuplicateHostError
}

func (c *conflicts) hear(o *Options) {
	o.OnConflict = func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		var dup *DuplicateHostError
		if errors.As(err, &dup) {
			c.errs = append(c.errs, dup)
		}
	}
}

func (c *conflicts) first() *DuplicateHostError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.errs) == 0 {
		return nil
	}
	return c.errs[0]
}

// Two hosts of one name find out about each other, and others about them.
func TestDuplicateHost(t *testing.T) {
	bed := newTestbed(t)
	names := []string{"a", "b"}
	hosts := func(o *Options) { o.Hosts = func() []string { return names } }
	var atA, atFirst, atSecond conflicts
	bed.start("a", hosts, atA.hear)
	first := bed.start("b", hosts, atFirst.hear)
	// The second b listens elsewhere, as the same or as another incarnation: a
	// copied data directory is no excuse.
	second := bed.start("b", hosts, atSecond.hear)
	if first.Addr() == second.Addr() {
		t.Fatal("no second host")
	}
	for name, c := range map[string]*conflicts{"the second": &atSecond, "the first": &atFirst, "another host": &atA} {
		soon(t, name+" hears of it", func() bool { return c.first() != nil })
		if dup := c.first(); dup.Host != "b" || dup.One == dup.Other || dup.AboutMyself != (c != &atA) {
			t.Errorf("%s: %v (about myself: %v)", name, dup, dup.AboutMyself)
		}
	}
	// It is not repeated with every packet.
	time.Sleep(300 * time.Millisecond)
	atA.mu.Lock()
	defer atA.mu.Unlock()
	if len(atA.errs) > 2 {
		t.Errorf("heard %d times", len(atA.errs))
	}
}

// A host asks at the address that the cluster file gives for it, and finds
// another one there; that one finds out by being asked. Neither needs gossip.
func TestDuplicateHostAsksItself(t *testing.T) {
	bed := newTestbed(t)
	var atFirst, atSecond conflicts
	bed.start("b", atFirst.hear)
	bed.start("b", atSecond.hear)
	for name, c := range map[string]*conflicts{"the second": &atSecond, "the first": &atFirst} {
		soon(t, name+" hears of it", func() bool { return c.first() != nil })
		if dup := c.first(); dup.Host != "b" || !dup.AboutMyself {
			t.Errorf("%s: %v", name, dup)
		}
	}
}

// Without gossip: two processes of one name that keep linking to a third one.
func TestDuplicateDiallers(t *testing.T) {
	bed := newTestbed(t)
	var heard conflicts
	a := bed.start("a", heard.hear)
	one, two := strangerHello(), strangerHello()
	two.instance, two.addr = 6, "127.0.0.1:10"
	rawLink(t, a, one)
	rawLink(t, a, two) // it may be a restart
	if heard.first() != nil {
		t.Fatal("a restart was called a conflict")
	}
	hello := firstBytes(one)
	for i := range strikesForConflict {
		if heard.first() != nil {
			t.Fatal("what a dead process left behind was called a conflict")
		}
		want := refusedBusy
		if i == strikesForConflict-1 {
			want = refusedDuplicate
		}
		typ, payload := rawRead(t, rawDial(t, a, hello))
		if r, err := decodeRefusal(payload); typ != frameRefusal || err != nil || r.code != want {
			t.Fatalf("attempt %d of a process that was replaced: %s %+v %v", i, typ, r, err)
		}
	}
	soon(t, "the conflict is heard of", func() bool { return heard.first() != nil })
	if dup := heard.first(); dup.Host != "stranger" || dup.AboutMyself {
		t.Fatalf("%v", dup)
	}
}

// A process that is turned away as a duplicate learns that it is one.
func TestDuplicateIsTold(t *testing.T) {
	bed := newTestbed(t)
	var heard conflicts
	a := bed.start("a")
	b := bed.start("b", heard.hear)
	a.Handle(ServiceHost, replyEcho)
	if _, err := call(t, b, "a", Normal, nil); err != nil {
		t.Fatal(err)
	}
	impostor := strangerHello()
	impostor.id.Host = "b"
	rawLink(t, a, impostor)
	soon(t, "b learns of it", func() bool {
		_, _ = call(t, b, "a", Normal, nil)
		return heard.first() != nil
	})
	if dup := heard.first(); dup.Host != "b" || !dup.AboutMyself {
		t.Fatalf("%v", dup)
	}
}

// A process that comes back after its successor is gone is welcome.
func TestFormerProcessReturns(t *testing.T) {
	bed := newTestbed(t)
	var heard conflicts
	a := bed.start("a", heard.hear)
	one, two := strangerHello(), strangerHello()
	two.instance = 6
	for range 2 * strikesForConflict {
		for _, h := range []hello{one, two} {
			_ = rawLink(t, a, h).Close()
			soon(t, "the connection is gone", func() bool { return !a.peerAlive("stranger") })
		}
	}
	if heard.first() != nil {
		t.Fatal(heard.first())
	}
}

func TestGossipMeta(t *testing.T) {
	b := appendMeta(nil, 77, "incarnation")
	if instance, incarnation, err := decodeMeta(b); err != nil || instance != 77 || incarnation != "incarnation" {
		t.Fatal(instance, incarnation, err)
	}
	for _, bad := range [][]byte{nil, {1}, b[:9], append([]byte{2}, b[1:]...)} {
		if _, _, err := decodeMeta(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// Hosts without links exchange gossip and nothing else. Stats tells what they send: "bench idle" says from it what an idle pair of hosts costs.
func TestGossipIsCounted(t *testing.T) {
	bed := newTestbed(t)
	hosts := joined(bed, []string{"a", "b"})
	soon(t, "both know each other", func() bool { return gossipAlive(hosts["a"], "b") && gossipAlive(hosts["b"], "a") })
	joined := hosts["a"].Stats()
	if joined.GossipOut == 0 || joined.GossipIn == 0 {
		t.Fatalf("hosts that joined exchanged nothing: %+v", joined)
	}
	soon(t, "they probe each other", func() bool {
		s := hosts["a"].Stats()
		return s.GossipOut > joined.GossipOut && s.GossipIn > joined.GossipIn
	})
	for name, m := range hosts {
		if s := m.Stats(); s.FramesOut > 0 {
			t.Errorf("%s sent frames: %+v", name, s)
		}
	}
}
