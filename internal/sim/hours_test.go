package sim

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A plan of hours lasts for half an hour and more of simulated time. Clients write in bursts, and faults come in episodes,
// minutes apart, some of which last for minutes: long enough for what is slow to begin, while nobody looks at it.

// burst is a time in which clients write one thing after the other.
type burst struct {
	At  time.Duration `json:"at"`
	For time.Duration `json:"for"`
}

// lastsHours is how long a plan of hours lasts at least.
const lastsHours = 30 * time.Minute

// newHours is the plan of hours of a seed.
func newHours(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0x40c5))
	p := newBase(seed, r, []int{3, 3, 3, 4, 4, 5})
	p.Clients = 2 + r.IntN(3)
	p.Lasts = lastsHours + time.Duration(r.IntN(300))*time.Second
	if n := r.IntN(8); n > 0 { // beats are most of what a quiet cluster does
		p.Heartbeat = time.Duration(1+n/4) * time.Second
	}
	if r.IntN(4) == 0 { // reading everything takes as long as all the rest
		p.Scrub = time.Duration(6+r.IntN(4)) * time.Minute
	}
	if r.IntN(2) == 0 {
		p.Trickle = time.Duration(10+r.IntN(110)) * time.Second
	}
	p.Bursts = []burst{{For: 3 * time.Second}}
	voters := slices.Clone(p.Voters)
	for at := 2 * time.Second; at < p.Lasts; at += time.Duration(r.ExpFloat64() * float64(4*time.Minute)) {
		at = p.episode(r, voters, at)
	}
	if p.Scrub == 0 {
		for i := range p.Steps {
			if p.Steps[i].Kind == flip { // what is damaged has to be found
				p.Steps[i].Kind = restore
			}
		}
	}
	slices.SortStableFunc(p.Steps, func(a, b step) int { return int(a.At - b.At) })
	return p
}

// episode adds what happens around one time, and returns when it is over, but for what lasts.
func (p *plan) episode(r *rand.Rand, voters [][]string, at time.Duration) time.Duration {
	seconds := func(least, most int) time.Duration {
		return time.Duration(least*1000+r.IntN((most-least)*1000)) * time.Millisecond
	}
	writes := r.IntN(5) > 0
	if writes {
		p.Bursts = append(p.Bursts, burst{At: at, For: seconds(1, 5)})
	}
	n := []int{0, 1, 1, 2, 3, 5}[r.IntN(6)]
	if r.IntN(3) == 0 {
		s := p.nextStep(r, voters, at)
		p.prolong(r, &s)
		p.Steps = append(p.Steps, s)
		if r.IntN(2) == 0 { // what is written meanwhile is what somebody lacks in the end
			p.Bursts = append(p.Bursts, burst{At: at + time.Duration(r.Int64N(int64(s.For)+1)), For: seconds(1, 3)})
		}
	}
	for ; n > 0; n-- {
		at += time.Duration(r.IntN(2500)) * time.Millisecond
		p.Steps = append(p.Steps, p.nextStep(r, voters, at))
	}
	return at
}

// prolong has a fault last for minutes, if that is something that may.
func (p *plan) prolong(r *rand.Rand, s *step) {
	switch s.Kind {
	case crash, restart, split, oneWay, slow, lossy, freeze, members, wipe, restore, flip, badSource, slowDisk, staleFile, stranger, version:
		s.For = time.Duration(20+r.IntN(580)) * time.Second
	case flap:
		s.For = time.Duration(5+r.IntN(25)) * time.Second
	}
}

// crawls reports whether a link is slow for minutes. What is asked over it is late, and asked of another peer as well (package antientropy).
func (p plan) crawls() bool {
	return slices.ContainsFunc(p.Steps, func(s step) bool { return s.Kind == slow && s.For >= 20*time.Second })
}

// liveliness is for how long things are looked at closely after something has happened.
const liveliness = 5 * time.Second

// calm says whether there is something to look at closely. In plans that last for hours there rarely is.
type calm struct {
	mu    sync.Mutex // guards the rest
	until time.Time
	news  chan struct{} // is closed when something happens
}

// stir has everything be looked at closely for a while.
func (c *calm) stir() {
	c.mu.Lock()
	defer c.mu.Unlock()
	lively := time.Now().Before(c.until)
	c.until = time.Now().Add(liveliness)
	if !lively && c.news != nil {
		close(c.news)
		c.news = nil
	}
}

// quiet returns nil while things are to be looked at closely, and else what is closed when they are again.
func (c *calm) quiet() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return nil
	}
	if c.news == nil {
		c.news = make(chan struct{})
	}
	return c.news
}

// wait is the pause between two looks: seldom apart while everything is quiet. It returns false once stop is closed.
func (w *world) wait(stop <-chan struct{}, often, seldom time.Duration) bool {
	var stirred <-chan struct{}
	if w.plan.Bursts != nil {
		if stirred = w.calm.quiet(); stirred != nil {
			often = seldom
		}
	}
	t := time.NewTimer(often)
	defer t.Stop()
	select {
	case <-stop:
		return false
	case <-stirred:
	case <-t.C:
	}
	return true
}

// pause is how long a client thinks: outside of a burst until the next one begins, or until a single operation is due.
func (c *client) pause() time.Duration {
	think := time.Duration(10+c.r.IntN(110)) * time.Millisecond
	if c.w.plan.Bursts == nil {
		return think
	}
	now := time.Since(c.w.played)
	if c.w.healing.Load() {
		return think
	}
	next := c.w.plan.Lasts
	for _, b := range c.w.plan.Bursts {
		switch {
		case now+think < b.At:
			next = min(next, b.At)
		case now+think < b.At+b.For:
			return think
		}
	}
	wait := next - now
	if wait <= 0 {
		wait = liveliness // faults outlast the plan
	}
	if c.w.plan.Trickle > 0 {
		wait = min(wait, time.Duration(c.r.ExpFloat64()*float64(c.w.plan.Trickle)))
	}
	return max(wait, think)
}
