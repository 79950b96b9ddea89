package antientropy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/merkle"
)

var schedules = flag.Int("antientropy.schedules", 12, "random schedules that whole clusters play")

// TestSchedules lets members apply one log at their own pace, jump by markers, crash without their unsynced writes, lose
// calls, and repair each other all the while. Whoever calls itself complete must hold what the log prescribes; nobody
// ever sees a contradiction; and when it calms down, everyone heals.
func TestSchedules(t *testing.T) {
	n := *schedules
	if testing.Short() {
		n = min(n, 3)
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { newSchedule(t, uint64(seed)).play() })
		})
	}
}

type schedule struct {
	*cluster
	r         *rand.Rand
	h         *history
	names     []string
	reference *machine
	roots     []merkle.Sum // after each index
	skips     int
	crashes   int
	checked   int
}

func newSchedule(t *testing.T, seed uint64) *schedule {
	names := []string{"a", "b", "c", "d", "e"}
	if seed%3 == 0 {
		names = names[:3]
	}
	s := &schedule{cluster: newCluster(t), r: rand.New(rand.NewPCG(seed, 3)), names: names, h: newHistory(seed)}
	s.logs[p0] = s.h
	s.reference = &machine{c: s.cluster, name: "reference", fs: vfs.NewMem()}
	s.reference.open()
	s.roots = []merkle.Sum{s.reference.member(p0).docs.Status().Root}
	for _, name := range names {
		m := &machine{c: s.cluster, name: name, fs: vfs.NewCrashableMem()}
		m.open()
		s.machines[name] = m
		m.member(p0)
		s.latency[name] = time.Duration(s.r.IntN(3000)) * time.Microsecond
	}
	s.intercept = func(_, _ string, _ uint32, request []byte, serve server) ([]byte, error) {
		s.mu.Lock()
		dice := s.r.IntN(40)
		s.mu.Unlock()
		if dice == 0 {
			return nil, errDown
		}
		b, err := serve(request)
		if dice == 1 {
			return nil, errDown
		}
		return b, err
	}
	return s
}

func (s *schedule) dice(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.IntN(n)
}

func (s *schedule) start(m *machine) {
	m.start(Options{Interval: 50 * time.Millisecond, Observe: 10 * time.Millisecond, ChunkBytes: minBudget})
}

func (s *schedule) play() {
	defer func() {
		if err := s.reference.engine.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	defer s.close()
	for _, m := range s.machines {
		s.start(m)
	}
	for range 400 {
		m := s.machines[s.names[s.dice(len(s.names))]]
		switch k := s.dice(20); {
		case k < 5:
			s.commit(1 + s.dice(20))
		case k < 12:
			applied := m.member(p0).docs.Applied()
			m.apply(p0, min(s.h.last(), applied+uint64(1+s.dice(60))))
		case k < 17:
			s.marker(m)
		case k == 17 && s.dice(3) == 0:
			s.crash(m)
		}
		time.Sleep(time.Duration(s.dice(5)) * time.Millisecond)
		s.check()
	}
	s.settle()
}

func (s *schedule) commit(n int) {
	s.h.busy(n, 60, 30)
	ref := s.reference.member(p0).docs
	for i := ref.Applied() + 1; i <= s.h.last(); i++ {
		if err := ref.Apply(s.h.slice(i, i), i); err != nil {
			s.t.Fatal(err)
		}
		s.roots = append(s.roots, ref.Status().Root)
	}
}

// marker lets a member jump, provided that a majority without it covers what it skips.
func (s *schedule) marker(m *machine) {
	applied := m.member(p0).docs.Applied()
	if applied >= s.h.last() {
		return
	}
	to := applied + 1 + uint64(s.dice(int(min(60, s.h.last()-applied))))
	for _, i := range indexes(applied+1, to) {
		holders := 0
		for _, other := range s.machines {
			if other != m && other.member(p0).docs.Coverage().Contains(i) {
				holders++
			}
		}
		if holders < len(s.machines)/2+1 {
			return
		}
	}
	m.skip(p0, to)
	m.loop.Wake(p0)
	s.skips++
}

func indexes(first, last uint64) []uint64 {
	var list []uint64
	for i := first; i <= last; i++ {
		list = append(list, i)
	}
	return list
}

// crash loses what is not synced, and starts again.
func (s *schedule) crash(m *machine) {
	s.crashes++
	s.kill(m.name)
	clone := m.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: s.dice(101), RNG: rand.New(rand.NewPCG(uint64(s.crashes), 1))})
	m.stop()
	before := m.member(p0).docs.Applied()
	if err := m.engine.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	m.fs = clone
	m.open()
	delete(s.dead, m.name)
	s.mu.Unlock()
	m.member(p0)
	if s.dice(2) == 0 {
		m.apply(p0, before) // Raft brings back what had been applied; perhaps only later
	}
	s.start(m)
}

// check verifies every member that calls itself complete.
func (s *schedule) check() {
	for _, m := range s.machines {
		d := m.member(p0).docs
		if st := d.Status(); st.Complete {
			s.checked++
			if st.Root != s.roots[st.Applied] {
				s.t.Fatalf("%s calls itself complete at %d and is not", m.name, st.Applied)
			}
		}
	}
}

func (s *schedule) settle() {
	for _, m := range s.machines {
		m.apply(p0, s.h.last())
		m.loop.Wake(p0)
	}
	for _, m := range s.machines {
		m.heal()
	}
	s.check()
	s.sameRoots(p0, s.names...)
	healed, proven := int64(0), int64(0)
	for _, m := range s.machines {
		if v := m.member(p0).divergences(); len(v) > 0 {
			s.t.Errorf("%s: %v", m.name, v)
		}
		st := m.loop.Stats()
		healed += st.Healed
		proven += st.Compares
		if st.Liars+st.Divergences > 0 {
			s.t.Errorf("%s: %+v", m.name, st)
		}
	}
	s.t.Logf("%d commands, %d markers, %d crashes, %d checks of complete members, %d heals since", s.h.last(), s.skips, s.crashes, s.checked, healed)
}
