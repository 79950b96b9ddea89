package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/simdisk"
	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

// world is one run of a plan: the machines, what connects them, and what has happened. It lives in a bubble of simulated
// time. No lock of it is held across anything that waits: time would stand still.
type world struct {
	plan    plan
	net     *simnet.Net
	history history
	dir     string         // of cluster files, with plan.Files
	wiping  chan struct{}  // holds a token while a disk is being replaced
	work    sync.WaitGroup // steps, and hosts on their way in and out

	engines atomic.Int32  // that failed
	played  time.Time     // when clients and steps began
	healing atomic.Bool   // there are no more faults
	pulse   *atomic.Int64 // grows as long as simulated time goes on
	timeline
	calm
	tally

	mu       sync.Mutex // guards the rest
	rng      *rand.Rand
	machines map[string]*machine
	latest   *config.Cluster
	faults   map[*linkFault]bool

	interpreters []interpreter
	backups      map[string]backup
	lostDisks    map[string]bool // by incarnation
	refused      map[string]bool // of these, those that were replaced because they were not opened any more
	flipped      time.Time       // when a disk was damaged last
}

// machine is a place for a host: its disk and clock outlive the process.
type machine struct {
	name  string
	clock *clock
	disk  *simdisk.Disk
	host  *adamant.Host // nil while it is down
	life  int           // how many processes it has had
	busy  bool          // on its way up or down
	held  *config.Cluster

	incarnation string // of the disk, once a host has run on it
	damaged     bool   // the disk is: it may be refused

	opening func(*simdisk.Disk) // what happens to the disk when the next process opens; nil: nothing
}

func newWorld(p plan, pulse *atomic.Int64) *world {
	w := &world{plan: p, pulse: pulse, net: simnet.New(p.Seed), wiping: make(chan struct{}, 1), timeline: timeline{begun: time.Now()},
		rng: rand.New(rand.NewPCG(p.Seed, 2)), machines: map[string]*machine{}, latest: p.cluster(), faults: map[*linkFault]bool{},
		backups: map[string]backup{}, lostDisks: map[string]bool{}, refused: map[string]bool{}}
	for _, n := range p.Hosts {
		w.machines[n] = &machine{name: n, clock: newClock(p.Rates[n]), disk: simdisk.New(), busy: true, held: w.latest}
	}
	if p.Files {
		var err error
		if w.dir, err = os.MkdirTemp("", "sim-"); err != nil {
			panic(err)
		}
	}
	w.shapeNet()
	for _, n := range p.Hosts {
		w.open(w.machines[n])
	}
	return w
}

// scrubWithin is the time in which everything is read once.
func (w *world) scrubWithin() time.Duration {
	if w.plan.Scrub > 0 {
		return w.plan.Scrub
	}
	return 15 * time.Second
}

// repair reads everything only where something may be damaged: it takes time.
func (w *world) repair() (r adamant.Repair) {
	if w.plan.Scrub > 0 || slices.ContainsFunc(w.plan.Steps, func(s step) bool { return s.Kind == flip }) {
		r.ScrubDeadline = w.scrubWithin()
	}
	return r
}

// fewBytes of a log are two or three entries.
const fewBytes = 400

// limits keep logs so short that a member which is away for a moment gets a hole. In every other world what a follower lacks is sent in
// very small pieces.
func (w *world) limits() adamant.Limits {
	l := adamant.Limits{InFlight: 8, TrailingLogs: 12, MarkerEvery: 8}
	if w.plan.Seed%2 == 0 {
		l.RequestBytes = fewBytes
	}
	return l
}

func (w *world) options(m *machine, life int) adamant.Options {
	o := adamant.Options{Dir: "/data", Host: m.name, Cluster: m.held, FS: w.diskOf(m), Clock: m.clock.now,
		Network:    func(id mesh.Identity) mesh.Network { return w.net.Host(id) },
		CacheBytes: 1 << 20, LogMemoryBytes: 1 << 20, HeadCache: 4,
		Limits: w.limits(),
		Repair: w.repair(),
		Timing: w.timing(),
		Events: w.events(m, life), Logger: w.logger(m)}
	if w.plan.Files {
		w.write(m, m.held.Marshal())
		o.Cluster, o.ClusterFile, o.Timing.Poll = nil, w.fileOf(m), w.pollEvery()
	}
	return o
}

// timing is shorter than usual where much has to happen in little time.
func (w *world) timing() adamant.Timing {
	if w.plan.Bursts != nil {
		return adamant.Timing{Heartbeat: w.plan.Heartbeat}
	}
	return adamant.Timing{TruncationTick: 300 * time.Millisecond, AntiEntropy: time.Second}
}

