package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/adamantdb/adamant/internal/baseline"
)

// experiment measures all variants in turn, round by round, and the machine itself before each round.
func experiment(ctx context.Context, w workload, p protocol, list []variant, tell func(done, total time.Duration, note string)) (*result, error) {
	rounds := make([][]figures, len(list))
	var raw []baseline.Costs
	length := p.warmup + p.duration
	total := length * time.Duration(p.rounds*len(list))
	var before time.Duration
	for round := range p.rounds {
		b, err := baselineOnce(p.dir)
		if err != nil {
			return nil, err
		}
		raw = append(raw, b)
		for k := range list {
			i := (k + round) % len(list) // nobody is always first
			t := trial{settings: list[i].settings, warmup: p.warmup, duration: p.duration, seed: p.seed + uint64(round),
				tell: func(note string, measured time.Duration) { tell(before+measured, total, list[i].name+" "+note) }}
			f, err := trialOnce(ctx, w, p.dir, t)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, list[i].settings, err)
			}
			rounds[i] = append(rounds[i], f)
			before += length
		}
	}
	tell(total, total, "")
	return newResult(w, p, list, rounds, raw), nil
}

func baselineOnce(parent string) (b baseline.Costs, err error) {
	dir, remove, err := temporary(parent)
	if err != nil {
		return baseline.Costs{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return baseline.Measure(dir)
}

func trialOnce(ctx context.Context, w workload, parent string, t trial) (f figures, err error) {
	dir, remove, err := temporary(parent)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	t.dir = dir
	return w.measure(ctx, t)
}

// during shows how far something of a known length is, until it is stopped. From is the measured time that went before.
func (t trial) during(note string, from, length time.Duration) (stop func()) {
	t.tell(note, from)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		begun := time.Now()
		for {
			select {
			case <-end:
				return
			case now := <-tick.C:
				t.tell(note, from+min(now.Sub(begun), length))
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// onCluster opens the trial's cluster, measures something on it, and closes it.
func (t trial) onCluster(ctx context.Context, measure func(context.Context, *fleet) (figures, error)) (_ figures, err error) {
	f, err := plan(t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	t.tell("opening hosts", 0)
	if err := f.open(ctx); err != nil {
		return nil, err
	}
	return measure(ctx, f)
}
