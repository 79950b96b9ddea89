package adamant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/config"
)

// routingHost is a host that knows others by their reports only.
func routingHost(t testing.TB, hosts, partitions int) *Host {
	t.Helper()
	spec := config.Spec{Cluster: "test", Hosts: map[string]config.Host{}, Partitions: partitions, Voters: 3}
	for i := 1; i <= hosts; i++ {
		spec.Hosts[fmt.Sprintf("h%d", i)] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 1000+i), HTTP: fmt.Sprintf("127.0.0.1:%d", 2000+i), Zone: "z"}
	}
	c, err := config.Generate(spec)
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{name: "observer", route: make(chan struct{}), table: routingTable{process: 7}, reports: reportTable{heartbeat: time.Second}}
	h.context, h.stop = context.WithCancel(context.Background())
	h.config.Store(c)
	return h
}

// told has every host report; each partition is led by its preferred host, unless other says otherwise.
func (h *Host) told(t testing.TB, number uint64, now time.Time, change func(host string, m *memberReport)) {
	t.Helper()
	c := h.cluster()
	for name := range c.Hosts {
		r := report{Incarnation: "i", Process: 1, Number: number}
		for _, p := range c.Partitions {
			if !p.HasVoter(name) {
				continue
			}
			m := memberReport{Partition: p.ID, Flags: flagReady | flagComplete, Epoch: 3, Leader: p.Prefer + "@i"}
			if p.Prefer == name {
				m.Flags |= flagServing
			}
			if change != nil {
				change(name, &m)
			}
			r.Members = append(r.Members, m)
		}
		if _, err := h.reports.take(name, r, now); err != nil {
			t.Fatal(err)
		}
	}
	h.routeChanged()
}

// TestRoutingSendsOnlyWhatChanged: of a thousand partitions, the one that got another leader is sent; who knows a version of
// another process, or an older configuration, gets everything.
func TestRoutingSendsOnlyWhatChanged(t *testing.T) {
	h := routingHost(t, 5, 1000)
	now := time.Now()
	h.told(t, 1, now, nil)
	look := func(after RoutingVersion, now time.Time) (RoutingUpdate, time.Duration, bool) {
		h.table.took = 0 // a busy machine's looks are slow, and would be rationed
		return h.table.look(h, after, now)
	}
	first, _, _ := look(RoutingVersion{}, now)
	if !first.Whole || len(first.Routes) != 1000 || len(first.Hosts) != 5 || first.Host != "observer" {
		t.Fatalf("the first look: whole %v, %d routes, %d hosts", first.Whole, len(first.Routes), len(first.Hosts))
	}
	p := h.cluster().Partitions[500]
	want := Route{Partition: p.ID, First: fmt.Sprintf("%016x", p.From), Last: fmt.Sprintf("%016x", h.cluster().Partitions[501].From-1), Leader: p.Prefer,
		Addr: h.cluster().Hosts[p.Prefer].Addr, HTTP: h.cluster().Hosts[p.Prefer].HTTP, Epoch: 3, Serving: true}
	for _, v := range p.Voters {
		want.Members = append(want.Members, RouteMember{Host: v, Voter: true, Alive: true, Complete: true})
	}
	if !reflect.DeepEqual(first.Routes[500], want) {
		t.Errorf("got %+v, want %+v", first.Routes[500], want)
	}
	// One leadership moves, one follower becomes sick.
	h.told(t, 2, now, func(host string, m *memberReport) {
		switch m.Partition {
		case p.ID:
			m.Epoch, m.Leader = 4, p.Voters[1]+"@i"
			if m.Flags &^= flagServing; host == p.Voters[1] {
				m.Flags |= flagServing
			}
		case 7:
			if host == h.cluster().Partitions[7].Voters[2] {
				m.Flags &^= flagComplete
			}
		}
	})
	now = now.Add(time.Second)
	moved, _, pending := look(first.Version, now)
	if moved.Whole || pending || len(moved.Routes) != 2 || moved.Routes[1].Leader != p.Voters[1] || moved.Routes[1].Epoch != 4 || !moved.Routes[1].Serving {
		t.Fatalf("after one flip: pending %v, %+v", pending, moved)
	}
	if sick := moved.Routes[0]; sick.Partition != 7 || sick.Members[2].Complete || !sick.Members[0].Complete {
		t.Errorf("the sick member: %+v", sick)
	}
	if again, _, _ := look(moved.Version, now); again.Version != moved.Version || len(again.Routes) > 0 {
		t.Errorf("nothing has changed: %+v", again)
	}
	for _, stranger := range []RoutingVersion{{}, {process: 8, number: 1}, {process: 7, number: 99}} {
		if u, _, _ := look(stranger, now); !u.Whole || len(u.Routes) != 1000 {
			t.Errorf("to %v: whole %v, %d routes", stranger, u.Whole, len(u.Routes))
		}
	}
	next := h.cluster().Clone()
	next.Version++
	h.config.Store(next)
	h.routeChanged()
	if u, _, _ := look(moved.Version, now.Add(time.Second)); !u.Whole {
		t.Error("another configuration: not everything was sent")
	}
}