func (w *world) events(m *machine, life int) adamant.Events {
	current := func() bool { _, now := w.up(m); return now == life }
	return adamant.Events{
		LeaderChanged: func(e adamant.LeaderChange) {
			w.stir()
			if e.Local && current() {
				w.note("%s leads partition %d in term %d, serving %t %s", m.name, e.Partition, e.Epoch, e.Serving, e.Reason)
			}
		},
		HealthChanged: func(e adamant.HealthChange) {
			w.stir()
			w.note("%s: partition %d complete %t %s", m.name, e.Partition, e.Complete, e.Holes)
		},
		SafeModeChanged: func(e adamant.SafeModeChange) {
			if e.On && !w.plan.Beyond && !strings.HasPrefix(e.Reason, "majority lost") { // that one ends by itself
				w.complain("%s: partition %d in safe mode: %s", m.name, e.Partition, e.Reason)
				return
			}
			w.note("%s: partition %d safe mode %t %s", m.name, e.Partition, e.On, e.Reason)
		},
		CatastrophicFailure: func(e adamant.Catastrophe) {
			w.note("%s: %s lost in term %d: %s", m.name, e.Key, e.Epoch, e.Reason)
		},
		Failed: func(err error) {
			w.engines.Add(1)
			if current() {
				w.note("%s: storage failed: %v", m.name, err)
				w.work.Go(func() { w.replaceFailed(m) })
			}
		},
		MemberFailed: func(e adamant.MemberFailure) {
			switch {
			case !current() || errors.As(e.Err, new(*adamant.EngineFailedError)): // a member may notice before its host
			case w.diskOf(m).Hits() > 0 || w.mayBeRefused(m):
				w.note("%s: partition %d stopped: %v", m.name, e.Partition, e.Err)
			default:
				w.complain("%s: partition %d stopped: %v", m.name, e.Partition, e.Err)
			}
		},
	}
}

// open starts a host on a machine that is marked busy.
func (w *world) open(m *machine) {
	w.mu.Lock()
	m.life++
	life := m.life
	w.mu.Unlock()
	for {
		w.mend(w.diskOf(m))
		w.mu.Lock()
		opening := m.opening
		m.opening = nil
		w.mu.Unlock()
		if opening != nil {
			opening(w.diskOf(m))
		}
		h, err := adamant.Open(w.options(m, life))
		if err == nil {
			w.note("%s is up", m.name)
			w.mu.Lock()
			m.host, m.busy, m.incarnation = h, false, h.Status().Incarnation
			held := m.held
			w.mu.Unlock()
			if w.plan.Files {
				w.write(m, held.Marshal())
				return
			}
			_ = h.SetCluster(held) // it may have changed meanwhile; refused when it has not
			return
		}
		w.note("%s does not open: %v", m.name, err)
		time.Sleep(500 * time.Millisecond)
		switch d := w.diskOf(m); {
		case d.Hits() > 0: // what was made to fail does not fail again
			w.powerOff(m, 0)
		case w.mayBeRefused(m):
			w.refuse(m)
		default:
			w.complain("%s does not open: %v", m.name, err)
			return
		}
	}
}

// diskOf is a machine's present disk.
func (w *world) diskOf(m *machine) *simdisk.Disk {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.disk
}

// powerOff leaves a machine what its disk has for sure, and some of the rest.
func (w *world) powerOff(m *machine, keep int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.disk = m.disk.Image(keep, rand.New(rand.NewPCG(w.rng.Uint64(), 3)))
}

// down takes hosts that are up away from their clients and marks their machines busy; it returns what it took.
func (w *world) down(names ...string) map[*machine]*adamant.Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := map[*machine]*adamant.Host{}
	for _, n := range names {
		if m := w.machines[n]; m.host != nil && !m.busy {
			taken[m] = m.host
			m.host, m.busy = nil, true
			m.life++ // whatever it still answers was not heard
		}
	}
	return taken
}

// crash lets hosts lose power at once, and gives their machines what is left of the disks. The machines stay busy.
func (w *world) crash(keep int, names ...string) []*machine {
	var list []*machine
	taken := w.down(names...)
	for _, n := range names {
		if m := w.machines[n]; taken[m] != nil {
			w.gather(taken[m])
			w.net.Crash(n)
			list = append(list, m)
		}
	}
	w.count(hostsLost, len(list))
	for _, m := range list {
		d := w.diskOf(m)
		w.powerOff(m, keep)
		w.work.Go(func() {
			_ = taken[m].Kill() // nobody is left to hear what became of it
			w.letGo(m.name, d)
		})
	}
	return list
}

