package antientropy

import (
	"cmp"
	"slices"
)

// order returns the active members, the one first whose partition is in most danger: with the fewest peers that are alive and
// lack nothing, so that a host that lost everything first restores what another loss would cost. Among equals voters come before
// replicas, because a majority counts on them, and then what is done soonest. Members that need only a name of a document
// come last.
func (p *plan) order() []*part {
	if p.ordered {
		return p.ranking
	}
	p.ranking = append(p.ranking[:0], p.active...)
	for _, pt := range p.ranking {
		pt.sound = 0
		for i := range pt.peers {
			if pt.peers[i].Complete && pt.peers[i].Alive {
				pt.sound++
			}
		}
	}
	slices.SortFunc(p.ranking, func(a, b *part) int {
		return cmp.Or(second(!a.sick(), !b.sick()), cmp.Compare(a.sound, b.sound), second(!a.voter, !b.voter),
			cmp.Compare(a.progress.left(), b.progress.left()), cmp.Compare(a.id, b.id))
	})
	p.ordered = true
	return p.ranking
}

// second puts what is so behind what is not.
func second(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// newSessions begins sessions until no peer takes more: for one member after the other, so that each is whole as soon as can
// be. The next one gets what the ones before it cannot use: peers that they do not have, that lack what they miss, or whose
// buckets all wait for something.
func (p *plan) newSessions() {
	if p.rate > 0 && !p.afford(0) {
		return // what is under way uses up the byte budget
	}
	for _, pt := range p.order() {
		for p.newSession(pt) {
		}
	}
}
