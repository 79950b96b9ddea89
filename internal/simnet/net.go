package simnet

import (
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/adamantdb/adamant/mesh"
)

// Faults are the properties of a path.
type Faults struct {
	Delay, Jitter time.Duration // each message takes Delay plus up to Jitter
	BytesPerSec   int           // per class; 0: no limit
	Loss          float64       // probability that a message is lost
	Duplicate     float64       // probability that a request is delivered twice
	Reorder       bool          // messages of one class may overtake each other
}

// Net is a simulated network. Its methods may be called at any time.
type Net struct {
	seed   uint64
	limits mesh.Limits

	mu      sync.Mutex // guards what follows
	hosts   map[string]*Host
	lanes   map[laneKey]*lane
	all     Faults
	paths   map[path]Faults // those that differ from all
	cut     map[path]bool
	group   map[string]int // after Partition: hosts of different groups are cut off
	paused  map[string]bool
	detect  time.Duration
	speaks  map[string]uint8 // link protocol by host, for those that speak another one than the rest
	alter   Alter            // nil: messages are what they are
	changed chan struct{}    // closed and replaced when something above changes
}

// path leads from one host to another.
type path struct{ from, to string }

// New returns a network without faults.
func New(seed uint64) *Net {
	return &Net{
		seed: seed, limits: mesh.Limits{}.WithDefaults(),
		hosts: make(map[string]*Host), lanes: make(map[laneKey]*lane),
		paths: make(map[path]Faults), cut: make(map[path]bool), paused: make(map[string]bool), speaks: make(map[string]uint8),
		detect: 300 * time.Millisecond, changed: make(chan struct{}),
	}
}

// Host adds a host, or brings it back: a host of that name that is there
// already crashes first.
func (n *Net) Host(id mesh.Identity) *Host {
	h := &Host{net: n, id: id, pending: make(map[*call]struct{}), handlers: make(map[mesh.Service]mesh.Handler), told: make(map[string]mesh.PeerState)}
	n.mu.Lock()
	old := n.hosts[id.Host]
	n.mu.Unlock()
	if old != nil {
		old.end(mesh.ErrClosed)
	}
	n.mu.Lock()
	n.hosts[id.Host] = h
	n.mu.Unlock()
	n.notify()
	return h
}

// SetFaults sets the faults of every path that has none of its own.
func (n *Net) SetFaults(f Faults) { n.change(func() { n.all = f }) }

// SetPath sets the faults of one path.
func (n *Net) SetPath(from, to string, f Faults) { n.change(func() { n.paths[path{from, to}] = f }) }

// Message is what one host sends another: a request, or the reply to one.
type Message struct {
	From, To string
	Request  mesh.Request // of a reply, what it answers
	Reply    bool
	Payload  []byte
}

// Alter is what becomes of a message before it is sent. It may keep the payload, change it, or have the call fail with an error;
// it must not block.
type Alter func(Message) ([]byte, error)

// Alter has all messages from now on pass through a function; nil ends that.
func (n *Net) Alter(f Alter) { n.change(func() { n.alter = f }) }

// altered is the payload that a host sends.
func (n *Net) altered(m Message) ([]byte, error) {
	n.mu.Lock()
	alter := n.alter
	n.mu.Unlock()
	if alter == nil {
		return m.Payload, nil
	}
	return alter(m)
}

// Speak has a host's program speak another version of the links' protocol from now on; 0 is what all speak at first. Hosts of
// different versions refuse each other's links, and know of each other by gossip alone.
func (n *Net) Speak(host string, version uint8) { n.change(func() { n.speaks[host] = version }) }

// understood is why there is no link between two hosts, if their versions are the reason.
func (n *Net) understood(from, to string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ours, theirs := n.speaks[from], n.speaks[to]; ours != theirs {
		return &mesh.VersionError{Peer: to, Min: ours, Max: ours, TheirMin: theirs, TheirMax: theirs}
	}
	return nil
}

