package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/adamantdb/adamant/internal/baseline"
)

// pretended is a comparison of trials that are only said to have run.
func pretended(t *testing.T, rounds int, trial func(settings) (*trialResult, error)) (*comparison, []string, error) {
	t.Helper()
	p := plan{settings: defaults(), systems: []string{"adamant", "etcd"}, writers: []int{1, 64}, procs: []int{2, 8}, rounds: rounds}
	var order []string
	c, err := compare(context.Background(), p, func(_ context.Context, s settings) (*trialResult, error) {
		order = append(order, variant{s.System, s.Procs}.String())
		return trial(s)
	}, io.Discard)
	return c, order, err
}

// speeds of a made-up adamant are best at GOMAXPROCS 8, of its etcd at 2; both gain with the round, which the seed tells.
func speeds(s settings) (*trialResult, error) {
	base := map[variant]float64{{"adamant", 2}: 100, {"adamant", 8}: 300, {"etcd", 2}: 150, {"etcd", 8}: 120}[variant{s.System, s.Procs}]
	round := float64(s.Seed - defaults().Seed)
	if s.System == "adamant" {
		base += 30 * round
	}
	return &trialResult{settings: s, Writes: 1, WritesPerSecond: base, P50Micros: 1e6 / base, P99Micros: 9, MaxMicros: 10,
		Costs: baseline.Costs{FsyncMicros: 100 + round, LoopbackRoundTripMicros: 20}}, nil
}

func TestRatiosAreOfEachSystemsBest(t *testing.T) {
	c, order, err := pretended(t, 3, speeds)
	if err != nil {
		t.Fatal(err)
	}
	if len(order) != 24 || slices.Equal(order[:8], order[8:16]) || order[0] == order[8] {
		t.Errorf("nobody takes turns: %q", order)
	}
	if len(c.Loads) != 2 || c.Rounds != 3 || c.Baseline.FsyncMicros.Median != 101 {
		t.Fatalf("%+v", c)
	}
	for _, l := range c.Loads {
		var best []variant
		for _, v := range l.Variants {
			if v.Best {
				best = append(best, variant{v.System, v.Procs})
			}
		}
		if !slices.Equal(best, []variant{{"adamant", 8}, {"etcd", 2}}) || len(l.Ratios) != 1 {
			t.Fatalf("%v, %+v", best, l.Ratios)
		}
		r := l.Ratios[0]
		if r.Procs != 8 || r.PeerProcs != 2 || !slices.Equal(r.Figures["writesPerSecond"].Rounds, []float64{2, 2.2, 2.4}) {
			t.Errorf("%+v", r)
		}
		if _, ok := r.Figures["cpuMicrosPerWrite"]; ok {
			t.Error("a figure that was not measured has a ratio")
		}
	}
	var b bytes.Buffer
	if err := printComparison(&b, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"adamant / etcd", "8 / 2", "2.20 (2.00–2.40)", "64 writers", "1 writer ", "8 *", "–"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestCompletedRoundsSurviveAFailure(t *testing.T) {
	broken := errors.New("the disk is gone")
	fails := func(after int) func(settings) (*trialResult, error) {
		return func(s settings) (*trialResult, error) {
			if after--; after < 0 {
				return nil, broken
			}
			return speeds(s)
		}
	}
	c, _, err := pretended(t, 3, fails(8+3))
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "round 2") || c == nil || c.Rounds != 1 {
		t.Fatalf("%v, %+v", err, c)
	}
	if n := len(c.Loads[0].Variants[0].Figures["writesPerSecond"].Rounds); n != 1 {
		t.Errorf("%d rounds", n)
	}
	if c, _, err := pretended(t, 3, fails(7)); !errors.Is(err, broken) || c != nil {
		t.Errorf("%v, %+v", err, c)
	}
}

func TestOnlyPeersHaveNoRatios(t *testing.T) {
	l := loadResult{Variants: []variantResult{{System: "etcd", Figures: map[string]spread{}}}}
	l.conclude([]string{"etcd"})
	if l.Ratios != nil || !l.Variants[0].Best {
		t.Errorf("%+v", l)
	}
}

func TestArgumentsSayTheSettings(t *testing.T) {
	s := settings{System: "raft", Hosts: 5, Partitions: 7, Writers: 9, Documents: 11, Size: 99, Processes: true, Procs: 3, Seed: 1 << 63, Warmup: 1, Duration: 1e9, dir: t.TempDir()}
	got, d, err := parseWrite(writeArguments(s)[1:], io.Discard)
	if err != nil || d != (delivery{json: true}) || got != s {
		t.Errorf("%+v instead of %+v: %v", got, s, err)
	}
}

func TestEveryWriterHasDocumentsOfItsOwn(t *testing.T) {
	s := defaults()
	s.Hosts, s.Writers, s.Documents = 3, 7, 20
	f := &fleet{settings: s, sites: make([]*remote, 3), hosts: [][]int{{0}, {1}, {2}}}
	var homes []int
	for n := range s.Documents {
		homes = append(homes, max(0, n-17)) // 18 at the first host, one at each of the others
	}
	orders, err := f.share(homes)
	if err != nil {
		t.Fatal(err)
	}
	var writers []*writer
	numbers := map[int]bool{}
	for _, o := range orders {
		for _, w := range newWriters(s, o) {
			writers = append(writers, w)
			numbers[w.number] = true
		}
	}
	if len(writers) != s.Writers || len(numbers) != s.Writers {
		t.Errorf("%d writers with %d numbers", len(writers), len(numbers))
	}
	seen := map[int]bool{}
	for _, w := range writers {
		if len(w.documents) == 0 {
			t.Errorf("writer %d has none", w.number)
		}
		for _, n := range w.documents {
			if seen[n] {
				t.Errorf("document %d has two writers", n)
			}
			seen[n] = true
		}
		for range payloadsPerWriter {
			if n := len(w.payload()); n != s.Size {
				t.Errorf("%d bytes", n)
			}
		}
	}
	if len(seen) < s.Documents-2 { // a host with few may have no writer
		t.Errorf("%d documents have writers", len(seen))
	}
	if _, err := f.share([]int{3}); err == nil {
		t.Error("a document is written at a host there is none")
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{1: {1}, 2: {3, 1, 2}, 2.5: {4, 1, 3, 2}} {
		if got := median(values); got != want {
			t.Errorf("%v of %v", got, values)
		}
	}
}
