package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if isCrew(os.Args) {
		os.Exit(runCrew())
	}
	if isBurner(os.Args) {
		os.Exit(runBurner())
	}
	os.Exit(m.Run())
}

// bench runs the program with arguments and returns its exit status and output.
func bench(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(context.Background(), args, &o, &e)
	return status, o.String(), e.String()
}

// measured runs a verb with --json and returns the object.
func measured(t *testing.T, args ...string) map[string]any {
	t.Helper()
	var status int
	var out, errs string
	for range 5 { // on a busy machine a log may not be cut yet when a member comes back
		status, out, errs = bench(t, append(args, "--json", "--rounds", "1", "--dir", t.TempDir())...)
		if !strings.Contains(errs, "which is no repair") {
			break
		}
		t.Logf("once more: %s", errs)
	}
	if status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	var r map[string]any
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return r
}

// atLast measures again as long as a busy machine left out what is to be measured, a few times at the most.
func atLast(t *testing.T, done func(map[string]any) bool, args ...string) (r map[string]any) {
	t.Helper()
	for range 5 {
		if r = measured(t, args...); done(r) {
			break
		}
		t.Logf("once more: %v", r)
	}
	return r
}

// above is a condition for atLast: in so short a run nothing at all may happen while a machine stands still.
func above(keys ...string) func(map[string]any) bool {
	return func(r map[string]any) bool {
		for _, key := range keys {
			if v, ok := r[key].(float64); ok && v <= 0 {
				return false
			}
		}
		return true
	}
}

var brief = []string{"--warmup", "20ms", "--duration", "200ms"}

func TestWrite(t *testing.T) {
	for name, args := range map[string][]string{
		"one process":        {"-hosts", "3", "-partitions", "4", "-voters", "3", "-writers", "8", "-documents", "16", "-size", "256"},
		"a process for each": {"--hosts", "3", "--partitions", "4", "--writers", "8", "--documents", "16", "--processes", "--procs", "2"},
		"bolt, one host":     {"--hosts", "1", "--partitions", "2", "--voters", "1", "--writers", "2", "--documents", "2", "--log", "bolt"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := []string{"writesPerSecond", "p50Micros", "p99Micros", "maxMicros", "cpuMicrosPerWrite", "fsyncsPerWrite",
				"bytesWrittenPerByte", "fsyncMicros", "loopbackRoundTripMicros"}
			r := atLast(t, above(keys...), slices.Concat([]string{"write"}, args, brief)...)
			for _, key := range keys {
				if v, ok := r[key].(float64); !ok || v <= 0 {
					t.Errorf("%s is %v", key, r[key])
				}
			}
			if r["p50Micros"].(float64) > r["p99Micros"].(float64) || r["p99Micros"].(float64) > r["maxMicros"].(float64) {
				t.Errorf("percentiles out of order: %v, %v, %v", r["p50Micros"], r["p99Micros"], r["maxMicros"])
			}
			if v := r["bytesWrittenPerByte"].(float64); v < 1 {
				t.Errorf("%v bytes written for each byte acknowledged", v)
			}
		})
	}
}

func TestIdle(t *testing.T) {
	keys := []string{"bytesPerSecondPerHost", "gossipBytesPerSecondPerHost", "bytesPerSecondPerPair", "memoryPerHostBytes", "goroutinesPerMember", "goroutinesPerHost"}
	r := atLast(t, above(keys...), "idle", "--hosts", "3", "--partitions", "6", "--warmup", "20ms", "--duration", "3s") // gossip probes each second
	for _, key := range keys {
		if v, ok := r[key].(float64); !ok || v <= 0 {
			t.Errorf("%s is %v", key, r[key])
		}
	}
	for _, key := range []string{"coresPerHost", "memoryPerMemberBytes"} { // of so few members, the difference may drown in noise
		if _, ok := r[key].(float64); !ok {
			t.Errorf("%s is %v", key, r[key])
		}
	}
}

func TestCompareAndFiles(t *testing.T) {
	out := filepath.Join(t.TempDir(), "result.json")
	args := append([]string{"write", "--hosts", "1", "--voters", "1", "--partitions", "1", "--documents", "4", "--compare", "writers=1,4", "--rounds", "2", "--out", out}, brief...)
	status, table, errs := bench(t, args...)
	if status != exitOK {
		t.Fatalf("%d: %s", status, errs)
	}
	for _, want := range []string{"writes/s", "writers=1", "writers=4", "ratio", "raw fsync"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Variants) != 2 || len(r.Variants[1].Ratios["writesPerSecond"].Rounds) != 2 || r.Variants[0].Ratios != nil {
		t.Fatalf("%+v", r.Variants)
	}
	if status, _, errs := bench(t, args...); status != exitUsage || !strings.Contains(errs, "exists") {
		t.Errorf("an existing file: %d, %s", status, errs)
	}
}

