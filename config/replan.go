package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Change says which hosts join and leave a cluster.
type Change struct {
	Add    map[string]Host
	Remove []string
	// MaxPeers is the cap of Spec; the file does not record it.
	MaxPeers int
}

// Replan adapts a cluster to other hosts and returns it with the next version and the number of moves: members that
// have to be copied to a host that did not hold them. Nothing moves but what a removed host leaves behind, what
// balance takes and what mends a broken zone spread or cap. Partitions keep their ids, ranges and sizes; each gets a
// preferred leader. Without any change it rebalances a file that was edited by hand.
func Replan(old *Cluster, change Change) (*Cluster, int, error) {
	if err := old.Validate(); err != nil {
		return nil, 0, fmt.Errorf("config: cannot replan: %w", err)
	}
	c := old.Clone()
	c.Version++
	largest, err := change.apply(c)
	if err != nil {
		return nil, 0, fmt.Errorf("config: cannot replan: %w", err)
	}
	names := c.HostNames()
	l, err := replanned(old, names, zoneNumbers(names, c.Hosts), largest, change.MaxPeers)
	if err != nil {
		return nil, 0, fmt.Errorf("config: cannot replan: %w", err)
	}
	moves := 0
	for i := range c.Partitions {
		p, before := &c.Partitions[i], &old.Partitions[i]
		l.assign(p, i, names)
		p.Voters, p.Replicas = keepOrder(before.Voters, p.Voters), keepOrder(before.Replicas, p.Replicas)
		for _, name := range p.Members() {
			if !before.HasMember(name) {
				moves++
			}
		}
	}
	if err := c.Validate(); err != nil {
		return nil, 0, fmt.Errorf("config: cannot replan: %w", err)
	}
	return c, moves, nil
}

// replanned returns the layout of the old cluster on the named hosts, mended. When a cap keeps the old layout from
// being bent step by step, it is laid out anew in cells, as near to the old one as they permit; the cheaper one wins.
func replanned(old *Cluster, names []string, zones []int32, largest, maxPeers int) (*layout, error) {
	cells, err := cellsFor(zones, largest, maxPeers)
	if err != nil {
		return nil, err
	}
	bent := newLayout(zones, nil, maxPeers)
	bent.restore(old, names)
	bent.fill(nil)
	bent.improve()
	if cells == nil || !bent.overCap() && width(bent.members) <= 1 {
		return bent, nil
	}
	anew := newLayout(zones, nil, maxPeers)
	anew.restore(old, names)
	anew.fillCells(cells)
	anew.improve()
	if anew.total() < bent.total() {
		return anew, nil
	}
	return bent, nil
}

// apply changes the hosts of c, checks that its partitions still fit and returns the largest one's members.
func (ch Change) apply(c *Cluster) (largest int, err error) {
	var errs []error
	for _, name := range ch.Remove {
		if _, known := c.Hosts[name]; !known {
			errs = append(errs, fmt.Errorf("cannot remove the unknown host %s", quote(name)))
		}
		if _, back := ch.Add[name]; back {
			errs = append(errs, fmt.Errorf("cannot both remove and add %s", quote(name)))
		}
		delete(c.Hosts, name)
	}
	for _, name := range sortedNames(ch.Add) {
		if _, known := c.Hosts[name]; known {
			errs = append(errs, fmt.Errorf("cannot add %s: there is such a host", quote(name)))
		}
	}
	maps.Copy(c.Hosts, ch.Add)
	for i := range c.Partitions {
		largest = max(largest, len(c.Partitions[i].Voters)+len(c.Partitions[i].Replicas))
	}
	if largest > len(c.Hosts) {
		errs = append(errs, fmt.Errorf("%d members of a partition need as many hosts, not %d", largest, len(c.Hosts)))
	}
	if len(c.Hosts) > MaxHosts {
		errs = append(errs, fmt.Errorf("there must be at most %d hosts, not %d", MaxHosts, len(c.Hosts)))
	}
	return largest, errors.Join(errs...)
}

// keepOrder returns before when it has the same names, so that an unchanged partition stays an unchanged line.
func keepOrder(before, after []string) []string {
	if slices.Equal(slices.SortedFunc(slices.Values(before), compareNames), after) {
		return before
	}
	return after
}

// restore lays out the partitions of an existing, valid cluster. The slots of hosts that are not among the names are
// vacant, and so is the lead of a partition without a preference.
func (l *layout) restore(old *Cluster, names []string) {
	number := make(map[string]int32, len(names))
	for i, name := range names {
		number[name] = int32(i)
	}
	find := func(name string) int32 {
		if h, known := number[name]; known {
			return h
		}
		return vacant
	}
	l.parts = make([]part, len(old.Partitions))
	l.ledPos = make([]int32, len(l.parts))
	l.price = pricesFor(len(l.parts))
	for i := range l.parts {
		before := &old.Partitions[i]
		members := before.Members()
		p := part{voters: len(before.Voters), lead: vacant, oldLead: find(before.Prefer)}
		p.slots, p.old = make([]int32, len(members)), make([]int32, len(members))
		for slot, name := range members {
			p.slots[slot], p.old[slot] = vacant, find(name)
			if name == before.Prefer {
				p.lead = slot
			}
		}
		l.parts[i] = p
		for slot, h := range p.old {
			if h != vacant {
				l.put(i, slot, h)
			}
		}
	}
}
