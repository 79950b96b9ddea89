package config

import "slices"

// vacant marks a slot without a host.
const vacant = -1

// layout is a plan in progress: who is a member of what, and what that costs. Its primitives (put, take, setLead) keep
// every sum up to date and return by how much the cost changed, so a search can try a step and take it back. Hosts and
// zones are numbers here. Not safe for concurrent use; one planner call owns it.
//
// The cost is a sum of squares, and a sum of squares of counts with a fixed total is least when they differ by at most
// one. Squares also make it local: a step's price follows from the counts it touches.
type layout struct {
	hosts    int
	zone     []int32 // by host
	parts    []part
	price    prices
	maxPeers int     // 0: no cap
	cell     []int32 // by host; nil, or members of one partition should come from one cell

	members []int32 // by host: slots held
	voters  []int32 // by host: voter slots held
	leads   []int32 // by host: partitions led = len(ledBy)
	peers   []int32 // by host: hosts shared with ≥ 1 partition
	shared  []int32 // [a·hosts+b]: partitions that a and b are both members of; symmetric
	heirs   []int32 // [a·hosts+b]: partitions that a leads and b votes in
	ledBy   [][]int32
	ledPos  []int32 // by partition: its place in ledBy of its leader
}

// part is one partition of a layout.
type part struct {
	slots   []int32 // hosts of the voters, then of the replicas; no host twice
	voters  int     // how many slots are voters
	lead    int     // the slot of the preferred leader, < voters; vacant in a file that prefers none
	old     []int32 // members before a replan; nil when generating
	oldLead int32   // preferred leader before a replan, or vacant
}

// prices of what a plan should not have. The first three ranks do not trade: one step of a rank costs more than all
// that the ranks below it can gain by one step. Below them, balanced leaders come before moves (one move may be paid to
// even out leaders, more are not), and moves before the spread of a dead host's load.
type prices struct {
	cap     int64 // × peers of a host beyond the cap, and × pairs of members of a partition from different cells
	zone    int64 // × pairs of voters of a partition in one zone
	members int64 // × members of a host, squared
	leads   int64 // × partitions a host leads, squared
	move    int64 // × members that were not there before
	voters  int64 // × voters of a host, squared
	copies  int64 // × other pairs of members of a partition in one zone
	prefer  int64 // × preferences that changed
	shared  int64 // × partitions a pair of hosts shares, squared
	heirs   int64 // × partitions that one host leads and another votes in, squared
}

func pricesFor(partitions int) prices {
	p := prices{leads: 200, move: 100, voters: 30, copies: 30, prefer: 3, shared: 1, heirs: 1}
	// One step changes the square of a count by at most twice the count, and no count exceeds the partitions.
	p.members = 4 * p.leads * int64(partitions+1)
	p.zone = 4 * p.members * int64(partitions+1)
	p.cap = 4 * p.zone
	return p
}

func newLayout(zones []int32, parts []part, maxPeers int) *layout {
	n := len(zones)
	return &layout{
		hosts: n, zone: zones, parts: parts, price: pricesFor(len(parts)), maxPeers: maxPeers,
		members: make([]int32, n), voters: make([]int32, n), leads: make([]int32, n), peers: make([]int32, n),
		shared: make([]int32, n*n), heirs: make([]int32, n*n),
		ledBy: make([][]int32, n), ledPos: make([]int32, len(parts)),
	}
}

// put fills a vacant slot with a host that is not yet a member of the partition.
func (l *layout) put(p, slot int, h int32) int64 {
	delta := l.change(p, slot, h, 1)
	l.parts[p].slots[slot] = h
	return delta
}

// take makes a filled slot vacant.
func (l *layout) take(p, slot int) int64 {
	h := l.parts[p].slots[slot]
	l.parts[p].slots[slot] = vacant
	return l.change(p, slot, h, -1)
}

