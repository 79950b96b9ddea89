package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTotals: results of before anything was counted add up with those that count.
func TestTotals(t *testing.T) {
	dir := t.TempDir()
	lines := `{"acknowledged":5,"failed":false,"healed":2000000000,"hours":false,"operations":9,"seed":1,"simulated":3600000000000,"steps":4,"took":1,"unsure":0}
{"acknowledged":6,"failed":true,"happened":{"crash":2,"wipe":1},"healed":1000000000,"hours":false,"operations":7,"seed":2,"simulated":3600000000000,"steps":5,"took":1,"unsure":0}
{"acknowledged":1,"failed":false,"happened":{"crash":3},"healed":1,"hours":false,"operations":1,"seed":3,"simulated":0,"steps":3,"took":1,"unsure":0}
{"seed":4,"ste`
	if err := os.WriteFile(filepath.Join(dir, resultsFile), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := readResults(dir)
	if err != nil || len(list) != 3 {
		t.Fatalf("%d results, %v", len(list), err)
	}
	var sum totals
	for _, one := range list {
		sum.add(one)
	}
	text := sum.String()
	for _, want := range []string{"simulated        2.0 h\n", "faults planned   12\n", "as 2 seeds have counted", "crash                          5\n", "wipe                           1\n",
		"operations       17, 12 writes", "failed           1 [2]\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
