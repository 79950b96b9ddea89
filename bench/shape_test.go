package main

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/pflag"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/store"
)

// However many sources there are, as many other hosts hold every partition, and the last host, which is repaired, leads none.
func TestShapeOfSources(t *testing.T) {
	for _, sources := range []string{"1", "2", "3", "4", "7"} {
		s := repairWorkload().defaults
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		repairFlags(&s, f)
		if err := f.Parse([]string{"--sources", sources, "--partitions", "5"}); err != nil {
			t.Fatal(err)
		}
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "cluster.json")
		c, err := trial{settings: s}.shape(file)
		if err != nil {
			t.Fatal(err)
		}
		if read, err := config.Load(file); err != nil || !read.Equal(c) {
			t.Errorf("the file holds another cluster: %v", err)
		}
		names := c.HostNames()
		victim := names[len(names)-1]
		for _, p := range c.Partitions {
			if len(p.Members()) != s.Sources+1 || !p.HasMember(victim) || p.Prefer == victim || !slices.Contains(p.Voters, p.Prefer) || len(p.Voters)%2 == 0 {
				t.Errorf("%s sources: %+v", sources, p)
			}
		}
	}
}

func TestInBuckets(t *testing.T) {
	seen := map[int]bool{}
	of := map[uint8]int{}
	for _, p := range inBuckets(4, 20) {
		if seen[p.Number] {
			t.Errorf("document %d twice", p.Number)
		}
		seen[p.Number] = true
		of[store.FullRange().Bucket(documentKey(p.Number).Hash())]++
	}
	if want := (map[uint8]int{0: 20, 1: 20, 2: 20, 3: 20}); !maps.Equal(of, want) {
		t.Errorf("documents by bucket: %v", of)
	}
}

// What is not measured is computed from what is, and its name says so.
func TestDesignFigures(t *testing.T) {
	f := designFigures(figures{"pullMillis": 100, "bytesMissing": 32e6, "bytesOnWire": 33e6}, figures{"pullMillis": 2000, "bytesOnWire": 125e6}, 16)
	for key, want := range map[string]float64{"designBucketMillis": 100, "designBucketPromisedMillis": 250, "designBucketGigabitMillis": 264,
		"designPartitionMillis": 2000, "designPartitionExtrapolatedMillis": 32000, "designPartitionPromisedMillis": 16000, "designPartitionGigabitMillis": 16000,
		"designHostExtrapolatedMinutes": 64 * 32.0 / 60, "designHostPromisedMinutes": 17} {
		if got := f[key]; got < want*0.9999 || got > want*1.0001 {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
}
