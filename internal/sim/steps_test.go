package sim

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/simnet"
)

// linkFault is what one step does to the network while it lasts.
type linkFault struct {
	alter  func(from, to string, f *simnet.Faults) (cut bool)
	freeze string
}

// shapeNet gives the network the faults that are in force together.
func (w *world) shapeNet() {
	w.mu.Lock()
	defer w.mu.Unlock()
	base := simnet.Faults{Delay: w.plan.Delay, Jitter: w.plan.Delay}
	w.net.Set(w.plan.Hosts, func(from, to string) (simnet.Faults, bool) {
		faults, cut := base, false
		for f := range w.faults {
			if f.alter != nil && f.alter(from, to, &faults) {
				cut = true
			}
		}
		return faults, cut
	})
	for _, h := range w.plan.Hosts {
		frozen := false
		for f := range w.faults {
			frozen = frozen || f.freeze == h
		}
		if frozen {
			w.net.Pause(h)
		} else {
			w.net.Resume(h)
		}
	}
}

// link has a fault in force for some time.
func (w *world) link(lasts time.Duration, f *linkFault) {
	set := func(on bool) {
		w.mu.Lock()
		if on {
			w.faults[f] = true
		} else {
			delete(w.faults, f)
		}
		w.mu.Unlock()
		w.shapeNet()
	}
	set(true)
	time.Sleep(lasts)
	set(false)
}

// cutting is a fault that blocks some paths.
func cutting(blocked func(from, to string) bool) *linkFault {
	return &linkFault{alter: func(from, to string, _ *simnet.Faults) bool { return blocked(from, to) }}
}

// run does one step at its time and undoes it.
func (w *world) run(s step) {
	time.Sleep(s.At)
	w.stir()
	w.note("+ %s", s)
	if w.do(s) {
		w.count(s.Kind, 1)
		w.note("- %s", s)
	} else {
		w.note("- %s, in vain", s)
	}
	w.stir()
}

// do does a step and undoes it, and reports whether it had any effect.
func (w *world) do(s step) bool {
	switch s.Kind {
	case crash:
		return w.crashed(s)
	case restart:
		return w.restart(s, func(*machine) {})
	case split, oneWay, flap, slow, lossy, freeze:
		return w.breakLinks(s)
	case wipe:
		return w.wipe(s)
	case transfer:
		return w.transfer(s)
	case members:
		return w.moveMember(s)
	case badFile:
		return w.badFiles(s)
	case failOpen:
		return w.failOpen(s)
	case failSync, failIO, full, failRead, slowDisk:
		return w.breakDisk(s)
	case flip:
		return w.flip(s)
	case restore:
		return w.restore(s)
	case badSource, dying, deposed:
		return w.spoilRepair(s)
	case stranger:
		return w.strange(s)
	case staleFile:
		return w.staleFile(s)
	case version:
		return w.otherVersion(s)
	case jump:
		w.machines[s.Hosts[0]].clock.jump(time.Duration(s.N) * time.Millisecond)
		return true
	default:
		w.complain("no such step: %s", s)
		return false
	}
}

// restart closes hosts and opens them again; meanwhile is called while they are closed. It reports whether any was up.
func (w *world) restart(s step, meanwhile func(*machine)) (any bool) {
	for m, h := range w.down(s.Hosts...) {
		any = true
		w.gather(h)
		if err := h.Close(); err != nil && w.diskOf(m).Hits() == 0 {
			w.complain("close %s: %v", m.name, err)
		}
		w.letGo(m.name, w.diskOf(m))
		if w.diskOf(m).Hits() > 0 {
			w.powerOff(m, 0) // an engine that failed goes on holding its directory
		}
		time.Sleep(s.For)
		meanwhile(m)
		w.open(m)
	}
	return any
}

func (w *world) crashed(s step) bool {
	list := w.crash(s.N, s.Hosts...)
	for i, m := range list {
		w.work.Go(func() {
			time.Sleep(s.For + time.Duration(i)*s.For/4)
			w.open(m)
		})
	}
	return len(list) > 0
}

// breakLinks has no effect when none of the hosts is up, neither at first nor in the end.
func (w *world) breakLinks(s step) bool {
	anyUp := func() bool {
		return len(s.Hosts) == 0 || slices.ContainsFunc(s.Hosts, func(name string) bool { h, _ := w.up(w.machines[name]); return h != nil })
	}
	before := anyUp()
	w.breakLinksOf(s)
	return before || anyUp()
}

func (w *world) breakLinksOf(s step) {
	has := func(h string) bool { return slices.Contains(s.Hosts, h) }
	switch s.Kind {
	case split:
		w.link(s.For, cutting(func(from, to string) bool { return has(from) != has(to) }))
	case oneWay:
		w.link(s.For, cutting(func(from, to string) bool { return from == s.Hosts[0] && to == s.Hosts[1] }))
	case flap:
		for left := s.For; left > 0; left -= 400 * time.Millisecond {
			w.link(200*time.Millisecond, cutting(func(from, to string) bool { return has(from) != has(to) }))
			time.Sleep(200 * time.Millisecond)
		}
	case slow:
		w.link(s.For, &linkFault{alter: func(from, to string, f *simnet.Faults) bool {
			if has(from) || has(to) {
				f.BytesPerSec = s.N
			}
			return false
		}})
	case lossy:
		w.link(s.For, &linkFault{alter: func(_, _ string, f *simnet.Faults) bool {
			f.Loss, f.Duplicate, f.Reorder, f.Jitter = float64(s.N)/100, float64(s.N)/100, true, 4*f.Delay
			return false
		}})
	case freeze:
		w.link(s.For, &linkFault{freeze: s.Hosts[0]})
	}
}

