package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/adamantdb/adamant/internal/baseline"
)

// rebuilder is a system that runs all its hosts here, and replaces one that was lost by an empty one.
type rebuilder interface {
	system
	// put appends entries to a document, which has those before the first; it returns when they are durable on a majority.
	put(ctx context.Context, document, first int, values [][]byte) error
	// forget returns when every host holds everything, and no log holds it that could bring it to a new member.
	forget(ctx context.Context) error
	// lose stops a host and removes what it has on disk. It returns when the others do without it.
	lose(ctx context.Context, host int) error
	// replace starts the host with an empty disk and returns when the system says that it holds everything. It is an error
	// when the logs brought that: this is not what is to be measured.
	replace(ctx context.Context, host int) error
	// walk reads every entry that a host holds itself.
	walk(ctx context.Context, host int, found func(key string, value ...[]byte)) error
}

func newRebuilder(name string) (rebuilder, error) {
	switch name {
	case "adamant":
		return &adamantRebuilder{}, nil
	case "etcd":
		return newEtcdRebuilder(), nil
	case "raft":
		return newRaftRebuilder(), nil
	}
	return nil, fmt.Errorf("unknown system %q", name)
}

// rebuilderNames puts first what the others are compared with.
func rebuilderNames() []string { return []string{"adamant", "etcd", "raft"} }

// forgetPatience and rebuildPatience are how long a system may take until its logs are short, and until a member is whole.
const (
	forgetPatience  = 5 * time.Minute
	rebuildPatience = 30 * time.Minute
)

// rebuildSettings are what one rebuild depends on.
type rebuildSettings struct {
	settings
	Deltas int // entries of each document
}

func (s rebuildSettings) data() dataset {
	return dataset{documents: s.Documents, deltas: s.Deltas, size: s.Size, seed: s.Seed}
}

// measureRebuild fills a cluster on empty disks, loses its last host with the disk, and measures until a new one in its place holds
// everything. That is read there afterwards, entry by entry.
func measureRebuild(ctx context.Context, s rebuildSettings) (_ *measured, err error) {
	dir, err := os.MkdirTemp(s.dir, "adamant-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	raw, err := rawFigures(dir)
	if err != nil {
		return nil, err
	}
	if s.Procs > 0 {
		before := runtime.GOMAXPROCS(s.Procs)
		defer runtime.GOMAXPROCS(before)
	}
	sys, err := newRebuilder(s.System)
	if err != nil {
		return nil, err
	}
	defer func() {
		if failed := sys.close(); failed != nil {
			err = errors.Join(err, fmt.Errorf("close %s: %w", s.System, failed))
		}
	}()
	written, err := fillRebuilder(ctx, sys, s, dir)
	if err != nil {
		return nil, err
	}
	figures, err := replaceHost(ctx, sys, s.Hosts-1, written)
	if err != nil {
		return nil, err
	}
	return &measured{figures: figures, baseline: raw}, nil
}

func rawFigures(dir string) (map[string]float64, error) {
	costs, err := baseline.Measure(dir)
	if err != nil {
		return nil, err
	}
	b, err := baseline.MeasureBandwidths(dir)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"fsyncMicros": costs.FsyncMicros, "loopbackRoundTripMicros": costs.LoopbackRoundTripMicros,
		"diskMegabytesPerSecond": b.DiskMegabytesPerSecond, "loopbackMegabytesPerSecond": b.LoopbackMegabytesPerSecond}, nil
}

// fillRebuilder starts all hosts and writes what they are to hold, until all of them do and logs have forgotten it.
func fillRebuilder(ctx context.Context, sys rebuilder, s rebuildSettings, dir string) (written census, err error) {
	var hosts []int
	for host := range s.Hosts {
		hosts = append(hosts, host)
	}
	book, err := sys.prepare(s.settings, dir, hosts)
	if err != nil {
		return census{}, err
	}
	if err := within(ctx, openPatience, "open "+s.System, func(ctx context.Context) error { return sys.open(ctx, book) }); err != nil {
		return census{}, err
	}
	if written, err = s.data().fill(ctx, sys, s.Writers); err != nil {
		return census{}, fmt.Errorf("fill: %w", err)
	}
	return written, within(ctx, forgetPatience, "forget", sys.forget)
}

// replaceHost is what is measured: from the moment that somebody starts an empty host in the place of one that is gone for good.
func replaceHost(ctx context.Context, sys rebuilder, host int, written census) (map[string]float64, error) {
	if err := within(ctx, openPatience, "lose a host", func(ctx context.Context) error { return sys.lose(ctx, host) }); err != nil {
		return nil, err
	}
	runtime.GC() // what the filling left is no part of it
	cpu, told := processCPU()
	begun := time.Now()
	err := within(ctx, rebuildPatience, "rebuild", func(ctx context.Context) error { return sys.replace(ctx, host) })
	if err != nil {
		return nil, err
	}
	took := time.Since(begun)
	used, _ := processCPU()
	var found census
	if err := sys.walk(ctx, host, found.add); err != nil {
		return nil, fmt.Errorf("read the new member: %w", err)
	}
	if err := found.differs(written); err != nil {
		return nil, fmt.Errorf("the new member was said to hold everything: %w", err)
	}
	figures := map[string]float64{"seconds": took.Seconds(), "entriesPerSecond": float64(found.Entries) / took.Seconds(),
		"megabytesPerSecond": float64(found.Bytes) / 1e6 / took.Seconds()}
	if told {
		figures["cpuSecondsPerGB"] = (used - cpu).Seconds() / (float64(found.Bytes) / 1e9)
	}
	return figures, nil
}

// within bounds the time of one step, and names it when it fails.
func within(ctx context.Context, patience time.Duration, step string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}
