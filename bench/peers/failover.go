package main

import (
	"context"
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/adamantdb/adamant/internal/baseline"
)

// failoverSettings are what one loss of a host depends on.
type failoverSettings struct {
	settings
	Kill    string        // how the host is lost
	For     time.Duration // how long it stands still
	Think   time.Duration // what each writer waits after a write
	Attempt time.Duration // how long a client waits for one host
	Read    time.Duration // what a reader waits between two reads of a key at a host; 0 for no readers
}

// How a host is lost.
const (
	killHard  = "9"     // SIGKILL
	killStop  = "stop"  // an orderly end, which hands leaderships over
	killPause = "pause" // SIGSTOP, and SIGCONT later
)

// afterwards is how long writing goes on when every key is written again: late elections would show.
const afterwards = 500 * time.Millisecond

// measureFailover loses the leader's host, or one of the leaders', on empty disks.
func measureFailover(ctx context.Context, s failoverSettings) (*measured, error) {
	keys := onePerPartition(s.Partitions)
	s.Documents, s.Writers = slices.Max(keys)+1, 1
	m := &measured{}
	err := onFleet(ctx, s.settings, func(f *fleet, raw baseline.Costs) (err error) {
		m.baseline = map[string]float64{"fsyncMicros": raw.FsyncMicros, "loopbackRoundTripMicros": raw.LoopbackRoundTripMicros}
		m.figures, err = f.failover(ctx, s, keys)
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// onePerPartition finds a document number for each of so many equal parts of the hash space: adamant's partitions. Others have the same
// keys.
func onePerPartition(partitions int) []int {
	found := make([]int, partitions)
	for n, left := 1, partitions; left > 0; n++ {
		if at, _ := bits.Mul64(documentKey(n).Hash(), uint64(partitions)); found[at] == 0 {
			found[at] = n
			left--
		}
	}
	return found
}

func (f *fleet) failover(ctx context.Context, s failoverSettings, keys []int) (_ map[string]float64, err error) {
	var homes []int
	if err := f.sites[0].Call("Site.Homes", false, &homes); err != nil {
		return nil, err
	}
	hosts, err := f.reaches(s.System)
	if err != nil {
		return nil, err
	}
	all := newClients(s, hosts, keys, homes)
	defer func() { err = errors.Join(err, all.close()) }()
	victim := homes[keys[rand.New(rand.NewPCG(s.Seed, 1)).IntN(len(keys))]]
	var led []*client
	for i, c := range all.list {
		if homes[keys[i]] == victim {
			led = append(led, c)
		}
	}
	out, err := f.loseUnderLoad(ctx, s, all, led, victim)
	if err != nil {
		return nil, err
	}
	lost, err := all.readBack(ctx)
	out["lostWrites"] = float64(lost)
	for _, c := range all.list {
		out["staleReads"] += float64(c.stale)
		out["checkedReads"] += float64(c.reads)
	}
	return out, err
}

// reaches are clients' ways to all hosts.
func (f *fleet) reaches(system string) (list []reach, err error) {
	for i, r := range f.sites {
		for _, host := range f.hosts[i] {
			var addr string
			if err := r.Call("Site.Door", host, &addr); err != nil {
				return nil, err
			}
			way, err := newReach(system, addr)
			if err != nil {
				return nil, err
			}
			list = append(list, way)
		}
	}
	return list, nil
}

func (f *fleet) loseUnderLoad(ctx context.Context, s failoverSettings, all *clients, led []*client, victim int) (out map[string]float64, err error) {
	until, cancel := context.WithCancel(ctx)
	ended := make(chan error, 2)
	go func() { ended <- all.write(until, cancel) }()
	go func() {
		if s.Read > 0 {
			all.read(until)
		}
		ended <- nil
	}()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended, <-ended)
	}()
	rest(until, s.Warmup)
	writes, begun := all.writes(), time.Now()
	rest(until, s.Duration)
	for all.writes() == writes && until.Err() == nil { // on a machine that is too busy; writers lose their patience, which ends it
		rest(until, retryPause)
	}
	rate := float64(all.writes()-writes) / time.Since(begun).Seconds()
	all.gone.Store(int64(victim))
	lost := time.Now()
	if err := f.lose(victim, s.Kill); err != nil {
		return nil, err
	}
	gone := time.Now()
	if s.Kill == killPause {
		rest(until, s.For)
		if err := f.sites[victim].process.resume(); err != nil {
			return nil, err
		}
		all.gone.Store(-1)
	}
	if err := restored(until, led, gone); err != nil {
		return nil, err
	}
	rest(until, afterwards)
	var gaps []float64
	for _, c := range led {
		gaps = append(gaps, micros(c.gap(lost))/1000)
	}
	slices.Sort(gaps)
	return map[string]float64{"p50Millis": quantile(gaps, 0.5), "p99Millis": quantile(gaps, 0.99), "maxMillis": gaps[len(gaps)-1], "minMillis": gaps[0],
		"partitionsLed": float64(len(gaps)), "writesPerSecond": rate}, ctx.Err()
}

// quantile is the smallest of sorted values that so large a share of them does not exceed.
func quantile(sorted []float64, share float64) float64 {
	for i, v := range sorted {
		if float64(i+1) >= share*float64(len(sorted)) {
			return v
		}
	}
	return sorted[len(sorted)-1]
}

// lose takes a host away, which has a process of its own, and returns when it is gone.
func (f *fleet) lose(host int, how string) error {
	r := f.sites[host]
	switch how {
	case killHard:
		return r.process.kill()
	case killPause:
		return r.process.suspend()
	}
	return r.Call("Site.Stop", host, new(bool))
}

// writes is how many were acknowledged so far.
func (all *clients) writes() (n int64) {
	for _, c := range all.list {
		seq, _ := c.acknowledged()
		n += seq
	}
	return n
}
