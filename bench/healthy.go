package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/adamantdb/adamant"
)

func healthyWorkload() workload {
	d := loadDefaults()
	d.load, d.Calibrate = loadHealthy, 10*time.Second
	return workload{
		verb:  "healthy",
		short: "What members say of each other when all is well, and how soon they say that something is not",
		long: `healthy writes to a cluster whose members are sound and counts the buckets in which a comparison found two of them to
differ: none should. Then it stops writing and measures what a comparison of two members costs, headers of frames included.
Then it does damage, with the default settings: the directory of one host is removed; and one host is killed while it is
written to and made to hold a document that was never written. What counts is the time from the opening of that host until the
cluster's status says what is wrong: a hole in every member of the first, safe mode of the damaged partition. At the end of
each but the last, all is read back on all hosts.`,
		example: `  bench healthy --duration 60s
  bench healthy --partitions 1 --writers 512 --processes`,
		defaults: d,
		protocol: protocol{rounds: 1, warmup: 2 * time.Second, duration: 60 * time.Second, seed: 1},
		flags: func(s *settings, f *pflag.FlagSet) {
			loadFlags(s, f)
			f.DurationVar(&s.Calibrate, "idle", s.Calibrate, "time without writes, in which comparisons are measured")
		},
		metrics: []metric{
			{"writesPerSecond", "writes/s", 1}, {"p99Micros", "p99 µs", 1}, {"comparisonsUnderLoad", "comparisons under load", 1},
			{"bucketsReportedDifferent", "buckets reported different", 1}, {"loadBytesPerPairAndRound", "bytes/comparison under load", 1},
			{"idleComparisons", "comparisons while idle", 1}, {"idleBytesPerPairAndRound", "bytes/comparison while idle", 1},
			{"idlePayloadBytesPerPairAndRound", "of them without frame headers", 1},
			{"lostDiskToReportMillis", "lost disk to report ms", 1}, {"damageToReportMillis", "damage to report ms", 1},
			{"faultToReportMillis", "fault to report ms, the worse", 1},
		},
		measure: func(ctx context.Context, t trial) (figures, error) { return t.onCluster(ctx, t.healthy) },
	}
}

// healthy measures a sound cluster, and then one that is not.
func (t trial) healthy(ctx context.Context, f *fleet) (figures, error) {
	out, err := t.write(ctx, f)
	if err != nil {
		return nil, err
	}
	loaded, err := f.compared(ctx)
	if err != nil {
		return nil, err
	}
	// Counted since the hosts were opened.
	out["comparisonsUnderLoad"], out["bucketsReportedDifferent"] = float64(loaded.Compares), float64(loaded.BucketsDifferent)
	if loaded.Compares > 0 {
		out["loadBytesPerPairAndRound"] = comparison(loaded)
	}
	stop := t.during("idle", t.warmup+t.duration, t.settings.Calibrate)
	err = pause(ctx, t.settings.Calibrate)
	stop()
	if err != nil {
		return nil, err
	}
	idle, err := f.compared(ctx)
	if err != nil {
		return nil, err
	}
	out["bucketsReportedDifferent"] = float64(idle.BucketsDifferent)
	idle.Compares -= loaded.Compares
	idle.CompareBytes -= loaded.CompareBytes
	out["idleComparisons"] = float64(idle.Compares)
	if idle.Compares > 0 {
		out["idleBytesPerPairAndRound"] = comparison(idle)
		out["idlePayloadBytesPerPairAndRound"] = float64(idle.CompareBytes) / float64(idle.Compares)
	}
	return out, t.faults(ctx, f, out)
}

// comparison is what one costs on the wire: a request and its answer, with the headers of their frames.
func comparison(m adamant.RepairMetrics) float64 {
	return float64(m.CompareBytes)/float64(m.Compares) + 2*headerBytes
}

// compared sums what all hosts' comparisons came to.
func (f *fleet) compared(ctx context.Context) (sum adamant.RepairMetrics, err error) {
	all, err := f.repairs(ctx)
	for _, m := range all {
		sum.Compares += m.Compares
		sum.CompareBytes += m.CompareBytes
		sum.BucketsDifferent += m.BucketsDifferent
	}
	return sum, err
}

// faults damages the last host in several ways.
func (t trial) faults(ctx context.Context, f *fleet, out figures) error {
	r := t.newRepair(f)
	t.tell("losing a disk", 0)
	lost, err := r.loseDisk(ctx)
	if err != nil {
		return err
	}
	if _, err := r.quiet(ctx); err != nil {
		return err
	}
	if _, err := f.census(ctx); err != nil {
		return err
	}
	t.tell("damaging a member", 0)
	damage, err := r.damage(ctx)
	if err != nil {
		return err
	}
	out["lostDiskToReportMillis"], out["damageToReportMillis"] = micros(lost)/1000, micros(damage)/1000
	out["faultToReportMillis"] = micros(max(lost, damage)) / 1000
	return nil
}
