package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/adamantdb/adamant/internal/baseline"
)

// result is the JSON object of a run. The medians of the baseline stand at the top level too, and with one configuration
// those of its figures, under their own names.
type result struct {
	Verb     string          `json:"verb"`
	Started  string          `json:"started"` // RFC 3339
	Version  string          `json:"version"`
	Go       string          `json:"go"`
	System   string          `json:"system"`
	CPUs     int             `json:"cpus"`
	Rounds   int             `json:"rounds"`
	WarmupS  float64         `json:"warmupSeconds"`
	LengthS  float64         `json:"durationSeconds"`
	Seed     uint64          `json:"seed"`
	Vary     string          `json:"vary,omitempty"` // what differs between the variants of scale
	Baseline baselines       `json:"baseline"`
	Variants []variantResult `json:"variants"`
}

// baselines are the raw costs before each round.
type baselines struct {
	FsyncMicros             spread `json:"fsyncMicros"`
	LoopbackRoundTripMicros spread `json:"loopbackRoundTripMicros"`
}

// variantResult is one configuration's figures.
type variantResult struct {
	Name     string            `json:"name,omitempty"`
	Settings settings          `json:"settings"`
	Figures  map[string]spread `json:"figures"`
	// Ratios are to the first variant, round by round.
	Ratios map[string]spread `json:"ratios,omitempty"`
}

func newResult(w workload, p protocol, list []variant, rounds [][]figures, raw []baseline.Costs) *result {
	r := &result{Verb: w.verb, Started: time.Now().UTC().Format(time.RFC3339), Version: version(), Go: runtime.Version(),
		System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Rounds: p.rounds, WarmupS: p.warmup.Seconds(),
		LengthS: p.duration.Seconds(), Seed: p.seed}
	var syncs, trips []float64
	for _, b := range raw {
		syncs, trips = append(syncs, b.FsyncMicros), append(trips, b.LoopbackRoundTripMicros)
	}
	r.Baseline = baselines{FsyncMicros: spreadOf(syncs), LoopbackRoundTripMicros: spreadOf(trips)}
	for i, v := range list {
		vr := variantResult{Name: v.name, Settings: v.settings, Figures: spreads(rounds[i])}
		if i > 0 {
			vr.Ratios = ratios(rounds[i], rounds[0])
		}
		r.Variants = append(r.Variants, vr)
	}
	return r
}

// MarshalJSON implements json.Marshaler.
func (r *result) MarshalJSON() ([]byte, error) {
	type plain result // without this method
	b, err := json.Marshal((*plain)(r))
	if err != nil {
		return nil, err
	}
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	all["fsyncMicros"], all["loopbackRoundTripMicros"] = r.Baseline.FsyncMicros.Median, r.Baseline.LoopbackRoundTripMicros.Median
	if len(r.Variants) == 1 {
		for key, s := range r.Variants[0].Figures {
			all[key] = s.Median
		}
	}
	return json.Marshal(all)
}

// version is the module's, with the commit where the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value
		}
	}
	return v
}
