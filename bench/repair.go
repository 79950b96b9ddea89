package main

import (
	"context"
	"errors"
	"fmt"
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
bring it; logs are kept short for that. Rates are over the time since the first request for documents. The limit is the lesser of a sequential
write with its sync and of a TCP stream on loopback, measured before the host comes back. Bytes on the wire are those of repair's own
requests and answers; discovery is what of them asked for sums and listings. At the end every document is read back on every host,
and the run fails unless all hosts hold the same, and as many documents, entries and heads as were written.

Then the same is done again. With --load the other hosts are written to during another repair, at a fixed rate, as they were
while all hosts were whole; latencies count from when a write was due. With --kills the host is killed in the middle of two more
repairs, when it has 50 % and 99 %, and what is sent again is what the others sent beyond what they sent for the first one. There
are no figures of a kill that came too late, because little was missing, and none of the worse of the two.

With --design one bucket (512 documents of 1000 deltas of 64 bytes) and a part of one partition are repaired, and what the source
design promises is printed beside it.`,
		example: `  bench repair --docs 100000 --deltas 10 --delta-size 64
  bench repair --missing 10 --docs 131072 --kind stale
  bench repair --docs 131072 --missing 10 --load 0 --kills=false
  bench repair --compare sources=1,3 --rtt 5ms --rounds 5
  bench repair --design --sources 4`,
		defaults: settings{load: loadFill, Sources: 2, Hosts: 3, Partitions: 1, Voters: 3, Log: "pebble", Documents: 10_000, Deltas: 10, Size: 256,
			Missing: missingAll, Kind: kindMissing, Load: 0.5, Calibrate: 3 * time.Second, Kills: true, Scale: 16},
		protocol: protocol{untimed: true, rounds: 3, seed: 1},
		flags:    repairFlags,
		metrics:  append(repairMetrics(), designMetrics()...),
		measure:  measureRepair,
	}
}

func repairMetrics() []metric {
	return []metric{
		{"bytesMissing", "MB missing", 1e-6}, {"bytesOnWire", "MB on the wire", 1e-6}, {"wireBytesPerByte", "wire bytes/byte", 1},
		{"discoveryBytes", "bytes of discovery", 1}, {"frameBytes", "bytes of frame headers", 1}, {"documentsPulled", "documents pulled", 1},
		{"entriesPulled", "entries pulled", 1}, {"entriesAlreadyThere", "entries pulled in vain", 1},
		{"entriesPerSecond", "entries/s", 1}, {"megabytesPerSecond", "MB/s", 1}, {"diskMegabytesPerSecond", "raw disk MB/s", 1},
		{"loopbackMegabytesPerSecond", "raw loopback MB/s", 1}, {"fractionOfLimit", "fraction of limit", 1},
		{"throttledFraction", "bytes/s pulled, of those configured", 1},
		{"cpuSecondsPerGB", "CPU s/GB", 1}, {"peakExtraMemoryBytes", "MB of memory, at the most", 1.0 / (1 << 20)},
		{"peakExtraResidentBytes", "MB of memory that the system gave, at the most", 1.0 / (1 << 20)},
		{"mostInFlightBytes", "MB of answers under way, at the most", 1.0 / (1 << 20)},
		{"pullMillis", "pulling ms", 1}, {"totalMillis", "open to complete ms", 1},
		{"foregroundWritesPerSecond", "foreground writes/s", 1},
		{"foregroundP99BeforeMicros", "foreground p99 µs before", 1}, {"foregroundP99DuringMicros", "foreground p99 µs during", 1},
		{"foregroundP99Ratio", "during/before", 1}, {"foregroundWritesDuring", "foreground writes during", 1},
		{"megabytesPerSecondUnderLoad", "MB/s meanwhile", 1},
		{"resentAfterKill50Bytes", "bytes sent again, killed at 50 %", 1}, {"resentAfterKill99Bytes", "bytes sent again, killed at 99 %", 1},
		{"resentAfterKillBytes", "bytes sent again, the worse", 1}, {"resentAfterKillFraction", "of what was missing", 1},
		{"killsTooLate", "kills that came too late", 1},
	}
}

// repairTrial is one cluster and the repairs of one of its hosts.
type repairTrial struct {
	trial
	fleet  *fleet
	victim string // the last host: see shape

	want   census      // what all hosts must hold in the end, without a digest
	lacked int         // times that the host was made to lack something
	writes *foreground // nil without --load
}

func measureRepair(ctx context.Context, t trial) (figures, error) {
	if t.settings.Design {
		return t.design(ctx)
	}
	return t.onCluster(ctx, t.rebuild)
}

func (t trial) newRepair(f *fleet) *repairTrial {
	names := f.cluster.HostNames()
	return &repairTrial{trial: t, fleet: f, victim: names[len(names)-1]}
}

// rebuild measures one repair, and those of --kills.
func (t trial) rebuild(ctx context.Context, f *fleet) (_ figures, err error) {
	r := t.newRepair(f)
	before, stale, absent := t.settings.split()
	if err := r.make(ctx, before, stale); err != nil {
		return nil, err
	}
	if t.settings.Load > 0 {
		if r.writes, err = newForeground(ctx, r); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, r.writes.close()) }()
		if err := r.writes.calibrate(ctx); err != nil {
			return nil, err
		}
	}
	out, clean, err := r.measure(ctx, stale, absent)
	if err == nil && r.writes != nil {
		err = r.underLoad(ctx, stale, absent, out)
	}
	if err == nil && t.settings.Kills {
		err = r.kills(ctx, stale, absent, clean, out)
	}
	return out, err
}

// repaired is what came of one repair.
type repaired struct {
	missing int64 // bytes
	heal    healReport
	served  uint64 // bytes that the other hosts sent for it
	usage   usage
}

// measure lets the host lack something and measures its repair while nobody writes.
func (r *repairTrial) measure(ctx context.Context, stale, absent []placed) (figures, *repaired, error) {
	one := &repaired{}
	var err error
	if one.missing, err = r.lack(ctx, stale, absent); err != nil {
		return nil, nil, err
	}
	r.tell("measuring the limit", 0)
	limit, err := baseline.MeasureBandwidths(r.dir)
	if err != nil {
		return nil, nil, err
	}
	r.tell("repairing", 0)
	if err := r.repair(ctx, one); err != nil {
		return nil, nil, err
	}
	if err := r.verify(ctx); err != nil {
		return nil, nil, err
	}
	out, err := repairFigures(one, limit)
	if err != nil {
		return nil, nil, err
	}
	if rate := r.settings.Throttle; rate > 0 {
		out["throttledFraction"] = float64(one.heal.Repair.PullBytes) / one.heal.Pulling.Seconds() / float64(rate)
	}
	return out, one, nil
}

// underLoad repairs once more, while the other hosts are written to.
func (r *repairTrial) underLoad(ctx context.Context, stale, absent []placed, out figures) error {
	if _, err := r.lack(ctx, stale, absent); err != nil {
		return err
	}
	one := &repaired{}
	r.tell("repairing under load", 0)
	r.writes.start(ctx)
	err := r.repair(ctx, one)
	if err := errors.Join(err, r.writes.stop()); err != nil {
		return err
	}
	if err := r.verify(ctx); err != nil {
		return err
	}
	out["pullUnderLoadMillis"] = micros(one.heal.Pulling) / 1000
	out["megabytesPerSecondUnderLoad"] = float64(one.heal.Repair.ImportedBytes) / 1e6 / one.heal.Pulling.Seconds()
	return r.writes.figures(out)
}

// repair brings the host back and waits until it is whole.
func (r *repairTrial) repair(ctx context.Context, one *repaired) error {
	f := r.fleet
	wanted, err := f.applied(ctx)
	if err != nil {
		return err
	}
	before, err := f.usage(ctx)
	if err != nil {
		return err
	}
	served, err := f.served(ctx, r.victim)
	if err != nil {
		return err
	}
	if one.heal, err = r.reopen(ctx, wanted, 0); err != nil {
		return err
	}
	if got := one.heal.Repair.HolesClosed; got < uint64(len(wanted)) {
		return fmt.Errorf("only %d of %s had holes: Raft brought the rest, which is no repair", got, quantity(len(wanted), "member"))
	}
	after, err := f.usage(ctx)
	if err != nil {
		return err
	}
	one.usage = after.since(before)
	now, err := f.served(ctx, r.victim)
	one.served = now - served
	return err
}

// reopen opens the host and watches its repair, to its end or until it has imported so many bytes.
func (r *repairTrial) reopen(ctx context.Context, wanted indexes, until int64) (healReport, error) {
	i := r.fleet.byHost[r.victim]
	o := r.fleet.orders[i]
	o.Hosts = []string{r.victim}
	a, err := r.fleet.crews[i].do(ctx, order{Do: doHeal, Open: o, Applied: wanted, Until: until})
	return a.Heal, err
}

// verify reads everything back everywhere: all hosts hold the same, and as much as was written.
func (r *repairTrial) verify(ctx context.Context) error {
	r.tell("reading back", 0)
	if _, err := r.quiet(ctx); err != nil {
		return err
	}
	got, err := r.fleet.census(ctx)
	if err != nil {
		return err
	}
	want := r.want
	if r.writes != nil {
		want = r.writes.addTo(want)
	}
	if got.size() != want {
		return fmt.Errorf("all hosts were read as %+v after the repair, want %+v", got.size(), want)
	}
	return nil
}

// headerBytes is what a frame adds to a request or an answer (docs/wire-format.md).
const headerBytes = 32

func repairFigures(one *repaired, limit baseline.Bandwidths) (figures, error) {
	m, pulling := &one.heal.Repair, one.heal.Pulling
	imported, missing := float64(m.ImportedBytes), float64(one.missing)
	if missing <= 0 || imported == 0 || pulling <= 0 {
		return nil, fmt.Errorf("nothing was repaired: %.0f bytes missing, %.0f imported in %v", missing, imported, pulling)
	}
	wire, rate := float64(m.CompareBytes+m.ListBytes+m.PullBytes), imported/1e6/pulling.Seconds()
	out := figures{
		"bytesMissing": missing, "bytesOnWire": wire, "wireBytesPerByte": wire / missing,
		"discoveryBytes": float64(m.CompareBytes + m.ListBytes), "compareBytes": float64(m.CompareBytes), "listBytes": float64(m.ListBytes),
		"frameBytes":    float64(2 * headerBytes * (m.Compares + m.Lists + m.Pulls)),
		"importedBytes": imported, "documentsPulled": float64(m.DocumentsIn), "entriesPulled": float64(m.EntriesIn),
		"entriesAlreadyThere": float64(m.AlreadyHad),
		"entriesPerSecond":    float64(m.EntriesIn) / pulling.Seconds(), "megabytesPerSecond": rate,
		"diskMegabytesPerSecond": limit.DiskMegabytesPerSecond, "loopbackMegabytesPerSecond": limit.LoopbackMegabytesPerSecond,
		"fractionOfLimit": rate / min(limit.DiskMegabytesPerSecond, limit.LoopbackMegabytesPerSecond),
		"pullMillis":      micros(pulling) / 1000, "totalMillis": micros(one.heal.Total) / 1000,
		"peakExtraMemoryBytes": float64(one.heal.Peak.Heap), "mostInFlightBytes": float64(m.MostInFlight),
	}
	if r := one.heal.Peak.Resident; r > 0 {
		out["peakExtraResidentBytes"] = float64(r)
	}
	if one.usage.Measured {
		out["cpuSecondsPerGB"] = one.usage.CPU.Seconds() / (imported / 1e9)
	}
	return out, nil
}
