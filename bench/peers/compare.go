package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// variant is what takes turns under one load.
type variant struct {
	system string
	procs  int
}

func (v variant) String() string { return fmt.Sprintf("%s, GOMAXPROCS %d", v.system, v.procs) }

func (p plan) variants() []variant {
	var all []variant
	for _, name := range p.systems {
		for _, procs := range p.procs {
			all = append(all, variant{system: name, procs: procs})
		}
	}
	return all
}

// trial is the settings of one: each round has values and an order of its own, the same for all variants.
func (p plan) trial(v variant, writers, round int) settings {
	s := p.settings
	s.System, s.Procs, s.Writers, s.Seed = v.system, v.procs, writers, s.Seed+uint64(round)
	return s
}

// compare measures every variant under every load, round by round, and says on progress how each went. It returns the
// rounds that were completed along with what ended the others, and nothing but the error when no round was.
func compare(ctx context.Context, p plan, trial func(context.Context, settings) (*trialResult, error), progress io.Writer) (*comparison, error) {
	c := newComparison(p)
	variants := p.variants()
	total, done, begun := p.rounds*len(p.writers)*len(variants), 0, time.Now()
	for round := range p.rounds {
		results := map[slot]*trialResult{}
		for _, writers := range p.writers {
			for k := range variants {
				v := variants[(k+round)%len(variants)] // nobody is always first
				r, err := trial(ctx, p.trial(v, writers, round))
				if err != nil {
					err = fmt.Errorf("round %d, %s, %s: %w", round+1, quantity(writers, "writer"), v, err)
					if c.Rounds == 0 {
						return nil, err
					}
					return c.finish(), err
				}
				results[slot{writers, v}] = r
				done++
				left := time.Since(begun) / time.Duration(done) * time.Duration(total-done)
				fmt.Fprintf(progress, "%d of %d, about %v left: round %d, %s, %s: %s writes/s, p50 %s µs, p99 %s µs\n", done, total,
					left.Round(time.Second), round+1, quantity(writers, "writer"), v, number(r.WritesPerSecond), number(r.P50Micros), number(r.P99Micros))
			}
		}
		c.add(results)
	}
	return c.finish(), nil
}

// lastWords is how much of a failed child's complaint is repeated.
const lastWords = 4096

// childPatience is how long a child that is asked to end may take.
const childPatience = 30 * time.Second

// childTrial measures in a process of its own: this program's write verb.
func childTrial(ctx context.Context, s settings) (*trialResult, error) {
	return childAnswer[trialResult](ctx, s.dir, func(dir string) []string {
		s.dir = dir
		return writeArguments(s)
	})
}

// childAnswer is the JSON object that this program prints when it runs with some arguments, as a child with a directory of
// its own in dir. When ctx ends, so does the child, whose files are removed here in any case.
func childAnswer[R any](ctx context.Context, dir string, arguments func(dir string) []string) (_ *R, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if dir, err = os.MkdirTemp(dir, "adamant-peers-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := exec.CommandContext(ctx, self, arguments(dir)...)
	// Asked to end, the child ends its own children and removes their files.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = childPatience
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		text := complaint.Bytes()
		return nil, errors.Join(ctx.Err(), fmt.Errorf("%w: %s", err, text[max(0, len(text)-lastWords):]))
	}
	r := new(R)
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("answer of the child process: %w", err)
	}
	return r, nil
}

// writeArguments is the command line that says these settings.
func writeArguments(s settings) []string {
	number := strconv.Itoa
	return []string{"write", "-json", "-system", s.System, "-hosts", number(s.Hosts), "-partitions", number(s.Partitions),
		"-writers", number(s.Writers), "-documents", number(s.Documents), "-size", number(s.Size), "-gomaxprocs", number(s.Procs),
		"-processes=" + strconv.FormatBool(s.Processes), "-seed", strconv.FormatUint(s.Seed, 10), "-warmup", s.Warmup.String(), "-duration", s.Duration.String(), "-dir", s.dir}
}