// transfer hands over to a host whatever it can take.
func (w *world) transfer(s step) (any bool) {
	for _, h := range w.live() {
		for _, p := range h.Status().Partitions {
			if p.Role == adamant.RoleLeader && p.Leader != s.Hosts[0] {
				ctx, cancel := within(s.For)
				any = h.Transfer(ctx, p.ID, s.Hosts[0]) == nil || any
				cancel()
			}
		}
	}
	return any
}

// moveMember gives a partition other voters; some hosts learn of it late.
func (w *world) moveMember(s step) (changed bool) {
	w.mu.Lock()
	next := w.latest.Clone()
	next.Version++
	p := &next.Partitions[s.N]
	changed = p.Prefer != s.Voters[0] || slices.ContainsFunc(s.Voters, func(v string) bool { return !slices.Contains(p.Voters, v) })
	p.Voters, p.Prefer = slices.Clone(s.Voters), s.Voters[0]
	w.latest = next
	w.mu.Unlock()
	for _, h := range w.plan.Hosts {
		if !slices.Contains(s.Hosts, h) {
			w.give(h, next)
		}
	}
	time.Sleep(s.For)
	for _, h := range s.Hosts {
		w.give(h, next)
	}
	return changed
}

// give has a machine's cluster file be c, unless it is newer.
func (w *world) give(name string, c *config.Cluster) {
	w.mu.Lock()
	m := w.machines[name]
	stale := m.held.Version >= c.Version
	if !stale {
		m.held = c
	}
	h := m.host
	w.mu.Unlock()
	if stale {
		return
	}
	if w.plan.Files {
		w.write(m, c.Marshal())
		return
	}
	if h == nil {
		return
	}
	if err := h.SetCluster(c); err != nil && h.Status().ConfigVersion < c.Version {
		w.complain("%s refuses version %d: %v", name, c.Version, err)
	}
}

// badFiles gives hosts what they must refuse: an older version with other members, and one without hosts.
func (w *world) badFiles(s step) (judged bool) {
	for _, name := range s.Hosts {
		h, _ := w.up(w.machines[name])
		if h == nil {
			continue
		}
		old := w.plan.cluster()
		old.Partitions[0].Voters = old.Partitions[0].Voters[:1]
		empty := &config.Cluster{Name: "sim", Version: 1 << 30}
		if w.plan.Files {
			judged = w.badFile(w.machines[name], h, old, empty) || judged
			continue
		}
		for _, bad := range []*config.Cluster{old, empty} {
			if err := h.SetCluster(bad); err == nil {
				w.complain("%s takes a bad configuration of version %d", name, bad.Version)
			}
		}
		judged = true
	}
	return judged
}

// badFile does the same with the file that a host follows. A file that is not judged in time, say for a crash, proves nothing.
func (w *world) badFile(m *machine, h *adamant.Host, list ...*config.Cluster) (judged bool) {
	for _, bad := range list {
		before := h.Status()
		w.write(m, bad.Marshal())
		for range 20 {
			time.Sleep(w.pollEvery())
			now := h.Status()
			if now.ConfigVersion < before.ConfigVersion || now.ConfigVersion == bad.Version && bad.Version > 1 {
				w.complain("%s takes a bad configuration of version %d", m.name, bad.Version)
			}
			if now.ConfigRejected > before.ConfigRejected {
				judged = true
				break
			}
		}
		w.mu.Lock()
		held := m.held
		w.mu.Unlock()
		w.write(m, held.Marshal())
	}
	return judged
}

// pollEvery is how often hosts look at their cluster files: as usual where time is long.
func (w *world) pollEvery() time.Duration {
	if w.plan.Bursts != nil {
		return config.DefaultInterval
	}
	return 100 * time.Millisecond
}

// write replaces a machine's cluster file, which is a real one.
func (w *world) write(m *machine, text []byte) {
	path := w.fileOf(m)
	err := os.WriteFile(path+".new", text, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		w.complain("cluster file: %v", err)
	}
}

func (w *world) fileOf(m *machine) string { return filepath.Join(w.dir, m.name+".json") }

// staleFile restarts a host with a cluster file of long ago, as an operator who has put back an old copy: what the cluster has
// decided since must not be undone by it.
func (w *world) staleFile(s step) (stale bool) {
	w.restart(s, func(m *machine) {
		w.mu.Lock()
		stale = stale || w.latest.Version > w.plan.cluster().Version
		m.held = w.plan.cluster()
		w.mu.Unlock()
	})
	time.Sleep(s.For)
	w.mu.Lock()
	latest := w.latest
	w.mu.Unlock()
	for _, h := range s.Hosts {
		w.give(h, latest)
	}
	return stale
}
