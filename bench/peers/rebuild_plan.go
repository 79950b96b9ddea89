package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// rebuildPlan is what rebuilds are measured. Its settings lack the system.
type rebuildPlan struct {
	settings rebuildSettings
	systems  []string
	rounds   int
	delivery delivery
}

// maxRebuild bounds the bytes of all values: raft's state machines hold them in memory, each its own.
const maxRebuild = 4 << 30

func parseRebuild(args []string, out io.Writer) (rebuildPlan, error) {
	s := defaults()
	s.Partitions, s.Documents = 1, 10_000
	p := rebuildPlan{settings: rebuildSettings{settings: s, Deltas: 20}}
	f := newFlags("rebuild")
	systems := f.String("systems", strings.Join(rebuilderNames(), ","), "what to measure, separated by commas, of "+strings.Join(rebuilderNames(), ", "))
	f.IntVar(&p.settings.Documents, "docs", p.settings.Documents, "documents")
	f.IntVar(&p.settings.Deltas, "deltas", p.settings.Deltas, "deltas of each document: to etcd and raft, keys")
	f.IntVar(&p.settings.Size, "size", p.settings.Size, "bytes of a delta, or of a key's value")
	f.IntVar(&p.settings.Partitions, "partitions", p.settings.Partitions, "partitions, which are Raft groups of adamant and raft; etcd always has one")
	f.IntVar(&p.settings.Procs, "gomaxprocs", p.settings.Procs, "GOMAXPROCS, 0 for Go's choice")
	f.IntVar(&p.settings.Procs, "procs", p.settings.Procs, "another name of -gomaxprocs")
	f.IntVar(&p.rounds, "rounds", 3, "how often everything is measured")
	f.Uint64Var(&p.settings.Seed, "seed", p.settings.Seed, "seed of what is written")
	f.StringVar(&p.settings.dir, "dir", "", "directory on the disk to measure; what is made in it is removed (default the system's temporary directory)")
	deliveryFlags(f, &p.delivery)
	if err := parse(f, args, out); err != nil {
		return rebuildPlan{}, err
	}
	p.systems = strings.Split(*systems, ",")
	p.settings.Writers = max(1, min(fillers, p.settings.Documents))
	if err := p.check(); err != nil {
		return rebuildPlan{}, usageError{err}
	}
	return p, nil
}

// check reports everything that is wrong.
func (p rebuildPlan) check() error {
	var errs []error
	s := p.settings
	if p.rounds < 1 || p.rounds > 1000 {
		errs = append(errs, fmt.Errorf("-rounds is %d: want 1 to 1000", p.rounds))
	}
	for i, name := range p.systems {
		switch {
		case !slices.Contains(rebuilderNames(), name):
			errs = append(errs, fmt.Errorf("-systems: %q is none of %s", name, strings.Join(rebuilderNames(), ", ")))
		case slices.Contains(p.systems[:i], name):
			errs = append(errs, fmt.Errorf("-systems: %q is named twice", name))
		}
	}
	if s.Documents < 1 || s.Documents > 1_000_000 {
		errs = append(errs, fmt.Errorf("-docs is %d: want 1 to 1000000", s.Documents))
		s.Documents = fillers // so that the rest can be checked
	}
	switch {
	case s.Deltas < 1 || s.Deltas > 1_000_000:
		errs = append(errs, fmt.Errorf("-deltas is %d: want 1 to 1000000", s.Deltas))
	case s.Size > 0 && s.Deltas > maxRebuild/s.Size/s.Documents:
		errs = append(errs, fmt.Errorf("-docs, -deltas and -size make more than %d GB", maxRebuild>>30))
	}
	return errors.Join(append(errs, s.check())...)
}

// trial is the settings of one: each round has values and an order of its own.
func (p rebuildPlan) trial(system string, round int) rebuildSettings {
	s := p.settings
	s.System, s.Seed = system, s.Seed+uint64(round)
	return s
}

// rebuildTrial measures here what is the only one, and others in a process of their own: this program's rebuild verb.
func rebuildTrial(ctx context.Context, p rebuildPlan, s rebuildSettings) (*measured, error) {
	if len(p.systems) == 1 && p.rounds == 1 {
		return measureRebuild(ctx, s)
	}
	c, err := childAnswer[rebuildComparison](ctx, s.dir, func(dir string) []string {
		s.dir = dir
		return rebuildArguments(s)
	})
	if err != nil {
		return nil, err
	}
	return c.only()
}

// rebuildArguments is the command line that says these settings.
func rebuildArguments(s rebuildSettings) []string {
	number := strconv.Itoa
	return []string{"rebuild", "-json", "-rounds", "1", "-systems", s.System, "-docs", number(s.Documents), "-deltas", number(s.Deltas),
		"-size", number(s.Size), "-partitions", number(s.Partitions), "-gomaxprocs", number(s.Procs), "-seed", strconv.FormatUint(s.Seed, 10), "-dir", s.dir}
}
