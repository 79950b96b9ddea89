package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func replan(t testing.TB, old *Cluster, change Change) (*Cluster, int) {
	t.Helper()
	before := string(old.Marshal())
	c, moves, err := Replan(old, change)
	if err != nil {
		t.Fatal(err)
	}
	if string(old.Marshal()) != before {
		t.Fatal("Replan changed its argument")
	}
	if err := old.CheckSuccessor(c); err != nil {
		t.Fatal(err)
	}
	if d := Diff(old, c); d.Moves != moves {
		t.Fatalf("Replan counts %d moves, Diff %d", moves, d.Moves)
	}
	return c, moves
}

// A tenth host takes its fair share and nothing else moves.
func TestReplanTenthHost(t *testing.T) {
	for _, x := range []struct {
		name               string
		zones              int
		zone               string
		moves              int // the least that balance permits
		members            [2]int
		sharedBy, heirsBy  int // slack of each host's loss
		fewestInZoneOfHost string
	}{
		// Without zones, or in a zone of its own, the tenth host gets a tenth of 64·3.
		{name: "no zones", moves: 19, members: [2]int{19, 20}, sharedBy: 2, heirsBy: 2},
		// A fourth zone: hosts of the old zones share partitions unevenly with it until more moves.
		{name: "a zone of its own", zones: 3, zone: "d", moves: 19, members: [2]int{19, 20}, sharedBy: 4, heirsBy: 3},
		// In zone a it can only take from zone a, whose four hosts then have 64 members together.
		{name: "one of three zones", zones: 3, zone: "a", moves: 16, members: [2]int{16, 22}, sharedBy: 3, heirsBy: 2},
	} {
		t.Run(x.name, func(t *testing.T) {
			old := generate(t, Spec{Hosts: makeHosts(9, x.zones), Partitions: 64})
			c, moves := replan(t, old, Change{Add: map[string]Host{"h10": {Addr: "127.0.0.1:7410", Zone: x.zone}}})
			if moves != x.moves {
				t.Errorf("%d moves, the least is %d", moves, x.moves)
			}
			s := count(c)
			if least, most := s.over(s.members); least != x.members[0] || most != x.members[1] {
				t.Errorf("members: %d to %d", least, most)
			}
			least, most := s.over(s.leaders)
			tight(t, "leaders", least, most, 1)
			for _, name := range s.names {
				least, most = s.spread(c, name, s.shared, false)
				tight(t, "members shared with "+name, least, most, x.sharedBy)
				least, most = s.spread(c, name, s.heirs, false)
				tight(t, "leaders taken over from "+name, least, most, x.heirsBy)
			}
			if n := crowdedSlowly(c); n > 0 {
				t.Errorf("%d partitions are crowded", n)
			}
			// What does not change keeps its line: every partition that moves is in the difference, no other member changes.
			for _, change := range Diff(old, c).Partitions {
				if len(change.Added) > 1 || len(change.Promoted)+len(change.Demoted) > 0 {
					t.Errorf("more than one member changes: %v", change)
				}
			}
		})
	}
}

// Without zones, the least number of moves is known: what removed hosts held, or what new hosts lack to a fair share.
func TestReplanMovesLittle(t *testing.T) {
	for _, x := range []struct{ hosts, partitions, voters, replicas, add, remove int }{
		{9, 64, 3, 0, 1, 0}, {9, 64, 3, 0, 0, 1}, {9, 64, 3, 0, 3, 0}, {9, 64, 3, 0, 0, 3}, {9, 64, 3, 0, 1, 1}, {9, 64, 3, 0, 3, 3},
		{30, 1024, 3, 0, 1, 0}, {30, 1024, 3, 0, 0, 1}, {30, 256, 5, 0, 2, 1}, {12, 128, 3, 1, 1, 0}, {12, 128, 3, 2, 0, 1}, {8, 64, 7, 0, 1, 0},
	} {
		t.Run(fmt.Sprintf("%d hosts, %d×%d+%d, +%d −%d", x.hosts, x.partitions, x.voters, x.replicas, x.add, x.remove), func(t *testing.T) {
			skipLarge(t, x.partitions*(x.voters+x.replicas))
			old := generate(t, Spec{Hosts: makeHosts(x.hosts, 0), Partitions: x.partitions, Voters: x.voters, Replicas: x.replicas})
			change := Change{Add: map[string]Host{}}
			kept := count(old).members
			for i := range x.add {
				name, h := makeHost(x.hosts+i, 0)
				change.Add[name] = h
				kept[name] = 0
			}
			for i := range x.remove {
				name, _ := makeHost(2*i, 0)
				change.Remove = append(change.Remove, name)
				delete(kept, name)
			}
			c, moves := replan(t, old, change)
			total := x.partitions * (x.voters + x.replicas)
			bound := leastMoves(kept, total)
			t.Logf("%d moves of %d, the least is %d", moves, total, bound)
			if moves > bound+1+bound/50 {
				t.Errorf("%d moves, the least is %d", moves, bound)
			}
			s := count(c)
			least, most := s.over(s.members)
			tight(t, "members", least, most, 1)
			least, most = s.over(s.leaders)
			tight(t, "leaders", least, most, 1)
		})
	}
}

// leastMoves returns how many members must arrive at hosts that keep the given numbers, so that all end within one of
// each other: hosts at the top of the list may keep the larger number.
func leastMoves(kept map[string]int, total int) int {
	counts := slices.Sorted(maps.Values(kept))
	slices.Reverse(counts)
	share, larger := total/len(counts), total%len(counts)
	moves := 0
	for i, n := range counts {
		target := share
		if i < larger {
			target++
		}
		moves += max(0, target-n)
	}
	return moves
}

