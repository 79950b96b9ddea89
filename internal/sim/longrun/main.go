// Command longrun runs the simulation (package sim) for long: many seeds, in several processes, with disks that take their time.
//
//	go run ./internal/sim/longrun -first 1000 -seeds 20000 -processes 2 -out /tmp/long
//	go run ./internal/sim/longrun -hours -seeds 20000 -processes 2 -out /tmp/hours
//	go run ./internal/sim/longrun -sum /tmp/long /tmp/hours
//
// With -hours a seed lasts for half an hour of simulated time and more. -sum adds up what directories hold.
//
// It builds the simulation with one line of Go's runtime changed, so that simulated time goes on while somebody waits for a
// mutex: only then may an fsync take time, because its callers hold some. What fails is run once more by itself; its output, with
// the timeline and the plan, stays in the directory, beside results.jsonl with a line for each seed and summary.txt. A run
// that is continued leaves out the seeds that results.jsonl has.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

type settings struct {
	first     uint64
	seeds     int
	processes int
	chunk     int
	out       string
	race      bool
	hours     bool
	limit     time.Duration
}

func main() {
	var s settings
	flag.Uint64Var(&s.first, "first", 1, "the first seed")
	flag.IntVar(&s.seeds, "seeds", 1000, "how many")
	flag.IntVar(&s.processes, "processes", 1, "how many run at a time")
	flag.IntVar(&s.chunk, "chunk", 50, "seeds of one process")
	flag.StringVar(&s.out, "out", "", "the directory for results (required)")
	flag.BoolVar(&s.hours, "hours", false, "seeds that last for half an hour of simulated time")
	sum := flag.Bool("sum", false, "only add up the results of the directories that are the arguments")
	flag.BoolVar(&s.race, "race", false, "with the race detector")
	flag.DurationVar(&s.limit, "limit", 0, "begin nothing new after this time; 0: no limit")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := s.run
	if *sum {
		run = func(context.Context) error { return printSum(flag.Args()) }
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "longrun:", err)
		os.Exit(1)
	}
}

// errFailed: some seeds fail.
var errFailed = errors.New("some seeds fail")

func (s settings) run(ctx context.Context) error {
	if s.out == "" || s.seeds < 1 || s.processes < 1 || s.chunk < 1 {
		return errors.New("-out and positive numbers are required")
	}
	out, err := filepath.Abs(s.out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	binary, err := build(ctx, out, s.race)
	if err != nil {
		return err
	}
	r := &runner{settings: s, out: out, binary: binary, begun: time.Now()}
	if err := r.load(); err != nil {
		return err
	}
	if r.before, err = wallTime(out); err != nil {
		return err
	}
	r.all(ctx)
	summary, failed := r.summary()
	fmt.Print(summary)
	if err := os.WriteFile(filepath.Join(out, "summary.txt"), []byte(summary), 0o644); err != nil {
		return err
	}
	if failed {
		return errFailed
	}
	return nil
}