// TestRoutingLooksAreRationed: news that come close together cost one look, and silence is noticed without news.
func TestRoutingLooksAreRationed(t *testing.T) {
	h := routingHost(t, 3, 4)
	now := time.Now()
	h.told(t, 1, now, nil)
	first, _, _ := h.table.look(h, RoutingVersion{}, now)
	h.told(t, 2, now, func(_ string, m *memberReport) { m.Epoch++ })
	h.table.took = 0
	u, again, pending := h.table.look(h, first.Version, now.Add(routingGap/2))
	if u.Version != first.Version || !pending || again != routingGap-routingGap/2 {
		t.Errorf("within the gap: version %v, again in %v, pending %v", u.Version, again, pending)
	}
	h.table.took = time.Second
	if _, again, _ := h.table.look(h, first.Version, now.Add(time.Second)); again != (routingShare-1)*time.Second {
		t.Errorf("looks that take a second: the next in %v", again)
	}
	h.table.took = 0
	if u, _, _ = h.table.look(h, first.Version, now.Add(routingGap)); len(u.Routes) != 4 || u.Routes[0].Epoch != 4 {
		t.Errorf("after the gap: %+v", u)
	}
	silent, _, _ := h.table.look(h, u.Version, now.Add(freshFor))
	if len(silent.Routes) != 4 || silent.Routes[0].Members[0].Alive || silent.Routes[0].Leader != "" {
		t.Errorf("hosts that fell silent: %+v", silent)
	}
}

