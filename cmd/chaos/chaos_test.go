//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be the inner process.
func TestMain(m *testing.M) {
	if isInner(os.Args) {
		os.Exit(runInner(os.Args[2]))
	}
	var err error
	if built.dir, err = os.MkdirTemp("", "chaos-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(built.dir)
	os.Exit(code)
}

// commands are the flags with the programs, which are built once for all tests.
func commands(t *testing.T) []string {
	t.Helper()
	built.once.Do(func() {
		o := options{Dir: built.dir, Faults: "all"}
		built.err = o.build(context.Background(), os.Stderr)
		built.flags = []string{"-adamant", o.Binary, "-others", o.Others}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.flags
}

var built struct {
	once  sync.Once
	dir   string
	flags []string
	err   error
}

// chaos runs the command in a directory, which it returns with what the command says.
func chaos(t *testing.T, ctx context.Context, args ...string) (code int, s summary, dir, errs string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var out, complaints bytes.Buffer
	code = run(ctx, slices.Concat([]string{"-dir", dir, "-json"}, commands(t), args), &out, &complaints)
	if err := json.Unmarshal(out.Bytes(), &s); err != nil && code != exitUsage {
		t.Errorf("no summary: %v: %s %s", err, &out, &complaints)
	}
	leavesNothing(t, dir)
	return code, s, dir, complaints.String()
}

// leavesNothing looks for processes and mounts of a run.
func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // none where there is no /proc
	for _, name := range lines {
		text, err := os.ReadFile(name)
		if err == nil && bytes.Contains(text, []byte(dir)) {
			t.Errorf("still there: %s %q", name, text)
		}
	}
	if text, err := os.ReadFile("/proc/mounts"); err == nil && bytes.Contains(text, []byte(dir)) {
		t.Errorf("still mounted: %s", text)
	}
}

// TestChaos: for a few seconds everything that can be broken is, and nothing is lost.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for network, duration := range map[string]string{"auto": "8s", "proxies": "4s"} {
		t.Run(network, func(t *testing.T) {
			code, s, dir, errs := chaos(t, t.Context(), "-duration", duration, "-partitions", "6", "-writers", "4", "-seed", "1", "-net", network)
			if code != exitOK || len(s.Failures) > 0 {
				timeline, _ := os.ReadFile(filepath.Join(dir, "timeline.txt"))
				t.Fatalf("exit status %d: %s\n%s\n%s", code, errs, strings.Join(s.Failures, "\n"), timeline)
			}
			total := 0
			for _, n := range s.Faults {
				total += n
			}
			if total == 0 || s.Operations == 0 || s.Verified == 0 || s.Writes == 0 {
				t.Errorf("nothing was done: %+v", s)
			}
			t.Logf("%s: %d faults, %d operations, %d copies", s.Network, total, s.Operations, s.Verified)
		})
	}
}

// TestInterrupted: an interrupt ends everything.
func TestInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	commands(t) // are not what is interrupted
	for _, network := range []string{"auto", "proxies"} {
		t.Run(network, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			if code, s, _, errs := chaos(t, ctx, "-duration", "1h", "-partitions", "3", "-writers", "2", "-net", network); code != exitInterrupted {
				t.Errorf("exit status %d: %s %+v", code, errs, s)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-duration", "0s"}, {"-hosts", "2"}, {"-partitions", "0"}, {"-writers", "0"}, {"-agents", "6"}, {"-net", "carrier-pigeons"},
		{"-faults", "kill,earthquake"}, {"-disk", "1"}, {"-tls", "maybe"}, {"more"}, {"-unknown"}, {"-dir", strings.Repeat("/long", 30)},
	} {
		if code := run(t.Context(), args, io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%v: exit status %d", args, code)
		}
	}
}

// TestPlanIsFair: every fault has its share.
func TestPlanIsFair(t *testing.T) {
	f := &field{record: &record{faults: map[string]int{}, skipped: map[string]string{}}, o: options{Seed: 5, Faults: "all"}, net: &proxies{}}
	p := f.newPlan()
	count := map[string]int{}
	for range 4000 {
		count[p.next().name]++
	}
	total := 0.0
	for _, x := range p.list {
		total += x.weight
	}
	for _, x := range p.list {
		if want := 4000 * x.weight / total; float64(count[x.name]) < want*0.6 || float64(count[x.name]) > want*1.4 {
			t.Errorf("%s: %d times of 4000, want about %.0f", x.name, count[x.name], want)
		}
	}
	if f.skipped["full-disk"] == "" || count["full-disk"] != 0 {
		t.Errorf("a disk is filled that others use, too: %v", f.skipped)
	}
	if f.skipped["version"] == "" || count["version"] != 0 {
		t.Errorf("another version is run although there is none: %v", f.skipped)
	}
}

// TestOtherVersions: a host with a program of another version does what it can still do with the others, and says why it does no more.
func TestOtherVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	code, s, dir, errs := chaos(t, t.Context(), "-duration", "12s", "-partitions", "3", "-writers", "2", "-agents", "1", "-faults", "version")
	if code != exitOK || len(s.Failures) > 0 || s.Faults["version"] == 0 {
		t.Fatalf("exit status %d, %d times: %s\n%s", code, s.Faults["version"], errs, strings.Join(s.Failures, "\n"))
	}
	said := ""
	for _, name := range hostNames(5) {
		text, err := os.ReadFile(filepath.Join(dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		said += string(text)
	}
	timeline, err := os.ReadFile(filepath.Join(dir, "timeline.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for program, text := range map[string]string{"of-other-links": "protocol version", "of-other-repair": "message of version"} {
		if bytes.Contains(timeline, []byte(program)) && !strings.Contains(said, text) {
			t.Errorf("nobody says %q although a host was %s", text, program)
		}
	}
}

// TestWiresOverlap: a path is whole when the last of its cuts has ended.
func TestWiresOverlap(t *testing.T) {
	n := &listed{}
	w := newWires(n)
	ab, both := []path{{"a", "b"}}, between([]string{"a"}, []string{"b"})
	for _, err := range []error{w.cut(ab), w.cut(both), w.join(ab), w.join(both), w.slow("a", +1), w.slow("a", +1), w.slow("a", -1), w.slow("a", -1)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := "cut [{a b}] cut [{b a}] join [{a b} {b a}] slow a true slow a false "; n.text != want {
		t.Errorf("%s\nwant %s", n.text, want)
	}
}

type listed struct {
	network
	text string
}

func (l *listed) cut(list []path) error  { l.text += fmt.Sprint("cut ", list, " "); return nil }
func (l *listed) join(list []path) error { l.text += fmt.Sprint("join ", list, " "); return nil }
func (l *listed) slow(host string, on bool) error {
	l.text += fmt.Sprint("slow ", host, " ", on, " ")
	return nil
}
