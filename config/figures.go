package config

import (
	"cmp"
	"slices"
)

// Figures judges a cluster's layout: how evenly work and loss are spread, and what failures cost.
type Figures struct {
	Cluster    string
	Version    uint64
	Hosts      []HostFigures // in reading order
	Zones      int           // failure domains; a host without a zone counts as one
	Partitions int
	Groups     []Group // sizes that occur, largest first
	Copies     int     // members over all partitions
	Undirected int     // partitions without a preferred leader

	Members, Voters, Leaders, Links Range // over the hosts

	// Crowded counts the partitions with more voters in one zone than the zones make necessary.
	Crowded int
	Losses  []Loss     // for 1, 2 and 3 simultaneous host failures, as far as there are hosts
	ByZone  []ZoneLoss // for the failure of each zone
}

// HostFigures is one host's share of the work, and who bears it when the host dies.
type HostFigures struct {
	Name, Zone                      string
	Members, Voters, Leaders, Links int // Links: hosts it shares a partition with

	// Shared spreads the partitions the host is a member of over the survivors: how many of them each is a member of
	// too, and so helps to rebuild.
	Shared Spread
	// Heirs spreads the partitions the host leads: in how many of them each survivor votes, and so may take over.
	Heirs Spread
}

// Range is the least and the greatest of some counts.
type Range struct{ Min, Max int }

// Spread says how a dead host's load falls on the survivors. Min and Max are over those that can have a share at all:
// where no partition needs two members in one zone, hosts of the dead one's zone cannot.
type Spread struct {
	Range
	Eligible int // survivors that can have a share
	Sharing  int // survivors that have one
}

// Loss is the chance that the simultaneous failure of hosts picked at random hits some partition too often.
type Loss struct {
	Failures  int     // hosts failing at once
	Majority  float64 // chance that some partition has lost the majority of its voters
	AllCopies float64 // chance that some partition has lost every member
	Exact     bool    // whether every set of hosts was looked at, or a random sample
	Sets      int     // sets of hosts looked at
}

// ZoneLoss is what the failure of a whole zone costs.
type ZoneLoss struct {
	Zone                string
	Hosts               int
	Majority, AllCopies int // partitions that lose the majority of their voters, every member
}

// Figures computes the figures of a valid cluster.
func (c *Cluster) Figures() Figures {
	names := c.HostNames()
	zones := zoneNumbers(names, c.Hosts)
	l := newLayout(zones, nil, len(names)) // a cap that never binds: links are counted
	l.restore(c, names)
	f := Figures{Cluster: c.Name, Version: c.Version, Partitions: len(c.Partitions), Zones: countZones(zones)}
	for i := range l.parts {
		if l.parts[i].lead == vacant {
			f.Undirected++
		}
	}
	rules := l.rules()
	for h, name := range names {
		host := HostFigures{
			Name: name, Zone: c.Hosts[name].Zone,
			Members: int(l.members[h]), Voters: int(l.voters[h]), Leaders: int(l.leads[h]), Links: int(l.peers[h]),
		}
		host.Shared = l.spread(h, l.shared, rules.sharedInZone)
		host.Heirs = l.spread(h, l.heirs, rules.heirsInZone)
		f.Hosts = append(f.Hosts, host)
		f.Copies += host.Members
	}
	f.Members = rangeOf(f.Hosts, func(h HostFigures) int { return h.Members })
	f.Voters = rangeOf(f.Hosts, func(h HostFigures) int { return h.Voters })
	f.Leaders = rangeOf(f.Hosts, func(h HostFigures) int { return h.Leaders })
	f.Links = rangeOf(f.Hosts, func(h HostFigures) int { return h.Links })
	f.Groups = c.groupSizes()
	f.Crowded = l.crowded()
	d := newDeaths(l)
	for k := 1; k <= min(3, len(names)); k++ {
		f.Losses = append(f.Losses, d.loss(k))
	}
	f.ByZone = d.byZone(names, c.Hosts)
	return f
}

// groupSizes counts the partitions by size.
func (c *Cluster) groupSizes() []Group {
	count := map[Group]int{}
	for i := range c.Partitions {
		count[Group{Voters: len(c.Partitions[i].Voters), Replicas: len(c.Partitions[i].Replicas)}]++
	}
	var groups []Group
	for g, n := range count {
		g.Partitions = n
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Voters, a.Voters), cmp.Compare(b.Replicas, a.Replicas))
	})
	return groups
}

// spread summarizes a host's row of a matrix of counts.
func (l *layout) spread(h int, counts []int32, inZone bool) Spread {
	s := Spread{}
	for o := range l.hosts {
		if o == h {
			continue
		}
		n := int(counts[h*l.hosts+o])
		if n > 0 {
			s.Sharing++
		}
		if !inZone && l.zone[o] == l.zone[h] {
			continue
		}
		if s.Eligible == 0 {
			s.Range = Range{n, n}
		}
		s.Eligible++
		s.Min, s.Max = min(s.Min, n), max(s.Max, n)
	}
	return s
}

// rules says whether partitions are so large that members, or voters, must share zones.
type rules struct{ sharedInZone, heirsInZone bool }

func (l *layout) rules() rules {
	zones := countZones(l.zone)
	var r rules
	for i := range l.parts {
		r.sharedInZone = r.sharedInZone || len(l.parts[i].slots) > zones
		r.heirsInZone = r.heirsInZone || l.parts[i].voters > zones
	}
	return r
}

func countZones(zones []int32) int {
	return len(slices.Compact(slices.Sorted(slices.Values(zones))))
}

// crowded counts the partitions whose fullest zone holds more voters than it would if they were spread as well as the
// zones permit.
func (l *layout) crowded() int {
	size := make([]int, l.hosts) // hosts by zone; zones are numbered below the number of hosts
	for _, z := range l.zone {
		size[z]++
	}
	least := map[int]int{}
	in := make([]int, l.hosts)
	crowded := 0
	for i := range l.parts {
		part := &l.parts[i]
		clear(in)
		fullest := 0
		for _, h := range part.slots[:part.voters] {
			in[l.zone[h]]++
			fullest = max(fullest, in[l.zone[h]])
		}
		if _, known := least[part.voters]; !known {
			least[part.voters] = leastPerZone(size, part.voters)
		}
		if fullest > least[part.voters] {
			crowded++
		}
	}
	return crowded
}

// leastPerZone returns how many voters the fullest zone must hold: the smallest m for which zones of the given sizes
// take in all voters with at most m each.
func leastPerZone(size []int, voters int) int {
	for m := 1; m < voters; m++ {
		room := 0
		for _, n := range size {
			room += min(n, m)
		}
		if room >= voters {
			return m
		}
	}
	return voters
}

func rangeOf(hosts []HostFigures, count func(HostFigures) int) Range {
	r := Range{}
	for i, h := range hosts {
		n := count(h)
		if i == 0 {
			r = Range{n, n}
		}
		r.Min, r.Max = min(r.Min, n), max(r.Max, n)
	}
	return r
}
