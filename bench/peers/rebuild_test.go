package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant/bench/internal/saved"
)

const small = " -docs 30 -deltas 4 -size 64 -dir "

// One host of each real system loses its disk and holds everything again. Entries that its log brought would be an error.
func TestRebuild(t *testing.T) {
	t.Parallel()
	for _, name := range rebuilderNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			status, out, errs := peers("rebuild -json -rounds 1 -partitions 2 -systems " + name + small + dir)
			if status != exitOK || !strings.Contains(errs, "1 of 1") {
				t.Fatalf("status %d: %s", status, errs)
			}
			var c rebuildComparison
			if err := json.Unmarshal([]byte(out), &c); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			if c.Verb != "rebuild" || c.Rounds != 1 || c.Hosts != 3 || c.Documents != 30 || c.Deltas != 4 || c.Size != 64 || c.Processes {
				t.Errorf("another rebuild's settings: %+v", c)
			}
			r, err := c.only()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range rebuildColumns() {
				if r.figures[m.key] <= 0 {
					t.Errorf("%s is %v", m.key, r.figures[m.key])
				}
			}
			for _, key := range []string{"fsyncMicros", "loopbackRoundTripMicros", "diskMegabytesPerSecond", "loopbackMegabytesPerSecond"} {
				if r.baseline[key] <= 0 {
					t.Errorf("%s is %v", key, r.baseline[key])
				}
			}
			if rate := 120 / r.figures["seconds"]; r.figures["entriesPerSecond"] < rate*0.99 || r.figures["entriesPerSecond"] > rate*1.01 {
				t.Errorf("%v entries/s in %v s", r.figures["entriesPerSecond"], r.figures["seconds"])
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// When a log, or the host's own disk, still has everything, nothing is rebuilt.
func TestRebuildByTheLogIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range rebuilderNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 2*openPatience)
			defer cancel()
			sys, err := newRebuilder(name)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := sys.close(); err != nil {
					t.Error(err)
				}
			}()
			s := rebuildSettings{settings: defaults(), Deltas: 2}
			s.System, s.Partitions, s.Documents, s.Size, s.Writers = name, 1, 20, 64, 4
			written, err := fillRebuilder(ctx, unforgetting{sys}, s, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if a, ok := sys.(*adamantRebuilder); ok {
				sys = &forgiving{a}
			}
			if _, err := replaceHost(ctx, sys, s.Hosts-1, written); err == nil || !strings.Contains(err.Error(), "log brought") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// forgiving leaves a lost host its disk.
type forgiving struct{ *adamantRebuilder }

func (f *forgiving) lose(ctx context.Context, host int) error {
	if err := f.forget(ctx); err != nil { // until it has everything
		return err
	}
	return f.hosts[hostName(host)].Kill()
}

// unforgetting keeps logs as they are.
type unforgetting struct{ rebuilder }

func (unforgetting) forget(context.Context) error { return nil }

func TestInterruptedRebuildLeavesNothing(t *testing.T) {
	p, err := parseRebuild(strings.Fields("-rounds 1 -systems raft -docs 1000000 -deltas 10 -dir "+t.TempDir()), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := compareRebuilds(ctx, p, rebuildTrial, io.Discard)
		ended <- err
	}()
	for deadline := time.Now().Add(openPatience); ; time.Sleep(5 * time.Millisecond) {
		if opened, _ := filepath.Glob(filepath.Join(p.settings.dir, "*", "g0", "h3", "*")); len(opened) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no server opens")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(p.settings.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRebuildsInChildren(t *testing.T) {
	dir := t.TempDir()
	status, out, errs := peers("rebuild -json -rounds 1 -systems adamant,raft" + small + dir)
	if status != exitOK || !strings.Contains(errs, "2 of 2") {
		t.Fatalf("status %d: %s", status, errs)
	}
	r, err := saved.Read(strings.NewReader(out))
	if err != nil || len(r.Groups) != 1 || len(r.Groups[0].Variants) != 2 || len(r.Groups[0].Ratios) != 1 || r.Groups[0].Ratios[0].Name != "adamant / raft" {
		t.Errorf("bench report cannot read it: %v, %+v", err, r)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRebuildInAChildThatFails(t *testing.T) {
	p := rebuildPlan{settings: rebuildSettings{settings: defaults()}, systems: []string{"raft"}, rounds: 2}
	p.settings.dir = t.TempDir()
	if _, err := rebuildTrial(context.Background(), p, p.trial("raft", 0)); err == nil || !strings.Contains(err.Error(), "-deltas is 0") {
		t.Errorf("error %v", err)
	}
}

// pretendedRebuilder says that it holds everything, whatever it does with it.
type pretendedRebuilder struct {
	rebuilder
	entries map[string][]byte
	err     error
}

func (p *pretendedRebuilder) lose(context.Context, int) error    { return nil }
func (p *pretendedRebuilder) replace(context.Context, int) error { return p.err }

func (p *pretendedRebuilder) walk(_ context.Context, _ int, found func(key string, value ...[]byte)) error {
	for key, value := range p.entries {
		found(key, value[:1], value[1:])
	}
	return nil
}

func TestMemberThatLacksSomethingIsFound(t *testing.T) {
	full := func() map[string][]byte {
		return map[string][]byte{"a/1": []byte("one"), "a/2": []byte("two"), "b/1": []byte("six")}
	}
	var written census
	for key, value := range full() {
		written.add(key, value)
	}
	for name, c := range map[string]struct {
		change func(map[string][]byte)
		err    error
		want   string
	}{
		"nothing wrong": {change: func(map[string][]byte) {}},
		"one missing":   {change: func(m map[string][]byte) { delete(m, "a/2") }, want: "2 entries"},
		"one too many":  {change: func(m map[string][]byte) { m["a/3"] = []byte("s") }, want: "4 entries"},
		"a byte short":  {change: func(m map[string][]byte) { m["a/1"] = []byte("on") }, want: "8 bytes"},
		"other bytes":   {change: func(m map[string][]byte) { m["a/1"] = []byte("own") }, want: "not the same"},
		"other key":     {change: func(m map[string][]byte) { m["a/3"] = m["a/2"]; delete(m, "a/2") }, want: "not the same"},
		"swapped":       {change: func(m map[string][]byte) { m["a/1"], m["a/2"] = m["a/2"], m["a/1"] }, want: "not the same"},
		"no rebuild":    {change: func(map[string][]byte) {}, err: errors.New("the disk is gone"), want: "rebuild: the disk is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pretendedRebuilder{entries: full(), err: c.err}
			c.change(p.entries)
			figures, err := replaceHost(context.Background(), p, 2, written)
			if c.want == "" {
				if err != nil || figures["seconds"] <= 0 {
					t.Errorf("%v, %v", figures, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || figures != nil {
				t.Errorf("%v, error %v", figures, err)
			}
		})
	}
}

// pretendedRebuilds is a comparison of rebuilds that are only said to have been; adamant gains with the round.
func pretendedRebuilds(p rebuildPlan, failAfter int) (*rebuildComparison, []string, error) {
	var order []string
	c, err := compareRebuilds(context.Background(), p, func(_ context.Context, p rebuildPlan, s rebuildSettings) (*measured, error) {
		if len(order) == failAfter {
			return nil, io.ErrUnexpectedEOF
		}
		order = append(order, s.System)
		rate := map[string]float64{"adamant": 100 + 10*float64(s.Seed-p.settings.Seed), "etcd": 50, "raft": 200}[s.System]
		figures := map[string]float64{"seconds": 1 / rate, "megabytesPerSecond": rate, "entriesPerSecond": 10 * rate}
		if s.System != "raft" {
			figures["cpuSecondsPerGB"] = 7
		}
		return &measured{figures: figures, baseline: map[string]float64{"fsyncMicros": rate}}, nil
	}, io.Discard)
	return c, order, err
}

func TestRatiosOfRebuilds(t *testing.T) {
	p := rebuildPlan{settings: rebuildSettings{settings: defaults(), Deltas: 3}, systems: rebuilderNames(), rounds: 3}
	c, order, err := pretendedRebuilds(p, -1)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"adamant", "etcd", "raft", "etcd", "raft", "adamant", "raft", "adamant", "etcd"}; !slices.Equal(order, want) {
		t.Errorf("nobody takes turns: %q", order)
	}
	l := c.Loads[0]
	if c.Rounds != 3 || len(l.Variants) != 3 || len(l.Ratios) != 2 || len(c.Baseline["fsyncMicros"].Rounds) != 9 {
		t.Fatalf("%+v", c)
	}
	for i, want := range [][]float64{{2, 2.2, 2.4}, {0.5, 0.55, 0.6}} {
		if r := l.Ratios[i]; r.Peer != rebuilderNames()[i+1] || !slices.Equal(r.Figures["megabytesPerSecond"].Rounds, want) {
			t.Errorf("%+v", r)
		}
	}
	if _, ok := l.Ratios[1].Figures["cpuSecondsPerGB"]; ok {
		t.Error("a figure that was not measured has a ratio")
	}
	var b bytes.Buffer
	if err := printRebuilds(&b, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"adamant / etcd", "adamant / raft", "2.20 (2.00–2.40)", "MB/s", "3 hosts in one process", "3 deltas", "–"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if _, err := c.only(); err == nil {
		t.Error("three rounds are one rebuild")
	}
}

func TestCompletedRebuildsSurviveAFailure(t *testing.T) {
	p := rebuildPlan{settings: rebuildSettings{settings: defaults()}, systems: rebuilderNames(), rounds: 3}
	c, _, err := pretendedRebuilds(p, 5)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "round 2, adamant") || c == nil || c.Rounds != 1 ||
		len(c.Loads[0].Variants[2].Figures["seconds"].Rounds) != 1 {
		t.Errorf("%v, %+v", err, c)
	}
	if c, _, err := pretendedRebuilds(p, 2); !errors.Is(err, io.ErrUnexpectedEOF) || c != nil {
		t.Errorf("%v, %+v", err, c)
	}
}

func TestArgumentsSayTheRebuild(t *testing.T) {
	s := rebuildSettings{settings: defaults(), Deltas: 17}
	s.System, s.Documents, s.Size, s.Partitions, s.Procs, s.Seed, s.dir = "etcd", 70, 99, 5, 3, 1<<63, t.TempDir()
	p, err := parseRebuild(rebuildArguments(s)[1:], io.Discard)
	if err != nil || p.rounds != 1 || p.delivery != (delivery{json: true}) || !slices.Equal(p.systems, []string{"etcd"}) || p.trial("etcd", 0) != s {
		t.Errorf("%+v instead of %+v: %v", p, s, err)
	}
}

func TestWrongUsageOfRebuild(t *testing.T) {
	for args, want := range map[string]string{
		"-systems raft,raft":              "twice",
		"-systems raft,raft-memory":       `"raft-memory" is none of`,
		"-docs 0":                         "-docs is 0",
		"-docs 2000000 -deltas 0":         "-deltas is 0",
		"-size 3":                         "-size is 3",
		"-rounds 0":                       "-rounds is 0",
		"-partitions 0":                   "-partitions is 0",
		"-docs 1000000 -deltas 100":       "more than 4 GB",
		"-dir doc.go":                     "not a directory",
		"now":                             "now",
		"-documents 3":                    "documents",
		"-docs 5 -deltas 1 -gomaxprocs x": "gomaxprocs",
	} {
		if status, out, errs := peers("rebuild " + args); status != exitUsage || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: status %d, output %q, errors %q", args, status, out, errs)
		}
	}
	if status, out, errs := peers("rebuild -h"); status != exitOK || !strings.Contains(out, "-deltas") || errs != "" {
		t.Errorf("status %d, output %q, errors %q", status, out, errs)
	}
}

func TestEntriesDiffer(t *testing.T) {
	d := dataset{documents: 3, deltas: 5, size: 64, seed: 1}
	seen := map[string]bool{}
	for n := range d.documents {
		for seq := 1; seq <= d.deltas; seq++ {
			v := d.value(n, seq)
			if len(v) != d.size || !bytes.Equal(v, d.value(n, seq)) || seen[string(v)] {
				t.Errorf("entry %d of document %d is %q", seq, n, v)
			}
			seen[string(v)] = true
		}
	}
}

// Large documents are written in several commands; everything is counted once.
func TestFillInParts(t *testing.T) {
	r := &recordingRebuilder{entries: map[string][]byte{}}
	d := dataset{documents: 3, deltas: 2*fillEntries + 7, size: 64, seed: 1}
	written, err := d.fill(context.Background(), r, 1)
	if err != nil || written.Entries != int64(3*d.deltas) || written.Bytes != written.Entries*64 || len(r.entries) != 3*d.deltas || r.commands != 9 {
		t.Errorf("%+v, %d entries in %d commands, %v", written, len(r.entries), r.commands, err)
	}
	var found census
	for key, value := range r.entries {
		found.add(key, value)
	}
	if err := found.differs(written); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.fill(ctx, r, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// recordingRebuilder keeps what it is given, by one filler.
type recordingRebuilder struct {
	rebuilder
	entries  map[string][]byte
	commands int
}

func (r *recordingRebuilder) put(_ context.Context, document, first int, values [][]byte) error {
	r.commands++
	for i, v := range values {
		r.entries[entryKey(documentKey(document).String(), int64(first+i))] = v
	}
	return nil
}
