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

// onFleet has something measured on hosts with empty disks that hold the documents, and removes them. raw is what the disk and the
// loopback do by themselves.
func onFleet(ctx context.Context, s settings, use func(f *fleet, raw baseline.Costs) error) (err error) {
	dir, err := os.MkdirTemp(s.dir, "adamant-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	raw, err := baseline.Measure(dir)
	if err != nil {
		return err
	}
	f, err := assemble(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.open(dir); err != nil {
		return fmt.Errorf("open %s: %w", s.System, err)
	}
	if err := f.create(); err != nil {
		return err
	}
	return use(f, raw)
}

// measure runs one trial: the load for the warm-up, then for the measured time.
func measure(ctx context.Context, s settings) (*trialResult, error) {
	r := &trialResult{Verb: "write", machine: thisMachine(), settings: s, WarmupS: s.Warmup.Seconds(), LengthS: s.Duration.Seconds()}
	err := onFleet(ctx, s, func(f *fleet, raw baseline.Costs) error {
		r.Costs = raw
		return r.measure(f)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *trialResult) measure(f *fleet) error {
	if _, _, err := f.load(r.Warmup); err != nil {
		return err
	}
	before, err := f.usage()
	if err != nil {
		return err
	}
	l, h, err := f.load(r.Duration)
	if err != nil {
		return err
	}
	after, err := f.usage()
	if err != nil {
		return err
	}
	if l.Writes == 0 {
		return errors.New("no write was acknowledged")
	}
	writes := float64(l.Writes)
	r.Writes = l.Writes
	r.WritesPerSecond = writes / l.Elapsed.Seconds()
	r.P50Micros, r.P99Micros, r.MaxMicros = float64(h.ValueAtQuantile(50)), float64(h.ValueAtQuantile(99)), float64(h.Max())
	r.RetriesPerWrite = float64(l.Retries) / writes
	if after.Told {
		r.CPUMicrosPerWrite = micros(after.CPU-before.CPU) / writes
	}
	return nil
}