func TestWrongUsage(t *testing.T) {
	for name, c := range map[string]struct{ args, want string }{
		"unknown verb":        {"fly", `unknown command`},
		"unknown flag":        {"write --wings 2", "wings"},
		"too many voters":     {"write --voters 5 --hosts 3", "--voters is 5"},
		"several at once":     {"write --hosts 0 --size 1", "--size is 1"},
		"unknown engine":      {"idle --log paper", "paper"},
		"argument":            {"write now", "now"},
		"nothing to compare":  {"write --compare log", "NAME=VALUE"},
		"unknown setting":     {"idle --compare size=1,2", "cannot be compared"},
		"one value":           {"write --compare writers=1", "2 to 8 values"},
		"twice the same":      {"write --compare writers=1,1", "twice"},
		"bad compared value":  {"write --compare voters=1,2", "voters"},
		"no such directory":   {"write --dir /does/not/exist", "/does/not/exist"},
		"zero rounds":         {"write --rounds 0", "--rounds is 0"},
		"writers without doc": {"write --writers 10 --documents 5", "at least one for each"},
		"no writers at all":   {"write --writers 0 --documents 0 --size 0", "--writers is 0"},
		"a pause of all":      {"failover --kill pause --processes=false", "all hosts would stand still"},
		"a short pause":       {"failover --kill pause --for 1ms", "--for is 1ms"},
		"thinks too fast":     {"quiet --think 1us", "--think is 1µs"},
		"bored readers":       {"failover --read 1h", "--read is 1h"},
		"by magic, compared":  {"failover --compare kill=9,magic", "not by \"magic\""},
		"nobody takes over":   {"failover --voters 1", "at least 3"},
		"too many are busy":   {"write --partitions 2 --busy 3", "--busy is 3"},
		"no deltas":           {"write --deltas 0", "--deltas is 0"},
		"varies the weather":  {"scale --vary weather", "want partitions or hosts or"},
		"varies to nonsense":  {"scale --vary voters --values 1,two", "--values"},
		"one value to vary":   {"scale --values 16", "--values partitions: want 2 to 8 values"},
		"what is missing":     {"repair --missing some", "want all, a number"},
		"more than there is":  {"repair --docs 10 --missing 11", "11 of 10 documents"},
		"less than nothing":   {"repair --missing -5%", "--missing"},
		"half of one delta":   {"repair --deltas 1 --missing 5 --kind stale", "at least 2"},
		"a broken kind":       {"repair --kind broken", "want missing or stale or mixed"},
		"no source":           {"repair --sources 0", "want 1 to 7"},
		"a distant planet":    {"repair --rtt 10s", "--rtt is 10s"},
		"a part of a design":  {"repair --design --missing 5%", "empty host"},
		"other designs":       {"repair --design --docs 7", "of its own"},
		"kills of a design":   {"repair --design --kills=true", "of its own"},
		"a third of a design": {"repair --design --design-scale 3", "a divisor"},
		"all of it stale":     {"repair --kind stale", "lacks all"},
		"all is one":          {"healthy --hosts 1 --voters 1", "at least 3"},
		"repair takes time":   {"repair --duration 3s", "duration"},
		"scale of what":       {"scale --of everything", "want write or idle"},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, errs := bench(t, strings.Fields(c.args)...)
			if status != exitUsage || out != "" || !strings.Contains(errs, c.want) {
				t.Errorf("status %d, output %q, errors %q", status, out, errs)
			}
		})
	}
}

func TestSingleDashFlags(t *testing.T) {
	got := longFlags([]string{"write", "-hosts", "3", "--size", "-1", "-h", "-log=bolt", "--", "-x1"})
	want := []string{"write", "--hosts", "3", "--size", "-1", "-h", "--log=bolt", "--", "-x1"}
	if !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

func TestRatiosAreOfRounds(t *testing.T) {
	r := ratios([]figures{{"a": 2, "b": 1}, {"a": 9, "b": 1}}, []figures{{"a": 1, "b": 0}, {"a": 3}})
	if len(r) != 1 || !slices.Equal(r["a"].Rounds, []float64{2, 3}) || r["a"].Median != 2.5 {
		t.Fatalf("%+v", r)
	}
}

func TestWritersAreSharedOutExactly(t *testing.T) {
	for writers := 1; writers <= 20; writers++ {
		f := &fleet{settings: settings{Writers: writers, Documents: 20}}
		sum, before := 0, 0
		for _, documents := range []int{7, 0, 1, 12} {
			n := f.writersOf(before+documents) - f.writersOf(before)
			if n > documents {
				t.Errorf("%d of %d writers for %d documents", n, writers, documents)
			}
			sum, before = sum+n, before+documents
		}
		if sum != writers {
			t.Errorf("%d writers became %d", writers, sum)
		}
	}
}

// An interrupt ends hosts in other processes too, and what they wrote is removed.
func TestInterruptedRunLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := writeWorkload()
	s := settings{load: loadFree, Hosts: 2, Partitions: 1, Voters: 1, Log: "pebble", Processes: true, Writers: 1, Documents: 1, Size: 64}
	p := protocol{rounds: 1, duration: time.Hour, dir: dir}
	_, err := experiment(ctx, w, p, []variant{{settings: s}}, func(_, _ time.Duration, note string) {
		if strings.Contains(note, "writing") {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v left", err, left)
	}
}
