package config

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// tally is the slow oracle: everything a layout keeps, and the cost, counted anew from a cluster's lists.
type tally struct {
	names                           []string
	members, voters, leaders, links map[string]int
	shared, heirs                   map[[2]string]int
}

func count(c *Cluster) tally {
	s := tally{
		names: c.HostNames(), members: map[string]int{}, voters: map[string]int{}, leaders: map[string]int{}, links: map[string]int{},
		shared: map[[2]string]int{}, heirs: map[[2]string]int{},
	}
	for _, p := range c.Partitions {
		for _, a := range p.Members() {
			s.members[a]++
			for _, b := range p.Members() {
				if a != b {
					s.shared[[2]string{a, b}]++
				}
			}
		}
		for _, a := range p.Voters {
			s.voters[a]++
			if p.Prefer != "" && a != p.Prefer {
				s.heirs[[2]string{p.Prefer, a}]++
			}
		}
		if p.Prefer != "" {
			s.leaders[p.Prefer]++
		}
	}
	for pair := range s.shared {
		s.links[pair[0]]++
	}
	return s
}

// spread returns the least and greatest share that the survivors of a host get, same-zone ones left out unless inZone.
func (s tally) spread(c *Cluster, dead string, shares map[[2]string]int, inZone bool) (least, most int) {
	least = -1
	for _, name := range s.names {
		if name == dead || !inZone && c.Hosts[dead].Zone != "" && c.Hosts[name].Zone == c.Hosts[dead].Zone {
			continue
		}
		n := shares[[2]string{dead, name}]
		if least < 0 || n < least {
			least = n
		}
		most = max(most, n)
	}
	return max(least, 0), most
}

func (s tally) over(counts map[string]int) (least, most int) {
	for i, name := range s.names {
		n := counts[name]
		if i == 0 {
			least = n
		}
		least, most = min(least, n), max(most, n)
	}
	return least, most
}

// cost is the oracle of a layout's cost, in the layout's own terms but with none of its sums.
func (l *layout) cost(c *Cluster) int64 {
	s, square := count(c), func(n int) int64 { return int64(n) * int64(n) }
	var sum int64
	for h, name := range s.names {
		sum += l.price.members*square(s.members[name]) + l.price.voters*square(s.voters[name]) + l.price.leads*square(s.leaders[name])
		if l.maxPeers > 0 {
			sum += l.price.cap * int64(max(0, s.links[name]-l.maxPeers))
		}
		for _, other := range s.names[:h] {
			sum += l.price.shared * square(s.shared[[2]string{name, other}])
		}
	}
	for _, n := range s.heirs {
		sum += l.price.heirs * square(n)
	}
	for _, part := range l.parts {
		for i, a := range part.slots {
			if part.old != nil && !slices.Contains(part.old, a) {
				sum += l.price.move
			}
			for j, b := range part.slots[:i] {
				if l.cell != nil && l.cell[a] != l.cell[b] {
					sum += l.price.cap
				}
				if l.zone[a] == l.zone[b] && i < part.voters && j < part.voters {
					sum += l.price.zone
				} else if l.zone[a] == l.zone[b] {
					sum += l.price.copies
				}
			}
		}
		if lead := part.slots[part.lead]; part.oldLead != vacant && part.oldLead != lead {
			sum += l.price.prefer
		}
	}
	return sum
}

// cluster writes a layout as a cluster, for counting.
func (l *layout) cluster() *Cluster {
	c := &Cluster{Hosts: map[string]Host{}}
	names := make([]string, l.hosts)
	for h := range names {
		names[h] = fmt.Sprintf("h%d", h)
		c.Hosts[names[h]] = Host{Zone: fmt.Sprint(l.zone[h])}
	}
	for i := range l.parts {
		var p Partition
		l.assign(&p, i, names)
		c.Partitions = append(c.Partitions, p)
	}
	return c
}

