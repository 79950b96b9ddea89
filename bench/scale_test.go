package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/adamantdb/adamant/internal/loopback"
)

// scaled runs scale with --json and returns the settings' values and figures of each row.
func scaled(t *testing.T, args ...string) result {
	t.Helper()
	status, out, errs := bench(t, slices.Concat([]string{"scale", "--json", "--rounds", "1", "--dir", t.TempDir()}, args, brief)...)
	if status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return r
}

func TestScale(t *testing.T) {
	var r result
	for range 5 { // in so short a run nothing at all may be written while a machine stands still
		r = scaled(t, "--vary", "document", "--values", "1,300", "--hosts", "1", "--voters", "1", "--partitions", "2", "--writers", "2", "--documents", "4")
		if !slices.ContainsFunc(r.Variants, func(v variantResult) bool { return v.Figures["writesPerSecond"].Median <= 0 }) {
			break
		}
	}
	if r.Vary != "document" || len(r.Variants) != 2 || r.Variants[0].Settings.Deltas != 1 || r.Variants[1].Settings.Deltas != 300 {
		t.Fatalf("%+v", r)
	}
	for _, v := range r.Variants {
		for _, key := range []string{"writesPerSecond", "p50Micros", "p99Micros", "cpuMicrosPerWrite", "fsyncsPerWrite"} {
			if v.Figures[key].Median <= 0 {
				t.Errorf("%s: %s is %v", v.Name, key, v.Figures[key])
			}
		}
		if _, ok := v.Figures["memoryPerMemberBytes"]; !ok { // of so few members, it may drown in noise
			t.Errorf("%s: no memory", v.Name)
		}
	}
}

func TestScaleOfIdleClusters(t *testing.T) {
	r := scaled(t, "--of", "idle", "--vary", "voters", "--values", "1,3", "--hosts", "3", "--partitions", "3")
	for _, v := range r.Variants {
		if v.Figures["goroutinesPerMember"].Median <= 0 || v.Figures["writesPerSecond"].Rounds != nil {
			t.Errorf("%s: %+v", v.Name, v.Figures)
		}
	}
}

func TestScaleTable(t *testing.T) {
	args := append([]string{"scale", "--vary", "writers", "--values", "1,2", "--hosts", "1", "--voters", "1", "--partitions", "1", "--documents", "2", "--rounds", "2"}, brief...)
	status, out, errs := bench(t, args...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != exitOK || len(lines) != 5 {
		t.Fatalf("%d: %s%s", status, out, errs)
	}
	if !strings.HasPrefix(lines[2], "writers ") || !strings.HasPrefix(lines[3], "1 ") || !strings.HasPrefix(lines[4], "2 ") || strings.Contains(out, "cores/host") {
		t.Errorf("unexpected table:\n%s", out)
	}
}

// With voters varied, there are hosts enough for the most, unless hosts were chosen.
func TestVaryingVotersMakesHosts(t *testing.T) {
	for _, c := range []struct {
		chosen bool
		want   int
	}{{false, 7}, {true, 3}} {
		s := settings{Hosts: 3}
		if got := (&axis{vary: "voters", values: "1,7"}).comparison(&s, c.chosen); got != "voters=1,7" || s.Hosts != c.want {
			t.Errorf("%q with %d hosts", got, s.Hosts)
		}
	}
}

func TestBusyPartitions(t *testing.T) {
	c, err := loopback.Plan(loopback.Spec{Name: "busy", Hosts: 1, Partitions: 50, Voters: 1}, t.TempDir()+"/cluster.json")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{settings: settings{Documents: 20, Busy: 2}, cluster: c}
	list := f.documents()
	if len(list) != 20 {
		t.Fatalf("%d documents", len(list))
	}
	for _, n := range list {
		if i := c.Locate(documentKey(n).Hash()); i >= 2 {
			t.Errorf("document %d is in partition %d", n, i)
		}
	}
	r := atLast(t, above("writesPerSecond"), append([]string{"write", "--partitions", "8", "--busy", "1", "--writers", "2", "--documents", "3", "--deltas", "5"}, brief...)...)
	if r["writesPerSecond"].(float64) <= 0 {
		t.Error("nothing was written")
	}
}
