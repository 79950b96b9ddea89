package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings are what a trial depends on.
type settings struct {
	System     string `json:"system"`
	Hosts      int    `json:"hosts"`      // each has a replica of everything
	Partitions int    `json:"partitions"` // nothing to etcd
	Writers    int    `json:"writers"`
	Documents  int    `json:"documents"`
	Size       int    `json:"size"`       // bytes of a write
	Processes  bool   `json:"processes"`  // each host in a process of its own, with its share of the writers
	Procs      int    `json:"gomaxprocs"` // of each process, 0 for Go's choice
	Seed       uint64 `json:"seed"`

	Warmup   time.Duration `json:"-"`
	Duration time.Duration `json:"-"`
	dir      string        // where the trial's directory is made; "" for the system's temporary directory
}

// plan is what a comparison measures. Its settings lack what the lists have.
type plan struct {
	settings settings
	systems  []string
	writers  []int
	procs    []int
	rounds   int
	delivery delivery
}

// delivery is where the result goes.
type delivery struct {
	json bool
	out  string // "" for none
}

func defaults() settings {
	return settings{System: "adamant", Hosts: 3, Partitions: 64, Writers: 64, Documents: 4096, Size: 256, Seed: 1,
		Warmup: 2 * time.Second, Duration: 10 * time.Second}
}

func parseWrite(args []string, out io.Writer) (s settings, d delivery, err error) {
	s = defaults()
	f := newFlags("write")
	commonFlags(f, &s)
	f.StringVar(&s.System, "system", s.System, "what to measure: "+strings.Join(systemNames(), ", "))
	f.IntVar(&s.Writers, "writers", s.Writers, "writers, each with one write in flight")
	f.IntVar(&s.Procs, "gomaxprocs", s.Procs, "GOMAXPROCS of each process, 0 for Go's choice")
	f.IntVar(&s.Procs, "procs", s.Procs, "another name of -gomaxprocs")
	deliveryFlags(f, &d)
	if err := parse(f, args, out); err != nil {
		return settings{}, delivery{}, err
	}
	if err := s.check(); err != nil {
		return settings{}, delivery{}, usageError{err}
	}
	return s, d, nil
}

func parseCompare(args []string, out io.Writer) (plan, error) {
	p := plan{settings: defaults(), rounds: 5}
	p.settings.Duration = 5 * time.Second
	f := newFlags("compare")
	commonFlags(f, &p.settings)
	systems := f.String("systems", "", "what to measure, separated by commas, of "+strings.Join(systemNames(), ", ")+
		" (default all but raft-memory and raft-memory-tuned, and etcd-spread only with -processes)")
	writers := f.String("writers", "1,64,512", "numbers of writers, each measured by itself")
	var procs string
	f.StringVar(&procs, "gomaxprocs", "2,8", "values of GOMAXPROCS of each process; ratios are of each system's best")
	f.StringVar(&procs, "procs", "2,8", "another name of -gomaxprocs")
	f.IntVar(&p.rounds, "rounds", p.rounds, "how often everything is measured")
	deliveryFlags(f, &p.delivery)
	if err := parse(f, args, out); err != nil {
		return plan{}, err
	}
	p.systems = strings.Split(*systems, ",")
	if *systems == "" {
		p.systems = defaultSystems(p.settings.Processes)
	}
	var errs []error
	var err error
	if p.writers, err = numbers("writers", *writers); err != nil {
		errs = append(errs, err)
	}
	if p.procs, err = numbers("gomaxprocs", procs); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, p.check())...); err != nil {
		return plan{}, usageError{err}
	}
	return p, nil
}

// defaultSystems leaves out what cannot be anybody's best: in one process, to write at a follower is a detour.
func defaultSystems(processes bool) []string {
	return slices.DeleteFunc(systemNames(), func(name string) bool {
		return inMemory(name) || name == "etcd-spread" && !processes
	})
}

func newFlags(verb string) *flag.FlagSet {
	f := flag.NewFlagSet(verb, flag.ContinueOnError)
	f.SetOutput(io.Discard) // run prints errors
	return f
}

