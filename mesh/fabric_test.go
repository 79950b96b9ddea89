package mesh_test

import (
	"sync"
	"testing"
	"time"

	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

// fabric is a kind of network under test.
type fabric interface {
	// start brings a host up, in place of an earlier one of that name.
	start(t *testing.T, name, incarnation string) mesh.Network
	// kill ends a host as the death of its process would.
	kill(name string)
}

// fabrics are the kinds of networks that must behave alike.
var fabrics = []struct {
	name string
	make func(t *testing.T) fabric
}{
	{"tcp", func(t *testing.T) fabric { return newTCPFabric() }},
	{"simulated", func(t *testing.T) fabric { return &simFabric{net: simnet.New(1), hosts: map[string]*simnet.Host{}} }},
	{"simulated with delays", func(t *testing.T) fabric {
		n := simnet.New(2)
		n.Delay(200*time.Microsecond, 300*time.Microsecond)
		return &simFabric{net: n, hosts: map[string]*simnet.Host{}}
	}},
}

type simFabric struct {
	net   *simnet.Net
	hosts map[string]*simnet.Host
}

func (f *simFabric) start(t *testing.T, name, incarnation string) mesh.Network {
	h := f.net.Host(mesh.Identity{Cluster: "c", Host: name, Incarnation: incarnation})
	f.hosts[name] = h
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func (f *simFabric) kill(name string) { f.net.Crash(name) }

// tcpFabric runs meshes on loopback; a host keeps its port when it comes back.
type tcpFabric struct {
	mu     sync.Mutex
	addrs  map[string]string
	meshes map[string]*mesh.Mesh
	adjust func(*mesh.Options)
}

func newTCPFabric() *tcpFabric {
	return &tcpFabric{addrs: map[string]string{}, meshes: map[string]*mesh.Mesh{}}
}

func (f *tcpFabric) resolve(host string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.addrs[host]
	return a, ok
}

func (f *tcpFabric) hosts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for h := range f.addrs {
		names = append(names, h)
	}
	return names
}

func (f *tcpFabric) options(name, incarnation string) mesh.Options {
	addr, ok := f.resolve(name)
	if !ok {
		addr = "127.0.0.1:0"
	}
	return mesh.Options{
		Identity: mesh.Identity{Cluster: "c", Host: name, Incarnation: incarnation},
		Addr:     addr, Resolve: f.resolve, Hosts: f.hosts,
		Timing: mesh.Timing{BackoffMax: 200 * time.Millisecond, Join: 200 * time.Millisecond, Tick: 20 * time.Millisecond, Probe: 100 * time.Millisecond},
	}
}

func (f *tcpFabric) start(t *testing.T, name, incarnation string) mesh.Network {
	o := f.options(name, incarnation)
	if f.adjust != nil {
		f.adjust(&o)
	}
	m, err := mesh.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	f.mu.Lock()
	f.addrs[name] = m.Addr()
	f.meshes[name] = m
	f.mu.Unlock()
	return m
}

func (f *tcpFabric) kill(name string) { f.meshes[name].Kill() }

// patience bounds waits for what must happen: a busy machine may stand still for seconds.
const patience = time.Minute

// eventually waits for a condition, with a bound.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if cond() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// done waits for a request that must end soon.
func done(t *testing.T, p *mesh.Pending) ([]byte, error) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("a request never ended")
	}
	return p.Result()
}
