package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/adamantdb/adamant/internal/baseline"
)

func repairWorkload() workload {
	return workload{
		verb:  "repair",
		short: "How fast a member that lacks something is complete again",
		long: `repair fills a cluster, takes one host away, lets it lack documents, brings it back, and measures until all of its members
are complete: by its own counters, which begin when it opens. With --missing all its directory is removed.
Meanwhile the others write on, and delete what they wrote, until their logs have forgotten what it lacks, so that Raft can not
bring it; logs are kept short for that. Rates are over the time since the first byte was pulled. The limit is the lesser of a sequential write with its sync and of a TCP stream on
loopback, measured before the host comes back. At the end all hosts must hold the same, and the one that was repaired is read
through.`,
		example: `  bench repair --docs 100000 --deltas 10 --delta-size 64
  bench repair --missing 10 --docs 100000
  bench repair --missing 5% --kind mixed --compare delta-size=64,4096`,
		defaults: settings{load: loadFill, Hosts: 3, Partitions: 1, Voters: 3, Log: "pebble", Documents: 10_000, Deltas: 10, Size: 256,
			Missing: missingAll, Kind: kindMissing},
		protocol: protocol{untimed: true, rounds: 3, seed: 1},
		flags:    repairFlags,
		metrics: []metric{
			{"bytesMissing", "MB missing", 1e-6}, {"bytesOnWire", "MB on the wire", 1e-6}, {"wireBytesPerByte", "wire bytes/byte", 1},
			{"discoveryBytes", "bytes before pulling", 1}, {"documentsPulled", "documents pulled", 1}, {"entriesPulled", "entries pulled", 1},
			{"entriesPerSecond", "entries/s", 1}, {"megabytesPerSecond", "MB/s", 1}, {"diskMegabytesPerSecond", "raw disk MB/s", 1},
			{"loopbackMegabytesPerSecond", "raw loopback MB/s", 1}, {"fractionOfLimit", "fraction of limit", 1},
			{"cpuSecondsPerGB", "CPU s/GB", 1}, {"pullMillis", "pulling ms", 1}, {"totalMillis", "open to complete ms", 1},
		},
		measure: measureRepair,
	}
}

// repairTrial is one repair of one host.
type repairTrial struct {
	trial
	fleet  *fleet
	victim string
}

func measureRepair(ctx context.Context, t trial) (figures, error) { return t.onCluster(ctx, t.rebuild) }

func (t trial) rebuild(ctx context.Context, f *fleet) (figures, error) {
	names := f.cluster.HostNames()
	r := &repairTrial{trial: t, fleet: f, victim: names[int(t.seed%uint64(len(names)))]}
	missing, err := r.impair(ctx)
	if err != nil {
		return nil, err
	}
	t.tell("measuring the limit", 0)
	limit, err := baseline.MeasureBandwidths(t.dir)
	if err != nil {
		return nil, err
	}
	t.tell("repairing", 0)
	report, cpu, err := r.repair(ctx)
	if err != nil {
		return nil, err
	}
	t.tell("comparing", 0)
	if err := r.verify(ctx); err != nil {
		return nil, err
	}
	return repairFigures(missing, report, limit, cpu)
}

