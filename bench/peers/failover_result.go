package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// failoverComparison is the JSON object of losses. Its shape is a comparison's, so that "bench report" reads it, and the names of its
// figures are those of "bench failover".
type failoverComparison struct {
	Verb string `json:"verb"`
	machine
	Rounds     int               `json:"rounds"` // completed
	Hosts      int               `json:"hosts"`
	Partitions int               `json:"partitions"`
	Processes  bool              `json:"processes"` // true: each host has one
	Size       int               `json:"size"`
	Seed       uint64            `json:"seed"`
	Kill       string            `json:"kill"`
	ForS       float64           `json:"forSeconds,omitempty"` // that a paused host stood still
	ThinkMs    float64           `json:"thinkMillis"`
	AttemptMs  float64           `json:"attemptMillis"`
	ReadMs     float64           `json:"readMillis"`
	WarmupS    float64           `json:"warmupSeconds"`
	LengthS    float64           `json:"durationSeconds"`
	Baseline   map[string]spread `json:"baseline"`
	Loads      []loadResult      `json:"loads"` // one: a writer for each partition

	plan   failoverPlan
	trials rounds
}

// failoverTimes are compared as ratios; failoverCounts are not: they are 0 when all is well.
func failoverTimes() []column {
	return []column{{"p50Millis", "p50 ms"}, {"p99Millis", "p99 ms"}, {"maxMillis", "max ms"}, {"minMillis", "min ms"}, {"writesPerSecond", "writes/s before"}}
}

func failoverCounts() []column {
	return []column{{"partitionsLed", "partitions led"}, {"lostWrites", "lost writes"}, {"staleReads", "stale reads"}, {"checkedReads", "checked reads"}}
}

func newFailoverComparison(p failoverPlan) *failoverComparison {
	s := p.settings
	millis := func(d time.Duration) float64 { return micros(d) / 1000 }
	c := &failoverComparison{Verb: "failover", machine: thisMachine(), Hosts: s.Hosts, Partitions: s.Partitions, Processes: true, Size: s.Size, Seed: s.Seed,
		Kill: s.Kill, ThinkMs: millis(s.Think), AttemptMs: millis(s.Attempt), ReadMs: millis(s.Read), WarmupS: s.Warmup.Seconds(), LengthS: s.Duration.Seconds(),
		plan: p, trials: rounds{systems: p.systems}}
	if s.Kill == killPause {
		c.ForS = s.For.Seconds()
	}
	return c
}

// compareFailovers measures every system round by round, and says on progress how each went. It returns the rounds that were
// completed along with what ended the others, and nothing but the error when no round was. It is an error if
// adamant lost a write or served a stale read.
func compareFailovers(ctx context.Context, p failoverPlan, trial func(context.Context, failoverSettings) (*measured, error), progress io.Writer) (*failoverComparison, error) {
	c := newFailoverComparison(p)
	err := c.trials.run(p.rounds, func(system string, round int) (*measured, error) { return trial(ctx, p.trial(system, round)) },
		func(round int, system string, m *measured) {
			fmt.Fprintf(progress, "round %d of %d, %s: p50 %s ms, p99 %s ms, %s lost, %s stale\n", round+1, p.rounds, system, number(m.figures["p50Millis"]),
				number(m.figures["p99Millis"]), number(m.figures["lostWrites"]), number(m.figures["staleReads"]))
		})
	if c.trials.completed == 0 {
		return nil, err
	}
	return c.finish(), errors.Join(err, c.verdict())
}

// verdict is an error if adamant did what must not happen. What others do is only shown.
func (c *failoverComparison) verdict() error {
	var errs []error
	for round, t := range c.trials.trials["adamant"] {
		if lost, stale := t.figures["lostWrites"], t.figures["staleReads"]; lost+stale > 0 {
			errs = append(errs, fmt.Errorf("round %d: adamant lost %s writes and served %s stale reads", round+1, number(lost), number(stale)))
		}
	}
	return errors.Join(errs...)
}

// finish draws the conclusions. There has been a round.
func (c *failoverComparison) finish() *failoverComparison {
	c.Rounds = c.trials.completed
	c.Loads, c.Baseline = c.trials.conclude(c.plan.settings.Partitions, c.plan.settings.Procs)
	for _, r := range c.Loads[0].Ratios {
		for _, count := range failoverCounts() {
			delete(r.Figures, count.key)
		}
	}
	return c
}

func printFailovers(out io.Writer, c *failoverComparison) error {
	title := fmt.Sprintf("%s in processes, %s, a key and a writer for each, %d bytes, a host lost by %q; %s; %d CPUs, %s", quantity(c.Hosts, "host"),
		quantity(c.Partitions, "partition"), c.Size, c.Kill, quantity(c.Rounds, "round"), c.CPUs, c.Go)
	return printRounds(out, title, "a host lost", append(failoverTimes(), failoverCounts()...), c.Loads, c.Baseline)
}
