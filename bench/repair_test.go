package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/baseline"
)

func TestRepair(t *testing.T) {
	for name, c := range map[string]struct {
		args             []string
		documents, least float64 // pulled
	}{
		"all, processes, bolt": {[]string{"-missing", "all", "-processes", "-log", "bolt", "-partitions", "2"}, 60, 240},
		"some are stale":       {[]string{"--missing", "10", "--kind", "stale", "--processes"}, 10, 20},
		"some of both":         {[]string{"--missing", "50%", "--kind", "mixed"}, 30, 90},
	} {
		t.Run(name, func(t *testing.T) {
			r := measured(t, slices.Concat([]string{"repair", "-docs", "60", "-deltas", "4", "-delta-size", "100", "-load", "0", "-kills=false"}, c.args)...)
			for _, key := range []string{"bytesMissing", "bytesOnWire", "entriesPerSecond", "megabytesPerSecond", "fractionOfLimit", "discoveryBytes",
				"diskMegabytesPerSecond", "loopbackMegabytesPerSecond", "cpuSecondsPerGB", "pullMillis", "totalMillis"} {
				if v, ok := r[key].(float64); !ok || v <= 0 {
					t.Errorf("%s is %v", key, r[key])
				}
			}
			if v := r["entriesPulled"].(float64); v != c.least {
				t.Errorf("%v entries pulled, want %v", v, c.least)
			}
			if v := r["documentsPulled"].(float64); v < c.documents {
				t.Errorf("%v documents pulled, want %v", v, c.documents)
			}
			if v := r["bytesMissing"].(float64); v < c.least*100 || v > c.least*200 {
				t.Errorf("%v bytes missing in %v deltas of 100 bytes", v, c.least)
			}
			if r["pullMillis"].(float64) > r["totalMillis"].(float64) {
				t.Errorf("pulling took %v ms of %v ms", r["pullMillis"], r["totalMillis"])
			}
		})
	}
}

func TestRepairTable(t *testing.T) {
	status, out, errs := bench(t, "repair", "--docs", "20", "--load", "0", "--kills=false", "--rounds", "1", "--compare", "deltas=2,4", "--dir", t.TempDir())
	if status != exitOK {
		t.Fatalf("%d: %s", status, errs)
	}
	for _, want := range []string{"MB missing", "MB on the wire", "fraction of limit", "deltas=4", "ratio"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		missing, kind         string
		before, stale, absent int
	}{
		{"all", kindMissing, 20, 0, 0},
		{"5", kindMissing, 15, 0, 5},
		{"5", kindStale, 15, 5, 0},
		{"25%", kindMixed, 15, 2, 3},
		{"100%", kindMissing, 0, 0, 20},
	} {
		s := settings{Documents: 20, Missing: c.missing, Kind: c.kind}
		before, stale, absent := s.split()
		if len(before) != c.before || len(stale) != c.stale || len(absent) != c.absent {
			t.Errorf("%s %s: %d, %d, %d", c.missing, c.kind, len(before), len(stale), len(absent))
		}
		seen := map[int]bool{}
		for _, p := range slices.Concat(before, stale, absent) {
			seen[p.Number] = true
		}
		if len(seen) != 20 {
			t.Errorf("%s %s: %d documents", c.missing, c.kind, len(seen))
		}
	}
}

func TestAgreed(t *testing.T) {
	a, b := memberState{Host: "h1", Partition: 1, Complete: true, Bytes: 5, Root: "x"}, memberState{Host: "h2", Partition: 1, Complete: true, Bytes: 5, Root: "x"}
	if same, differ := agreed(map[uint32][]memberState{1: {a, b}}); differ != nil || same[1].Bytes != 5 {
		t.Errorf("%v %v", same, differ)
	}
	b.Root = "y"
	if _, differ := agreed(map[uint32][]memberState{1: {a, b}}); differ == nil {
		t.Error("members with other roots agree")
	}
	b.Root, b.Commit = a.Root, 3
	if _, differ := agreed(map[uint32][]memberState{1: {a, b}}); differ == nil {
		t.Error("members agree before they applied what is committed")
	}
	a.Complete = false
	if _, differ := agreed(map[uint32][]memberState{1: {a}}); differ == nil {
		t.Error("a sick member agrees")
	}
}

func TestHealed(t *testing.T) {
	s := adamant.Status{Partitions: []adamant.PartitionStatus{{ID: 1, Complete: true, Applied: 10}, {ID: 2, Complete: true, Applied: 10}}}
	if !healed(s, indexes{1: 10, 2: 9}) {
		t.Error("is not healed")
	}
	if healed(s, indexes{1: 11}) || healed(s, indexes{3: 1}) {
		t.Error("is healed without having everything")
	}
	s.Partitions[0].Complete = false
	if healed(s, indexes{1: 10}) {
		t.Error("is healed while sick")
	}
}

// What came from the counters is divided by what was measured; nothing repaired is no figure.
func TestRepairFigures(t *testing.T) {
	one := &repaired{missing: 4e6, usage: usage{Measured: true, CPU: time.Second}, heal: healReport{Total: 4 * time.Second, Pulling: 2 * time.Second,
		Repair: adamant.RepairMetrics{EntriesIn: 10, ImportedBytes: 4e6, CompareBytes: 3e5, ListBytes: 2e5, PullBytes: 45e5, Compares: 1, Lists: 2, Pulls: 3}}}
	f, err := repairFigures(one, baseline.Bandwidths{DiskMegabytesPerSecond: 8, LoopbackMegabytesPerSecond: 20})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]float64{"megabytesPerSecond": 2, "fractionOfLimit": 0.25, "entriesPerSecond": 5, "wireBytesPerByte": 1.25, "cpuSecondsPerGB": 250,
		"bytesOnWire": 5e6, "discoveryBytes": 5e5, "frameBytes": 12 * 32} {
		if f[key] != want {
			t.Errorf("%s is %v, want %v", key, f[key], want)
		}
	}
	if _, err := repairFigures(&repaired{heal: one.heal}, baseline.Bandwidths{}); err == nil {
		t.Error("nothing was missing, and there are figures")
	}
}
