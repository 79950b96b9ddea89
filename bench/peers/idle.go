package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// idleResult is what groups of hashicorp/raft cost that nobody uses.
type idleResult struct {
	Verb string `json:"verb"`
	machine
	settings
	WarmupS float64 `json:"warmupSeconds"`
	LengthS float64 `json:"durationSeconds"`

	MemoryPerMember     float64 `json:"memoryPerMemberBytes"` // of both kinds below, right after a garbage collection
	HeapPerMember       float64 `json:"heapPerMemberBytes"`
	StacksPerMember     float64 `json:"stacksPerMemberBytes"`
	GoroutinesPerMember float64 `json:"goroutinesPerMember"`
	CoresPerHost        float64 `json:"coresPerHost,omitempty"` // absent where the operating system does not tell
}

func parseIdle(args []string, out io.Writer) (s settings, d delivery, err error) {
	s = defaults()
	s.System, s.Partitions, s.Documents, s.Writers = memoryTuned, 1000, 1, 1
	s.Warmup = 5 * time.Second
	names := []string{memoryTuned, memoryStock, "raft"}
	f := newFlags("idle")
	f.StringVar(&s.System, "system", s.System, "what to measure: "+strings.Join(names, ", "))
	f.IntVar(&s.Hosts, "hosts", s.Hosts, "hosts, each with a member of every group: 1, 3, 5 or 7")
	f.IntVar(&s.Partitions, "partitions", s.Partitions, "Raft groups")
	f.DurationVar(&s.Warmup, "warmup", s.Warmup, "time before the measurement that does not count")
	f.DurationVar(&s.Duration, "duration", s.Duration, "time of the measurement")
	f.StringVar(&s.dir, "dir", "", "directory on the disk to measure; what is made in it is removed (default the system's temporary directory)")
	deliveryFlags(f, &d)
	if err := parse(f, args, out); err != nil {
		return settings{}, delivery{}, err
	}
	if err := s.check(); err != nil {
		return settings{}, delivery{}, usageError{err}
	}
	if s.System != "raft" && !inMemory(s.System) { // members of the others do not stand alone: "bench idle" measures adamant's
		return settings{}, delivery{}, usageError{fmt.Errorf("-system is %s: want one of %s", s.System, strings.Join(names, ", "))}
	}
	return s, d, nil
}

// held is what this process holds right after a garbage collection. Finalizers release what goes in the second one.
type held struct{ heap, stacks, goroutines float64 }

func holding() held {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return held{float64(m.HeapAlloc), float64(m.StackInuse), float64(runtime.NumGoroutine())}
}

// measureIdle opens groups, lets them alone and compares what they hold with what the process held before.
func measureIdle(ctx context.Context, s settings) (r *idleResult, err error) {
	dir, err := os.MkdirTemp(s.dir, "adamant-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	sys, err := newSystem(s.System)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sys.close()) }()
	before := holding()
	var hosts []int
	for host := range s.Hosts {
		hosts = append(hosts, host)
	}
	all, err := sys.prepare(s, dir, hosts)
	if err != nil {
		return nil, err
	}
	opening, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	if err := sys.open(opening, all); err != nil {
		return nil, fmt.Errorf("open %s: %w", s.System, err)
	}
	if err := pause(ctx, s.Warmup); err != nil {
		return nil, err
	}
	r = &idleResult{Verb: "idle", machine: thisMachine(), settings: s, WarmupS: s.Warmup.Seconds(), LengthS: s.Duration.Seconds()}
	began := time.Now()
	cpu, _ := processCPU()
	if err := pause(ctx, s.Duration); err != nil {
		return nil, err
	}
	if now, told := processCPU(); told {
		r.CoresPerHost = (now - cpu).Seconds() / time.Since(began).Seconds() / float64(s.Hosts)
	}
	after, members := holding(), float64(s.Hosts*s.Partitions)
	r.HeapPerMember = (after.heap - before.heap) / members
	r.StacksPerMember = (after.stacks - before.stacks) / members
	r.MemoryPerMember = r.HeapPerMember + r.StacksPerMember
	r.GoroutinesPerMember = (after.goroutines - before.goroutines) / members
	return r, nil
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func printIdle(out io.Writer, r *idleResult) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s, %s, %s, idle\n", r.System, quantity(r.Hosts, "host"), quantity(r.Partitions, "partition"))
	for _, f := range []struct {
		label string
		value float64
	}{
		{"KB/member", r.MemoryPerMember / 1024}, {"of them objects", r.HeapPerMember / 1024}, {"and stacks", r.StacksPerMember / 1024},
		{"goroutines/member", r.GoroutinesPerMember}, {"cores/host", r.CoresPerHost},
	} {
		fmt.Fprintf(w, "%s\t%s\n", f.label, number(f.value))
	}
	return w.Flush()
}
