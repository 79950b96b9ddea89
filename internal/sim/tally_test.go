package sim

import (
	"maps"
	"sync"

	"github.com/adamantdb/adamant"
)

// tally counts what has really happened, by name: a step that was planned may find its host down, or its disk idle.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) count(what string, n int) {
	if n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[string]int{}
	}
	t.n[what] += n
}

func (t *tally) of(what string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[what]
}

func (t *tally) all() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.n)
}

// add takes over what another one has counted.
func (t *tally) add(other map[string]int) {
	for what, n := range other {
		t.count(what, n)
	}
}

// What is counted beside the kinds of steps.
const (
	hostsLost = "hosts that lost power"
	bitsFlip  = "bits inverted"
	refusals  = "refusals checked"
	healedIn  = "entries that repair brought"
	inVain    = "entries that repair brought in vain"
	slowlyIn  = "entries that repair brought in vain beside slow links"
)

// gather takes over what a host has counted, before it ends.
func (w *world) gather(h *adamant.Host) {
	r := h.Metrics().Repair
	w.count(healedIn, int(r.EntriesIn))
	vain := inVain
	if w.plan.crawls() {
		vain = slowlyIn
	}
	w.count(vain, int(r.AlreadyHad))
}
