package saved

import (
	"math"
	"strconv"
	"strings"
)

// Result is what one run measured.
type Result struct {
	Verb     string
	Facts    []Fact // of the machine and of the run
	Rounds   int
	Baseline map[string]Spread // raw costs of the machine, by metric
	Groups   []Group           // at least one
}

// Fact is something to know about a result.
type Fact struct{ Name, Value string }

// Group is variants that were measured under one load.
type Group struct {
	Load     string // "64 writers"; "" where there is one group
	Variants []Variant
	Ratios   []Ratio
}

// Variant is what was measured in turn with others.
type Variant struct {
	Name     string // "log=bolt"; may be "" when it is alone
	Settings []Fact
	Best     bool // of the variants that differ in nothing but GOMAXPROCS
	Figures  map[string]Spread
}

// Ratio is one variant's figures divided by another's, round by round.
type Ratio struct {
	Name    string
	Figures map[string]Spread
}

// Spread is a figure over the rounds.
type Spread struct {
	Median, Min, Max float64
	Rounds           []float64 // in the order they were measured
}

// Sweep is one setting that takes several numbers.
type Sweep struct {
	Setting string
	Lines   []Line
}

// Line is what changes with the setting, for one of those that were measured: the only one has no name.
type Line struct {
	Name   string
	Points []Point
}

// Point is one number and what was measured there.
type Point struct {
	Value   float64
	Figures map[string]Spread
}

// Sweep says whether the result is a comparison over a number: variants such as partitions=16, or loads of so many
// writers. Variants of a group that were not their system's best have no line.
func (r *Result) Sweep() (Sweep, bool) {
	if len(r.Groups) > 1 {
		return r.overLoads()
	}
	s := Sweep{Lines: []Line{{}}}
	for _, v := range r.Groups[0].Variants {
		name, text, _ := strings.Cut(v.Name, "=")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) || s.Setting != "" && s.Setting != name {
			return Sweep{}, false
		}
		s.Setting = name
		s.Lines[0].Points = append(s.Lines[0].Points, Point{Value: value, Figures: v.Figures})
	}
	return s, len(s.Lines[0].Points) > 1
}

func (r *Result) overLoads() (Sweep, bool) {
	s := Sweep{Setting: "writers"}
	at := map[string]int{}
	for _, g := range r.Groups {
		text, _, _ := strings.Cut(g.Load, " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return Sweep{}, false
		}
		for _, v := range g.Variants {
			if !v.Best {
				continue
			}
			name, _, _ := strings.Cut(v.Name, ",")
			if _, ok := at[name]; !ok {
				at[name] = len(s.Lines)
				s.Lines = append(s.Lines, Line{Name: name})
			}
			l := &s.Lines[at[name]]
			l.Points = append(l.Points, Point{Value: value, Figures: v.Figures})
		}
	}
	return s, true
}
