package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Every figure agrees with one counted the slow way from the lists of the file.
func TestFiguresAgreeWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		f, s := c.Figures(), count(c)
		if len(f.Hosts) != len(s.names) || f.Partitions != len(c.Partitions) || f.Crowded != crowdedSlowly(c) {
			t.Fatalf("%+v; %d partitions are crowded", f, crowdedSlowly(c))
		}
		zones, copies, undirected := map[string]bool{}, 0, 0
		for name, h := range c.Hosts {
			zones[zoneOf(name, h)] = true
		}
		sharedInZone, heirsInZone := false, false
		for _, p := range c.Partitions {
			copies += len(p.Members())
			if p.Prefer == "" {
				undirected++
			}
			sharedInZone = sharedInZone || len(p.Members()) > len(zones)
			heirsInZone = heirsInZone || len(p.Voters) > len(zones)
		}
		if f.Zones != len(zones) || f.Copies != copies || f.Undirected != undirected {
			t.Fatalf("%d zones, %d copies, %d undirected: %+v", len(zones), copies, undirected, f)
		}
		for i, name := range s.names {
			h := f.Hosts[i]
			if h.Name != name || h.Members != s.members[name] || h.Voters != s.voters[name] || h.Leaders != s.leaders[name] || h.Links != s.links[name] {
				t.Fatalf("%+v, the oracle says %+v", h, s)
			}
			least, most := s.spread(c, name, s.shared, sharedInZone)
			if h.Shared.Range != (Range{least, most}) || h.Shared.Sharing != s.links[name] {
				t.Fatalf("shared of %s: %+v, the oracle says %d to %d", name, h.Shared, least, most)
			}
			if least, most = s.spread(c, name, s.heirs, heirsInZone); h.Heirs.Range != (Range{least, most}) {
				t.Fatalf("heirs of %s: %+v, the oracle says %d to %d", name, h.Heirs, least, most)
			}
		}
		for _, x := range []struct {
			got    Range
			counts map[string]int
		}{{f.Members, s.members}, {f.Voters, s.voters}, {f.Leaders, s.leaders}, {f.Links, s.links}} {
			if least, most := s.over(x.counts); x.got != (Range{least, most}) {
				t.Fatalf("range %+v, the oracle says %d to %d", x.got, least, most)
			}
		}
		checkLosses(t, c, f)
	})
}

