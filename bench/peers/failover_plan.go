package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// failoverPlan is what losses are measured. Its settings lack the system.
type failoverPlan struct {
	settings failoverSettings
	systems  []string
	rounds   int
	delivery delivery
}

// failoverNames puts first what the others are compared with.
func failoverNames() []string { return []string{"adamant", "etcd", "etcd-tuned"} }

func parseFailover(args []string, out io.Writer) (failoverPlan, error) {
	s := defaults()
	s.Processes, s.Warmup, s.Duration = true, time.Second, 3*time.Second
	p := failoverPlan{settings: failoverSettings{settings: s, Kill: killHard, For: 10 * time.Second, Attempt: 100 * time.Millisecond, Read: 250 * time.Millisecond}}
	f := newFlags("failover")
	systems := f.String("systems", strings.Join(failoverNames(), ","), "what to measure, separated by commas, of "+strings.Join(failoverNames(), ", "))
	f.StringVar(&p.settings.Kill, "kill", p.settings.Kill, "how the host is lost: 9 for SIGKILL, stop for an orderly end, pause for SIGSTOP and SIGCONT")
	f.DurationVar(&p.settings.For, "for", p.settings.For, "how long a paused host stands still")
	f.DurationVar(&p.settings.Think, "think", p.settings.Think, "what each writer waits after a write")
	f.DurationVar(&p.settings.Attempt, "attempt", p.settings.Attempt, "how long a client waits for one host until it asks the next")
	f.DurationVar(&p.settings.Read, "read", p.settings.Read, "what a reader waits between two reads of a key at a host; 0 for no readers")
	f.IntVar(&p.settings.Hosts, "hosts", p.settings.Hosts, "hosts, each with a replica of everything: 3, 5 or 7")
	f.IntVar(&p.settings.Partitions, "partitions", p.settings.Partitions, "partitions of adamant, and keys, each with a writer; etcd always has one group")
	f.IntVar(&p.settings.Size, "size", p.settings.Size, "bytes of a write")
	f.IntVar(&p.settings.Procs, "gomaxprocs", p.settings.Procs, "GOMAXPROCS of each host's process, 0 for Go's choice")
	f.IntVar(&p.settings.Procs, "procs", p.settings.Procs, "another name of -gomaxprocs")
	f.IntVar(&p.rounds, "rounds", 5, "how often everything is measured")
	f.DurationVar(&p.settings.Warmup, "warmup", p.settings.Warmup, "time of writing that does not count")
	f.DurationVar(&p.settings.Duration, "duration", p.settings.Duration, "time of writing before the loss")
	f.Uint64Var(&p.settings.Seed, "seed", p.settings.Seed, "seed of what is written and which host is lost")
	f.StringVar(&p.settings.dir, "dir", "", "directory on the disk to measure; what is made in it is removed (default the system's temporary directory)")
	deliveryFlags(f, &p.delivery)
	if err := parse(f, args, out); err != nil {
		return failoverPlan{}, err
	}
	p.systems = strings.Split(*systems, ",")
	if err := p.check(); err != nil {
		return failoverPlan{}, usageError{err}
	}
	return p, nil
}

// check reports everything that is wrong.
func (p failoverPlan) check() error {
	var errs []error
	want := func(ok bool, name string, value any, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("-%s is %v: want %s", name, value, text))
		}
	}
	s := p.settings
	want(p.rounds >= 1 && p.rounds <= 1000, "rounds", p.rounds, "1 to 1000")
	want(s.Kill == killHard || s.Kill == killStop || s.Kill == killPause, "kill", s.Kill, "9, stop or pause")
	want(s.For >= time.Second && s.For <= time.Hour, "for", s.For, "1s to 1h")
	want(s.Think >= 0 && s.Think <= time.Minute, "think", s.Think, "0s to 1m")
	want(s.Attempt >= time.Millisecond && s.Attempt <= time.Minute, "attempt", s.Attempt, "1ms to 1m")
	want(s.Read >= 0 && s.Read <= time.Minute, "read", s.Read, "0s to 1m")
	want(s.Hosts >= 3, "hosts", s.Hosts, "at least 3: nobody else could lead what is lost")
	for i, name := range p.systems {
		want(slices.Contains(failoverNames(), name), "systems", name, strings.Join(failoverNames(), ", "))
		want(!slices.Contains(p.systems[:i], name), "systems", name, "each once")
	}
	return errors.Join(append(errs, s.check())...)
}

// trial is the settings of one: each round has values and a host to lose of its own.
func (p failoverPlan) trial(system string, round int) failoverSettings {
	s := p.settings
	s.System, s.Seed = system, s.Seed+uint64(round)
	return s
}
