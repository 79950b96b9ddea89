package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/adamantdb/adamant/internal/baseline"
)

// trialResult is the JSON object of one system, measured once. The names of figures are those of "bench write".
type trialResult struct {
	Verb string `json:"verb"`
	machine
	settings
	WarmupS float64 `json:"warmupSeconds"`
	LengthS float64 `json:"durationSeconds"`

	Writes            uint64  `json:"writes"`
	WritesPerSecond   float64 `json:"writesPerSecond"`
	P50Micros         float64 `json:"p50Micros"`
	P99Micros         float64 `json:"p99Micros"`
	MaxMicros         float64 `json:"maxMicros"`
	CPUMicrosPerWrite float64 `json:"cpuMicrosPerWrite,omitempty"` // absent where the operating system does not tell
	RetriesPerWrite   float64 `json:"retriesPerWrite"`
	baseline.Costs
}

// machine is where and with what something was measured.
type machine struct {
	Started  string            `json:"started"` // RFC 3339
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	CPUs     int               `json:"cpus"`
	Versions map[string]string `json:"versions"` // of the systems
}

func thisMachine() machine {
	return machine{Started: time.Now().UTC().Format(time.RFC3339), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs: runtime.NumCPU(), Versions: versions()}
}

// versions are those of the systems' modules, with the commit for this project's where the build knows it.
func versions() map[string]string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	all := map[string]string{}
	for _, m := range info.Deps {
		switch m.Path {
		case "go.etcd.io/etcd/server/v3":
			all["etcd"] = m.Version
		case "github.com/hashicorp/raft":
			all["raft"] = m.Version
		}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			all["adamant"] = s.Value
		}
	}
	return all
}

// measure runs one trial on empty disks: the load for the warm-up, then for the measured time.
func measure(ctx context.Context, s settings) (_ *trialResult, err error) {
	if s.Procs > 0 {
		before := runtime.GOMAXPROCS(s.Procs)
		defer runtime.GOMAXPROCS(before)
	}
	dir, err := os.MkdirTemp(s.dir, "adamant-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	raw, err := baseline.Measure(dir)
	if err != nil {
		return nil, err
	}
	sys, err := newSystem(s.System)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sys.close()) }()
	if err := open(ctx, sys, s, dir); err != nil {
		return nil, fmt.Errorf("open %s: %w", s.System, err)
	}
	if err := createAll(ctx, sys, s); err != nil {
		return nil, err
	}
	r := &trialResult{Verb: "write", machine: thisMachine(), settings: s, WarmupS: s.Warmup.Seconds(), LengthS: s.Duration.Seconds(), Costs: raw}
	return r, r.measure(ctx, sys)
}

func open(ctx context.Context, sys system, s settings, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	return sys.open(ctx, s, dir)
}

func (r *trialResult) measure(ctx context.Context, sys system) error {
	writers := newWriters(r.settings)
	if _, err := load(ctx, sys, writers, r.Warmup); err != nil {
		return err
	}
	before, _ := processCPU()
	l, err := load(ctx, sys, writers, r.Duration)
	if err != nil {
		return err
	}
	after, told := processCPU()
	if l.Writes == 0 {
		return errors.New("no write was acknowledged")
	}
	h, writes := l.Latency.merged(), float64(l.Writes)
	r.Writes = l.Writes
	r.WritesPerSecond = writes / l.Elapsed.Seconds()
	r.P50Micros, r.P99Micros, r.MaxMicros = float64(h.ValueAtQuantile(50)), float64(h.ValueAtQuantile(99)), float64(h.Max())
	r.RetriesPerWrite = float64(l.Retries) / writes
	if told {
		r.CPUMicrosPerWrite = micros(after-before) / writes
	}
	return nil
}
