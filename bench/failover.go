package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

func failoverWorkload() workload {
	return workload{
		verb:  "failover",
		short: "How long writes wait when a host is gone",
		long: `failover lets one writer for each partition write as fast as it is acknowledged, takes one host away, and measures for
each partition that this host led the time between its last acknowledged write before and its next one after. Then every
acknowledged write is read back by a quorum read. The writers are clients in a process of their own. --duration is the time
of writing before the loss; each round loses one host of a fresh cluster.`,
		example: `  bench failover --hosts 5 --partitions 64 --kill 9
  bench failover --kill stop --rounds 10
  bench failover --partitions 1000 --think 100ms`,
		defaults: settings{load: loadEach, Hosts: 5, Partitions: 64, Voters: 3, Log: "pebble", Processes: true, Size: 256, Kill: killHard},
		protocol: protocol{rounds: 5, warmup: time.Second, duration: 3 * time.Second, seed: 1},
		flags:    failoverFlags,
		metrics: []metric{
			{"p50Millis", "p50 ms", 1}, {"p99Millis", "p99 ms", 1}, {"maxMillis", "max ms", 1}, {"minMillis", "min ms", 1},
			{"partitionsLed", "partitions led", 1}, {"lostWrites", "lost writes", 1}, {"checkedWrites", "checked writes", 1},
			{"writesPerSecond", "writes/s before", 1},
		},
		measure: measureFailover,
	}
}

// afterwards is how long writing goes on when every partition is written to again: late elections would show.
const afterwards = 500 * time.Millisecond

// measureFailover runs one trial: one loss of one host.
func measureFailover(ctx context.Context, t trial) (figures, error) {
	return t.onCluster(ctx, t.failover)
}

func (t trial) failover(ctx context.Context, f *fleet) (_ figures, err error) {
	lines, err := f.lines(ctx)
	if err != nil {
		return nil, err
	}
	all := newClients(f, lines, t.seed)
	defer func() { err = errors.Join(err, all.close()) }()
	t.tell("creating documents", 0)
	if err := all.create(ctx); err != nil {
		return nil, err
	}
	out, err := t.lose(ctx, f, all)
	if err != nil {
		return nil, err
	}
	t.tell("reading back", t.warmup+t.duration)
	missing, checked, err := all.readBack(ctx)
	out["lostWrites"], out["checkedWrites"] = float64(missing), float64(checked)
	if missing > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d acknowledged writes are lost or changed", missing, checked))
	}
	return out, err
}

// lose takes a host away under load, and waits until everything is written to again.
func (t trial) lose(ctx context.Context, f *fleet, all *clients) (out figures, err error) {
	until, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- all.run(until, cancel, t.settings.Think)
	}()
	defer func() {
		cancel()
		err = errors.Join(<-ended, err)
	}()
	stop := t.during("warming up", 0, t.warmup)
	err = pause(until, t.warmup)
	stop()
	if err != nil {
		return nil, err
	}
	writes, begun := all.writes(), time.Now()
	stop = t.during("writing", t.warmup, t.duration)
	err = pause(until, t.duration)
	stop()
	if err != nil {
		return nil, err
	}
	rate := float64(all.writes()-writes) / time.Since(begun).Seconds()
	leaders := all.leaders()
	if len(leaders) == 0 {
		return nil, errors.New("no host acknowledges writes")
	}
	victim := chooseVictim(leaders, t.seed)
	t.tell("taking "+victim+" away", t.warmup+t.duration)
	all.lose(victim)
	lost := make(chan error, 1)
	go func() { lost <- f.lose(ctx, victim, t.settings.Kill) }()
	cuts, err := all.restored(until)
	if err := errors.Join(err, <-lost); err != nil {
		return nil, err
	}
	if err := pause(until, afterwards); err != nil {
		return nil, err
	}
	out = cutFigures(cuts)
	out["writesPerSecond"] = rate
	return out, nil
}

// chooseVictim takes any of the hosts that lead something.
func chooseVictim(leaders map[string]int, seed uint64) string {
	names := slices.Sorted(maps.Keys(leaders))
	return names[rand.New(rand.NewPCG(seed, 1)).IntN(len(names))]
}

// restored waits until every partition that the lost host led is written to elsewhere.
func (all *clients) restored(ctx context.Context) ([]cut, error) {
	for {
		cuts, over := all.cuts()
		if over {
			return cuts, nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("some of %s are not written to: %w", quantity(len(cuts), "partition"), err)
		}
	}
}

// cutFigures are those of the partitions that the lost host led: at least one.
func cutFigures(cuts []cut) figures {
	gaps := make([]float64, len(cuts))
	for i, c := range cuts {
		gaps[i] = micros(c.gap()) / 1000
	}
	slices.Sort(gaps)
	return figures{"p50Millis": rank(gaps, 0.5), "p99Millis": rank(gaps, 0.99), "maxMillis": gaps[len(gaps)-1], "minMillis": gaps[0],
		"partitionsLed": float64(len(gaps))}
}
