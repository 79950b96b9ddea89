package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/adamantdb/adamant/config"
)

// How a host is lost.
const (
	killHard = "9"    // SIGKILL of its process; in one process, Host.Kill
	killStop = "stop" // Host.Close, which hands its leaderships over
)

// killValue is the flag that chooses.
type killValue struct{ to *string }

func (v killValue) String() string {
	if v.to == nil {
		return ""
	}
	return *v.to
}
func (v killValue) Type() string { return "how" }
func (v killValue) Set(s string) error {
	switch how := strings.ToLower(strings.TrimPrefix(s, "SIG")); how {
	case killHard, "kill":
		*v.to = killHard
	case killStop:
		*v.to = killStop
	default:
		return fmt.Errorf("a host can be lost by %q (SIGKILL) or %q (a graceful close), not by %q", killHard, killStop, s)
	}
	return nil
}

func failoverFlags(s *settings, f *pflag.FlagSet) {
	clusterFlags(s, f)
	f.Lookup("processes").Usage = "run each host in a process of its own, which --kill 9 kills"
	f.IntVar(&s.Size, "size", s.Size, "bytes of a delta: redo and undo together")
	f.DurationVar(&s.Think, "think", s.Think, "what each writer waits after a write")
	f.Var(killValue{&s.Kill}, "kill", "how the host is lost: 9 for SIGKILL, or stop for a graceful close")
}

// lines reach all hosts of the fleet: straight when they run in this process.
func (f *fleet) lines(ctx context.Context) (lines map[string]line, err error) {
	lines = map[string]line{}
	for _, c := range f.crews {
		if s, ok := c.(*site); ok {
			for name, h := range s.hosts {
				lines[name] = direct{h, name}
			}
			continue
		}
		a, err := c.do(ctx, order{Do: doDoors})
		if err != nil {
			return nil, errors.Join(err, closeLines(lines))
		}
		for name, addr := range a.Doors {
			w, err := dialDoor(ctx, addr)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("host %s: %w", name, err), closeLines(lines))
			}
			lines[name] = w
		}
	}
	return lines, nil
}

func closeLines(lines map[string]line) error {
	var errs []error
	for _, l := range lines {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// lose takes a host away and returns when it is gone.
func (f *fleet) lose(ctx context.Context, host, how string) error {
	c := f.crews[f.byHost[host]]
	if p, ok := c.(*process); ok && how == killHard {
		return p.kill()
	}
	do := doKill
	if how == killStop {
		do = doStop
	}
	_, err := c.do(ctx, order{Do: do, Host: host})
	return err
}

// onePerPartition finds for each partition, by position, the first document number that belongs to it.
func onePerPartition(c *config.Cluster) []int {
	found := make([]int, len(c.Partitions))
	for n, left := 1, len(found); left > 0; n++ {
		if i := c.Locate(documentKey(n).Hash()); found[i] == 0 {
			found[i] = n
			left--
		}
	}
	return found
}
