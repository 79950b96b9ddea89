package simnet_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

var echo = mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) { reply(r.Payload, nil) })

func identity(name string) mesh.Identity {
	return mesh.Identity{Cluster: "c", Host: name, Incarnation: "1"}
}

// hosts adds hosts a, b, c... that echo.
func hosts(n *simnet.Net, count int) []*simnet.Host {
	var all []*simnet.Host
	for i := range count {
		h := n.Host(identity(string(rune('a' + i))))
		h.Handle(mesh.ServiceHost, echo)
		all = append(all, h)
	}
	return all
}

func start(from *simnet.Host, to string, payload string) *mesh.Pending {
	return from.Start(mesh.Target{Host: to}, mesh.Request{Service: mesh.ServiceHost, Payload: []byte(payload)})
}

// outcome waits for a request and says how long it took, and how it ended.
func outcome(p *mesh.Pending) (time.Duration, error) {
	_, err := p.Result()
	return time.Since(p.Sent()), err
}

func isDown(err error) bool {
	var down *mesh.LinkDownError
	return errors.As(err, &down)
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		h := hosts(n, 2)
		if took, err := outcome(start(h[0], "b", "x")); took != 0 || err != nil {
			t.Fatalf("%v, %v", took, err)
		}
		n.Delay(10*time.Millisecond, 0)
		if took, err := outcome(start(h[0], "b", "x")); took != 20*time.Millisecond || err != nil {
			t.Fatalf("%v, %v", took, err)
		}
		n.SetPath("a", "b", simnet.Faults{Delay: time.Second})
		if took, err := outcome(start(h[0], "b", "x")); took != time.Second+10*time.Millisecond || err != nil {
			t.Fatalf("%v, %v", took, err)
		}
		if p := h[0].Peers(); len(p) != 1 || p[0].RoundTrip != time.Second+10*time.Millisecond {
			t.Fatalf("%+v", p)
		}
	})
}

func TestSlowPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		h := hosts(n, 2)
		n.SetPath("a", "b", simnet.Faults{BytesPerSec: 1000})
		first, second := start(h[0], "b", string(make([]byte, 500))), start(h[0], "b", string(make([]byte, 1500)))
		urgent := h[0].Start(mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Class: mesh.Urgent})
		if took, _ := outcome(urgent); took != 0 {
			t.Errorf("urgent behind normal: %v", took)
		}
		if took, _ := outcome(first); took != 500*time.Millisecond {
			t.Errorf("first: %v", took)
		}
		if took, _ := outcome(second); took != 2*time.Second {
			t.Errorf("second: %v", took)
		}
	})
}

// Jitter does not reorder within a class, unless that is asked for.
func TestOrder(t *testing.T) {
	for _, reorder := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := simnet.New(3)
			h := hosts(n, 2)
			n.SetFaults(simnet.Faults{Jitter: 50 * time.Millisecond, Reorder: reorder})
			var mu sync.Mutex
			var got []int
			h[1].Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
				mu.Lock()
				got = append(got, int(binary.BigEndian.Uint32(r.Payload)))
				mu.Unlock()
				reply(nil, nil)
			}))
			var pending []*mesh.Pending
			for i := range uint32(200) {
				pending = append(pending, start(h[0], "b", string(binary.BigEndian.AppendUint32(nil, i))))
				time.Sleep(time.Millisecond)
			}
			for _, p := range pending {
				if _, err := p.Result(); err != nil {
					t.Fatal(err)
				}
			}
			if slices.IsSorted(got) == reorder || len(got) != 200 {
				t.Errorf("reorder %v: %v", reorder, got)
			}
		})
	}
}

func TestLoss(t *testing.T) {
	var runs []string
	for _, seed := range []uint64{1, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			n := simnet.New(seed)
			h := hosts(n, 2)
			n.SetFaults(simnet.Faults{Loss: 0.2})
			n.Detect(time.Second)
			var fates []byte
			for range 200 {
				switch took, err := outcome(start(h[0], "b", "x")); {
				case err == nil:
					fates = append(fates, '.')
				case isDown(err) && took == time.Second:
					fates = append(fates, 'x')
				default:
					t.Fatal(took, err)
				}
			}
			runs = append(runs, string(fates))
		})
	}
	lost := 0
	for _, c := range runs[0] {
		if c == 'x' {
			lost++
		}
	}
	if lost < 40 || lost > 110 { // 36 % expected: there and back
		t.Errorf("%d of 200 were lost", lost)
	}
	if runs[0] != runs[1] {
		t.Error("one seed, two fates")
	}
	if runs[0] == runs[2] {
		t.Error("two seeds, one fate")
	}
}

func TestDuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		h := hosts(n, 2)
		n.SetFaults(simnet.Faults{Duplicate: 1})
		served := 0
		h[1].Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
			served++
			r.Payload[0]++ // each delivery has its own
			reply(r.Payload, nil)
		}))
		got, err := start(h[0], "b", "a").Result()
		synctest.Wait()
		if err != nil || string(got) != "b" || served != 2 {
			t.Fatalf("%q, %v, served %d times", got, err, served)
		}
	})
}

func TestCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		h := hosts(n, 3)
		a, b := h[0], h[1]
		served := 0
		b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
			served++
			reply(nil, nil)
		}))
		check := func(what string, from *simnet.Host, to string, works bool) {
			t.Helper()
			took, err := outcome(start(from, to, "x"))
			if works && err != nil || !works && (!isDown(err) || took != 300*time.Millisecond) {
				t.Errorf("%s: %v after %v", what, err, took)
			}
		}
		n.CutOneWay("a", "b")
		check("request lost", a, "b", false)
		if served != 0 {
			t.Error("a request got through a cut")
		}
		check("reply lost", b, "a", false)
		n.Restore("a", "b")
		check("restored", a, "b", true)
		n.CutOneWay("b", "a")
		check("reply lost", a, "b", false)
		if served != 2 {
			t.Error("the request itself was not to be lost")
		}
		n.Heal()
		n.Cut("a", "b")
		check("cut", a, "b", false)
		check("cut", b, "a", false)
		check("another path", a, "c", true)
		if p := a.Peers(); p[0].Alive || !p[1].Alive {
			t.Errorf("%+v", p)
		}
		n.Heal()
		n.Partition([]string{"a"}, []string{"b"})
		check("split", a, "b", false)
		check("split from the rest", a, "c", false)
		n.Partition([]string{"a"})
		check("split from the rest", a, "c", false)
		check("within the rest", b, "c", true)
		n.Heal()
		check("healed", a, "b", true)

		// What is on its way when the cut comes is lost; what is on its way back, too.
		n.Delay(100*time.Millisecond, 0)
		p := start(a, "b", "x")
		time.Sleep(50 * time.Millisecond)
		n.Cut("a", "b")
		if took, err := outcome(p); !isDown(err) || took != 400*time.Millisecond {
			t.Errorf("in flight: %v after %v", err, took)
		}
	})
}

