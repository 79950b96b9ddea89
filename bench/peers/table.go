package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printTrial shows one trial.
func printTrial(out io.Writer, r *trialResult) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s, %s%s, %s, %s, %d bytes, GOMAXPROCS %s\n", r.System, quantity(r.Hosts, "host"), apart(r.Processes),
		quantity(r.Partitions, "partition"), quantity(r.Writers, "writer"), r.Size, procs(r.Procs))
	for _, m := range metrics() {
		if v := m.of(r); v != 0 {
			fmt.Fprintf(w, "%s\t%s\n", m.label, number(v))
		}
	}
	fmt.Fprintf(w, "retries/write\t%s\n", number(r.RetriesPerWrite))
	fmt.Fprintf(w, "raw fsync µs\t%s\n", number(r.FsyncMicros))
	fmt.Fprintf(w, "raw loopback round trip µs\t%s\n", number(r.LoopbackRoundTripMicros))
	return w.Flush()
}

// printComparison shows medians with their spread over the rounds, and the ratios below them.
func printComparison(out io.Writer, c *comparison) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s%s, %s, %s, %d bytes; %s of %gs; %d CPUs, %s\n", quantity(c.Hosts, "host"), apart(c.Processes),
		quantity(c.Partitions, "partition"), quantity(c.Documents, "document"), c.Size, quantity(c.Rounds, "round"), c.LengthS, c.CPUs, c.Go)
	fmt.Fprintf(w, "raw fsync %s µs, raw loopback round trip %s µs; * is a system's best GOMAXPROCS\n", cell(c.Baseline.FsyncMicros, true),
		cell(c.Baseline.LoopbackRoundTripMicros, true))
	for _, l := range c.Loads {
		heads := []string{"\n" + quantity(l.Writers, "writer"), "GOMAXPROCS"}
		var keys []string
		for _, m := range metrics() {
			heads, keys = append(heads, m.label), append(keys, m.key)
		}
		row(w, heads)
		for _, v := range l.Variants {
			mark := ""
			if v.Best {
				mark = " *"
			}
			row(w, append([]string{v.System, procs(v.Procs) + mark}, cells(v.Figures, keys)...))
		}
		for _, r := range l.Ratios {
			row(w, append([]string{"adamant / " + r.Peer, procs(r.Procs) + " / " + procs(r.PeerProcs)}, cells(r.Figures, keys)...))
		}
	}
	return w.Flush()
}

func row(w io.Writer, fields []string) { fmt.Fprintln(w, strings.Join(fields, "\t")) }

func cells(figures map[string]spread, keys []string) []string {
	var all []string
	for _, key := range keys {
		s, ok := figures[key]
		all = append(all, cell(s, ok))
	}
	return all
}

// cell is a median with its spread: "812 (790–833)".
func cell(s spread, ok bool) string {
	if !ok {
		return "–"
	}
	if len(s.Rounds) == 1 {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}

// apart says of hosts how they run.
func apart(processes bool) string {
	if processes {
		return " in processes"
	}
	return ""
}

func procs(n int) string {
	if n == 0 {
		return "Go's"
	}
	return fmt.Sprint(n)
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

func quantity(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
