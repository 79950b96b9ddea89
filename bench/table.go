package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printTable shows medians, and the whole spread where there were several rounds.
func printTable(out io.Writer, metrics []metric, r *result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	printMachine(w, r)
	if len(r.Variants) == 1 {
		fmt.Fprintln(w, r.Variants[0].Settings)
	}
	heads := []string{""}
	for _, v := range r.Variants {
		heads = append(heads, v.Name)
		if v.Ratios != nil {
			heads = append(heads, "ratio")
		}
	}
	if len(r.Variants) > 1 {
		fmt.Fprintln(w, strings.Join(heads, "\t"))
	}
	for _, m := range metrics {
		row := []string{m.label}
		known := false
		for _, v := range r.Variants {
			s, ok := v.Figures[m.key]
			known = known || ok
			row = append(row, cell(s, ok, m.scale))
			if v.Ratios != nil {
				s, ok := v.Ratios[m.key]
				row = append(row, cell(s, ok, 1))
			}
		}
		if known {
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
	}
	return w.Flush()
}

// printMachine says what the figures were measured on.
func printMachine(w io.Writer, r *result) {
	fmt.Fprintf(w, "raw fsync %.0f µs, raw loopback round trip %.0f µs; %d CPUs, %s, %s\n", r.Baseline.FsyncMicros.Median,
		r.Baseline.LoopbackRoundTripMicros.Median, r.CPUs, r.Go, quantity(r.Rounds, "round"))
}

// cell is a median with its spread: "812 (790–833)".
func cell(s spread, ok bool, scale float64) string {
	if !ok {
		return "–"
	}
	if len(s.Rounds) == 1 {
		return number(s.Median * scale)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median*scale), number(s.Min*scale), number(s.Max*scale))
}

// number keeps three digits that say something.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
