package antientropy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
)

// TestPlanSurvivesAnything answers what plans ask at random, right and wrong, and then only right: everything heals, and
// the plan's invariants hold at each step.
func TestPlanSurvivesAnything(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		if err := newPlanWorld(uint64(seed)).run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// planWorld answers a plan's outputs in any order.
type planWorld struct {
	r        *rand.Rand
	p        *plan
	now      time.Time
	wake     time.Time
	pending  []output
	members  []*planMember
	sessions map[uint64]*planSession
	peers    []Peer
	honest   bool
}

type planMember struct {
	id      uint32
	applied uint64
	holes   interval.Set
	healed  map[uint8]interval.Set
}

type planSession struct {
	m       *planMember
	applied uint64
	buckets []uint8
	healed  map[uint8]interval.Set // what finishing heals a bucket of
}

func newPlanWorld(seed uint64) *planWorld {
	w := &planWorld{r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0), sessions: map[uint64]*planSession{}}
	o := planOptions{interval: 10 * time.Second, quiet: time.Minute, perPeer: 2, limit: 1 << 20, memory: 8 << 20, random: w.r.Float64}
	if seed%3 == 0 {
		o.rate = 1 << 20
	}
	w.p = newPlan(o, w.now)
	for i := range 1 + w.r.IntN(4) {
		m := &planMember{id: uint32(i), applied: 100, healed: map[uint8]interval.Set{}}
		if w.r.IntN(3) > 0 {
			m.holes = interval.Of(21, 80)
		}
		w.members = append(w.members, m)
	}
	for i := range 1 + w.r.IntN(4) {
		w.peers = append(w.peers, Peer{Host: fmt.Sprintf("h%d", i), Complete: w.r.IntN(2) == 0, Alive: w.r.IntN(5) > 0})
	}
	return w
}

