package config

import (
	"cmp"
	"fmt"
	"slices"
)

// A cap on peers divides the hosts into cells, and the members of a partition come from one cell. Cells are as few and
// as large as the cap permits, because each spreads a dead host's load over its own hosts only. Links between cells are
// not used even where the cap has room for them: they would spread little, and leave no room for the next host.

// cells says how many hosts of each zone a cell has.
type cells [][]int // [cell][zone]

// dealCells divides the hosts into count cells, dealing the hosts of one zone after the other. An aligned deal starts at
// the first cell for each zone, so that zones of equal size are equally large in each cell too; otherwise the deal goes
// on where it stopped, which keeps the cells equally large.
func dealCells(size []int, count int, aligned bool) cells {
	c := make(cells, count)
	for i := range c {
		c[i] = make([]int, len(size))
	}
	next := 0
	for zone, n := range size {
		if aligned {
			next = 0
		}
		for range n {
			c[next%count][zone]++
			next++
		}
	}
	return c
}

// peers returns the most peers a host of the cells may get with partitions of up to largest members, and whether every
// cell is large enough for them. Where every member can have a zone to itself, hosts of one zone are no peers.
func (c cells) peers(largest int) (most int, fits bool) {
	for _, quota := range c {
		size, zones, fewest := 0, 0, 0
		for _, n := range quota {
			if n > 0 {
				size += n
				if zones++; fewest == 0 || n < fewest {
					fewest = n
				}
			}
		}
		if size < largest {
			return 0, false
		}
		if largest <= zones {
			most = max(most, size-fewest)
		} else {
			most = max(most, size-1)
		}
	}
	return most, true
}

// cellsFor returns the fewest cells that keep a cap, nil when the cap does not bind, and an error when none do.
func cellsFor(zones []int32, largest, maxPeers int) (cells, error) {
	if maxPeers < 0 {
		return nil, fmt.Errorf("the cap on peers cannot be negative")
	}
	if maxPeers == 0 {
		return nil, nil
	}
	size := make([]int, int(slices.Max(zones))+1) // hosts by zone
	for _, zone := range zones {
		size[zone]++
	}
	// With as many zones as members, the hosts of a cell's smaller zones have to do more: rather have none smaller.
	deals := []bool{false}
	if size[0] > 1 && len(slices.Compact(slices.Clone(size))) == 1 {
		deals = []bool{true, false}
	}
	least := len(zones) - 1
	for count := 1; count <= len(zones)/largest; count++ {
		for _, aligned := range deals {
			c := dealCells(size, count, aligned)
			most, fits := c.peers(largest)
			switch {
			case fits && most <= maxPeers && count == 1:
				return nil, nil
			case fits && most <= maxPeers:
				return c, nil
			case fits:
				least = min(least, most)
			}
		}
	}
	return nil, fmt.Errorf("%d hosts with partitions of %d members cannot have at most %d peers each; the least is %d",
		len(zones), largest, maxPeers, least)
}

// seat assigns each host to a cell, hosts that already share partitions to the same one.
func (l *layout) seat(c cells) []int32 {
	cell := slices.Repeat([]int32{vacant}, l.hosts)
	for i, quota := range c {
		affinity := make([]int64, l.hosts) // by host: partitions shared with the cell so far
		for {
			best := int32(vacant)
			for h := range int32(l.hosts) {
				if cell[h] == vacant && quota[l.zone[h]] > 0 && (best == vacant || affinity[h] > affinity[best]) {
					best = h
				}
			}
			if best == vacant {
				break
			}
			cell[best] = int32(i)
			quota[l.zone[best]]--
			for h := range affinity {
				affinity[h] += int64(l.shared[int(best)*l.hosts+h])
			}
		}
	}
	return cell
}

// fillCells is fill with the cells of a cap; members outside of a partition's cell leave it.
func (l *layout) fillCells(c cells) {
	cell := l.seat(c)
	home := l.settle(cell)
	l.cell = cell
	l.fill(home)
}

// settle assigns each partition to a cell: the one that has most of its members already, while there is room in it for
// a fair share, and otherwise the emptiest. Members outside of it lose their slots.
func (l *layout) settle(cell []int32) (home []int32) {
	count := int(slices.Max(cell)) + 1
	size, used, total := make([]int, count), make([]int, count), 0
	for _, c := range cell {
		size[c]++
	}
	inside := make([][]int, len(l.parts)) // members of each partition by cell
	order := make([]int, len(l.parts))
	for p := range l.parts {
		total += len(l.parts[p].slots)
		order[p], inside[p] = p, make([]int, count)
		for _, h := range l.parts[p].slots {
			if h != vacant {
				inside[p][cell[h]]++
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(slices.Max(inside[b]), slices.Max(inside[a])) })
	home = make([]int32, len(l.parts))
	for _, p := range order {
		slots := len(l.parts[p].slots)
		best, emptiest := vacant, 0
		for c := range count {
			if room := (2*used[c] + slots) * l.hosts; room <= 2*total*size[c] && (best == vacant || inside[p][c] > inside[p][best]) {
				best = c
			}
			if (2*used[c]+slots)*size[emptiest] < (2*used[emptiest]+slots)*size[c] {
				emptiest = c
			}
		}
		if best == vacant || inside[p][best] == 0 {
			best = emptiest
		}
		used[best] += slots
		home[p] = int32(best)
		for slot, h := range l.parts[p].slots {
			if h != vacant && cell[h] != home[p] {
				l.take(p, slot)
			}
		}
	}
	return home
}
