package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant/bench/internal/saved"
)

// TestMain lets child processes, of a comparison and of a trial, be this program.
func TestMain(m *testing.M) {
	if isSite(os.Args) || len(os.Args) > 1 && (os.Args[1] == "write" || os.Args[1] == "rebuild" || os.Args[1] == "idle") {
		main()
	}
	os.Exit(m.Run())
}

// peers runs the program with arguments, separated by spaces, and returns its exit status and output.
func peers(args string) (status int, out, errs string) {
	var o, e bytes.Buffer
	status = run(context.Background(), strings.Fields(args), &o, &e)
	return status, o.String(), e.String()
}

const brief = " -documents 16 -size 256 -warmup 20ms -duration 200ms -dir "

func TestWrite(t *testing.T) {
	for _, name := range systemNames() {
		t.Run(name, func(t *testing.T) { testWrite(t, name, "-partitions 4") })
		if inMemory(name) {
			continue
		}
		t.Run(name+" in processes", func(t *testing.T) { testWrite(t, name, "-processes -partitions 4") })
	}
	t.Run("one partition", func(t *testing.T) { testWrite(t, "adamant", "-processes -partitions 1") })
}

func testWrite(t *testing.T, name, flags string) {
	dir := t.TempDir()
	var r map[string]any
	for range 5 { // in so short a run nothing at all may be written while a machine stands still
		status, out, errs := peers("write -json -system " + name + " -hosts 3 -writers 8 -procs 2 " + flags + brief + dir)
		if status != exitOK || errs != "" {
			t.Fatalf("status %d: %s", status, errs)
		}
		r = nil
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if n, ok := r["writes"].(float64); ok && n > 0 {
			break
		}
	}
	for _, key := range []string{"writes", "writesPerSecond", "p50Micros", "p99Micros", "maxMicros", "cpuMicrosPerWrite", "fsyncMicros",
		"loopbackRoundTripMicros"} {
		if v, ok := r[key].(float64); !ok || v <= 0 {
			t.Errorf("%s is %v", key, r[key])
		}
	}
	if r["p50Micros"].(float64) > r["p99Micros"].(float64) || r["p99Micros"].(float64) > r["maxMicros"].(float64) {
		t.Errorf("percentiles out of order: %v, %v, %v", r["p50Micros"], r["p99Micros"], r["maxMicros"])
	}
	if r["system"] != name || r["gomaxprocs"] != 2.0 || r["writers"] != 8.0 || r["verb"] != "write" {
		t.Errorf("another trial's settings: %v", r)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if r["processes"] != strings.Contains(flags, "-processes") {
		t.Errorf("processes: %v", r["processes"])
	}
}

// An interrupt ends hosts in other processes too, and what they wrote is removed.
func TestInterruptedTrialLeavesNothing(t *testing.T) {
	s := defaults()
	s.Processes, s.Partitions, s.Duration, s.dir = true, 2, time.Hour, t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := measure(ctx, s)
		ended <- err
	}()
	for deadline := time.Now().Add(openPatience); ; time.Sleep(5 * time.Millisecond) {
		if opened, _ := filepath.Glob(filepath.Join(s.dir, "*", "h3", "*")); len(opened) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no host opens")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestResultInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "result.json")
	args := "write -json -system raft -hosts 1 -writers 2 -partitions 1 -out " + file + brief + t.TempDir()
	status, out, errs := peers(args)
	if status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != out || !json.Valid(b) {
		t.Errorf("%v, the file holds %q", err, b)
	}
	if r, err := saved.ReadFile(file); err != nil || r.Groups[0].Variants[0].Figures["writesPerSecond"].Median <= 0 || len(r.Baseline) != 2 {
		t.Errorf("bench report cannot read it: %v, %+v", err, r)
	}
	if status, _, errs := peers(args); status != exitUsage || !strings.Contains(errs, "exists") {
		t.Errorf("an existing file: %d, %s", status, errs)
	}
	without := filepath.Join(t.TempDir(), "none.json")
	d := delivery{out: without}
	if err := deliver(d, io.Discard, printTrial, func() (*trialResult, error) { return nil, errors.New("no luck") }); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(without); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file without a result: %v", err)
	}
}