// drawCluster draws a valid cluster with members anywhere, as an operator's editing may leave it.
func drawCluster(t *rapid.T) *Cluster {
	c := &Cluster{Name: "test", Version: 1, Hosts: map[string]Host{}}
	hosts := rapid.IntRange(1, 9).Draw(t, "hosts")
	for i := range hosts {
		name, h := makeHost(i, 0)
		if z := rapid.IntRange(0, 3).Draw(t, "zone"); z > 0 {
			h.Zone = string(rune('a' + z))
		}
		c.Hosts[name] = h
	}
	names := c.HostNames()
	for i := range rapid.IntRange(1, 12).Draw(t, "partitions") {
		voters := min(1+2*rapid.IntRange(0, 3).Draw(t, "voters"), hosts-1+hosts%2)
		replicas := rapid.IntRange(0, hosts-voters).Draw(t, "replicas")
		order := rapid.Permutation(names).Draw(t, "members")
		p := Partition{ID: uint32(i), From: uint64(i), Voters: order[:voters], Replicas: order[voters : voters+replicas]}
		if rapid.Bool().Draw(t, "prefer") {
			p.Prefer = p.Voters[voters/2]
		}
		c.Partitions = append(c.Partitions, p)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// hits reports what a set of dead hosts does to a cluster.
func hits(c *Cluster, dead func(name string) bool) (majorities, all int) {
	for _, p := range c.Partitions {
		voters, members := 0, 0
		for _, name := range p.Voters {
			if dead(name) {
				voters++
			}
		}
		for _, name := range p.Members() {
			if dead(name) {
				members++
			}
		}
		if len(p.Voters)-voters <= len(p.Voters)/2 { // fewer alive than a majority
			majorities++
		}
		if members == len(p.Members()) {
			all++
		}
	}
	return majorities, all
}

func checkLosses(t *rapid.T, c *Cluster, f Figures) {
	names := c.HostNames()
	if len(f.Losses) != min(3, len(names)) {
		t.Fatalf("%d losses", len(f.Losses))
	}
	for i, loss := range f.Losses {
		sets, majority, all := 0, 0, 0
		for mask := range 1 << len(names) { // every set of hosts
			var dead []string
			for h, name := range names {
				if mask>>h&1 == 1 {
					dead = append(dead, name)
				}
			}
			if len(dead) != i+1 {
				continue
			}
			sets++
			m, a := hits(c, func(name string) bool { return slices.Contains(dead, name) })
			majority += min(1, m)
			all += min(1, a)
		}
		want := Loss{i + 1, float64(majority) / float64(sets), float64(all) / float64(sets), true, sets}
		if loss != want {
			t.Fatalf("%+v, brute force says %+v", loss, want)
		}
	}
	seen := 0
	for _, z := range f.ByZone {
		m, a := hits(c, func(name string) bool { return c.Hosts[name].Zone == z.Zone })
		if z.Majority != m || z.AllCopies != a {
			t.Fatalf("%+v, brute force says %d, %d", z, m, a)
		}
		seen += z.Hosts
	}
	for _, h := range c.Hosts {
		if h.Zone == "" {
			seen++
		}
	}
	if seen != len(c.Hosts) {
		t.Fatalf("zones hold %d hosts of %d", seen, len(c.Hosts))
	}
}

// A sample comes near the exact count, and a cluster too large to count is sampled.
func TestLossSample(t *testing.T) {
	c := generate(t, Spec{Hosts: makeHosts(12, 3), Partitions: 20})
	names := c.HostNames()
	l := newLayout(zoneNumbers(names, c.Hosts), nil, 0)
	l.restore(c, names)
	for k := 1; k <= 3; k++ {
		d := newDeaths(l)
		exact := d.loss(k)
		var sampled Loss
		d.sample(k, 20_000, func() {
			sampled.Sets++
			sampled.Majority += float64(min(1, d.lostMajority))
			sampled.AllCopies += float64(min(1, d.lostAll))
		})
		sampled.Majority /= 20_000
		sampled.AllCopies /= 20_000
		if d.lostMajority != 0 || d.lostAll != 0 {
			t.Error("the dead were not all revived")
		}
		if !exact.Exact || exact.Sets != int(choose(12, k)) {
			t.Errorf("not exact: %+v", exact)
		}
		if math.Abs(sampled.Majority-exact.Majority) > 0.02 || math.Abs(sampled.AllCopies-exact.AllCopies) > 0.02 {
			t.Errorf("%d failures: exact %+v, sampled %+v", k, exact, sampled)
		}
	}
	large := &Cluster{Name: "large", Version: 1, Hosts: makeHosts(900, 0)}
	names = large.HostNames()
	for i := range 900 {
		large.Partitions = append(large.Partitions, Partition{ID: uint32(i), From: uint64(i), Voters: []string{names[i], names[(i+1)%900], names[(i+7)%900]}})
	}
	f := large.Figures()
	if got := f.Losses[2]; got.Exact || got.Sets != maxSamples {
		t.Errorf("three failures of 900: %+v", got)
	}
	// Every partition has three pairs of hosts whose loss costs its majority, each of choose(900, 2).
	if got, want := f.Losses[1], 2700/choose(900, 2); !got.Exact || math.Abs(got.Majority-want) > 1e-12 {
		t.Errorf("two failures of 900: %+v, want %v", got, want)
	}
}

func TestFiguresTable(t *testing.T) {
	c := generate(t, Spec{Cluster: "prod-1", Hosts: makeHosts(9, 3), Partitions: 64})
	text := c.Figures().String()
	for _, part := range []string{
		"cluster prod-1, version 1: 9 hosts in 3 zones\n", "64 partitions of 3 voters\n", "zone spread: as good as the zones permit",
		"members   21   22", "leaders    7    8", "links    6    6", "all 84 sets of hosts",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	c.Partitions[3].Voters, c.Partitions[3].Prefer, c.Partitions[3].Replicas = []string{"h1", "h4", "h7"}, "", []string{"h2"}
	text = c.Figures().String()
	for _, part := range []string{"1 partition of 3 voters and 1 replica\n", "zone spread: 1 partition with more", "no preferred leader: 1 partition"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	if err := c.Figures().Write(failing{}); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
	if err := Diff(c, c).Write(failing{}); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestPercent(t *testing.T) {
	for p, want := range map[float64]string{0: "0 %", 1: "100.0 %", 0.75: "75.0 %", 0.00002: "0.002 %", 0.001: "0.1 %"} {
		if got := percent(p); got != want {
			t.Errorf("percent(%v) = %q, want %q", p, got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	before := mustParse(t, valid)
	if d := Diff(before, before); !d.Empty() || d.Moves != 0 {
		t.Errorf("no difference: %+v", d)
	}
	after := before.Clone()
	after.Version, after.Insecure = 8, true
	after.Hosts["h5"] = Host{Addr: "127.0.0.1:7405"}
	after.Hosts["h2"] = Host{Addr: "127.0.0.1:7402", Zone: "z"}
	after.Hosts["h4"] = Host{Addr: "127.0.0.1:7404", HTTP: "127.0.0.1:7484"}
	delete(after.Hosts, "h3")
	after.Partitions[0].Voters = []string{"h1", "h2", "h4"}
	after.Partitions[0].Replicas = []string{"h5"}
	after.Partitions[0].Prefer = "h4"
	after.Partitions[1] = Partition{ID: 12, From: 1 << 63, Voters: []string{"h1"}}
	d := Diff(before, after)
	want := `version 7 → 8: 1 move, 1 partition changed, 1 new preferred leader
hosts added: h5
hosts removed: h3
hosts changed: h2, h4
settings changed: insecure
partitions added: 12
partitions removed: 9
partition 0: h3 → h5 (replica); h4 becomes a voter; prefers h4, not h2
`
	if got := d.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if d.Moves != 1 || d.Leads != 1 || d.Empty() {
		t.Errorf("%+v", d)
	}
	back := Diff(after, before)
	if fmt.Sprint(back.Partitions[0].Demoted) != "[h4]" || back.Moves != 1 || !slices.Equal(back.HostsAdded, []string{"h3"}) {
		t.Errorf("%+v", back)
	}
	grown := before.Clone()
	grown.Partitions[1].Replicas, grown.Partitions[1].From = []string{"h1"}, 1<<62
	if there, back := Diff(before, grown).Moves, Diff(grown, before).Moves; there != 1 || back != 0 {
		t.Errorf("a new replica is %d moves, and %d to remove it", there, back)
	}
	want = "partition 9: + h1 (replica); from 4000000000000000, not 8000000000000000"
	if got := Diff(before, grown).Partitions[0].String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	want = "partition 9: − h1 (replica); from 8000000000000000, not 4000000000000000"
	if got := Diff(grown, before).Partitions[0].String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
