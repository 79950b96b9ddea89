package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// makeHosts returns n hosts dealt over some zones; 0 zones leaves them without.
func makeHosts(n, zones int) map[string]Host {
	hosts := map[string]Host{}
	for i := range n {
		name, h := makeHost(i, zones)
		hosts[name] = h
	}
	return hosts
}

func makeHost(i, zones int) (string, Host) {
	h := Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7401+i)}
	if zones > 0 {
		h.Zone = string(rune('a' + i%zones))
	}
	return fmt.Sprintf("h%d", i+1), h
}

func generate(t testing.TB, spec Spec) *Cluster {
	t.Helper()
	if spec.Cluster == "" {
		spec.Cluster = "test"
	}
	c, err := Generate(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(c.Marshal(), ""); err != nil || !again.Equal(c) {
		t.Fatalf("the plan does not round-trip: %v", err)
	}
	return c
}

// tight fails unless the counts differ by at most slack.
func tight(t *testing.T, what string, least, most, slack int) {
	t.Helper()
	if most-least > slack {
		t.Errorf("%s: %d to %d", what, least, most)
	}
}

// With zones of equal size, or none, everything balances: members, voters, leaders, and each host's loss, to within one.
func TestGenerateBalances(t *testing.T) {
	for _, x := range []struct {
		hosts, zones, partitions, voters int
		slack                            int // of a host's shared members and heirs
	}{
		{3, 0, 64, 3, 1},
		{5, 0, 64, 3, 2}, // 5 hosts have 10 possible groups of three; 64 is too coarse for ±1 everywhere
		{7, 0, 64, 3, 1},
		{9, 3, 64, 3, 1},
		{9, 0, 64, 3, 1},
		{10, 0, 64, 3, 1},
		{12, 4, 256, 3, 1},
		{12, 3, 128, 3, 1},
		{15, 5, 256, 5, 1},
		{16, 0, 256, 5, 1},
		{21, 7, 128, 7, 2},
		{24, 3, 512, 3, 2},
		{30, 3, 64, 3, 1},
		{30, 3, 1024, 3, 2},
		{30, 0, 1024, 3, 2},
		{30, 0, 1024, 5, 2},
		{9, 0, 1024, 3, 1},
		{6, 0, 32, 1, 0},
	} {
		t.Run(fmt.Sprintf("%d hosts, %d zones, %d×%d", x.hosts, x.zones, x.partitions, x.voters), func(t *testing.T) {
			skipLarge(t, x.partitions*x.voters)
			c := generate(t, Spec{Hosts: makeHosts(x.hosts, x.zones), Partitions: x.partitions, Voters: x.voters})
			s := count(c)
			least, most := s.over(s.members)
			tight(t, "members", least, most, 1)
			least, most = s.over(s.leaders)
			tight(t, "leaders", least, most, 1)
			inZone := x.zones > 0 && x.voters > x.zones
			for _, name := range s.names {
				least, most = s.spread(c, name, s.shared, inZone)
				tight(t, "members shared with "+name, least, most, x.slack)
				least, most = s.spread(c, name, s.heirs, inZone)
				tight(t, "leaders taken over from "+name, least, most, x.slack)
			}
			if n := crowdedSlowly(c); n > 0 {
				t.Errorf("%d partitions are crowded", n)
			}
		})
	}
}

// crowdedSlowly counts partitions with more voters in a zone than the best way of choosing hosts needs.
func crowdedSlowly(c *Cluster) int {
	size := map[string]int{}
	for name, h := range c.Hosts {
		size[zoneOf(name, h)]++
	}
	crowded := 0
	for _, p := range c.Partitions {
		in, fullest := map[string]int{}, 0
		for _, name := range p.Voters {
			zone := zoneOf(name, c.Hosts[name])
			in[zone]++
			fullest = max(fullest, in[zone])
		}
		// Fill the zones round by round, one voter each, as long as they have hosts.
		rounds, placed := 0, 0
		for placed < len(p.Voters) {
			rounds++
			for _, n := range size {
				if n >= rounds {
					placed++
				}
			}
		}
		if fullest > rounds {
			crowded++
		}
	}
	return crowded
}

func drawSpec(t *rapid.T) Spec {
	hosts := rapid.IntRange(1, 14).Draw(t, "hosts")
	spec := Spec{Cluster: "test", Hosts: map[string]Host{}}
	zones := rapid.IntRange(0, 5).Draw(t, "zones")
	for i := range hosts {
		name, h := makeHost(i, 0)
		if zones > 0 {
			h.Zone = string(rune('a' + rapid.IntRange(0, zones-1).Draw(t, "zone")))
		}
		spec.Hosts[name] = h
	}
	for range rapid.IntRange(1, 3).Draw(t, "groups") {
		voters := min(1+2*rapid.IntRange(0, 3).Draw(t, "voters"), hosts-1+hosts%2)
		spec.Groups = append(spec.Groups, Group{
			Partitions: rapid.IntRange(1, 40).Draw(t, "partitions"), Voters: voters, Replicas: rapid.IntRange(0, min(2, hosts-voters)).Draw(t, "replicas"),
		})
	}
	return spec
}

// Whatever the hosts, zones and groups: the plan is valid, has the sizes asked for, equal ranges, the best zone spread,
// balanced leaders, and members as balanced as any single replacement can make them without crowding a zone.
func TestGenerateAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		c, err := Generate(spec)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for _, g := range spec.Groups {
			for range g.Partitions {
				p := c.Partitions[i]
				if p.ID != uint32(i) || len(p.Voters) != g.Voters || len(p.Replicas) != g.Replicas || p.Prefer == "" {
					t.Fatalf("partition %d of group %+v is %+v", i, g, p)
				}
				i++
			}
		}
		if i != len(c.Partitions) {
			t.Fatalf("%d partitions, not %d", len(c.Partitions), i)
		}
		width := ^uint64(0)/uint64(i) + 1 // rounded up; all ranges are this wide or one less
		for i := range c.Partitions {
			if first, last := c.HashRange(i); width != 0 && last-first+1 != width && last-first+1 != width-1 {
				t.Fatalf("range %d is [%x, %x]", i, first, last)
			}
		}
		if n := crowdedSlowly(c); n > 0 {
			t.Fatalf("%d partitions are crowded", n)
		}
		checkReplacements(t, c)
		again, err := Generate(spec)
		if err != nil || !again.Equal(c) {
			t.Fatalf("the same spec gave another plan: %v", err)
		}
	})
}

