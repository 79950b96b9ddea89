package config

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Spec is what Generate turns into a cluster.
type Spec struct {
	Cluster   string
	Hosts     map[string]Host
	Insecure  bool
	TLS       *TLS
	GossipKey []byte

	// Groups says how many partitions of which size there are; they get their ids and ranges in this order. Partitions,
	// Voters and Replicas are the short form for a single group.
	Groups     []Group
	Partitions int
	Voters     int // 0: 3, or 1 when there are fewer than 3 hosts
	Replicas   int

	// MaxPeers caps how many other hosts one host shares partitions with; 0 is no cap. Fewer peers mean fewer links and
	// a smaller chance that several simultaneous failures hit one partition, and that a dead host's load falls on fewer.
	MaxPeers int
}

// Group is a number of partitions of one size.
type Group struct {
	Partitions, Voters, Replicas int
}

// Generate plans a new cluster: version 1, partitions with equal ranges, members and preferred leaders by rainbow
// striping. Equal specs give equal clusters.
func Generate(spec Spec) (*Cluster, error) {
	groups, largest, err := spec.groups()
	if err != nil {
		return nil, fmt.Errorf("config: cannot generate: %w", err)
	}
	c := &Cluster{Name: spec.Cluster, Version: 1, Insecure: spec.Insecure, TLS: spec.TLS, GossipKey: spec.GossipKey, Hosts: spec.Hosts}
	c = c.Clone() // the caller keeps what it passed
	names := c.HostNames()
	l, err := generated(groups, zoneNumbers(names, c.Hosts), largest, spec.MaxPeers)
	if err != nil {
		return nil, fmt.Errorf("config: cannot generate: %w", err)
	}
	for i := range l.parts {
		from, _ := bits.Div64(uint64(i), 0, uint64(len(l.parts))) // ⌊i·2^64 / partitions⌋
		p := Partition{ID: uint32(i), From: from}
		l.assign(&p, i, names)
		c.Partitions = append(c.Partitions, p)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("config: cannot generate: %w", err)
	}
	return c, nil
}

// generated returns a layout of the groups' partitions, in their order.
func generated(groups []Group, zones []int32, largest, maxPeers int) (*layout, error) {
	cells, err := cellsFor(zones, largest, maxPeers)
	if err != nil {
		return nil, err
	}
	var parts []part
	for _, g := range groups {
		for range g.Partitions {
			slots := slices.Repeat([]int32{vacant}, g.Voters+g.Replicas)
			parts = append(parts, part{slots: slots, voters: g.Voters, lead: vacant, oldLead: vacant})
		}
	}
	l := newLayout(zones, parts, maxPeers)
	if cells != nil {
		l.fillCells(cells)
	} else {
		l.fill(nil)
	}
	l.improve()
	return l, nil
}

// groups checks the spec's numbers and returns its groups and the members of the largest partition.
func (s *Spec) groups() (groups []Group, largest int, err error) {
	groups = slices.Clone(s.Groups)
	var errs []error
	if len(groups) == 0 {
		voters := s.Voters
		if voters == 0 {
			voters = 3
			if len(s.Hosts) < 3 {
				voters = 1
			}
		}
		groups = []Group{{s.Partitions, voters, s.Replicas}}
	} else if s.Partitions != 0 || s.Voters != 0 || s.Replicas != 0 {
		errs = append(errs, errors.New("groups and a single group's numbers exclude each other"))
	}
	if n := len(s.Hosts); n == 0 || n > MaxHosts {
		errs = append(errs, fmt.Errorf("there must be 1 to %d hosts, not %d", MaxHosts, n))
	}
	total := 0
	for _, g := range groups {
		if g.Partitions < 1 || g.Partitions > MaxPartitions {
			errs = append(errs, fmt.Errorf("a group must have 1 to %d partitions, not %d", MaxPartitions, g.Partitions))
			continue
		}
		if g.Voters < 1 || g.Voters%2 == 0 || g.Voters > MaxVoters {
			errs = append(errs, fmt.Errorf("a partition must have 1, 3, 5 or 7 voters, not %d", g.Voters))
		}
		if g.Replicas < 0 || g.Replicas > MaxReplicas {
			errs = append(errs, fmt.Errorf("a partition must have 0 to %d replicas, not %d", MaxReplicas, g.Replicas))
		}
		total, largest = min(total+g.Partitions, MaxPartitions+1), max(largest, g.Voters+g.Replicas)
	}
	if total > MaxPartitions {
		errs = append(errs, fmt.Errorf("there must be at most %d partitions", MaxPartitions))
	}
	if largest > len(s.Hosts) {
		errs = append(errs, fmt.Errorf("%d members of a partition need as many hosts, not %d", largest, len(s.Hosts)))
	}
	return groups, largest, errors.Join(errs...)
}

// zoneNumbers numbers the zones of the named hosts; a host without a zone has one of its own.
func zoneNumbers(names []string, hosts map[string]Host) []int32 {
	numbers := map[string]int32{}
	zones := make([]int32, len(names))
	for i, name := range names {
		zone := zoneOf(name, hosts[name])
		if _, known := numbers[zone]; !known {
			numbers[zone] = int32(len(numbers))
		}
		zones[i] = numbers[zone]
	}
	return zones
}

// zoneOf returns a key that is equal for hosts of one failure domain. No zone's name has a slash.
func zoneOf(name string, h Host) string {
	if h.Zone == "" {
		return "/" + name
	}
	return h.Zone
}

// assign writes the members of the i-th partition of the layout into p, in reading order.
func (l *layout) assign(p *Partition, i int, names []string) {
	part := &l.parts[i]
	list := func(slots []int32) []string {
		var out []string
		for _, h := range slots {
			out = append(out, names[h])
		}
		slices.SortFunc(out, compareNames)
		return out
	}
	p.Voters, p.Replicas = list(part.slots[:part.voters]), list(part.slots[part.voters:])
	p.Prefer = names[part.slots[part.lead]]
}
