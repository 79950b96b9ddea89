package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/adamantdb/adamant"
)

// make creates the documents that are whole, and the halves of those that are to be stale.
func (r *repairTrial) make(ctx context.Context, whole, stale []placed) error {
	r.tell("filling", 0)
	if err := r.fill(ctx, whole, 0, r.settings.Deltas); err != nil {
		return err
	}
	return r.fill(ctx, stale, 0, r.settings.Deltas/2)
}

// fill writes documents, of which each has so many deltas, until each has as many as are wanted.
func (r *repairTrial) fill(ctx context.Context, list []placed, have, deltas int) error {
	for i := range list {
		list[i].Head = int64(have)
	}
	r.seed++ // what is written at different times differs
	if have == 0 {
		r.want.Documents += int64(len(list))
	}
	r.want.Heads += int64(len(list) * (deltas - have))
	r.want.Entries = r.want.Heads // each delta has a seq
	return r.fleet.spread(ctx, doPrepare, list, prepareOrder{Size: r.settings.Size, Deltas: deltas, Seed: r.seed, Noise: !r.settings.Text})
}

// lack takes the host away, and with it what it is to lack. It returns how many bytes of deltas the others then have and it
// has not. The first time, stale documents have half of their deltas here, and the absent ones have their numbers; each
// time after that, as much is written anew.
func (r *repairTrial) lack(ctx context.Context, stale, absent []placed) (missing int64, err error) {
	held, err := r.quiet(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.gone(ctx); err != nil {
		return 0, err
	}
	if !r.settings.partial() {
		if err := os.RemoveAll(filepath.Join(r.dir, r.victim)); err != nil {
			return 0, err
		}
		return sum(held).Bytes, r.forget(ctx)
	}
	r.tell("writing what is missing", 0)
	half := r.settings.Deltas / 2
	late := r.settings.Deltas - half
	if err := r.fill(ctx, stale, half+r.lacked*late, half+(r.lacked+1)*late); err != nil {
		return 0, err
	}
	for i := range absent {
		absent[i].Number += min(r.lacked, 1) * r.settings.Documents
	}
	if err := r.fill(ctx, absent, 0, r.settings.Deltas); err != nil {
		return 0, err
	}
	r.lacked++
	if err := r.forget(ctx); err != nil {
		return 0, err
	}
	now, err := r.quiet(ctx)
	return sum(now).Bytes - sum(held).Bytes, err
}

// forget lets the logs of the hosts that are left forget what the other one missed.
func (r *repairTrial) forget(ctx context.Context) error {
	var list []placed
	for _, n := range onePerPartition(r.fleet.cluster, churnFirst) {
		list = append(list, placed{Number: n})
	}
	if err := r.fleet.spread(ctx, doChurn, list, prepareOrder{Size: minSize, Seed: r.seed}); err != nil {
		return err
	}
	return r.truncated(ctx)
}

// truncated waits until the hosts have made the markers that were due, which takes syncs of their documents. Whether the logs
// then have forgotten what they should shows for certain when the host is back: its members must have holes.
func (r *repairTrial) truncated(ctx context.Context) error {
	const calm = 6
	var syncs uint64
	for same := 0; same < calm; same++ {
		u, err := r.fleet.usage(ctx)
		if err != nil {
			return err
		}
		if u.DocumentSyncs != syncs {
			syncs, same = u.DocumentSyncs, 0
		}
		if err := pause(ctx, forgetTick); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until the members of all partitions are those of the cluster file.
func (r *repairTrial) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		states, err := r.fleet.states(ctx)
		if err != nil {
			return err
		}
		moving := false
		for _, list := range states {
			moving = moving || slices.ContainsFunc(list, func(m memberState) bool { return m.Moving })
		}
		if !moving {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("members do not become those of the cluster file: %w", err)
		}
	}
}

// quiet waits until the members of all hosts that run hold the same, and returns one of each.
func (r *repairTrial) quiet(ctx context.Context) (map[uint32]memberState, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		states, err := r.fleet.states(ctx)
		if err != nil {
			return nil, err
		}
		same, differs := agreed(states)
		if differs == nil && len(same) == len(r.fleet.cluster.Partitions) {
			return same, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, fmt.Errorf("members do not become equal: %+v: %w", differs, err)
		}
	}
}

// agreed is one member of each partition, or the members of one that differ or have not applied what is committed.
func agreed(states map[uint32][]memberState) (map[uint32]memberState, []memberState) {
	same := make(map[uint32]memberState, len(states))
	for id, list := range states {
		first := list[0]
		for _, m := range list {
			same := m
			same.Host, same.Commit, same.Moving = first.Host, first.Commit, first.Moving
			if !m.Complete || same != first || m.Commit > first.Applied {
				return nil, list
			}
		}
		same[id] = first
	}
	return same, nil
}

// sum adds members of different partitions up.
func sum(states map[uint32]memberState) (total memberState) {
	for _, m := range states {
		total.Documents += m.Documents
		total.Bytes += m.Bytes
	}
	return total
}

// applied is the newest index that any host has applied, of each partition.
func (f *fleet) applied(ctx context.Context) (indexes, error) {
	states, err := f.states(ctx)
	if err != nil {
		return nil, err
	}
	newest := indexes{}
	for id, list := range states {
		for _, m := range list {
			newest[id] = max(newest[id], m.Applied)
		}
	}
	return newest, nil
}

// served is how much all hosts but one have sent in answers to others' repairs.
func (f *fleet) served(ctx context.Context, but string) (sum uint64, err error) {
	all, err := f.repairs(ctx)
	for name, m := range all {
		if name != but {
			sum += m.BytesOut
		}
	}
	return sum, err
}

// repairs are the counters of repair of all hosts that run.
func (f *fleet) repairs(ctx context.Context) (map[string]adamant.RepairMetrics, error) {
	answers, err := f.all(ctx, func(int) order { return order{Do: doRepairs} })
	all := map[string]adamant.RepairMetrics{}
	for _, a := range answers {
		maps.Copy(all, a.Repairs)
	}
	return all, err
}
