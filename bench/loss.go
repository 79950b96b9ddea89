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
	killHard   = "9"           // SIGKILL of its process; in one process, Host.Kill
	killStop   = "stop"        // Host.Close, which hands its leaderships over
	killPause  = "pause"       // SIGSTOP of its process, and SIGCONT later
	killCut    = "isolate"     // cut off from the other hosts, in both directions, for a time
	killMute   = "isolate-out" // the same, but it hears the others
	killDeafen = "isolate-in"  // the same, but they hear it
)

// kills says what each of them is.
var kills = []struct{ how, text string }{
	{killHard, "SIGKILL"}, {killStop, "a graceful close"}, {killPause, "SIGSTOP and later SIGCONT"},
	{killCut, "cut off from the others for a time"}, {killMute, "not heard by them"}, {killDeafen, "not hearing them"},
}

// passes says whether the host comes back by itself.
func passes(how string) bool { return how != "" && how != killHard && how != killStop }

// cuts says whether the network between hosts is needed for it.
func cuts(how string) bool { return how == killCut || how == killMute || how == killDeafen }

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
	how := strings.ToLower(strings.TrimPrefix(s, "SIG"))
	if how == "kill" {
		how = killHard
	}
	var all []string
	for _, k := range kills {
		if k.how == how {
			*v.to = how
			return nil
		}
		all = append(all, fmt.Sprintf("%q (%s)", k.how, k.text))
	}
	return fmt.Errorf("a host can be lost by %s, not by %q", strings.Join(all, ", "), s)
}

func failoverFlags(s *settings, f *pflag.FlagSet) {
	clusterFlags(s, f)
	f.Lookup("processes").Usage = "run each host in a process of its own, which --kill 9 kills"
	f.IntVar(&s.Size, "size", s.Size, "bytes of a delta: redo and undo together")
	f.DurationVar(&s.Think, "think", s.Think, "what each writer waits after a write")
	f.Var(killValue{&s.Kill}, "kill", "how the host is lost: 9 for SIGKILL, stop for a graceful close, pause for SIGSTOP and SIGCONT, isolate, isolate-out or isolate-in for cuts between it and the others")
	f.BoolVar(&s.Idle, "idle", s.Idle, "nobody writes or reads until the host is lost; what it led is written to from then on, and the time runs from there")
	f.DurationVar(&s.For, "for", s.For, "how long the host stands still or is cut off")
	f.DurationVar(&s.ReadEvery, "read", s.ReadEvery, "what a reader waits between two reads of a document at a host; 0 for no readers")
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
	p, apart := c.(*process)
	do := doKill
	switch {
	case how == killCut:
		f.net.Isolate(host)
		return nil
	case how == killMute:
		f.net.Mute(host)
		return nil
	case how == killDeafen:
		f.net.Deafen(host)
		return nil
	case how == killPause && apart:
		return p.suspend()
	case how == killHard && apart:
		return p.kill()
	case how == killStop:
		do = doStop
	}
	_, err := c.do(ctx, order{Do: do, Host: host})
	return err
}

// giveBack ends a loss that passes.
func (f *fleet) giveBack(host string) error {
	if f.net != nil {
		f.net.Heal()
	}
	if p, ok := f.crews[f.byHost[host]].(*process); ok && p.still {
		return p.resume()
	}
	return nil
}

// onePerPartition finds for each partition, by position, the lowest document number that belongs to it, from a positive one on.
func onePerPartition(c *config.Cluster, from int) []int {
	found := make([]int, len(c.Partitions))
	for n, left := from, len(found); left > 0; n++ {
		if i := c.Locate(documentKey(n).Hash()); found[i] == 0 {
			found[i] = n
			left--
		}
	}
	return found
}
