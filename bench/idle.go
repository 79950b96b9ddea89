package main

import (
	"context"
	"errors"
	"time"
)

func idleWorkload() workload {
	return workload{
		verb:  "idle",
		short: "What a cluster costs that does nothing",
		long: `idle starts a cluster, waits until every partition is led, and measures what the hosts cost while nobody uses them.
Memory is compared with that of the process before the cluster was started.`,
		example:  `  bench idle --partitions 1000 --hosts 3`,
		defaults: settings{Hosts: 3, Partitions: 1000, Voters: 3, Log: "pebble"},
		protocol: protocol{rounds: 1, warmup: 5 * time.Second, duration: 10 * time.Second, seed: 1},
		flags:    clusterFlags,
		metrics: []metric{
			{"coresPerHost", "cores/host", 1}, {"bytesPerSecondPerHost", "bytes/s/host", 1}, {"framesPerSecondPerHost", "frames/s/host", 1},
			{"memoryPerMemberBytes", "KB/member", 1.0 / 1024}, {"goroutinesPerMember", "goroutines/member", 1}, {"leaderships", "leaderships", 1},
		},
		measure: measureIdle,
	}
}

func measureIdle(ctx context.Context, t trial) (_ figures, err error) {
	empty := measureMemory() // of a crew without hosts: its own process starts like this one
	f, err := launch(ctx, t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := pause(ctx, t.warmup); err != nil {
		return nil, err
	}
	before, err := f.usage(ctx)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, t.duration); err != nil {
		return nil, err
	}
	after, err := f.usage(ctx)
	if err != nil {
		return nil, err
	}
	answers, err := f.all(ctx, func(int) order { return order{Do: doMemory} })
	if err != nil {
		return nil, err
	}
	var held memory
	for _, a := range answers {
		held.Bytes += a.Memory.Bytes - min(empty.Bytes, a.Memory.Bytes)
		held.Goroutines += a.Memory.Goroutines - empty.Goroutines
	}
	return idleFigures(f, after.since(before), after.At.Sub(before.At), held), nil
}

func idleFigures(f *fleet, u usage, length time.Duration, held memory) figures {
	hosts, members := float64(f.settings.Hosts), float64(f.members())
	out := figures{
		"bytesPerSecondPerHost":  float64(u.LinkBytes) / length.Seconds() / hosts,
		"framesPerSecondPerHost": float64(u.LinkFrames) / length.Seconds() / hosts,
		"memoryPerMemberBytes":   float64(held.Bytes) / members,
		"goroutinesPerMember":    float64(held.Goroutines) / members,
		"leaderships":            float64(u.Leaderships), // begun while nothing happened: needless ones
	}
	if u.Measured {
		out["coresPerHost"] = u.CPU.Seconds() / length.Seconds() / hosts
	}
	return out
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