func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		h := hosts(n, 2)
		a, b := h[0], h[1]
		var told []mesh.PeerState
		a.OnPeer(func(p mesh.PeerState) { told = append(told, p) })
		b.Handle(mesh.ServiceRaft, mesh.HandlerFunc(func(mesh.Identity, mesh.Request, func([]byte, error)) {}))
		served := a.Start(mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceRaft})
		own := b.Start(mesh.Target{Host: "a"}, mesh.Request{Service: mesh.ServiceRepair})
		synctest.Wait()
		own2 := b.Start(mesh.Target{Host: "a"}, mesh.Request{Service: mesh.ServiceHost})
		n.Crash("b")
		if _, err := served.Result(); !isDown(err) {
			t.Errorf("being served at the crash: %v", err)
		}
		if _, err := own.Result(); !errors.Is(err, mesh.ErrNoHandler) {
			t.Errorf("answered before the crash: %v", err)
		}
		if _, err := own2.Result(); err != nil && !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("the crashed host's own: %v", err)
		}
		if _, err := start(a, "b", "x").Result(); !isDown(err) {
			t.Errorf("to the dead: %v", err)
		}
		if _, err := start(b, "a", "x").Result(); !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("from the dead: %v", err)
		}
		again := n.Host(mesh.Identity{Cluster: "c", Host: "b", Incarnation: "2"})
		again.Handle(mesh.ServiceHost, echo)
		if _, err := start(a, "b", "x").Result(); err != nil {
			t.Errorf("to the one that came back: %v", err)
		}
		var states []string
		for _, p := range told {
			states = append(states, fmt.Sprintf("%s@%s %v", p.Host, p.Incarnation, p.Alive))
		}
		if want := []string{"b@1 true", "b@1 false", "b@2 true"}; !slices.Equal(states, want) {
			t.Errorf("told %q", states)
		}
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		h := hosts(n, 2)
		n.Pause("b")
		p := start(h[0], "b", "x")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h[0].Call(ctx, mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		time.Sleep(9 * time.Second)
		n.Resume("b")
		if took, err := outcome(p); took != 10*time.Second || err != nil {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// A group of three in the bubble of synctest: a leader that is cut off loses
// its leadership, the others elect another one, and what the old one could not
// commit is gone. Minutes of it take no time.
func TestRaftUnderPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		defer n.Close()
		n.SetFaults(simnet.Faults{Delay: 2 * time.Millisecond, Jitter: 3 * time.Millisecond})
		names := []string{"a", "b", "c"}
		rafts := map[string]*raft.Raft{}
		var servers []raft.Server
		for _, name := range names {
			id := identity(name).ID()
			servers = append(servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
		}
		for _, name := range names {
			h := n.Host(identity(name))
			mux := mesh.NewRaftMux()
			h.Handle(mesh.ServiceRaft, mux)
			tr := mesh.NewRaftTransport(h, 1, raft.ServerID(h.Self().ID()), mesh.RaftOptions{})
			if err := mux.Add(tr); err != nil {
				t.Fatal(err)
			}
			conf := raft.DefaultConfig()
			conf.LocalID, conf.Logger = raft.ServerID(h.Self().ID()), hclog.NewNullLogger()
			store := raft.NewInmemStore()
			if err := raft.BootstrapCluster(conf, store, store, raft.NewInmemSnapshotStore(), tr, raft.Configuration{Servers: servers}); err != nil {
				t.Fatal(err)
			}
			r, err := raft.NewRaft(conf, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), tr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = tr.Close()
				_ = r.Shutdown().Error()
			}()
			rafts[name] = r
		}
		leader := func(among ...string) string {
			for range 1000 {
				for _, name := range among {
					if rafts[name].State() == raft.Leader && rafts[name].VerifyLeader().Error() == nil {
						return name
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Fatal("no leader in ten seconds")
			return ""
		}
		for round := range 20 {
			old := leader(names...)
			if err := rafts[old].Apply([]byte("x"), 0).Error(); err != nil {
				t.Fatal(err)
			}
			n.Partition([]string{old})
			lost := rafts[old].Apply([]byte("y"), 0)
			rest := slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == old })
			now := leader(rest...)
			if err := rafts[now].Apply([]byte("z"), 0).Error(); err != nil {
				t.Fatal(err)
			}
			if err := lost.Error(); err == nil {
				t.Fatalf("round %d: a leader that was cut off committed", round)
			}
			n.Heal()
			index := rafts[now].AppliedIndex()
			for range 1000 {
				if rafts[old].AppliedIndex() >= index {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if got := rafts[old].AppliedIndex(); got < index {
				t.Fatalf("round %d: %s applied %d of %d", round, old, got, index)
			}
		}
	})
}

// TestAlter has a host ask and answer something else, or not at all.
func TestAlter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		h := hosts(n, 3)
		n.Alter(func(m simnet.Message) ([]byte, error) {
			if m.From == "c" {
				return nil, errors.New("no")
			}
			if !m.Reply {
				return append(m.Payload, '?'), nil
			}
			return append(m.Payload, m.To...), nil
		})
		if got, err := start(h[0], "b", "x").Result(); string(got) != "x?a" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := start(h[0], "c", "x").Result(); err == nil {
			t.Error("no error")
		}
		n.Alter(nil)
		if got, err := start(h[0], "c", "x").Result(); string(got) != "x" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestSpeak has a host's program be of another version for a while.
func TestSpeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		h := hosts(n, 3)
		n.Speak("b", 2)
		var version *mesh.VersionError
		for _, pair := range [][2]int{{0, 1}, {1, 0}} {
			to := []string{"a", "b"}[pair[1]]
			if _, err := start(h[pair[0]], to, "x").Result(); !errors.As(err, &version) || version.Peer != to {
				t.Errorf("to %s: %v", to, err)
			}
		}
		if p := h[0].Peers()[0]; p.Host != "b" || p.LinkUp || p.Alive || p.Refused || !p.Gossip {
			t.Errorf("%+v", p)
		}
		if got, err := start(h[0], "c", "x").Result(); string(got) != "x" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		n.Speak("b", 0)
		if got, err := start(h[0], "b", "x").Result(); string(got) != "x" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}
