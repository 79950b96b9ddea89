package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

func quietWorkload() workload {
	return workload{
		verb:  "quiet",
		short: "Whether anybody is elected, or stands for it, although nobody is gone",
		long: `quiet starts a cluster whose hosts all stay, waits until every partition is led where the cluster file wants it, and counts from
then on leaderships and attempts to be elected. None is needed, so that any is a failure. With --busy-cpu so many other processes
use as much of the processor as they get. With --think a writer for each partition writes.`,
		example: `  bench quiet --duration 10m
  bench quiet --duration 10m --busy-cpu 2
  bench quiet --duration 10m --busy-cpu 2 --think 100ms`,
		defaults: settings{load: loadQuiet, Hosts: 5, Partitions: 64, Voters: 3, Log: "pebble", Processes: true, Size: 256},
		protocol: protocol{rounds: 1, warmup: 5 * time.Second, duration: 10 * time.Minute, seed: 1},
		flags: func(s *settings, f *pflag.FlagSet) {
			clusterFlags(s, f)
			f.IntVar(&s.BusyCPU, "busy-cpu", s.BusyCPU, "other processes that do nothing but use the processor")
			f.IntVar(&s.Size, "size", s.Size, "bytes of a delta: redo and undo together")
			f.DurationVar(&s.Think, "think", s.Think, "what each writer waits after a write; 0 for no writers")
		},
		metrics: []metric{{"leaderships", "leaderships", 1}, {"candidacies", "candidacies", 1}, {"writesPerSecond", "writes/s", 1}, {"coresPerHost", "cores/host", 1}},
		measure: func(ctx context.Context, t trial) (figures, error) { return t.onCluster(ctx, t.quiet) },
	}
}

// quiet counts elections while nobody goes.
func (t trial) quiet(ctx context.Context, f *fleet) (out figures, err error) {
	t.tell("waiting until all lead what they prefer", 0)
	if err := f.preferred(ctx); err != nil {
		return nil, err
	}
	stop, err := burn(t.settings.BusyCPU)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	written, quiet, err := t.writeGently(ctx, f)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(quiet(), err) }()
	if err := t.wait(ctx, "settling", 0, t.warmup); err != nil {
		return nil, err
	}
	before, err := f.usage(ctx)
	if err != nil {
		return nil, err
	}
	writes := written()
	if err := t.wait(ctx, "counting", t.warmup, t.duration); err != nil {
		return nil, err
	}
	after, err := f.usage(ctx)
	if err != nil {
		return nil, err
	}
	u, seconds := after.since(before), after.At.Sub(before.At).Seconds()
	out = figures{"leaderships": float64(u.Leaderships), "candidacies": float64(u.Candidacies), "writesPerSecond": float64(written()-writes) / seconds}
	if u.Measured {
		out["coresPerHost"] = u.CPU.Seconds() / seconds / float64(t.settings.Hosts)
	}
	return out, needless(u)
}

// needless is an error if anybody was elected, or stood for it.
func needless(u usage) error {
	if u.Leaderships+u.Candidacies == 0 {
		return nil
	}
	return fmt.Errorf("%d leaderships began and members stood for election %d times although nobody was gone", u.Leaderships, u.Candidacies)
}

// writeGently lets clients write if the settings want it. The first function that it returns says how much was written, the second one
// ends that.
func (t trial) writeGently(ctx context.Context, f *fleet) (written func() int64, stop func() error, err error) {
	if t.settings.Think == 0 {
		return func() int64 { return 0 }, func() error { return nil }, nil
	}
	lines, err := f.lines(ctx)
	if err != nil {
		return nil, nil, err
	}
	all := newClients(f, lines, t.seed)
	if err := all.create(ctx); err != nil {
		return nil, nil, errors.Join(err, all.close())
	}
	until, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- all.run(until, cancel, t.settings.Think) }()
	return all.writes, func() error {
		cancel()
		return errors.Join(<-ended, all.close())
	}, nil
}

// preferencePatience bounds how long leaderships may be where nobody wants them.
const preferencePatience = 5 * time.Minute

// preferred waits until every partition is led by its preferred host.
func (f *fleet) preferred(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, preferencePatience)
	defer cancel()
	for {
		a, err := f.crews[0].do(ctx, order{Do: doLeaders})
		if err != nil {
			return err
		}
		var elsewhere []string
		for _, p := range f.cluster.Partitions {
			if want := p.Prefer; want != "" && a.Leaders[p.ID] != want {
				elsewhere = append(elsewhere, fmt.Sprintf("%d by %q instead of %s", p.ID, a.Leaders[p.ID], want))
			}
		}
		if len(elsewhere) == 0 {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%s are led elsewhere: %s: %w", quantity(len(elsewhere), "partition"), strings.Join(elsewhere[:min(len(elsewhere), complaints)], ", "), err)
		}
	}
}

// burnerArgument makes this program use one processor until its standard input ends.
const burnerArgument = "burner-of-a-bench"

func isBurner(args []string) bool { return len(args) == 2 && args[1] == burnerArgument }

// runBurner is a burner's process. An interrupt is the parent's to handle.
func runBurner() int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for x := uint64(1); ; {
		for range 1 << 20 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		select {
		case <-ended:
			runtime.KeepAlive(x)
			return exitOK
		default:
		}
	}
}

// burn starts processes that use as much of the processor as they get. What it returns ends them.
func burn(processes int) (stop func() error, err error) {
	var ends []func() error
	stop = func() error {
		var errs []error
		for _, end := range ends {
			errs = append(errs, end())
		}
		return errors.Join(errs...)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for range processes {
		cmd := exec.Command(self, burnerArgument)
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start a process to use the processor: %w", err), stop())
		}
		ends = append(ends, func() error { return errors.Join(in.Close(), cmd.Wait()) })
	}
	return stop, nil
}