func TestRoutingVersionText(t *testing.T) {
	for _, v := range []RoutingVersion{{}, {1, 2}, {1 << 63, 1<<64 - 1}} {
		text, err := json.Marshal(v)
		var back RoutingVersion
		if err2 := json.Unmarshal(text, &back); err != nil || err2 != nil || back != v {
			t.Errorf("%v became %s became %v: %v, %v", v, text, back, err, err2)
		}
	}
	for _, text := range []string{"x", "1-2", "0000000000000001", "0000000000000001-", "0000000000000001-02", "0000000000000001-2-3", "-", "0000000000000000-0", "000000000000000G-1"} {
		if err := new(RoutingVersion).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// TestWatchRouting: a watcher of every host learns of a transfer, a drain and a death, and that its host has closed.
func TestWatchRouting(t *testing.T) { synctest.Test(t, testWatchRouting) }

func testWatchRouting(t *testing.T) {
	c := newSimCluster(t, 3, 6, 3, nil)
	c.ready()
	c.healthy()
	ctx := testContext(t)
	type view struct {
		version RoutingVersion
		routes  map[uint32]Route
	}
	views := map[string]*view{"h2": {routes: map[uint32]Route{}}, "h3": {routes: map[uint32]Route{}}}
	// until follows a host's table until it is as it should.
	until := func(name, what string, done func(v *view) bool) {
		t.Helper()
		v := views[name]
		for !done(v) {
			u, err := c.host(name).WatchRouting(ctx, v.version)
			if err != nil {
				t.Fatalf("%s waits for %s: %v, knows %+v", name, what, err, v.routes)
			}
			if u.Whole {
				clear(v.routes)
			}
			for _, r := range u.Routes {
				v.routes[r.Partition] = r
			}
			v.version = u.Version
		}
	}
	led := c.led("h1")
	for name := range views {
		until(name, "everything", func(v *view) bool {
			for _, r := range v.routes {
				if !r.Serving {
					return false
				}
			}
			return len(v.routes) == 6
		})
	}
	for id, epoch := range led {
		if err := c.host("h1").Transfer(ctx, id, "h2"); err != nil {
			t.Fatal(err)
		}
		for name := range views {
			until(name, "the transfer", func(v *view) bool {
				r := v.routes[id]
				return r.Leader == "h2" && r.Serving && r.Epoch > epoch && r.Addr == c.config.Hosts["h2"].Addr
			})
		}
		break
	}
	health := func(is func(RouteMember) bool) func(v *view) bool {
		return func(v *view) bool {
			for _, r := range v.routes {
				for _, m := range r.Members {
					if m.Host == "h1" && !is(m) || r.Leader == "h1" {
						return false
					}
				}
			}
			return true
		}
	}
	if err := c.host("h1").Drain(ctx); err != nil {
		t.Fatal(err)
	}
	until("h2", "the drain", health(func(m RouteMember) bool { return m.Draining && m.Alive && m.Complete }))
	c.kill("h1")
	for name := range views {
		until(name, "the death", health(func(m RouteMember) bool { return !m.Alive }))
	}
	ended := make(chan error, 1)
	h2 := c.host("h2")
	go func() {
		version := views["h2"].version
		for {
			u, err := h2.WatchRouting(context.Background(), version)
			if err != nil {
				ended <- err
				return
			}
			version = u.Version
		}
	}()
	c.kill("h2")
	var closed *ClosedError
	if err := <-ended; !errors.As(err, &closed) {
		t.Errorf("the watcher of a closed host: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	version := RoutingVersion{}
	for i := 0; ; i++ { // there is news at first: it is told although nobody waits
		u, err := c.host("h3").WatchRouting(gone, version)
		if i == 0 && (err != nil || !u.Whole) || u.Version == version && !errors.Is(err, context.Canceled) {
			t.Fatalf("a watcher that does not wait: %+v, %v", u, err)
		}
		if version = u.Version; err != nil {
			break
		}
	}
}

// BenchmarkRoutingLook is the price of one look at a thousand partitions of five hosts.
func BenchmarkRoutingLook(b *testing.B) {
	h := routingHost(b, 5, 1000)
	h.told(b, 1, time.Now(), nil)
	b.ReportAllocs()
	for b.Loop() {
		h.table.refresh(h, time.Now())
	}
}

// TestNewTermIsNews: a leader that was elected again, in another term, is told to watchers at once.
func TestNewTermIsNews(t *testing.T) {
	table := reportTable{heartbeat: time.Second}
	r := report{Incarnation: "i", Process: 1, Number: 1}
	for _, step := range []struct {
		epoch uint64
		news  bool
	}{{4, true}, {4, false}, {5, true}} {
		r.Members = []memberReport{{Partition: 3, Epoch: step.epoch, Leader: "h1@i", Flags: flagServing}}
		if news, err := table.take("h1", r, time.Now()); err != nil || news != step.news {
			t.Errorf("term %d: news %v, %v", step.epoch, news, err)
		}
		r.Number++
	}
}