func (w *planWorld) run() error {
	for i := range 600 {
		w.honest = i > 300
		if i == 300 {
			for i := range w.peers {
				w.peers[i].Complete, w.peers[i].Alive = true, true
			}
		}
		if err := w.event(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	for range 20000 {
		if !slices.ContainsFunc(w.members, func(m *planMember) bool { return !m.holes.Empty() }) {
			return nil
		}
		if err := w.event(); err != nil {
			return err
		}
	}
	return fmt.Errorf("not healed at %s: %d calls in flight, %d sessions ready", w.now, len(w.p.calls), len(w.p.ready))
}

// event lets one thing happen.
func (w *planWorld) event() error {
	m := w.members[w.r.IntN(len(w.members))]
	switch k := w.r.IntN(10); {
	case len(w.pending) > 0 && k < 7:
		i := w.r.IntN(len(w.pending))
		o := w.pending[i]
		w.pending = slices.Delete(w.pending, i, i+1)
		w.now = w.now.Add(time.Duration(w.r.IntN(2000)) * time.Microsecond)
		return w.answer(o)
	case k == 7:
		return w.observe(m)
	case k == 8 && !w.honest:
		if w.r.IntN(8) == 0 {
			m.holes = m.holes.Union(interval.Of(m.applied+1, m.applied+10))
			m.applied += 20
		}
		return w.step(wanted{Partition: m.id, Bucket: uint8(w.r.IntN(256)), Hash: w.r.Uint64()})
	default:
		if len(w.pending) == 0 && w.wake.After(w.now) {
			w.now = w.wake
		}
		w.now = w.now.Add(time.Millisecond)
		return w.step(tick{})
	}
}

func (w *planWorld) observe(m *planMember) error {
	return w.step(observed{Partition: m.id, Applied: m.applied, Holes: m.holes, Healed: maps.Clone(m.healed), Peers: w.peers})
}

func (w *planWorld) step(e event) error {
	for _, o := range w.p.step(e, w.now) {
		switch o := o.(type) {
		case sleep:
			w.wake = o.Until
			if o.Until.IsZero() && len(w.p.calls) == 0 && len(w.p.parts) > 0 {
				return fmt.Errorf("sleeps for ever after %T", e)
			}
		case list:
			if o.Buckets != nil {
				m := w.members[o.Partition]
				w.sessions[o.Session] = &planSession{m: m, applied: m.applied, buckets: o.Buckets, healed: map[uint8]interval.Set{}}
			}
			w.pending = append(w.pending, o)
		case drop:
			delete(w.sessions, o.Session)
		case giveUp:
			if s := w.sessions[o.Session]; s != nil {
				s.buckets = slices.DeleteFunc(s.buckets, func(b uint8) bool { return slices.Contains(o.Buckets, b) })
			}
		case report:
		default:
			w.pending = append(w.pending, o)
		}
	}
	return checkPlan(w.p)
}

func (w *planWorld) result(call uint64) result {
	r := result{Call: call, Took: time.Duration(1 + w.r.IntN(5000000)), Bytes: w.r.IntN(100000)}
	if !w.honest && w.r.IntN(4) == 0 {
		r.Failure = failure(w.r.IntN(int(local) + 1))
	}
	return r
}

func (w *planWorld) answer(o output) error {
	switch o := o.(type) {
	case compare:
		c := compared{result: w.result(o.Call), Outcome: otherRoot, Index: 100, Theirs: true, Mine: true, Coverage: interval.Of(1, 1000)}
		for b := range 256 {
			if w.r.IntN(2) == 0 {
				c.Differ = append(c.Differ, uint8(b))
			}
		}
		if !w.honest {
			c.Outcome = outcome(1 + w.r.IntN(4))
			c.Theirs, c.Unable = w.r.IntN(2) == 0, w.r.IntN(4) == 0
			c.Coverage = interval.Of(1, uint64(w.r.IntN(100)))
		}
		return w.step(c)
	case list:
		return w.answerSession(o.Call, o.Session)
	case pull:
		return w.answerSession(o.Call, o.Session)
	case finish:
		return w.step(w.finish(o))
	case fetch:
		return w.step(fetched{w.result(o.Call)})
	case diagnose:
		return w.step(diagnosed{result: w.result(o.Call), Undecided: w.r.IntN(2) == 0})
	case mark:
		m := w.members[o.Partition]
		for _, b := range o.Buckets {
			m.healed[b] = m.healed[b].Union(o.Healed.Intersect(m.holes))
		}
		return w.step(marked{Partition: o.Partition, Buckets: o.Buckets, Healed: o.Healed})
	case closeHoles:
		m := w.members[o.Partition]
		for b := range 256 {
			if m.holes.Minus(m.healed[uint8(b)]).Covers(m.holes) {
				return fmt.Errorf("closes holes %s too early, bucket %d holds %s", m.holes, b, m.healed[uint8(b)])
			}
		}
		left := interval.Set(nil)
		for b := range 256 {
			left = left.Union(m.holes.Minus(m.healed[uint8(b)]))
		}
		m.holes = left
		for b := range m.healed {
			m.healed[b] = m.healed[b].Intersect(left)
		}
		return w.step(closed{Partition: o.Partition, Holes: m.holes, Healed: maps.Clone(m.healed)})
	}
	return fmt.Errorf("no answer to %T", o)
}

func (w *planWorld) answerSession(call, id uint64) error {
	a := answered{result: w.result(call), Coverage: interval.Of(1, 1000)}
	s := w.sessions[id]
	if a.Failure != none || s == nil {
		return w.step(a)
	}
	coverage := interval.Of(1, s.applied)
	if !w.honest && w.r.IntN(2) == 0 {
		coverage = interval.Of(1, 30)
		a.Coverage = coverage
	}
	for len(s.buckets) > 0 && w.r.IntN(4) > 0 {
		b := s.buckets[0]
		s.buckets = s.buckets[1:]
		if !w.honest && w.r.IntN(4) == 0 {
			a.Failed = append(a.Failed, failedBucket{b, refused})
			continue
		}
		a.Ended, s.healed[b] = append(a.Ended, b), coverage
	}
	if len(s.buckets) > 0 {
		a.Pulls = w.r.IntN(len(s.buckets) + 1)
		a.Lists = len(s.buckets) - a.Pulls
		if w.r.IntN(10) == 0 {
			a.Large = 1 << (20 + w.r.IntN(4))
		}
	}
	return w.step(a)
}

// finish ends what a session has pulled; now and then that fails here.
func (w *planWorld) finish(o finish) settled {
	e := settled{Session: o.Session}
	s := w.sessions[o.Session]
	for _, b := range o.Buckets {
		if !w.honest && w.r.IntN(8) == 0 {
			e.Failed = append(e.Failed, failedBucket{b, local})
			continue
		}
		e.Finished = append(e.Finished, finishedBucket{b, s.healed[b]})
		s.m.healed[b] = s.m.healed[b].Union(s.healed[b].Intersect(s.m.holes))
	}
	return e
}