// letGo: a host that has ended has no file open any more, unless its storage failed, which is then never closed.
func (w *world) letGo(name string, d *simdisk.Disk) {
	if list := d.Handles(); len(list) > 0 && d.Hits() == 0 {
		w.complain("%s has ended and left open: %s", name, strings.Join(list, " "))
	}
}

// replaceFailed is the operator who starts a host anew that its disk has stopped.
func (w *world) replaceFailed(m *machine) {
	time.Sleep(700 * time.Millisecond)
	w.mend(w.diskOf(m))
	for _, m := range w.crash(0, m.name) {
		w.open(m)
	}
}

// up returns a machine's host, nil while it is down, and which of its processes that is.
func (w *world) up(m *machine) (*adamant.Host, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.host, m.life
}

// live lists the hosts that are up.
func (w *world) live() map[string]*adamant.Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]*adamant.Host{}
	for n, m := range w.machines {
		if m.host != nil {
			out[n] = m.host
		}
	}
	return out
}

// settled says what keeps the cluster from being healthy: every host up and on the newest configuration, every member
// complete and where it belongs; with equal summaries when nobody writes.
func (w *world) settled(quiet bool) error {
	w.pulse.Add(1)
	live := w.live()
	if len(live) < len(w.plan.Hosts) {
		return fmt.Errorf("%d hosts are up", len(live))
	}
	roots, members := map[uint32]string{}, map[uint32]int{}
	w.mu.Lock()
	latest := w.latest
	w.mu.Unlock()
	for _, name := range w.plan.Hosts {
		st := live[name].Status()
		if st.ConfigVersion != latest.Version {
			return fmt.Errorf("%s has configuration %d, not %d", name, st.ConfigVersion, latest.Version)
		}
		for _, p := range st.Partitions {
			if err := sound(p, quiet, roots); err != nil {
				return fmt.Errorf("%s: partition %d: %w", name, p.ID, err)
			}
			members[p.ID]++
		}
	}
	for _, p := range latest.Partitions {
		if want := len(p.Voters) + len(p.Replicas); members[p.ID] != want {
			return fmt.Errorf("partition %d has %d members, not %d", p.ID, members[p.ID], want)
		}
	}
	return nil
}

func sound(p adamant.PartitionStatus, quiet bool, roots map[uint32]string) error {
	if !p.Complete {
		return fmt.Errorf("holes %s, ahead %d, applied %d", p.Holes, p.Ahead, p.Applied)
	}
	if p.Role != adamant.RoleLeader && p.Role != adamant.RoleFollower || p.Role == adamant.RoleLeader && !p.Serving {
		return fmt.Errorf("%s, %s", p.Role, p.NotServing)
	}
	if p.Leader == "" || len(p.Members) == 0 {
		return errors.New("no leader")
	}
	for _, m := range p.Members {
		if m.State != "" || !m.Desired {
			return fmt.Errorf("%s is %q", m.Host, m.State)
		}
	}
	if other, ok := roots[p.ID]; quiet && ok && other != p.Root {
		return fmt.Errorf("its summary differs from another member's")
	}
	roots[p.ID] = p.Root
	return nil
}

// settle waits until the cluster is healthy.
func (w *world) settle(quiet bool, within time.Duration) error {
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		err := w.settled(quiet)
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			w.describe()
			return err
		}
	}
}

// describe notes what every member says of itself.
func (w *world) describe() {
	live := w.live()
	for _, name := range w.plan.Hosts {
		if h := live[name]; h != nil {
			for _, p := range h.Status().Partitions {
				w.note("%s: partition %d: %s of %q in term %d (serving %t %s), applied %d of %d of %d, ahead %d, holes %q, root %.8s, repair %+v, members %+v", name, p.ID, p.Role,
					p.Leader, p.Term, p.Serving, p.NotServing, p.Applied, p.Commit, p.LastIndex, p.Ahead, p.Holes, p.Root, p.Repair, p.Members)
			}
		}
	}
}

// close ends everything, half of the hosts as a crash would.
func (w *world) close() {
	w.work.Wait()
	var wg sync.WaitGroup
	for i, n := range w.plan.Hosts {
		for m, h := range w.down(n) {
			w.gather(h)
			wg.Go(func() {
				defer w.letGo(n, w.diskOf(m))
				if (w.plan.Seed+uint64(i))%2 == 0 {
					_ = h.Kill()
				} else if err := h.Close(); err != nil {
					w.complain("close %s: %v", n, err)
				}
			})
		}
	}
	wg.Wait()
	w.net.Close()
	if w.dir != "" {
		_ = os.RemoveAll(w.dir) // what stays is no harm
	}
}

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
