package main

import (
	"context"
	"errors"
	"fmt"
)

// experiment measures all variants in turn, round by round, and the machine itself before each round.
func experiment(ctx context.Context, w workload, p protocol, list []variant, progress func(done, total int, note string)) (*result, error) {
	rounds := make([][]figures, len(list))
	var raw []baseline
	done, total := 0, p.rounds*len(list)
	for round := range p.rounds {
		b, err := baselineOnce(p.dir)
		if err != nil {
			return nil, err
		}
		raw = append(raw, b)
		for k := range list {
			i := (k + round) % len(list) // nobody is always first
			progress(done, total, list[i].name)
			f, err := trialOnce(ctx, w, p, list[i].settings, p.seed+uint64(round))
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, list[i].settings, err)
			}
			rounds[i] = append(rounds[i], f)
			done++
		}
	}
	progress(done, total, "")
	return newResult(w, p, list, rounds, raw), nil
}

func baselineOnce(parent string) (b baseline, err error) {
	dir, remove, err := temporary(parent)
	if err != nil {
		return baseline{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return measureBaseline(dir)
}

func trialOnce(ctx context.Context, w workload, p protocol, s settings, seed uint64) (f figures, err error) {
	dir, remove, err := temporary(p.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return w.measure(ctx, trial{settings: s, dir: dir, warmup: p.warmup, duration: p.duration, seed: seed})
}