// change adds or removes (sign) host h at a slot that is vacant at the moment.
func (l *layout) change(p, slot int, h int32, sign int32) int64 {
	part := &l.parts[p]
	delta := l.price.members * step(&l.members[h], sign)
	if slot < part.voters {
		delta += l.price.voters * step(&l.voters[h], sign)
	}
	if part.old != nil && !slices.Contains(part.old, h) {
		delta += l.price.move * int64(sign)
	}
	row := l.shared[int(h)*l.hosts : int(h)*l.hosts+l.hosts]
	for i, o := range part.slots {
		if o == vacant {
			continue
		}
		delta += l.price.shared * step(&row[o], sign)
		l.shared[int(o)*l.hosts+int(h)] = row[o]
		if l.maxPeers > 0 && row[o] == (sign+1)/2 { // a link begins or ends
			delta += l.link(h, sign) + l.link(o, sign)
		}
		if l.cell != nil && l.cell[o] != l.cell[h] {
			delta += l.price.cap * int64(sign)
		}
		bothVote := slot < part.voters && i < part.voters
		if l.zone[o] == l.zone[h] {
			if bothVote {
				delta += l.price.zone * int64(sign)
			} else {
				delta += l.price.copies * int64(sign)
			}
		}
		if bothVote && part.lead == slot {
			delta += l.price.heirs * step(&l.heirs[int(h)*l.hosts+int(o)], sign)
		} else if bothVote && part.lead == i {
			delta += l.price.heirs * step(&l.heirs[int(o)*l.hosts+int(h)], sign)
		}
	}
	if slot == part.lead {
		delta += l.leads1(p, h, sign)
	}
	return delta
}

// step adds sign to a count and returns the change of its square.
func step(count *int32, sign int32) int64 {
	before := int64(*count)
	*count += sign
	after := int64(*count)
	return after*after - before*before
}

// link counts a new or lost peer of h and returns the change of what exceeds the cap, priced.
func (l *layout) link(h, sign int32) int64 {
	before := max(0, int(l.peers[h])-l.maxPeers)
	l.peers[h] += sign
	return l.price.cap * int64(max(0, int(l.peers[h])-l.maxPeers)-before)
}

// leads1 adds or removes partition p to those that h leads.
func (l *layout) leads1(p int, h, sign int32) int64 {
	led := l.ledBy[h]
	if sign > 0 {
		l.ledPos[p] = int32(len(led))
		l.ledBy[h] = append(led, int32(p))
	} else {
		last := len(led) - 1
		at := l.ledPos[p]
		led[at] = led[last]
		l.ledPos[led[at]] = at
		l.ledBy[h] = led[:last]
	}
	delta := l.price.leads * step(&l.leads[h], sign)
	if old := l.parts[p].oldLead; old != vacant && old != h {
		delta += l.price.prefer * int64(sign)
	}
	return delta
}

// setLead prefers the voter in another slot. All voter slots are filled.
func (l *layout) setLead(p, slot int) int64 {
	part := &l.parts[p]
	var delta int64
	for _, at := range []struct {
		slot int
		sign int32
	}{{part.lead, -1}, {slot, 1}} {
		if at.slot == vacant {
			continue
		}
		h := part.slots[at.slot]
		for i, o := range part.slots[:part.voters] {
			if i != at.slot {
				delta += l.price.heirs * step(&l.heirs[int(h)*l.hosts+int(o)], at.sign)
			}
		}
		delta += l.leads1(p, h, at.sign)
	}
	part.lead = slot
	return delta
}

// replace puts another host in a filled slot.
func (l *layout) replace(p, slot int, h int32) int64 {
	return l.take(p, slot) + l.put(p, slot, h)
}

// exchange swaps the hosts of two filled slots; it is its own inverse.
func (l *layout) exchange(p, i, q, j int) int64 {
	a, b := l.parts[p].slots[i], l.parts[q].slots[j]
	delta := l.take(p, i) + l.take(q, j)
	return delta + l.put(p, i, b) + l.put(q, j, a)
}

// isMember reports whether a host is a member of a partition.
func (l *layout) isMember(p int, h int32) bool { return slices.Contains(l.parts[p].slots, h) }

// overCap reports whether some host has more peers than it may.
func (l *layout) overCap() bool {
	for _, n := range l.peers {
		if l.maxPeers > 0 && int(n) > l.maxPeers {
			return true
		}
	}
	return false
}

// total computes the cost from the slots alone: what the primitives' results add up to.
func (l *layout) total() int64 {
	fresh := newLayout(l.zone, make([]part, len(l.parts)), l.maxPeers)
	fresh.cell = l.cell
	var cost int64
	for p := range l.parts {
		fresh.parts[p] = l.parts[p]
		fresh.parts[p].slots = slices.Repeat([]int32{vacant}, len(l.parts[p].slots))
		for slot, h := range l.parts[p].slots {
			if h != vacant {
				cost += fresh.put(p, slot, h)
			}
		}
	}
	return cost
}
