package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// rebuildComparison is the JSON object of rebuilds. Its shape is a comparison's, so that "bench report" reads it.
type rebuildComparison struct {
	Verb string `json:"verb"`
	machine
	Rounds     int               `json:"rounds"` // completed
	Hosts      int               `json:"hosts"`
	Partitions int               `json:"partitions"`
	Processes  bool              `json:"processes"` // false: all hosts of a system are in one process
	Documents  int               `json:"documents"`
	Deltas     int               `json:"deltas"` // entries of each document
	Size       int               `json:"size"`   // bytes of an entry's value
	Seed       uint64            `json:"seed"`
	Baseline   map[string]spread `json:"baseline"`
	Loads      []loadResult      `json:"loads"` // one: writers are those that filled

	plan   rebuildPlan
	trials rounds
}

// rebuildColumns are the figures of a rebuild. Bytes are those of values.
func rebuildColumns() []column {
	return []column{{"seconds", "seconds"}, {"entriesPerSecond", "entries/s"}, {"megabytesPerSecond", "MB/s"}, {"cpuSecondsPerGB", "CPU s/GB"}}
}

func newRebuildComparison(p rebuildPlan) *rebuildComparison {
	s := p.settings
	return &rebuildComparison{Verb: "rebuild", machine: thisMachine(), Hosts: s.Hosts, Partitions: s.Partitions, Documents: s.Documents,
		Deltas: s.Deltas, Size: s.Size, Seed: s.Seed, plan: p, trials: rounds{systems: p.systems}}
}

// compareRebuilds measures every system round by round, and says on progress how each went. It returns the rounds that
// were completed along with what ended the others, and nothing but the error when no round was.
func compareRebuilds(ctx context.Context, p rebuildPlan, trial func(context.Context, rebuildPlan, rebuildSettings) (*measured, error),
	progress io.Writer) (*rebuildComparison, error) {
	c := newRebuildComparison(p)
	total, done, begun := p.rounds*len(p.systems), 0, time.Now()
	err := c.trials.run(p.rounds, func(system string, round int) (*measured, error) { return trial(ctx, p, p.trial(system, round)) },
		func(round int, system string, m *measured) {
			done++
			left := time.Since(begun) / time.Duration(done) * time.Duration(total-done)
			fmt.Fprintf(progress, "%d of %d, about %v left: round %d, %s: %s s, %s entries/s, %s MB/s\n", done, total, left.Round(time.Second),
				round+1, system, number(m.figures["seconds"]), number(m.figures["entriesPerSecond"]), number(m.figures["megabytesPerSecond"]))
		})
	if c.trials.completed == 0 {
		return nil, err
	}
	return c.finish(), err
}

// finish draws the conclusions. There has been a round.
func (c *rebuildComparison) finish() *rebuildComparison {
	c.Rounds = c.trials.completed
	c.Loads, c.Baseline = c.trials.conclude(c.plan.settings.Writers, c.plan.settings.Procs)
	return c
}

// only is the one trial of a comparison that has no other.
func (c *rebuildComparison) only() (*measured, error) {
	if c.Rounds != 1 || len(c.Loads) != 1 || len(c.Loads[0].Variants) != 1 {
		return nil, fmt.Errorf("%s of %d loads: want one rebuild", quantity(c.Rounds, "round"), len(c.Loads))
	}
	return &measured{figures: medians(c.Loads[0].Variants[0].Figures), baseline: medians(c.Baseline)}, nil
}

func medians(all map[string]spread) map[string]float64 {
	out := map[string]float64{}
	for key, s := range all {
		out[key] = s.Median
	}
	return out
}

func printRebuilds(out io.Writer, c *rebuildComparison) error {
	title := fmt.Sprintf("%s in one process, %s, %s of %s, %d bytes each; %s; %d CPUs, %s", quantity(c.Hosts, "host"), quantity(c.Partitions, "partition"),
		quantity(c.Documents, "document"), quantity(c.Deltas, "delta"), c.Size, quantity(c.Rounds, "round"), c.CPUs, c.Go)
	return printRounds(out, title, "a member replaced", rebuildColumns(), c.Loads, c.Baseline)
}