// Delay sets the delay and jitter of every path, and leaves other faults alone.
func (n *Net) Delay(delay, jitter time.Duration) {
	n.change(func() {
		n.all.Delay, n.all.Jitter = delay, jitter
		for p, f := range n.paths {
			f.Delay, f.Jitter = delay, jitter
			n.paths[p] = f
		}
	})
}

// Set replaces the faults and cuts of all paths between some hosts at once; splits end.
func (n *Net) Set(hosts []string, of func(from, to string) (f Faults, cut bool)) {
	n.change(func() {
		n.group = nil
		clear(n.cut)
		for _, from := range hosts {
			for _, to := range hosts {
				if from == to {
					continue
				}
				p := path{from, to}
				n.paths[p], n.cut[p] = of(from, to)
			}
		}
	})
}

// Detect sets how long it takes until a lost request fails (300 ms at first).
func (n *Net) Detect(d time.Duration) { n.change(func() { n.detect = d }) }

// Cut cuts two hosts off from each other.
func (n *Net) Cut(a, b string) {
	n.change(func() { n.cut[path{a, b}], n.cut[path{b, a}] = true, true })
}

// CutOneWay loses everything on its way from one host to another.
func (n *Net) CutOneWay(from, to string) { n.change(func() { n.cut[path{from, to}] = true }) }

// Heal undoes every cut and split; Restore, those between two hosts.
func (n *Net) Heal() {
	n.change(func() {
		clear(n.cut)
		n.group = nil
	})
}

// Restore undoes the cuts between two hosts.
func (n *Net) Restore(a, b string) {
	n.change(func() {
		delete(n.cut, path{a, b})
		delete(n.cut, path{b, a})
	})
}

// Partition splits the hosts into groups that cannot reach each other. Hosts
// that are not named form one more group. It replaces an earlier split.
func (n *Net) Partition(groups ...[]string) {
	n.change(func() {
		n.group = make(map[string]int)
		for i, g := range groups {
			for _, h := range g {
				n.group[h] = i + 1
			}
		}
	})
}

// Pause holds everything on its way to or from a host until Resume, as when its
// process is stopped.
func (n *Net) Pause(host string) { n.change(func() { n.paused[host] = true }) }

// Resume lets a paused host go on.
func (n *Net) Resume(host string) { n.change(func() { delete(n.paused, host) }) }

// Crash ends a host like the loss of its machine: its requests fail, those to it
// are refused, and what it had sent is gone. It comes back with Host.
func (n *Net) Crash(host string) {
	n.mu.Lock()
	h := n.hosts[host]
	n.mu.Unlock()
	if h != nil {
		h.end(mesh.ErrClosed)
	}
	n.notify()
}

// Close closes every host. A synctest test needs it at its end, when messages
// may still be on their way.
func (n *Net) Close() {
	n.mu.Lock()
	hosts := slices.Collect(maps.Values(n.hosts))
	n.mu.Unlock()
	for _, h := range hosts {
		h.end(mesh.ErrClosed)
	}
}

func (n *Net) change(f func()) {
	n.mu.Lock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
	n.mu.Unlock()
	n.notify()
}

// notify tells every host of the peers whose state changed.
func (n *Net) notify() {
	n.mu.Lock()
	hosts := slices.Collect(maps.Values(n.hosts))
	n.mu.Unlock()
	slices.SortFunc(hosts, func(a, b *Host) int {
		if a.id.Host < b.id.Host {
			return -1
		}
		return 1
	})
	for _, h := range hosts {
		h.tell()
	}
}

// blocked reports whether nothing gets from one host to another; n.mu is held.
func (n *Net) blocked(p path) bool {
	return p.from != p.to && (n.cut[p] || n.group[p.from] != n.group[p.to])
}

// faults of a path; n.mu is held.
func (n *Net) faults(p path) Faults {
	if p.from == p.to {
		return Faults{}
	}
	if f, ok := n.paths[p]; ok {
		return f
	}
	return n.all
}

// generator for one lane: the same for the same seed and lane.
func (n *Net) generator(k laneKey) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(k.from + "\x00" + k.to + "\x00" + string(rune(k.class)) + string(rune(k.kind))))
	return rand.New(rand.NewPCG(n.seed, h.Sum64()))
}
