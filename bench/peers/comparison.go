package main

import "slices"

// comparison is the JSON object of several systems.
type comparison struct {
	Verb string `json:"verb"`
	machine
	Rounds     int          `json:"rounds"` // completed
	Hosts      int          `json:"hosts"`
	Partitions int          `json:"partitions"`
	Processes  bool         `json:"processes"` // each host in a process of its own
	Documents  int          `json:"documents"`
	Size       int          `json:"size"`
	Seed       uint64       `json:"seed"`
	WarmupS    float64      `json:"warmupSeconds"`
	LengthS    float64      `json:"durationSeconds"`
	Baseline   baselines    `json:"baseline"`
	Loads      []loadResult `json:"loads"`

	plan   plan
	trials map[slot][]*trialResult // by round
}

// slot is a variant under a load.
type slot struct {
	writers int
	variant variant
}

// baselines are the raw costs before each trial.
type baselines struct {
	FsyncMicros             spread `json:"fsyncMicros"`
	LoopbackRoundTripMicros spread `json:"loopbackRoundTripMicros"`
}

// loadResult is how everything did with so many writers.
type loadResult struct {
	Writers  int             `json:"writers"`
	Variants []variantResult `json:"variants"`
	Ratios   []ratioResult   `json:"ratios,omitempty"`
}

// variantResult is one system with one GOMAXPROCS. Best marks the one with the greatest median throughput of the system.
type variantResult struct {
	System  string            `json:"system"`
	Procs   int               `json:"gomaxprocs"`
	Best    bool              `json:"best"`
	Figures map[string]spread `json:"figures"`
}

// ratioResult is adamant's figures divided by a peer's, round by round, each at its best GOMAXPROCS.
type ratioResult struct {
	Peer      string            `json:"peer"`
	Procs     int               `json:"gomaxprocs"`
	PeerProcs int               `json:"peerGomaxprocs"`
	Figures   map[string]spread `json:"figures"`
}

// metric is a figure of a trial; 0 means that it was not measured.
type metric struct {
	key, label string
	of         func(*trialResult) float64
}

func metrics() []metric {
	return []metric{
		{"writesPerSecond", "writes/s", func(r *trialResult) float64 { return r.WritesPerSecond }},
		{"p50Micros", "p50 µs", func(r *trialResult) float64 { return r.P50Micros }},
		{"p99Micros", "p99 µs", func(r *trialResult) float64 { return r.P99Micros }},
		{"maxMicros", "max µs", func(r *trialResult) float64 { return r.MaxMicros }},
		{"cpuMicrosPerWrite", "CPU µs/write", func(r *trialResult) float64 { return r.CPUMicrosPerWrite }},
	}
}

func newComparison(p plan) *comparison {
	s := p.settings
	return &comparison{Verb: "compare", machine: thisMachine(), Hosts: s.Hosts, Partitions: s.Partitions, Processes: s.Processes, Documents: s.Documents, Size: s.Size,
		Seed: s.Seed, WarmupS: s.Warmup.Seconds(), LengthS: s.Duration.Seconds(), plan: p, trials: map[slot][]*trialResult{}}
}

// add takes a round that has every slot.
func (c *comparison) add(round map[slot]*trialResult) {
	c.Rounds++
	for s, r := range round {
		c.trials[s] = append(c.trials[s], r)
	}
}

// finish draws the conclusions. There has been a round.
func (c *comparison) finish() *comparison {
	var syncs, trips []float64
	c.Loads = nil
	for _, writers := range c.plan.writers {
		l := loadResult{Writers: writers}
		for _, v := range c.plan.variants() {
			trials := c.trials[slot{writers, v}]
			for _, t := range trials {
				syncs, trips = append(syncs, t.FsyncMicros), append(trips, t.LoopbackRoundTripMicros)
			}
			l.Variants = append(l.Variants, variantResult{System: v.system, Procs: v.procs, Figures: figures(trials)})
		}
		l.conclude(c.plan.systems)
		c.Loads = append(c.Loads, l)
	}
	c.Baseline = baselines{FsyncMicros: spreadOf(syncs), LoopbackRoundTripMicros: spreadOf(trips)}
	return c
}

// figures gathers the metrics of several rounds. One that some round lacks is left out: its median would be of other
// rounds than the rest.
func figures(trials []*trialResult) map[string]spread {
	out := map[string]spread{}
	for _, m := range metrics() {
		var values []float64
		for _, t := range trials {
			values = append(values, m.of(t))
		}
		if !slices.Contains(values, 0) {
			out[m.key] = spreadOf(values)
		}
	}
	return out
}

// conclude marks each system's best variant and compares adamant's with the others'.
func (l *loadResult) conclude(systems []string) {
	best := map[string]*variantResult{}
	for i := range l.Variants {
		v := &l.Variants[i]
		if b := best[v.System]; b == nil || v.Figures["writesPerSecond"].Median > b.Figures["writesPerSecond"].Median {
			best[v.System] = v
		}
	}
	for _, b := range best {
		b.Best = true
	}
	ours := best["adamant"]
	if ours == nil {
		return
	}
	for _, name := range systems {
		if peer := best[name]; peer != ours {
			l.Ratios = append(l.Ratios, ratioResult{Peer: name, Procs: ours.Procs, PeerProcs: peer.Procs, Figures: ratios(ours.Figures, peer.Figures)})
		}
	}
}
