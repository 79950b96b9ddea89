package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

func idleWorkload() workload {
	return workload{
		verb:  "idle",
		short: "What a cluster costs that does nothing",
		long: `idle starts a cluster, waits until every partition is led, and measures what the hosts cost while nobody uses them.
Memory and goroutines per member are what members add: those of a cluster with one partition, measured first, are subtracted.
All of them are compared with those of the processes before they opened a host.
Bytes are those of links and of gossip, as they are before TLS, TCP and UDP add theirs; a pair's are those of both directions.`,
		example:  `  bench idle --partitions 1000 --hosts 3`,
		defaults: settings{Hosts: 3, Partitions: 1000, Voters: 3, Log: "pebble"},
		protocol: protocol{rounds: 1, warmup: 5 * time.Second, duration: 10 * time.Second, seed: 1},
		flags:    clusterFlags,
		metrics: []metric{
			{"coresPerHost", "cores/host", 1}, {"bytesPerSecondPerHost", "bytes/s/host", 1}, {"gossipBytesPerSecondPerHost", "of them gossip", 1},
			{"bytesPerSecondPerPair", "bytes/s/pair", 1}, {"framesPerSecondPerHost", "frames/s/host", 1},
			{"fsyncsPerSecondPerHost", "fsyncs/s/host", 1},
			{"memoryPerMemberBytes", "KB/member", 1.0 / 1024}, {"memoryPerHostBytes", "MB/host", 1.0 / (1 << 20)},
			{"goroutinesPerMember", "goroutines/member", 1}, {"goroutinesPerHost", "goroutines/host", 1}, {"leaderships", "leaderships", 1},
		},
		measure: measureIdle,
	}
}

// footprint is what an open cluster adds to its crews.
type footprint struct{ members, bytes, goroutines float64 }

func measureIdle(ctx context.Context, t trial) (figures, error) {
	return t.perMember(ctx, t.watch)
}

// perMember measures something on a cluster, and what that cluster's members hold afterwards.
func (t trial) perMember(ctx context.Context, measure func(context.Context, *fleet) (figures, error)) (out figures, err error) {
	var fixed footprint // with one partition there is nothing to subtract: its members carry all that the hosts hold
	if t.settings.Partitions > 1 {
		small := t
		small.settings.Partitions = 1
		small.dir = filepath.Join(t.dir, "small")
		if err := os.Mkdir(small.dir, 0o700); err != nil {
			return nil, err
		}
		t.tell("one partition", 0)
		if fixed, err = small.footprint(ctx, func(*fleet) error { return nil }); err != nil {
			return nil, err
		}
	}
	t.tell("opening hosts", 0)
	whole, err := t.footprint(ctx, func(f *fleet) (err error) {
		out, err = measure(ctx, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	hosts, members := float64(t.settings.Hosts), whole.members-fixed.members
	out["memoryPerMemberBytes"] = (whole.bytes - fixed.bytes) / members
	out["memoryPerHostBytes"] = whole.bytes / hosts
	out["goroutinesPerMember"] = (whole.goroutines - fixed.goroutines) / members
	out["goroutinesPerHost"] = whole.goroutines / hosts
	return out, nil
}

// footprint opens the trial's cluster, does something with it, and then finds out what it holds.
func (t trial) footprint(ctx context.Context, do func(*fleet) error) (held footprint, err error) {
	f, err := plan(t)
	if err != nil {
		return held, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	before, err := f.memory(ctx)
	if err != nil {
		return held, err
	}
	if err := f.open(ctx); err != nil {
		return held, err
	}
	if err := do(f); err != nil {
		return held, err
	}
	after, err := f.memory(ctx)
	return footprint{members: float64(f.members()), bytes: float64(after.Bytes) - float64(before.Bytes),
		goroutines: float64(after.Goroutines - before.Goroutines)}, err
}

// watch measures what a cluster does that nobody uses.
func (t trial) watch(ctx context.Context, f *fleet) (figures, error) {
	stop := t.during("settling", 0, t.warmup)
	err := pause(ctx, t.warmup)
	stop()
	if err != nil {
		return nil, err
	}
	before, err := f.usage(ctx)
	if err != nil {
		return nil, err
	}
	stop = t.during("idle", t.warmup, t.duration)
	err = pause(ctx, t.duration)
	stop()
	if err != nil {
		return nil, err
	}
	after, err := f.usage(ctx)
	if err != nil {
		return nil, err
	}
	u := after.since(before)
	hostSeconds := after.At.Sub(before.At).Seconds() * float64(t.settings.Hosts)
	out := figures{}
	if u.Measured {
		out["coresPerHost"] = u.CPU.Seconds() / hostSeconds
	}
	out["bytesPerSecondPerHost"] = float64(u.LinkBytes+u.GossipBytes) / hostSeconds
	out["gossipBytesPerSecondPerHost"] = float64(u.GossipBytes) / hostSeconds
	if others := t.settings.Hosts - 1; others > 0 { // in both directions
		out["bytesPerSecondPerPair"] = 2 * out["bytesPerSecondPerHost"] / float64(others)
	}
	out["framesPerSecondPerHost"] = float64(u.LinkFrames) / hostSeconds
	out["fsyncsPerSecondPerHost"] = float64(u.LogSyncs+u.DocumentSyncs) / hostSeconds
	out["leaderships"] = float64(u.Leaderships) // begun while nothing happened: needless ones
	return out, nil
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
