package config

import "slices"

// balanceMembers evens out the hosts' members by the fewest moves: it drains the fullest hosts into the emptiest ones,
// each time by the replacement that costs least. A random search would drain hosts that others then have to refill.
func (l *layout) balanceMembers() {
	for l.drainOnce() {
	}
}

// drainOnce replaces one member of a full host by an emptier host. False when no replacement lowers the cost.
func (l *layout) drainOnce() bool {
	const tries = 24 // of receivers, and of donors for each; bounds the cost when zones or caps forbid balance
	order := make([]int32, l.hosts)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return int(l.members[a] - l.members[b]) })
	for _, receiver := range order[:min(tries, l.hosts)] {
		for k := range min(tries, l.hosts) {
			donor := order[l.hosts-1-k]
			if l.members[donor] < l.members[receiver]+2 {
				break
			}
			if l.drain(donor, receiver) {
				return true
			}
		}
	}
	return false
}

// drain replaces the donor by the receiver in the partition where that costs least, if it lowers the cost.
func (l *layout) drain(donor, receiver int32) bool {
	bestPart, bestSlot, best := -1, 0, int64(0)
	for p := range l.parts {
		slot := slices.Index(l.parts[p].slots, donor)
		if slot < 0 || l.isMember(p, receiver) {
			continue
		}
		if delta := l.replace(p, slot, receiver); delta < best {
			bestPart, bestSlot, best = p, slot, delta
		}
		l.replace(p, slot, donor)
	}
	if bestPart < 0 {
		return false
	}
	l.replace(bestPart, bestSlot, receiver)
	return true
}

// balanceVoters evens out the hosts' voters by swapping a voter with a replica of the same partition, which moves no
// data. Afterwards little is left that the search would pay a move for.
func (l *layout) balanceVoters() {
	for better := true; better; {
		better = false
		for p := range l.parts {
			part := &l.parts[p]
			for i := range part.voters {
				for j := part.voters; j < len(part.slots); j++ {
					if l.exchange(p, i, p, j) < 0 {
						better = true
					} else {
						l.exchange(p, i, p, j)
					}
				}
			}
		}
	}
}

// balanceLeads makes the leaders' counts differ by at most one wherever the partitions' voters permit it at all. While
// some host leads at least two partitions more than another that is reachable from it (a leader can pass a partition on
// to any of its voters), one partition is passed on along each step of a shortest path. Because the cost is convex,
// no such path means the balance is the best possible.
func (l *layout) balanceLeads() {
	for again := true; again; {
		again = false // until a pass finds nothing: who receives leads may become able to pass more on
		for h := range int32(l.hosts) {
			for l.leads[h] >= slices.Min(l.leads)+2 && l.relieve(h) {
				again = true
			}
		}
	}
}

// relieve moves one lead from host h along a path to the host that leads least, if that is less by two or more.
func (l *layout) relieve(h int32) bool {
	type via struct {
		p, slot int
		from    int32
	}
	came := make([]via, l.hosts)
	seen := make([]bool, l.hosts)
	seen[h] = true
	queue := []int32{h}
	best := h
	for len(queue) > 0 {
		x := queue[0]
		queue = queue[1:]
		if l.leads[x] < l.leads[best] {
			best = x
		}
		for _, p := range l.ledBy[x] {
			part := &l.parts[p]
			for slot, y := range part.slots[:part.voters] {
				if !seen[y] {
					seen[y], came[y] = true, via{int(p), slot, x}
					queue = append(queue, y)
				}
			}
		}
	}
	if l.leads[best] > l.leads[h]-2 {
		return false
	}
	for y := best; y != h; y = came[y].from {
		l.setLead(came[y].p, came[y].slot)
	}
	return true
}
