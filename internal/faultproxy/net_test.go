package faultproxy

import (
	"testing"
	"time"

	"github.com/adamantdb/adamant/config"
)

// cluster is one of hosts that only listen.
func cluster(t *testing.T, names ...string) (*config.Cluster, *Net) {
	t.Helper()
	hosts := map[string]config.Host{}
	for _, name := range names {
		addr, _ := listen(t)
		hosts[name] = config.Host{Addr: addr}
	}
	c, err := config.Generate(config.Spec{Cluster: "net", Hosts: hosts, Partitions: 1, Voters: len(names)})
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(c, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return c, n
}

func TestFilesNameTheProxies(t *testing.T) {
	c, n := cluster(t, "h1", "h2", "h3")
	check := func(version uint64) {
		t.Helper()
		for _, from := range c.HostNames() {
			file, err := config.Load(n.File(from))
			if err != nil {
				t.Fatal(err)
			}
			for to, h := range file.Hosts {
				want := c.Hosts[to].Addr
				if from != to {
					want = n.Path(from, to).Addr()
				}
				if h.Addr != want || file.Version != version || len(file.Hosts) != 3 {
					t.Errorf("version %d: %s finds %s at %s instead of %s", file.Version, from, to, h.Addr, want)
				}
			}
		}
	}
	check(1)
	next := c.Clone()
	next.Version = 2
	if err := n.Write(next); err != nil {
		t.Fatal(err)
	}
	check(2)
	next.Hosts["h4"] = config.Host{Addr: "127.0.0.1:1"}
	if err := n.Write(next); err == nil {
		t.Error("a host without proxies")
	}
}

// cuts are the directions that are cut, by who sends and who receives.
func cuts(n *Net) map[path]bool {
	out := map[path]bool{}
	for at, p := range n.proxies {
		p.mu.Lock()
		if p.cut&Forward != 0 {
			out[at] = true
		}
		if p.cut&Backward != 0 {
			out[path{at.to, at.from}] = true
		}
		p.mu.Unlock()
	}
	return out
}

func TestCutsOfHosts(t *testing.T) {
	_, n := cluster(t, "h1", "h2", "h3")
	check := func(want ...path) {
		t.Helper()
		got := cuts(n)
		for _, p := range want {
			if !got[p] {
				t.Errorf("%v is not cut", p)
			}
		}
		if len(got) != len(want) {
			t.Errorf("cut are %v", got)
		}
		n.Heal()
	}
	n.Cut("h1", "h2")
	check(path{"h1", "h2"})
	n.Isolate("h3")
	check(path{"h1", "h3"}, path{"h3", "h1"}, path{"h2", "h3"}, path{"h3", "h2"})
	n.Mute("h3")
	check(path{"h3", "h1"}, path{"h3", "h2"})
	n.Deafen("h3")
	check(path{"h1", "h3"}, path{"h2", "h3"})
	n.Split([]string{"h1"}, []string{"h2"})
	check(path{"h1", "h2"}, path{"h2", "h1"})
	check()
}

func TestDelaysOfHosts(t *testing.T) {
	_, n := cluster(t, "h1", "h2", "h3")
	n.RoundTrip(9 * time.Millisecond)
	n.Delay("h1", "h2", time.Second)
	for at, want := range map[path][2]time.Duration{
		{"h1", "h2"}: {time.Second, 4500 * time.Microsecond},
		{"h2", "h1"}: {4500 * time.Microsecond, time.Second},
		{"h2", "h3"}: {4500 * time.Microsecond, 4500 * time.Microsecond},
	} {
		if got := n.Path(at.from, at.to).delay; got != want {
			t.Errorf("%v: %v instead of %v", at, got, want)
		}
	}
	n.Reset("h1", "h2")
}