// The primitives return exactly by how much the cost changes, whatever steps are made and taken back.
func TestLayoutKeepsItsSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.IntRange(2, 9).Draw(t, "hosts")
		zones := make([]int32, hosts)
		for h := range zones {
			zones[h] = rapid.Int32Range(0, 3).Draw(t, "zone")
		}
		parts := make([]part, rapid.IntRange(1, 8).Draw(t, "partitions"))
		for i := range parts {
			voters := min(hosts, 1+2*rapid.IntRange(0, 3).Draw(t, "voters"))
			size := voters + rapid.IntRange(0, hosts-voters).Draw(t, "replicas")
			parts[i] = part{slots: slices.Repeat([]int32{vacant}, size), voters: voters, lead: vacant, oldLead: vacant}
			if rapid.Bool().Draw(t, "replan") {
				parts[i].old = []int32{0, vacant, 1}
				parts[i].oldLead = 1
			}
		}
		l := newLayout(zones, parts, rapid.IntRange(0, 4).Draw(t, "cap"))
		if rapid.Bool().Draw(t, "cells") {
			l.cell = zones // any division will do
		}
		l.fill(nil)
		cost := l.cost(l.cluster())
		if got := l.total(); got != cost {
			t.Fatalf("total is %d, the oracle says %d", got, cost)
		}
		rng := random(rapid.Uint64().Draw(t, "seed"))
		for range 30 {
			cost += randomStep(l, &rng)
			if want := l.cost(l.cluster()); cost != want {
				t.Fatalf("the sums say %d, the oracle %d", cost, want)
			}
		}
		for range 30 { // whatever the search tries and takes back leaves no trace
			l.try(&rng)
		}
		checkSums(t, l)
	})
}

func randomStep(l *layout, rng *random) int64 {
	p, q := rng.below(len(l.parts)), rng.below(len(l.parts))
	i, j := rng.below(len(l.parts[p].slots)), rng.below(len(l.parts[q].slots))
	a, b := l.parts[p].slots[i], l.parts[q].slots[j]
	switch rng.below(3) {
	case 0:
		return l.setLead(p, rng.below(l.parts[p].voters))
	case 1:
		if h := int32(rng.below(l.hosts)); !l.isMember(p, h) {
			return l.replace(p, i, h)
		}
	default:
		if a != b && (p == q || !l.isMember(p, b) && !l.isMember(q, a)) {
			return l.exchange(p, i, q, j)
		}
	}
	return 0
}

func checkSums(t *rapid.T, l *layout) {
	c := l.cluster()
	s := count(c)
	for a, x := range s.names {
		if int(l.members[a]) != s.members[x] || int(l.voters[a]) != s.voters[x] || int(l.leads[a]) != s.leaders[x] || len(l.ledBy[a]) != s.leaders[x] {
			t.Fatalf("%s: members %d, voters %d, leads %d; the oracle says %d, %d, %d", x, l.members[a], l.voters[a], l.leads[a], s.members[x], s.voters[x], s.leaders[x])
		}
		if l.maxPeers > 0 && int(l.peers[a]) != s.links[x] {
			t.Fatalf("%s: %d peers, the oracle says %d", x, l.peers[a], s.links[x])
		}
		for b, y := range s.names {
			if int(l.shared[a*l.hosts+b]) != s.shared[[2]string{x, y}] || int(l.heirs[a*l.hosts+b]) != s.heirs[[2]string{x, y}] {
				t.Fatalf("%s, %s: wrong pair", x, y)
			}
		}
	}
}

// balanceLeads finds the best balance there is: no assignment of leaders has a smaller sum of squares.
func TestBalanceLeadsIsOptimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.IntRange(3, 6).Draw(t, "hosts")
		zones := make([]int32, hosts)
		parts := make([]part, rapid.IntRange(1, 7).Draw(t, "partitions"))
		for i := range parts {
			voters := []int{1, 3}[rapid.IntRange(0, 1).Draw(t, "voters")]
			parts[i] = part{slots: slices.Repeat([]int32{vacant}, voters), voters: voters, lead: vacant, oldLead: vacant}
		}
		l := newLayout(zones, parts, 0)
		for p := range l.parts {
			order := rapid.Permutation([]int32{0, 1, 2, 3, 4, 5}[:hosts]).Draw(t, "voters")
			for slot := range l.parts[p].slots {
				l.put(p, slot, order[slot])
			}
			l.setLead(p, 0)
		}
		l.balanceLeads()
		got := 0
		for _, n := range l.leads {
			got += int(n * n)
		}
		if best := leastLeads(l, make([]int, hosts), 0); got != best {
			t.Fatalf("sum of squares %d, the best is %d", got, best)
		}
	})
}

// leastLeads tries every assignment of leaders.
func leastLeads(l *layout, leads []int, p int) int {
	if p == len(l.parts) {
		sum := 0
		for _, n := range leads {
			sum += n * n
		}
		return sum
	}
	best := -1
	for _, h := range l.parts[p].slots[:l.parts[p].voters] {
		leads[h]++
		if sum := leastLeads(l, leads, p+1); best < 0 || sum < best {
			best = sum
		}
		leads[h]--
	}
	return best
}
