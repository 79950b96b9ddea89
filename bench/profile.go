package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path"
	"runtime/pprof"
	"strings"

	"github.com/google/pprof/profile"
)

// part is one of those that processor time is divided among. A sample of a profile counts for the innermost part that its stack is in,
// so that what a part calls which is in none (the runtime, the kernel) is the part's own.
type part struct {
	key, label string
	functions  []string // beginnings of their names
	files      string   // and of the names of their files; "" for all
}

const (
	ourPackages = "github.com/adamantdb/adamant/"
	restKey     = "partRestMicros"
)

// parts lists what is asked first before what would take its functions, too.
var parts = []part{
	{key: "partCollectionMicros", label: "garbage collection", functions: []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep",
		"runtime.bgscavenge", "runtime.deductSweepCredit", "runtime.(*mcentral).cacheSpan", "runtime.gcStart", "runtime.gcMarkTermination"}},
	{key: "partSchedulerMicros", label: "Go's scheduler", functions: []string{"runtime.mcall", "runtime.schedule", "runtime.mstart", "runtime.sysmon", "runtime.goexit0"}},
	{key: "partRaftMicros", label: "hashicorp/raft", functions: []string{"github.com/hashicorp/raft."}},
	{key: "partPebbleMicros", label: "Pebble", functions: []string{"github.com/cockroachdb/pebble/"}},
	{key: "partLogMicros", label: "log engine", functions: []string{ourPackages + "store."}, files: "log_"},
	{key: "partLogMicros", label: "log engine", functions: []string{ourPackages + "internal/asyncfs."}},
	{key: "partDocumentsMicros", label: "document engine", functions: []string{ourPackages + "store."}},
	{key: "partTransportMicros", label: "transport", functions: []string{ourPackages + "mesh."}},
	{key: "partPartitionMicros", label: "partition", functions: []string{ourPackages + "partition."}},
	// The rest is what is in none, and what would be a part's if it were not for these.
	{key: restKey, label: "the rest", functions: []string{"github.com/hashicorp/go-metrics", "main.", "github.com/adamantdb/adamant.",
		ourPackages + "bench.", ourPackages + "internal/"}},
}

// partMetrics are the figures of divide, each once.
func partMetrics() (list []metric) {
	seen := map[string]bool{}
	for _, p := range parts {
		if !seen[p.key] {
			seen[p.key] = true
			list = append(list, metric{p.key, "CPU µs/write: " + p.label, 1})
		}
	}
	return list
}

func (p *part) has(function *profile.Function) bool {
	if p.files != "" && !strings.HasPrefix(path.Base(function.Filename), p.files) {
		return false
	}
	for _, name := range p.functions {
		if strings.HasPrefix(function.Name, name) {
			return true
		}
	}
	return false
}

// partOf finds the innermost part that a stack is in.
func partOf(stack []*profile.Location) string {
	for _, at := range stack { // the innermost first, also of those that were inlined
		for _, line := range at.Line {
			for i := range parts {
				if line.Function != nil && parts[i].has(line.Function) {
					return parts[i].key
				}
			}
		}
	}
	return restKey
}

// divide sums a CPU profile by parts: the share of each.
func divide(p *profile.Profile) (map[string]float64, error) {
	value := -1
	for i, kind := range p.SampleType {
		if kind.Type == "cpu" {
			value = i
		}
	}
	if value < 0 {
		return nil, errors.New("this is no profile of processor time")
	}
	shares, total := map[string]float64{}, 0.0
	for _, s := range p.Sample {
		v := float64(s.Value[value])
		shares[partOf(s.Location)] += v
		total += v
	}
	for key := range shares {
		shares[key] /= total
	}
	return shares, nil
}

// profiled measures something under a CPU profile of this process, and says how processor time is divided. Nothing is profiled, and no
// shares are told, unless that is asked for.
func (t trial) profiled(ctx context.Context, measure func(context.Context) error) (map[string]float64, error) {
	if !t.settings.Parts && t.settings.Profile == "" {
		return nil, measure(ctx)
	}
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		return nil, err
	}
	err := measure(ctx)
	pprof.StopCPUProfile()
	if err != nil {
		return nil, err
	}
	if t.settings.Profile != "" {
		if err := writeNew(t.settings.Profile, b.Bytes()); err != nil {
			return nil, err
		}
	}
	p, err := profile.Parse(&b)
	if err != nil {
		return nil, err
	}
	return divide(p)
}

// checkProfile reports what speaks against a profile of a run.
func checkProfile(list []variant, rounds int) error {
	for _, v := range list {
		s := v.settings
		if s.Profile == "" && !s.Parts {
			continue
		}
		if s.Processes {
			return errors.New("--cpuprofile and --parts are of one process: leave --processes out")
		}
		if s.Profile == "" {
			continue
		}
		if len(list) > 1 || rounds > 1 {
			return errors.New("--cpuprofile is of one measurement: want --rounds 1 and nothing compared")
		}
		if _, err := os.Lstat(s.Profile); err == nil {
			return errors.New("--cpuprofile: " + s.Profile + " exists")
		}
	}
	return nil
}
