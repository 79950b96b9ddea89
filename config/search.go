package config

import (
	"math/bits"
	"slices"
)

// random is splitmix64: the same sequence on every machine and with every release of Go, which math/rand does not
// promise. Plans must not depend on where they were made.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n), n > 0.
func (r *random) below(n int) int {
	hi, _ := bits.Mul64(r.next(), uint64(n))
	return int(hi)
}

// search improves the layout by random steps that do not make it worse. Most of those that stay change nothing in the
// cost and wander along a plateau until a way down opens; accepting worse steps for a while (annealing) was measured and
// ends higher. The number of steps depends on the input alone: a clock would make the result depend on the machine.
func (l *layout) search(rng *random) {
	steps := 0
	for i := range l.parts {
		size := len(l.parts[i].slots)
		steps += stepsPerPair * size * (size + 1) / 2
	}
	steps = min(max(minSteps, steps), maxSteps)
	for i, last := 0, 0; i < steps && i-last < steps/patience; i++ {
		if i%checkEvery == 0 && l.even() {
			return
		}
		if l.try(rng) < 0 {
			last = i
		}
	}
}

const (
	minSteps     = 20_000
	stepsPerPair = 300 // of members of a partition
	maxSteps     = 2_000_000
	patience     = 4 // a quarter of the steps without an improvement ends the search
	checkEvery   = 16_384
)

// try makes one random step and takes it back if it makes the layout worse. It returns the change of the cost, ≤ 0.
func (l *layout) try(rng *random) int64 {
	p := rng.below(len(l.parts))
	switch kind := rng.below(16); {
	case kind < 4:
		return l.tryLeads(rng, p)
	case kind < 6:
		return l.tryReplace(rng, p)
	case kind < 10 && l.parts[p].old != nil:
		return l.tryMoved(rng, p)
	}
	return l.tryExchange(rng, p)
}

// tryReplace gives a slot to another host: the step that balances members.
func (l *layout) tryReplace(rng *random, p int) int64 {
	slot, h := rng.below(len(l.parts[p].slots)), int32(rng.below(l.hosts))
	if l.isMember(p, h) {
		return 0
	}
	before := l.parts[p].slots[slot]
	delta := l.replace(p, slot, h)
	if delta > 0 {
		l.replace(p, slot, before)
		return 0
	}
	return delta
}

// tryExchange swaps two members of different partitions, or a voter with a replica of one: every host keeps its count.
func (l *layout) tryExchange(rng *random, p int) int64 {
	q := rng.below(len(l.parts))
	i, j := rng.below(len(l.parts[p].slots)), rng.below(len(l.parts[q].slots))
	// Leaders swap with leaders, or the step would be refused for unbalancing them.
	if (i == l.parts[p].lead) != (j == l.parts[q].lead) {
		i, j = l.parts[p].lead, l.parts[q].lead
	}
	return l.exchangeIf(p, i, q, j)
}

// tryMoved exchanges a member that moved to p for one that left it and is still a member of q: the number of moves
// stays the same, and another partition is the one that moves.
func (l *layout) tryMoved(rng *random, p int) int64 {
	part := &l.parts[p]
	i := rng.below(len(part.slots))
	if slices.Contains(part.old, part.slots[i]) {
		return 0
	}
	home := part.old[rng.below(len(part.old))]
	if home == vacant || l.isMember(p, home) {
		return 0
	}
	for range 8 {
		q := rng.below(len(l.parts))
		if j := slices.Index(l.parts[q].slots, home); j >= 0 {
			return l.exchangeIf(p, i, q, j)
		}
	}
	return 0
}

// exchangeIf makes an exchange unless it makes the layout worse.
func (l *layout) exchangeIf(p, i, q, j int) int64 {
	a, b := l.parts[p].slots[i], l.parts[q].slots[j]
	if a == b || p != q && (l.isMember(p, b) || l.isMember(q, a)) || l.crowds(p, i, b)+l.crowds(q, j, a) > 0 {
		return 0
	}
	delta := l.exchange(p, i, q, j)
	if delta > 0 {
		l.exchange(p, i, q, j)
		return 0
	}
	return delta
}

// crowds returns by how many the pairs of voters in one zone would grow if a slot went to host h: a cheap way to refuse
// most steps when zones are few.
func (l *layout) crowds(p, slot int, h int32) int {
	part := &l.parts[p]
	if slot >= part.voters || l.zone[h] == l.zone[part.slots[slot]] {
		return 0
	}
	grow := 0
	for i, o := range part.slots[:part.voters] {
		if i == slot {
			continue
		}
		if l.zone[o] == l.zone[h] {
			grow++
		}
		if l.zone[o] == l.zone[part.slots[slot]] {
			grow--
		}
	}
	return grow
}

// tryLeads passes the leadership of p to another voter y and, when y leads a partition in which the old leader votes,
// passes that one back.
func (l *layout) tryLeads(rng *random, p int) int64 {
	part := &l.parts[p]
	if part.voters < 2 {
		return 0
	}
	slot := rng.below(part.voters)
	if slot == part.lead {
		return 0
	}
	was, x, y := part.lead, part.slots[part.lead], part.slots[slot]
	q, back, wasBack := -1, 0, 0
	if rng.below(4) > 0 {
		q, back = l.leadsAndHasVoter(rng, y, x)
	}
	delta := l.setLead(p, slot)
	if q >= 0 {
		wasBack = l.parts[q].lead
		delta += l.setLead(q, back)
	}
	if delta <= 0 {
		return delta
	}
	if q >= 0 {
		l.setLead(q, wasBack)
	}
	l.setLead(p, was)
	return 0
}

// leadsAndHasVoter returns a partition that leader leads and in which voter holds a voter slot, and that slot.
func (l *layout) leadsAndHasVoter(rng *random, leader, voter int32) (p, slot int) {
	led := l.ledBy[leader]
	if len(led) == 0 {
		return -1, 0
	}
	start := rng.below(len(led))
	for k := range led {
		q := int(led[(start+k)%len(led)])
		for slot, h := range l.parts[q].slots[:l.parts[q].voters] {
			if h == voter {
				return q, slot
			}
		}
	}
	return -1, 0
}

// even reports whether nothing is left to improve: members, voters and leaders differ by at most one, and so does what
// every host's loss lays on the survivors.
func (l *layout) even() bool {
	if width(l.members) > 1 || width(l.voters) > 1 || width(l.leads) > 1 {
		return false
	}
	if l.parts[0].old != nil {
		return false // a replan: moves may be left to save
	}
	rules := l.rules()
	for h := range l.hosts {
		shared, heirs := l.spread(h, l.shared, rules.sharedInZone), l.spread(h, l.heirs, rules.heirsInZone)
		if shared.Max-shared.Min > 1 || heirs.Max-heirs.Min > 1 {
			return false
		}
	}
	return true
}

// width returns the difference of the largest and the smallest of some counts.
func width(counts []int32) int32 {
	return slices.Max(counts) - slices.Min(counts)
}
