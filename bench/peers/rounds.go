package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// measured is what one trial of one system came to, and what the machine did by itself at that time.
type measured struct{ figures, baseline map[string]float64 }

// rounds are trials of several systems in turns.
type rounds struct {
	systems   []string
	completed int
	trials    map[string][]*measured // by system and round
}

// run measures every system round by round and tells how each went. It ends with the first error; the round it came in does not count.
func (r *rounds) run(n int, trial func(system string, round int) (*measured, error), tell func(round int, system string, m *measured)) error {
	r.trials = map[string][]*measured{}
	for round := range n {
		results := map[string]*measured{}
		for k := range r.systems {
			name := r.systems[(k+round)%len(r.systems)] // nobody is always first
			m, err := trial(name, round)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, name, err)
			}
			results[name] = m
			tell(round, name, m)
		}
		r.completed++
		for name, m := range results {
			r.trials[name] = append(r.trials[name], m)
		}
	}
	return nil
}

// conclude draws the conclusions of at least one round: every system's figures, adamant's ratios to the others, and what the machine did.
func (r *rounds) conclude(writers, procs int) ([]loadResult, map[string]spread) {
	l := loadResult{Writers: writers}
	var raw []map[string]float64
	for _, name := range r.systems {
		var all []map[string]float64
		for _, t := range r.trials[name] {
			all, raw = append(all, t.figures), append(raw, t.baseline)
		}
		l.Variants = append(l.Variants, variantResult{System: name, Procs: procs, Figures: spreadsOf(all)})
	}
	l.conclude(r.systems)
	return []loadResult{l}, spreadsOf(raw)
}

// spreadsOf gathers what all have. There is at least one.
func spreadsOf(all []map[string]float64) map[string]spread {
	out := map[string]spread{}
	for key := range all[0] {
		var values []float64
		for _, figures := range all {
			if v, ok := figures[key]; ok {
				values = append(values, v)
			}
		}
		if len(values) == len(all) {
			out[key] = spreadOf(values)
		}
	}
	return out
}

// column is a figure in a table.
type column struct{ key, label string }

// printRounds shows medians with their spread over the rounds, and the ratios below them.
func printRounds(out io.Writer, title, corner string, columns []column, loads []loadResult, baseline map[string]spread) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, title)
	for _, key := range slices.Sorted(maps.Keys(baseline)) {
		fmt.Fprintf(w, "raw %s %s\n", key, cell(baseline[key], true))
	}
	heads, keys := []string{"\n" + corner}, []string{}
	for _, c := range columns {
		heads, keys = append(heads, c.label), append(keys, c.key)
	}
	row(w, heads)
	for _, l := range loads {
		for _, v := range l.Variants {
			row(w, append([]string{v.System}, cells(v.Figures, keys)...))
		}
		for _, r := range l.Ratios {
			row(w, append([]string{"adamant / " + r.Peer}, cells(r.Figures, keys)...))
		}
	}
	return w.Flush()
}
