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
		short: "How long writes wait when a host is gone, and whether one that does not know it serves",
		long: `failover lets one writer for each partition write as fast as it is acknowledged, and readers ask every host for every
document by lease and by quorum. Then it takes one host away and measures for each partition that this host led the time between
its last acknowledged write before and its next one after. With --idle nobody writes or reads before that, and the time runs from
the loss. A host that is paused or cut off comes back after --for, and is asked at once. Then every acknowledged write is read back
by a quorum read, and what all clients saw of each document is checked to be linearizable. The clients are in a process of their
own. --duration is the time of writing before the loss; each round loses one host of a fresh cluster.

It fails when an acknowledged write is lost, a linearizable read is stale, a history is not linearizable, two leaderships of a
partition serve at the same time, or a host does not tell its application of a document that it lost writes to.`,
		example: `  bench failover --hosts 5 --partitions 64 --kill 9
  bench failover --kill pause --for 10s --rounds 100
  bench failover --rounds 10 --compare kill=isolate,isolate-out,isolate-in
  bench failover --partitions 1000 --think 100ms
  bench failover --partitions 1000 --idle --warmup 20s --duration 10s --think 1s`,
		defaults: settings{load: loadEach, Hosts: 5, Partitions: 64, Voters: 3, Log: "pebble", Processes: true, Size: 256, Kill: killHard,
			For: 10 * time.Second, ReadEvery: 250 * time.Millisecond},
		protocol: protocol{rounds: 5, warmup: time.Second, duration: 3 * time.Second, seed: 1},
		flags:    failoverFlags,
		metrics: []metric{
			{"p50Millis", "p50 ms", 1}, {"p99Millis", "p99 ms", 1}, {"maxMillis", "max ms", 1}, {"minMillis", "min ms", 1},
			{"partitionsLed", "partitions led", 1}, {"lostWrites", "lost writes", 1}, {"checkedWrites", "checked writes", 1},
			{"staleReads", "stale reads", 1}, {"checkedReads", "checked reads", 1}, {"notLinearizable", "not linearizable", 1},
			{"overlapMillis", "overlap ms", 1}, {"leaderships", "leaderships", 1}, {"candidacies", "candidacies", 1},
			{"affectedDocuments", "writes lost in flight", 1}, {"catastrophesMissing", "of them not told", 1},
			{"uncheckedHistories", "histories not checked", 1}, {"writesPerSecond", "writes/s before", 1},
		},
		measure: measureFailover,
	}
}

// afterwards is how long writing goes on when every partition is written to again: late elections would show. A host that is back
// is watched for longer.
const (
	afterwards = 500 * time.Millisecond
	afterBack  = 2 * time.Second
)

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
	out, err := t.loseUnderLoad(ctx, f, all)
	if err != nil {
		return nil, err
	}
	t.tell("reading back", t.warmup+t.duration)
	missing, checked, err := all.readBack(ctx)
	if err != nil {
		return nil, err
	}
	out["lostWrites"], out["checkedWrites"] = float64(missing), float64(checked)
	if missing > 0 {
		err = fmt.Errorf("%d of %d acknowledged writes are lost or changed", missing, checked)
	}
	return out, errors.Join(err, t.judge(ctx, f, all, out))
}

// judge adds what the clients saw to the figures, and fails when it must not be.
func (t trial) judge(ctx context.Context, f *fleet, all *clients, out figures) error {
	t.tell("checking what was seen", t.warmup+t.duration)
	j, err := all.judge()
	if err != nil {
		return err
	}
	silent, affected, err := f.unnotified(ctx, all, noticePatience)
	if err != nil {
		return err
	}
	out["staleReads"], out["checkedReads"] = float64(j.stale), float64(j.reads)
	out["notLinearizable"], out["uncheckedHistories"] = float64(j.illegal), float64(j.unknown)
	out["overlapMillis"] = micros(j.overlap) / 1000
	out["affectedDocuments"], out["catastrophesMissing"] = float64(affected), float64(silent)
	err = j.err()
	if silent > 0 {
		err = errors.Join(err, fmt.Errorf("of %d of %d documents with writes of unknown outcome the application was not told", silent, affected))
	}
	return err
}

// loseUnderLoad takes a host away, and perhaps gives it back, while clients write and read.
func (t trial) loseUnderLoad(ctx context.Context, f *fleet, all *clients) (out figures, err error) {
	if t.settings.Idle {
		all.loss = make(chan struct{})
	}
	until, cancel := context.WithCancel(ctx)
	ended := make(chan error, 2)
	go func() {
		ended <- all.run(until, cancel, t.settings.Think)
	}()
	go func() {
		if t.settings.ReadEvery > 0 && !t.settings.Idle {
			all.read(until, t.settings.ReadEvery)
		}
		ended <- nil
	}()
	defer func() {
		cancel()
		err = errors.Join(<-ended, <-ended, err)
		all.settle()
	}()
	if err := t.wait(until, "warming up", 0, t.warmup); err != nil {
		return nil, err
	}
	if t.settings.Idle {
		if err := all.touch(until); err != nil {
			return nil, err
		}
	}
	writes, begun := all.writes(), time.Now()
	if err := t.wait(until, "writing", t.warmup, t.duration); err != nil {
		return nil, err
	}
	rate := float64(all.writes()-writes) / time.Since(begun).Seconds()
	before, err := f.usages(ctx)
	if err != nil {
		return nil, err
	}
	cuts, err := t.lose(until, f, all)
	if err != nil {
		return nil, err
	}
	after, err := f.usages(ctx)
	if err != nil {
		return nil, err
	}
	out = cutFigures(cuts)
	out["writesPerSecond"] = rate
	for i, u := range after { // a process that was killed does not count any more
		u = u.since(before[i])
		out["leaderships"] += float64(u.Leaderships)
		out["candidacies"] += float64(u.Candidacies)
	}
	return out, nil
}

// wait lets some of the measured time pass.
func (t trial) wait(ctx context.Context, note string, from, length time.Duration) error {
	defer t.during(note, from, length)()
	return pause(ctx, length)
}

// lose takes a host away and waits until all that it led is written to again, and it is back if it is to come back.
func (t trial) lose(ctx context.Context, f *fleet, all *clients) ([]cut, error) {
	leaders := all.leaders()
	if len(leaders) == 0 {
		return nil, errors.New("no host acknowledges writes")
	}
	victim := chooseVictim(leaders, t.seed)
	t.tell("taking "+victim+" away", t.warmup+t.duration)
	begun := time.Now()
	all.lose(victim)
	lost := make(chan error, 1)
	go func() { lost <- f.lose(ctx, victim, t.settings.Kill) }()
	if passes(t.settings.Kill) {
		if err := <-lost; err != nil {
			return nil, err
		}
		if err := pause(ctx, time.Until(begun.Add(t.settings.For))); err != nil {
			return nil, err
		}
		t.tell(victim+" is back", t.warmup+t.duration)
		if err := f.giveBack(victim); err != nil {
			return nil, err
		}
		all.returned()
		lost <- pause(ctx, afterBack)
	}
	cuts, err := all.restored(ctx)
	if err := errors.Join(err, <-lost); err != nil {
		return nil, err
	}
	return cuts, pause(ctx, afterwards)
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
