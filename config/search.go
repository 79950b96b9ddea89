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

// search improves the layout by random steps. A step that makes it worse by no more than a random share of a falling
// threshold is accepted too, which carries the search out of poor places (threshold accepting); in the last fifth only
// steps that do no harm are. The threshold is below every price but those of the spread, so the higher ranks only
// improve. The number of steps depends on the input alone: a clock would make the result depend on the machine.
func (l *layout) search(rng *random) {
	slots := 0
	for i := range l.parts {
		slots += len(l.parts[i].slots)
	}
	steps := min(max(minSteps, stepsPerSlot*slots), maxSteps)
	for i := range steps {
		if i%checkEvery == 0 && l.even() {
			return
		}
		threshold := max(0, maxThreshold-maxThreshold*i*5/(steps*4))
		l.try(rng, threshold)
	}
}

const (
	minSteps     = 60_000
	stepsPerSlot = 400
	maxSteps     = 2_000_000
	checkEvery   = 16_384
	maxThreshold = 3
)

// try makes one random step and takes it back unless the cost allows it.
func (l *layout) try(rng *random, threshold int) {
	limit := int64(rng.below(threshold + 1))
	p := rng.below(len(l.parts))
	switch kind := rng.below(16); {
	case kind < 4:
		l.tryLeads(rng, p, limit)
	case kind < 6:
		l.tryReplace(rng, p, limit)
	case kind < 10 && l.parts[p].old != nil:
		l.tryMoved(rng, p, limit)
	default:
		l.tryExchange(rng, p, limit)
	}
}

// tryReplace gives a slot to another host: the step that balances members.
func (l *layout) tryReplace(rng *random, p int, limit int64) {
	slot, h := rng.below(len(l.parts[p].slots)), int32(rng.below(l.hosts))
	if l.isMember(p, h) {
		return
	}
	before := l.parts[p].slots[slot]
	if l.replace(p, slot, h) > limit {
		l.replace(p, slot, before)
	}
}

// tryExchange swaps two members of different partitions, or a voter with a replica of one: every host keeps its count.
func (l *layout) tryExchange(rng *random, p int, limit int64) {
	q := rng.below(len(l.parts))
	i, j := rng.below(len(l.parts[p].slots)), rng.below(len(l.parts[q].slots))
	// Leaders swap with leaders, or the step would be refused for unbalancing them.
	if (i == l.parts[p].lead) != (j == l.parts[q].lead) {
		i, j = l.parts[p].lead, l.parts[q].lead
	}
	l.exchangeIf(p, i, q, j, limit)
}

// tryMoved exchanges a member that moved to p for one that left it and is still a member of q: the number of moves
// stays the same, and another partition is the one that moves.
func (l *layout) tryMoved(rng *random, p int, limit int64) {
	part := &l.parts[p]
	i := rng.below(len(part.slots))
	if slices.Contains(part.old, part.slots[i]) {
		return
	}
	home := part.old[rng.below(len(part.old))]
	if home == vacant || l.isMember(p, home) {
		return
	}
	for range 8 {
		q := rng.below(len(l.parts))
		for j, h := range l.parts[q].slots {
			if h == home {
				l.exchangeIf(p, i, q, j, limit)
				return
			}
		}
	}
}

func (l *layout) exchangeIf(p, i, q, j int, limit int64) {
	a, b := l.parts[p].slots[i], l.parts[q].slots[j]
	if a == b || p != q && (l.isMember(p, b) || l.isMember(q, a)) || l.crowds(p, i, b)+l.crowds(q, j, a) > 0 {
		return
	}
	if l.exchange(p, i, q, j) > limit {
		l.exchange(p, i, q, j)
	}
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
func (l *layout) tryLeads(rng *random, p int, limit int64) {
	part := &l.parts[p]
	if part.voters < 2 {
		return
	}
	slot := rng.below(part.voters)
	if slot == part.lead {
		return
	}
	was, x, y := part.lead, part.slots[part.lead], part.slots[slot]
	q, back := -1, 0
	if rng.below(4) > 0 {
		q, back = l.leadsAndHasVoter(rng, y, x)
	}
	delta := l.setLead(p, slot)
	if q < 0 {
		if delta > limit {
			l.setLead(p, was)
		}
		return
	}
	wasBack := l.parts[q].lead
	if delta+l.setLead(q, back) > limit {
		l.setLead(q, wasBack)
		l.setLead(p, was)
	}
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