// impair fills the cluster and takes the host away, and with it what it is to lack. It returns how many bytes of deltas
// the others have and it has not.
func (r *repairTrial) impair(ctx context.Context) (missing int64, err error) {
	before, stale, absent := r.settings.split()
	r.tell("filling", 0)
	if err := r.fill(ctx, before, r.settings.Deltas, r.seed); err != nil {
		return 0, err
	}
	if err := r.fill(ctx, stale, r.settings.Deltas/2, r.seed+1); err != nil {
		return 0, err
	}
	held, err := r.quiet(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.fleet.lose(ctx, r.victim, killHard); err != nil {
		return 0, err
	}
	if err := r.fleet.replaceCrew(r.victim); err != nil {
		return 0, err
	}
	if !r.settings.partial() {
		if err := os.RemoveAll(filepath.Join(r.dir, r.victim)); err != nil {
			return 0, err
		}
		return sum(held).Bytes, r.forget(ctx)
	}
	r.tell("writing what is missing", 0)
	for i := range stale {
		stale[i].Head = int64(r.settings.Deltas / 2)
	}
	if err := r.fill(ctx, stale, r.settings.Deltas, r.seed+2); err != nil {
		return 0, err
	}
	if err := r.fill(ctx, absent, r.settings.Deltas, r.seed+3); err != nil {
		return 0, err
	}
	if err := r.forget(ctx); err != nil {
		return 0, err
	}
	now, err := r.quiet(ctx)
	return sum(now).Bytes - sum(held).Bytes, err
}

// forget lets the logs of the hosts that are left forget what the other one missed.
func (r *repairTrial) forget(ctx context.Context) error {
	var list []placed
	left := make([]int, len(r.fleet.cluster.Partitions))
	for i := range left {
		left[i] = churners
	}
	for n := r.settings.Documents; len(list) < len(left)*churners; n++ {
		if i := r.fleet.cluster.Locate(documentKey(n).Hash()); left[i] > 0 {
			left[i]--
			list = append(list, placed{Number: n})
		}
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

func (r *repairTrial) fill(ctx context.Context, list []placed, deltas int, seed uint64) error {
	return r.fleet.spread(ctx, doPrepare, list, prepareOrder{Size: r.settings.Size, Deltas: deltas, Seed: seed})
}

// repair brings the host back and returns what came of it, and the CPU time it took.
func (r *repairTrial) repair(ctx context.Context) (healReport, usage, error) {
	f := r.fleet
	states, err := f.states(ctx)
	if err != nil {
		return healReport{}, usage{}, err
	}
	wanted := indexes{}
	for id, list := range states {
		for _, m := range list {
			wanted[id] = max(wanted[id], m.Applied)
		}
	}
	before, err := f.usage(ctx)
	if err != nil {
		return healReport{}, usage{}, err
	}
	i := f.byHost[r.victim]
	o := f.orders[i]
	o.Hosts = []string{r.victim}
	a, err := f.crews[i].do(ctx, order{Do: doHeal, Open: o, Applied: wanted})
	if err != nil {
		return healReport{}, usage{}, err
	}
	if got := a.Heal.Repair.HolesClosed; got < uint64(len(wanted)) {
		return healReport{}, usage{}, fmt.Errorf("only %d of %s had holes: Raft brought the rest, which is no repair", got, quantity(len(wanted), "member"))
	}
	after, err := f.usage(ctx)
	return a.Heal, after.since(before), err
}

// verify finds out that all hosts hold the same, and that it is what was written.
func (r *repairTrial) verify(ctx context.Context) error {
	states, err := r.quiet(ctx)
	if err != nil {
		return err
	}
	want := int64(r.settings.Documents)
	if got := sum(states).Documents; got != want {
		return fmt.Errorf("%d documents on a complete host after the repair, want %d", got, want)
	}
	a, err := r.fleet.crews[r.fleet.byHost[r.victim]].do(ctx, order{Do: doCount, Host: r.victim})
	if err != nil {
		return err
	}
	deltas := want * int64(r.settings.Deltas)
	if wanted := (census{want, deltas, deltas}); a.Count != wanted {
		return fmt.Errorf("the repaired host was read as %+v, want %+v", a.Count, wanted)
	}
	return nil
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
			same.Host, same.Commit = first.Host, first.Commit
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

func repairFigures(missing int64, h healReport, limit baseline.Bandwidths, u usage) (figures, error) {
	imported := float64(h.Repair.ImportedBytes)
	if missing <= 0 || imported == 0 || h.Pulling <= 0 {
		return nil, fmt.Errorf("nothing was repaired: %d bytes missing, %.0f imported in %v", missing, imported, h.Pulling)
	}
	wire, rate := float64(h.Links.BytesIn+h.Links.BytesOut), imported/1e6/h.Pulling.Seconds()
	out := figures{
		"bytesMissing": float64(missing), "bytesOnWire": wire, "wireBytesPerByte": wire / float64(missing),
		"repairBytes": float64(h.Repair.BytesIn), "discoveryBytes": float64(h.Discovery), "importedBytes": imported,
		"documentsPulled": float64(h.Repair.DocumentsIn), "entriesPulled": float64(h.Repair.EntriesIn),
		"entriesPerSecond": float64(h.Repair.EntriesIn) / h.Pulling.Seconds(), "megabytesPerSecond": rate,
		"diskMegabytesPerSecond": limit.DiskMegabytesPerSecond, "loopbackMegabytesPerSecond": limit.LoopbackMegabytesPerSecond,
		"fractionOfLimit": rate / min(limit.DiskMegabytesPerSecond, limit.LoopbackMegabytesPerSecond),
		"pullMillis":      micros(h.Pulling) / 1000, "totalMillis": micros(h.Total) / 1000,
	}
	if u.Measured {
		out["cpuSecondsPerGB"] = u.CPU.Seconds() / (imported / 1e9)
	}
	return out, nil
}