// checkReplacements fails when a voter or replica of a host could be given to a host with at least two members less
// without putting more voters of the partition into one zone.
func checkReplacements(t *rapid.T, c *Cluster) {
	s := count(c)
	pairs := func(voters []string) int {
		n := 0
		for i, a := range voters {
			for _, b := range voters[:i] {
				if zoneOf(a, c.Hosts[a]) == zoneOf(b, c.Hosts[b]) {
					n++
				}
			}
		}
		return n
	}
	for i := range c.Partitions {
		p := &c.Partitions[i]
		for _, from := range p.Members() {
			for _, to := range s.names {
				if s.members[from] < s.members[to]+2 || p.HasMember(to) {
					continue
				}
				after := slices.Clone(p.Voters)
				if at := slices.Index(after, from); at >= 0 {
					after[at] = to
				}
				if pairs(after) <= pairs(p.Voters) {
					t.Fatalf("partition %d could move from %s (%d members) to %s (%d)", i, from, s.members[from], to, s.members[to])
				}
			}
		}
	}
}

func TestGroupsOfDifferentSizes(t *testing.T) {
	c := generate(t, Spec{Hosts: makeHosts(12, 4), Groups: []Group{{8, 7, 0}, {32, 5, 1}, {64, 3, 0}, {24, 1, 2}}})
	s := count(c)
	least, most := s.over(s.members)
	tight(t, "members", least, most, 1)
	least, most = s.over(s.leaders)
	tight(t, "leaders", least, most, 1)
	least, most = s.over(s.voters)
	tight(t, "voters", least, most, 1)
	if n := crowdedSlowly(c); n > 0 {
		t.Errorf("%d partitions are crowded", n)
	}
	want := []Group{{8, 7, 0}, {32, 5, 1}, {64, 3, 0}, {24, 1, 2}}
	if got := c.Figures().Groups; !slices.Equal(got, want) {
		t.Errorf("groups are %v", got)
	}
}

// Zone spread comes before balance: the only host of a zone is a member of every partition.
func TestZonesComeFirst(t *testing.T) {
	hosts := makeHosts(7, 0)
	for name, h := range hosts {
		h.Zone = "b"
		switch name {
		case "h1":
			h.Zone = "a"
		case "h2", "h3", "h4":
			h.Zone = "c"
		}
		hosts[name] = h
	}
	c := generate(t, Spec{Hosts: hosts, Partitions: 60})
	s := count(c)
	for name, n := range s.members {
		if want := map[bool]int{true: 60, false: 20}[name == "h1"]; n != want {
			t.Errorf("%s has %d members, not %d", name, n, want)
		}
	}
	if n := crowdedSlowly(c); n > 0 {
		t.Errorf("%d partitions are crowded", n)
	}
	least, most := s.over(s.leaders)
	tight(t, "leaders", least, most, 1)
}

