package config

import (
	"fmt"
	"slices"
	"testing"
)

func TestCellsFor(t *testing.T) {
	for _, x := range []struct {
		hosts, zones, largest, cap int
		want                       string // cells as hosts by zone, or the error's end
	}{
		{9, 3, 3, 0, "[]"},                            // no cap
		{9, 3, 3, 6, "[]"},                            // each host has six possible peers anyway
		{9, 3, 3, 5, "[[2 2 2] [1 1 1]]"},             // aligned: four and two peers
		{9, 3, 3, 2, "[[1 1 1] [1 1 1] [1 1 1]]"},     // the least
		{9, 3, 3, 1, "the least is 2"},                //
		{9, 3, 5, 7, "the least is 8"},                // two cells would be too small
		{9, 3, 4, 7, "[[2 1 2] [1 2 1]]"},             // an aligned cell would have 3 hosts; more members than zones: all are peers
		{10, 2, 3, 3, "[[2 2] [2 1] [1 2]]"},          // aligned cells would be 4, 4 and 2
		{7, 1, 3, 3, "[[4] [3]]"},                     //
		{6, 6, 3, 2, "[[1 0 1 0 1 0] [0 1 0 1 0 1]]"}, // a zone per host
		{30, 3, 3, 8, "[[4 4 4] [3 3 3] [3 3 3]]"},    //
	} {
		zones := make([]int32, x.hosts)
		for h := range zones {
			zones[h] = int32(h % x.zones)
		}
		c, err := cellsFor(zones, x.largest, x.cap)
		got := fmt.Sprint([][]int(c))
		if err != nil {
			got = err.Error()[max(0, len(err.Error())-len(x.want)):]
		}
		if got != x.want {
			t.Errorf("%+v: got %s (%v)", x, got, err)
		}
	}
}

// Hosts that share partitions are seated together, and partitions stay where most of their members are.
func TestCellsFollowTheOldLayout(t *testing.T) {
	// Hosts 0, 2, 4 and hosts 1, 3, 5 form cells, but for one partition.
	old := &Cluster{Name: "c", Version: 1, Hosts: makeHosts(6, 0)}
	for i, voters := range [][]string{{"h1", "h3", "h5"}, {"h2", "h4", "h6"}, {"h1", "h3", "h6"}, {"h2", "h4", "h6"}} {
		old.Partitions = append(old.Partitions, Partition{ID: uint32(i), From: uint64(i), Voters: voters})
	}
	if err := old.Validate(); err != nil {
		t.Fatal(err)
	}
	names := old.HostNames()
	l := newLayout(zoneNumbers(names, old.Hosts), nil, 2)
	l.restore(old, names)
	cell := l.seat(cells{{1, 1, 1, 0, 0, 0}, {0, 0, 0, 1, 1, 1}})
	if want := []int32{0, 0, 0, 1, 1, 1}; !slices.Equal(cell, want) {
		t.Errorf("a cell's quota is %v", cell)
	}
	l.zone = make([]int32, 6) // one zone: any three hosts may form a cell
	cell = l.seat(cells{{3}, {3}})
	if want := []int32{0, 1, 0, 1, 0, 1}; !slices.Equal(cell, want) {
		t.Errorf("seated %v, want %v", cell, want)
	}
	home := l.settle(cell)
	if want := []int32{0, 1, 0, 1}; !slices.Equal(home, want) {
		t.Errorf("settled %v, want %v", home, want)
	}
	if got := l.parts[2].slots; !slices.Equal(got, []int32{0, 2, vacant}) {
		t.Errorf("the stray member did not leave: %v", got)
	}
	l.cell = cell
	l.fill(home)
	for p := range l.parts {
		for _, h := range l.parts[p].slots {
			if cell[h] != home[p] {
				t.Errorf("partition %d has a member outside of its cell: %v", p, l.parts[p].slots)
			}
		}
	}

	// Partitions that are new go where they were settled, too.
	parts := make([]part, 4)
	for p := range parts {
		parts[p] = part{slots: []int32{vacant, vacant, vacant}, voters: 3, lead: vacant, oldLead: vacant}
	}
	l = newLayout(make([]int32, 6), parts, 2)
	l.cell = []int32{1, 1, 1, 0, 0, 0}
	home = l.settle(l.cell)
	if want := []int32{0, 1, 0, 1}; !slices.Equal(home, want) {
		t.Errorf("settled %v, want %v", home, want)
	}
	l.fill(home)
	for p := range l.parts {
		for _, h := range l.parts[p].slots {
			if l.cell[h] != home[p] {
				t.Errorf("new partition %d has a member outside of its cell: %v", p, l.parts[p].slots)
			}
		}
	}
}
