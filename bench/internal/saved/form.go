package saved

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// machine is where and with what something was measured.
type machine struct {
	Verb     string            `json:"verb"`
	Started  string            `json:"started"`
	Version  string            `json:"version"`
	Versions map[string]string `json:"versions"`
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	CPUs     int               `json:"cpus"`
	WarmupS  float64           `json:"warmupSeconds"`
	LengthS  float64           `json:"durationSeconds"`
	Seed     uint64            `json:"seed"`
	Rounds   int               `json:"rounds"`
	Baseline map[string]spread `json:"baseline"`
}

// result has all but the groups. Facts are those given, after when and where.
func (m machine) result(facts ...Fact) *Result {
	r := &Result{Verb: m.Verb, Rounds: m.Rounds, Baseline: spreads(m.Baseline)}
	r.add("started", m.Started)
	r.add("version", m.Version)
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		r.add(name, m.Versions[name])
	}
	r.add("Go", m.Go)
	r.add("platform", m.Platform)
	r.add("CPUs", strconv.Itoa(m.CPUs))
	r.add("rounds", fmt.Sprintf("%d of %g s, after %g s that do not count", m.Rounds, m.LengthS, m.WarmupS))
	r.add("seed", strconv.FormatUint(m.Seed, 10))
	r.Facts = append(r.Facts, facts...)
	return r
}

func (r *Result) add(name, value string) {
	if value != "" {
		r.Facts = append(r.Facts, Fact{name, value})
	}
}

// spread is a Spread whose numbers may be null.
type spread struct {
	Median *float64   `json:"median"`
	Min    *float64   `json:"min"`
	Max    *float64   `json:"max"`
	Rounds []*float64 `json:"rounds"`
}

func (s spread) spread() Spread {
	out := Spread{Median: number(s.Median), Min: number(s.Min), Max: number(s.Max)}
	for _, v := range s.Rounds {
		out.Rounds = append(out.Rounds, number(v))
	}
	return out
}

func number(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

func spreads(all map[string]spread) map[string]Spread {
	out := map[string]Spread{}
	for key, s := range all {
		out[key] = s.spread()
	}
	return out
}

// run is the JSON object of bench.
type run struct {
	machine
	System   string `json:"system"` // its platform
	Variants []struct {
		Name     string                     `json:"name"`
		Settings map[string]json.RawMessage `json:"settings"`
		Figures  map[string]spread          `json:"figures"`
		Ratios   map[string]spread          `json:"ratios"`
	} `json:"variants"`
}

func (f run) result() *Result {
	f.Platform = f.System
	r := f.machine.result()
	g := Group{}
	for _, v := range f.Variants {
		g.Variants = append(g.Variants, Variant{Name: v.Name, Settings: settings(v.Settings), Figures: spreads(v.Figures)})
		if v.Ratios != nil {
			g.Ratios = append(g.Ratios, Ratio{Name: v.Name + " / " + f.Variants[0].Name, Figures: spreads(v.Ratios)})
		}
	}
	r.Groups = []Group{g}
	return r
}

func settings(all map[string]json.RawMessage) []Fact {
	var list []Fact
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := string(all[name])
		var text string
		if json.Unmarshal(all[name], &text) == nil {
			value = text
		}
		list = append(list, Fact{name, value})
	}
	return list
}

// load is what all trials of bench/peers share.
type load struct {
	Hosts      int  `json:"hosts"`
	Partitions int  `json:"partitions"`
	Processes  bool `json:"processes"`
	Documents  int  `json:"documents"`
	Size       int  `json:"size"`
}

func (l load) facts() []Fact {
	return []Fact{{"hosts", strconv.Itoa(l.Hosts)}, {"partitions", strconv.Itoa(l.Partitions)}, {"processes", strconv.FormatBool(l.Processes)},
		{"documents", strconv.Itoa(l.Documents)}, {"size", strconv.Itoa(l.Size)}}
}

// comparison is the JSON object of several systems.
type comparison struct {
	machine
	load
	Loads []struct {
		Writers  int `json:"writers"`
		Variants []struct {
			System  string            `json:"system"`
			Procs   int               `json:"gomaxprocs"`
			Best    bool              `json:"best"`
			Figures map[string]spread `json:"figures"`
		} `json:"variants"`
		Ratios []struct {
			Peer      string            `json:"peer"`
			Procs     int               `json:"gomaxprocs"`
			PeerProcs int               `json:"peerGomaxprocs"`
			Figures   map[string]spread `json:"figures"`
		} `json:"ratios"`
	} `json:"loads"`
}

func (f comparison) result() *Result {
	r := f.machine.result(f.load.facts()...)
	for _, l := range f.Loads {
		g := Group{Load: writers(l.Writers)}
		for _, v := range l.Variants {
			g.Variants = append(g.Variants, Variant{Name: system(v.System, v.Procs), Best: v.Best, Figures: spreads(v.Figures)})
		}
		for _, v := range l.Ratios {
			g.Ratios = append(g.Ratios, Ratio{Name: ratio(v.Peer, v.Procs, v.PeerProcs), Figures: spreads(v.Figures)})
		}
		r.Groups = append(r.Groups, g)
	}
	return r
}

// trial is the JSON object of one system, measured once: its figures are numbers beside everything else.
type trial struct {
	machine
	load
	System  string `json:"system"`
	Procs   int    `json:"gomaxprocs"`
	Writers int    `json:"writers"`
	figures map[string]*float64
}

// trialFigures are those of bench/peers. The last two are the machine's.
var trialFigures = [...]string{"writesPerSecond", "p50Micros", "p99Micros", "maxMicros", "cpuMicrosPerWrite", "retriesPerWrite", "fsyncMicros",
	"loopbackRoundTripMicros"}

const ofTheMachine = 2

// UnmarshalJSON implements json.Unmarshaler.
func (f *trial) UnmarshalJSON(text []byte) error {
	type plain trial // without this method
	if err := json.Unmarshal(text, (*plain)(f)); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	f.figures = map[string]*float64{}
	for _, key := range trialFigures {
		if all[key] == nil {
			continue
		}
		var v *float64
		if err := json.Unmarshal(all[key], &v); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		f.figures[key] = v
	}
	return nil
}

func (f trial) result() *Result {
	f.Rounds = 1
	r := f.machine.result(append(f.load.facts(), Fact{"writers", strconv.Itoa(f.Writers)})...)
	figures := map[string]Spread{}
	for i, key := range trialFigures {
		v, ok := f.figures[key]
		if !ok {
			continue
		}
		into := figures
		if i >= len(trialFigures)-ofTheMachine {
			into = r.Baseline
		}
		into[key] = spread{Median: v, Min: v, Max: v, Rounds: []*float64{v}}.spread()
	}
	r.Groups = []Group{{Variants: []Variant{{Name: system(f.System, f.Procs), Best: true, Figures: figures}}}}
	return r
}

func system(name string, procs int) string {
	if procs == 0 {
		return name
	}
	return fmt.Sprintf("%s, GOMAXPROCS %d", name, procs)
}

func ratio(peer string, procs, peerProcs int) string {
	name := "adamant / " + peer
	if procs == 0 && peerProcs == 0 {
		return name
	}
	return fmt.Sprintf("%s, GOMAXPROCS %d / %d", name, procs, peerProcs)
}

func writers(n int) string {
	if n == 1 {
		return "1 writer"
	}
	return fmt.Sprintf("%d writers", n)
}