func TestGenerateDefaults(t *testing.T) {
	c := generate(t, Spec{Hosts: map[string]Host{"local": {}}, Partitions: 8})
	if len(c.Partitions) != 8 || len(c.Partitions[0].Voters) != 1 || c.Version != 1 {
		t.Errorf("single host: %s", c.Marshal())
	}
	if c := generate(t, Spec{Hosts: makeHosts(4, 0), Partitions: 8}); len(c.Partitions[0].Voters) != 3 {
		t.Errorf("four hosts: %s", c.Marshal())
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, x := range []struct {
		name string
		spec Spec
		want []string
	}{
		{"nothing", Spec{}, []string{"1 to 1024 hosts, not 0", "1 to 16384 partitions, not 0"}},
		{"even", Spec{Hosts: makeHosts(4, 0), Partitions: 1, Voters: 4}, []string{"1, 3, 5 or 7 voters, not 4"}},
		{"too few hosts", Spec{Hosts: makeHosts(4, 0), Partitions: 1, Voters: 5}, []string{"5 members of a partition need as many hosts, not 4"}},
		{"replicas", Spec{Hosts: makeHosts(4, 0), Partitions: 1, Voters: 3, Replicas: 2}, []string{"5 members"}},
		{"negative replicas", Spec{Hosts: makeHosts(4, 0), Partitions: 1, Voters: 3, Replicas: -1}, []string{"not -1"}},
		{"too many partitions", Spec{Hosts: makeHosts(4, 0), Groups: []Group{{MaxPartitions, 1, 0}, {1, 1, 0}}}, []string{"at most 16384 partitions"}},
		{"both forms", Spec{Hosts: makeHosts(4, 0), Partitions: 1, Groups: []Group{{1, 1, 0}}}, []string{"exclude each other"}},
		{"bad cap", Spec{Hosts: makeHosts(10, 0), Partitions: 8, MaxPeers: 2}, []string{"cannot have at most 2 peers", "the least is 3"}},
		{"bad cap with zones", Spec{Hosts: makeHosts(9, 3), Partitions: 8, MaxPeers: 1}, []string{"the least is 2"}},
		{"negative cap", Spec{Hosts: makeHosts(9, 3), Partitions: 8, MaxPeers: -1}, []string{"cannot be negative"}},
		{"bad name", Spec{Cluster: "a b", Hosts: makeHosts(3, 0), Partitions: 1}, []string{"cluster: name"}},
		{"plain", Spec{Cluster: "a", Hosts: map[string]Host{"a": {Addr: "10.0.0.1:1"}, "b": {Addr: "10.0.0.2:1"}}, Partitions: 1}, []string{"hosts.a.addr", "hosts.b.addr"}},
	} {
		_, err := Generate(x.spec)
		if err == nil {
			t.Errorf("%s: accepted", x.name)
			continue
		}
		for _, part := range x.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v", x.name, err)
			}
		}
	}
}

// A cap on peers holds, costs balance little, and makes the loss of a partition by three failures rarer.
func TestCapOnPeers(t *testing.T) {
	for _, x := range []struct{ hosts, zones, partitions, voters, cap int }{
		{9, 3, 64, 3, 2}, {9, 0, 64, 3, 2}, {10, 0, 64, 3, 3}, {12, 0, 64, 3, 5}, {30, 3, 512, 3, 8}, {30, 0, 256, 5, 9}, {16, 0, 128, 7, 7}, {30, 3, 256, 3, 2},
	} {
		t.Run(fmt.Sprintf("%d hosts, %d zones, %d×%d, cap %d", x.hosts, x.zones, x.partitions, x.voters, x.cap), func(t *testing.T) {
			skipLarge(t, x.partitions*x.voters)
			spec := Spec{Hosts: makeHosts(x.hosts, x.zones), Partitions: x.partitions, Voters: x.voters, MaxPeers: x.cap}
			c := generate(t, spec)
			s := count(c)
			if _, most := s.over(s.links); most > x.cap {
				t.Errorf("a host has %d peers", most)
			}
			least, most := s.over(s.members)
			tight(t, "members", least, most, 4)
			if n := crowdedSlowly(c); n > 0 {
				t.Errorf("%d partitions are crowded", n)
			}
			spec.MaxPeers = 0
			free := generate(t, spec).Figures()
			if x.voters == 3 && c.Figures().Losses[2].AllCopies >= free.Losses[2].AllCopies {
				t.Errorf("three failures: %v with a cap, %v without", c.Figures().Losses[2], free.Losses[2])
			}
		})
	}
}

func BenchmarkGenerate(b *testing.B) {
	for _, x := range []struct{ hosts, zones, partitions, voters int }{{9, 3, 64, 3}, {30, 3, 1024, 3}, {30, 0, 1024, 5}} {
		b.Run(fmt.Sprintf("%d hosts %d zones %dx%d", x.hosts, x.zones, x.partitions, x.voters), func(b *testing.B) {
			for b.Loop() {
				generate(b, Spec{Hosts: makeHosts(x.hosts, x.zones), Partitions: x.partitions, Voters: x.voters})
			}
		})
	}
}