func TestWriteTable(t *testing.T) {
	status, out, errs := peers("write -system adamant -hosts 1 -writers 2 -partitions 4" + brief + t.TempDir())
	if status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	for _, want := range []string{"1 host,", "writes/s", "CPU µs/write", "raw fsync"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestCompareInChildren(t *testing.T) {
	dir := t.TempDir()
	status, out, errs := peers("compare -json -systems adamant,raft -hosts 1 -writers 4 -gomaxprocs 2 -rounds 2 -partitions 4 -documents 16 -size 256 -warmup 20ms " +
		"-duration 3s -dir " + dir) // longer than a machine stands still
	if status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	if !strings.Contains(errs, "4 of 4") {
		t.Errorf("no progress in %q", errs)
	}
	var c comparison
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if r, err := saved.Read(strings.NewReader(out)); err != nil || len(r.Groups) != 1 || len(r.Groups[0].Variants) != 2 || len(r.Groups[0].Ratios) != 1 {
		t.Errorf("bench report cannot read it: %v, %+v", err, r)
	}
	if c.Rounds != 2 || len(c.Loads) != 1 || len(c.Loads[0].Variants) != 2 || len(c.Loads[0].Ratios) != 1 || len(c.Baseline.FsyncMicros.Rounds) != 4 {
		t.Fatalf("%s", out)
	}
	if r := c.Loads[0].Ratios[0]; r.Peer != "raft" || len(r.Figures["writesPerSecond"].Rounds) != 2 || r.Figures["p50Micros"].Median <= 0 {
		t.Errorf("%+v", r)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestChildThatFails(t *testing.T) {
	s := defaults()
	s.System = "paper"
	s.dir = t.TempDir()
	if _, err := childTrial(context.Background(), s); err == nil || !strings.Contains(err.Error(), "-system is paper") {
		t.Fatalf("%v", err)
	}
}

func TestWrongUsage(t *testing.T) {
	for name, c := range map[string]struct{ args, want string }{
		"no verb":             {"", "want a verb"},
		"unknown verb":        {"fly", `unknown verb "fly"`},
		"unknown flag":        {"write -wings 2", "wings"},
		"unknown system":      {"write -system paper", "-system is paper"},
		"even hosts":          {"write -hosts 2", "-hosts is 2"},
		"several at once":     {"write -hosts 0 -size 1", "-size is 1"},
		"no partitions":       {"write -partitions 0", "-partitions is 0"},
		"no writers":          {"write -writers 0", "-writers is 0"},
		"no documents":        {"write -documents 0", "-documents is 0"},
		"no such procs":       {"write -gomaxprocs -1", "-gomaxprocs is -1"},
		"no time":             {"write -duration 0s", "-duration is 0s"},
		"no time before":      {"write -warmup -1s", "-warmup is -1s"},
		"argument":            {"write now", "now"},
		"no such directory":   {"write -dir /does/not/exist", "/does/not/exist"},
		"a file":              {"write -dir doc.go", "not a directory"},
		"writers without doc": {"write -writers 10 -documents 5", "at least one for each"},
		"zero rounds":         {"compare -rounds 0", "-rounds is 0"},
		"systems twice":       {"compare -systems raft,raft", "twice"},
		"compared unknown":    {"compare -systems raft,paper", "-system is paper"},
		"writers twice":       {"compare -writers 1,1", "twice"},
		"writers in words":    {"compare -writers many", "want numbers"},
		"procs in words":      {"compare -gomaxprocs 2,", "want numbers"},
		"too many writers":    {"compare -writers 1,5000", "at least one for each"},
		"system of compare":   {"compare -system raft", "system"},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, errs := peers(c.args)
			if status != exitUsage || out != "" || !strings.Contains(errs, c.want) {
				t.Errorf("status %d, output %q, errors %q", status, out, errs)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for args, want := range map[string]string{"help": "rebuild", "write -h": "-gomaxprocs", "compare -help": "-systems"} {
		if status, out, errs := peers(args); status != exitOK || !strings.Contains(out, want) || errs != "" {
			t.Errorf("%s: status %d, output %q, errors %q", args, status, out, errs)
		}
	}
}