func commonFlags(f *flag.FlagSet, s *settings) {
	f.IntVar(&s.Hosts, "hosts", s.Hosts, "hosts, each with a replica of everything: 1, 3, 5 or 7")
	f.IntVar(&s.Partitions, "partitions", s.Partitions, "partitions, which are Raft groups of adamant and raft; etcd always has one")
	f.BoolVar(&s.Processes, "processes", s.Processes, "run each host in a process of its own, with its share of the writers")
	f.IntVar(&s.Documents, "documents", s.Documents, "documents, each written by one writer")
	f.IntVar(&s.Size, "size", s.Size, "bytes of a write")
	f.Uint64Var(&s.Seed, "seed", s.Seed, "seed of what is written and in which order")
	f.DurationVar(&s.Warmup, "warmup", s.Warmup, "time before each measurement that does not count")
	f.DurationVar(&s.Duration, "duration", s.Duration, "time of each measurement")
	f.StringVar(&s.dir, "dir", "", "directory on the disk to measure; what is made in it is removed (default the system's temporary directory)")
}

func deliveryFlags(f *flag.FlagSet, d *delivery) {
	f.BoolVar(&d.json, "json", false, "print one JSON object in place of the table")
	f.StringVar(&d.out, "out", "", "also write the JSON object to this file, which must not exist")
}

func parse(f *flag.FlagSet, args []string, out io.Writer) error {
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		f.SetOutput(out)
		f.PrintDefaults()
		return err
	case err != nil:
		return usageError{err}
	case f.NArg() > 0:
		return usageError{fmt.Errorf("unknown argument %q", f.Arg(0))}
	}
	return nil
}

// numbers reads "1,64,512".
func numbers(name, list string) ([]int, error) {
	var all []int
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("-%s is %q: want numbers separated by commas", name, list)
		}
		if slices.Contains(all, n) {
			return nil, fmt.Errorf("-%s: %d is named twice", name, n)
		}
		all = append(all, n)
	}
	return all, nil
}

// check reports everything that is wrong.
func (s settings) check() error {
	var errs []error
	want := func(ok bool, name string, value any, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("-%s is %v: want %s", name, value, text))
		}
	}
	want(slices.Contains(systemNames(), s.System), "system", s.System, strings.Join(systemNames(), ", "))
	want(!inMemory(s.System) || !s.Processes, "system", s.System, "another one with -processes: memory is not shared")
	want(s.Hosts == 1 || s.Hosts == 3 || s.Hosts == 5 || s.Hosts == 7, "hosts", s.Hosts, "1, 3, 5 or 7")
	want(s.Partitions >= 1 && s.Partitions <= 1024, "partitions", s.Partitions, "1 to 1024")
	want(s.Writers >= 1 && s.Writers <= 65536, "writers", s.Writers, "1 to 65536")
	want(s.Documents >= 1 && s.Documents <= 1_000_000, "documents", s.Documents, "1 to 1000000")
	want(s.Documents >= s.Writers, "documents", s.Documents, fmt.Sprintf("at least one for each of the %d writers", s.Writers))
	want(s.Size >= minSize && s.Size <= 1_000_000, "size", s.Size, fmt.Sprintf("%d to 1000000", minSize))
	want(s.Procs >= 0 && s.Procs <= 1024, "gomaxprocs", s.Procs, "0 to 1024")
	want(s.Warmup >= 0 && s.Warmup <= time.Hour, "warmup", s.Warmup, "0s to 1h")
	want(s.Duration >= time.Millisecond && s.Duration <= 24*time.Hour, "duration", s.Duration, "1ms to 24h")
	if s.dir != "" {
		if info, err := os.Stat(s.dir); err != nil {
			errs = append(errs, fmt.Errorf("-dir: %w", err))
		} else if !info.IsDir() {
			errs = append(errs, fmt.Errorf("-dir: %s is not a directory", s.dir))
		}
	}
	return errors.Join(errs...)
}

// check tries the settings of every trial.
func (p plan) check() error {
	if p.rounds < 1 || p.rounds > 1000 {
		return fmt.Errorf("-rounds is %d: want 1 to 1000", p.rounds)
	}
	for i, name := range p.systems {
		if slices.Contains(p.systems[:i], name) {
			return fmt.Errorf("-systems: %q is named twice", name)
		}
	}
	for _, w := range p.writers {
		for _, v := range p.variants() {
			if err := p.trial(v, w, 0).check(); err != nil {
				return err
			}
		}
	}
	return nil
}