// A plan that is as good as it gets stays as it is, and hosts that come and go leave a plan that is as balanced.
func TestReplanAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		old, err := Generate(spec)
		if err != nil {
			t.Fatal(err)
		}
		largest := 0
		for _, g := range spec.Groups {
			largest = max(largest, g.Voters+g.Replicas)
		}
		change := Change{Add: map[string]Host{}}
		for i := range rapid.IntRange(0, 2).Draw(t, "added") {
			name, h := makeHost(20+i, rapid.IntRange(0, 6).Draw(t, "zones"))
			change.Add[name] = h
		}
		for _, name := range old.HostNames() {
			if len(old.Hosts)+len(change.Add)-len(change.Remove) > largest && rapid.IntRange(0, 4).Draw(t, "remove") == 0 {
				change.Remove = append(change.Remove, name)
			}
		}
		c, _, err := Replan(old, change)
		if err != nil {
			t.Fatal(err)
		}
		if err := old.CheckSuccessor(c); err != nil {
			t.Fatal(err)
		}
		for i := range c.Partitions {
			p, q := &old.Partitions[i], &c.Partitions[i]
			if len(p.Voters) != len(q.Voters) || len(p.Replicas) != len(q.Replicas) {
				t.Fatalf("partition %d changed its size", i)
			}
		}
		if n := crowdedSlowly(c); n > 0 {
			t.Fatalf("%d partitions are crowded", n)
		}
		checkReplacements(t, c)
		again, _, err := Replan(old, change)
		if err != nil || !again.Equal(c) {
			t.Fatal("the same change gave another plan")
		}
	})
}

func TestReplanWithoutChangeKeepsAGoodPlan(t *testing.T) {
	for _, zones := range []int{0, 3} {
		old := generate(t, Spec{Hosts: makeHosts(9, zones), Partitions: 64})
		if _, moves := replan(t, old, Change{}); moves != 0 {
			t.Errorf("%d zones: %d moves", zones, moves)
		}
	}
}

// A file edited by hand is mended: crowded zones, lopsided hosts, missing preferences.
func TestReplanMends(t *testing.T) {
	old := generate(t, Spec{Hosts: makeHosts(9, 3), Partitions: 64})
	for i := range old.Partitions {
		p := &old.Partitions[i]
		p.Prefer = ""
		if i < 8 {
			p.Voters = []string{"h1", "h4", "h7"} // all of zone a
		}
	}
	c, moves := replan(t, old, Change{})
	if n := crowdedSlowly(c); n > 0 {
		t.Errorf("%d partitions are crowded", n)
	}
	if moves < 16 || moves > 18 {
		t.Errorf("%d moves, 16 are needed", moves)
	}
	s := count(c)
	least, most := s.over(s.leaders)
	tight(t, "leaders", least, most, 1)
	least, most = s.over(s.members)
	tight(t, "members", least, most, 1)
}

func TestReplanKeepsCap(t *testing.T) {
	for _, x := range []struct{ hosts, zones, partitions, cap, add, remove, atMost int }{
		{30, 3, 512, 8, 1, 0, 200}, {30, 0, 256, 9, 1, 1, 40}, {9, 3, 64, 2, 3, 0, 60}, {12, 0, 64, 5, 0, 1, 40},
	} {
		t.Run(fmt.Sprintf("%d hosts, %d zones, %d×3, cap %d, +%d −%d", x.hosts, x.zones, x.partitions, x.cap, x.add, x.remove), func(t *testing.T) {
			skipLarge(t, 3*x.partitions)
			old := generate(t, Spec{Hosts: makeHosts(x.hosts, x.zones), Partitions: x.partitions, MaxPeers: x.cap})
			change := Change{MaxPeers: x.cap, Add: map[string]Host{}}
			for i := range x.add {
				name, h := makeHost(x.hosts+i, x.zones)
				change.Add[name] = h
			}
			for i := range x.remove {
				name, _ := makeHost(i, x.zones)
				change.Remove = append(change.Remove, name)
			}
			c, moves := replan(t, old, change)
			s := count(c)
			if _, most := s.over(s.links); most > x.cap {
				t.Errorf("a host has %d peers", most)
			}
			least, most := s.over(s.members)
			t.Logf("%d moves of %d, members %d to %d", moves, 3*x.partitions, least, most)
			if moves > x.atMost || 3*least < 2*most {
				t.Errorf("%d moves, members %d to %d", moves, least, most)
			}
			if n := crowdedSlowly(c); n > 0 {
				t.Errorf("%d partitions are crowded", n)
			}
		})
	}
}

func TestReplanRefuses(t *testing.T) {
	old := generate(t, Spec{Hosts: makeHosts(4, 0), Partitions: 8})
	name, h := makeHost(0, 0)
	for _, x := range []struct {
		change Change
		want   string
	}{
		{Change{Remove: []string{"h9"}}, `unknown host "h9"`},
		{Change{Remove: []string{"h1", "h2"}}, "need as many hosts, not 2"},
		{Change{Add: map[string]Host{name: h}}, `cannot add "h1"`},
		{Change{Add: map[string]Host{name: h}, Remove: []string{name}}, `both remove and add "h1"`},
		{Change{Add: map[string]Host{"h5": {Addr: "127.0.0.1:7401"}}}, "also the address"},
		{Change{MaxPeers: 1}, "the least is 3"},
	} {
		if _, _, err := Replan(old, x.change); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v", x.change, err)
		}
	}
	broken := old.Clone()
	broken.Version = 0
	if _, _, err := Replan(broken, Change{}); err == nil || !strings.Contains(err.Error(), "at least 1") {
		t.Errorf("an invalid cluster: %v", err)
	}
}
