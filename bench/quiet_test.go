package main

import (
	"slices"
	"strings"
	"testing"
)

func TestQuiet(t *testing.T) {
	args := slices.Concat([]string{"quiet", "--hosts", "3", "--partitions", "3", "--busy-cpu", "1", "--think", "20ms", "--rounds", "1"}, brief)
	const tries = 5 // a machine may be so busy that leaders are missed
	for range tries {
		status, out, errs := bench(t, slices.Concat(args, []string{"--dir", t.TempDir()})...)
		if status == exitOK {
			if !strings.Contains(out, "candidacies") || !strings.Contains(out, "1 processor busy beside them") {
				t.Errorf("printed %s", out)
			}
			return
		}
		if !strings.Contains(errs, "nobody was gone") {
			t.Fatalf("status %d: %s", status, errs)
		}
	}
	t.Errorf("somebody was elected each time")
}

// TestNeedlessElections: each kind is a failure.
func TestNeedlessElections(t *testing.T) {
	for _, u := range []usage{{Leaderships: 1}, {Candidacies: 1}} {
		if needless(u) == nil {
			t.Errorf("nothing is wrong with %+v", u)
		}
	}
	if err := needless(usage{LogSyncs: 1}); err != nil {
		t.Error(err)
	}
}
