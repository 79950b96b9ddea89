package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adamantdb/adamant/internal/baseline"
)

// savedResult writes what a run of made-up figures would with --out.
func savedResult(t *testing.T, list []variant, rounds [][]figures) string {
	t.Helper()
	var raw []baseline.Costs
	for range rounds[0] {
		raw = append(raw, baseline.Costs{FsyncMicros: 111, LoopbackRoundTripMicros: 22})
	}
	r := newResult(writeWorkload(), protocol{rounds: len(raw)}, list, rounds, raw)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "result.json")
	if err := writeNew(file, text); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReportOfSavedResults(t *testing.T) {
	sweep := savedResult(t, []variant{{name: "partitions=16"}, {name: "partitions=256"}}, [][]figures{
		{{"writesPerSecond": 4321, "p50Micros": 10}, {"writesPerSecond": 4567, "p50Micros": 12}, {"writesPerSecond": 4999, "p50Micros": 11}},
		{{"writesPerSecond": 1234, "p50Micros": 20}, {"writesPerSecond": 2345, "p50Micros": 22}, {"writesPerSecond": 3456, "p50Micros": 21}},
	})
	single := savedResult(t, []variant{{settings: settings{Hosts: 3, Log: "bolt"}}}, [][]figures{{{"writesPerSecond": 777, "cpuMicrosPerWrite": 55.5}}})
	status, page, errs := bench(t, "report", sweep, single, "-out", "-")
	if status != exitOK || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	for _, want := range []string{"4\u202f567", "(4\u202f321–4\u202f999)", "writes/s over partitions", "partitions=256 / partitions=16", "777", "CPU µs/write", "55.5", "raw fsync µs",
		"<dd>111", "<dd>bolt</dd>", "<svg"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
	out := filepath.Join(t.TempDir(), "page.html")
	if status, _, errs := bench(t, "report", "--out", out, sweep, single); status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != page {
		t.Errorf("another page, or none: %v", err)
	}
}

func TestReportOfNothingGood(t *testing.T) {
	if status, _, errs := bench(t, "report"); status != exitUsage || !strings.Contains(errs, "want files") {
		t.Errorf("no files: %d, %s", status, errs)
	}
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "page.html")
	status, _, errs := bench(t, "report", bad, "missing.json", "-out", out)
	if status != exitFailed || !strings.Contains(errs, bad) || !strings.Contains(errs, "missing.json") {
		t.Errorf("%d, %s", status, errs)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a page of bad files")
	}
}
