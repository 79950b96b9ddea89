package antientropy

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
)

// idleWorld is a plan of which all members are healthy and equal to their peers.
type idleWorld struct {
	p        *plan
	now      time.Time
	wake     time.Time
	steps    int
	compares int
	pending  []compare
}

func newIdleWorld(members int) *idleWorld {
	random := 0.0
	w := &idleWorld{now: time.Unix(1000, 0)}
	w.p = newPlan(planOptions{interval: 10 * time.Second, quiet: 10 * time.Minute, perPeer: 2, limit: 1 << 20, memory: 64 << 20,
		random: func() float64 { // evenly spread
			if random += 0.6180339887; random >= 1 {
				random--
			}
			return random
		}}, w.now)
	for i := range members {
		w.step(w.observed(i, 100))
	}
	return w
}

func (w *idleWorld) observed(id int, applied uint64) observed {
	return observed{Partition: uint32(id), Applied: applied, Peers: []Peer{{"b", true, true}, {"c", true, true}}}
}

func (w *idleWorld) step(e event) {
	w.steps++
	for _, o := range w.p.step(e, w.now) {
		switch o := o.(type) {
		case compare:
			w.compares++
			w.pending = append(w.pending, o)
		case sleep:
			w.wake = o.Until
		}
	}
}

func (w *idleWorld) answer() {
	pending := w.pending
	w.pending = nil
	for _, o := range pending {
		w.step(compared{result: result{Call: o.Call, Took: time.Millisecond}, Outcome: sameRoot, Index: 100, Mine: true, Theirs: true,
			Coverage: interval.Of(1, 100)})
	}
}

// pass lets time pass.
func (w *idleWorld) pass(d time.Duration) {
	for end := w.now.Add(d); ; {
		for len(w.pending) > 0 {
			w.now = w.now.Add(time.Millisecond)
			w.answer()
		}
		if w.wake.IsZero() || w.wake.After(end) {
			w.now = end
			return
		}
		w.now = w.wake
		w.step(tick{})
	}
}

// What a quiet member costs in an hour is some six questions, with two events each, however many members there are; and no
// event looks at a member that is not due.
func TestIdleMembersCostTheSameHoweverMany(t *testing.T) {
	for _, n := range []int{10, 100, 1000} {
		w := newIdleWorld(n)
		w.pass(10 * time.Second)
		if w.compares != n {
			t.Fatalf("%d members: %d comparisons in the first interval", n, w.compares)
		}
		w.steps, w.compares, w.p.looks = 0, 0, 0
		w.pass(time.Hour)
		t.Logf("%d members: %d comparisons, %d looks, %d events in an hour", n, w.compares, w.p.looks, w.steps)
		if w.compares < 5*n || w.compares > 8*n {
			t.Errorf("%d members: %d comparisons in an hour", n, w.compares)
		}
		if w.steps > 2*w.compares+n || w.p.looks > w.compares+w.compares/4 {
			t.Errorf("%d members: %d events and %d looks for %d comparisons", n, w.steps, w.p.looks, w.compares)
		}
	}
}

// An event that concerns no member, or one, reaches for no other: they are taken away from the plan, all but the one that
// is due first.
func TestEventsDoNotGoThroughTheMembers(t *testing.T) {
	for _, n := range []int{10, 3000} {
		w := newIdleWorld(n)
		w.pass(10 * time.Second)
		clear(w.p.parts)
		clear(w.p.agenda[1:])
		if allocs := testing.AllocsPerRun(10, func() { w.step(tick{}) }); allocs > 3 {
			t.Errorf("%d members: %v allocations for an event", n, allocs)
		}
	}
}

func TestHealthyPartTakesLittleMemory(t *testing.T) {
	const n = 1000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w := newIdleWorld(n)
	w.pass(20 * time.Minute)
	// Sick and healthy again.
	for i := range n {
		o := w.observed(i, 100)
		o.Holes = interval.Of(50, 60)
		w.step(o)
		w.pending = nil
		w.step(closed{Partition: uint32(i)})
		for id := range w.p.calls {
			w.step(compared{result: result{Call: id, Failure: local}})
		}
	}
	w.pass(20 * time.Minute)
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	t.Logf("%d bytes for each member", per)
	if per > 2<<10 {
		t.Errorf("%d bytes for each member", per)
	}
	runtime.KeepAlive(w)
}

// idleMember counts how often it is asked for more than its documents.
type idleMember struct {
	*testMember
	asked *atomic.Int64
}

func (m idleMember) Peers() []Peer {
	m.asked.Add(1)
	return []Peer{{"b", true, true}}
}

// A loop that looks at its members every second asks them for their peers once an interval, compares them once in a long
// while, and within an interval after something was applied.
func TestQuietMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 60
		c := newCluster(t, "a", "b")
		defer c.close()
		var asked, looked atomic.Int64
		var members []Member
		for i := range uint32(n) {
			c.logs[i] = newHistory(uint64(i))
			c.machines["b"].member(i)
			members = append(members, idleMember{c.machines["a"].member(i), &asked})
		}
		l, err := NewLoop(Options{Caller: caller{c.machines["a"]}, Members: func() []Member { looked.Add(1); return members }, Interval: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		defer func() { cancel(); <-done }()

		time.Sleep(30 * time.Second)
		if got := l.Stats().Compares; got != n {
			t.Errorf("%d comparisons of %d members", got, n)
		}
		asked.Store(0)
		looked.Store(0)
		time.Sleep(10 * time.Minute)
		if got, most := asked.Load(), int64(n*31); got > most {
			t.Errorf("asked %d times for peers, want at most %d", got, most)
		}
		if got := looked.Load(); got < 599 || got > 601 {
			t.Errorf("looked %d times at the members", got)
		}
		if got := l.Stats().Compares; got != n {
			t.Errorf("%d comparisons of %d members, none of which changed", got, n)
		}

		// Nothing was told to the loop: it sees for itself.
		h := c.logs[7]
		h.busy(100, 20, 10)
		for _, name := range []string{"a", "b"} {
			c.machines[name].apply(7, 100)
		}
		time.Sleep(time.Second + 25*time.Second)
		if got := l.Stats().Compares; got != n+1 {
			t.Errorf("%d comparisons, want one more", got-n)
		}
		// What the changes took is given back when the member rests; a peer still finds it equal where it is.
		time.Sleep(2 * restAfter)
		d := c.machines["a"].member(7).docs
		if _, ok := d.SummaryAt(99); ok {
			t.Error("a member at rest keeps its past")
		}
		if _, ok := d.SummaryAt(100); !ok {
			t.Error("a member at rest does not know its present")
		}
		time.Sleep(30 * time.Minute)
		if got := l.Stats().Compares; got < 2*n || got > 3*n+1 {
			t.Errorf("%d comparisons of %d quiet members in more than half an hour", got, n)
		}
	})
}

// BenchmarkIdleEvent is two events, a tick and an answer, of hosts with more and more quiet members.
func BenchmarkIdleEvent(b *testing.B) {
	for _, n := range []int{10, 1000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newIdleWorld(n)
			w.pass(time.Minute)
			b.ReportAllocs()
			for b.Loop() {
				w.now = w.wake
				w.step(tick{})
				w.answer()
			}
		})
	}
}
