package main

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/pflag"
)

func writeWorkload() workload {
	return workload{
		verb:  "write",
		short: "Durable writes under load",
		long: `write lets writers append to documents, each writer one delta after the other as it is acknowledged, and measures
throughput, latency, CPU and what reaches the disk. CPU is that of all hosts and of the writers. Bytes written are those of
both engines on all hosts, in the measured time: write-ahead logs, and tables that are flushed and compacted. A memtable is flushed
when it is full (32 MB of the documents), so a short run sees none of that; with a minute or more the figure settles.`,
		example: `  bench write --hosts 3 --partitions 64 --writers 64 --size 256 --duration 10s --log pebble
  bench write --compare writers=1,64,512 --rounds 5
  bench write --writers 1 --busy 1 --compare partitions=1,1000   # one busy partition alone, and beside quiet ones
  bench write --parts --rounds 5                                  # where processor time goes`,
		defaults: loadDefaults(),
		protocol: protocol{rounds: 3, warmup: 2 * time.Second, duration: 10 * time.Second, seed: 1},
		flags:    writeFlags,
		metrics: append([]metric{
			{"writesPerSecond", "writes/s", 1}, {"p50Micros", "p50 µs", 1}, {"p99Micros", "p99 µs", 1}, {"maxMicros", "max µs", 1},
			{"cpuMicrosPerWrite", "CPU µs/write", 1}, {"fsyncsPerWrite", "fsyncs/write", 1}, {"bytesWrittenPerByte", "bytes written/byte", 1},
			{"tableBytesPerByte", "of them to tables", 1},
			{"deviceBytesPerByte", "device bytes/byte", 1}, {"linkBytesPerByte", "link bytes/byte", 1}, {"framesPerWrite", "frames/write", 1},
			{"mallocsPerWrite", "allocations/write", 1}, {"retriesPerWrite", "retries/write", 1},
		}, partMetrics()...),
		measure: measureWrite,
	}
}

func loadDefaults() settings {
	return settings{load: loadFree, Hosts: 3, Partitions: 64, Voters: 3, Log: "pebble", Writers: 64, Documents: 4096, Size: 256, Deltas: 1}
}

func writeFlags(s *settings, f *pflag.FlagSet) {
	loadFlags(s, f)
	f.BoolVar(&s.Parts, "parts", s.Parts, "divide the processor time of a write among the parts that use it, by a profile, which costs a little itself")
	f.StringVar(&s.Profile, "cpuprofile", s.Profile, "also write that profile to this file, which must not exist, for go tool pprof")
}

// measureWrite runs one trial.
func measureWrite(ctx context.Context, t trial) (figures, error) { return t.onCluster(ctx, t.write) }

// write puts load on an open cluster for the warm-up, then for the measured time between two looks at the counters.
func (t trial) write(ctx context.Context, f *fleet) (figures, error) {
	t.tell("creating documents", 0)
	if err := f.prepare(ctx, t.seed); err != nil {
		return nil, err
	}
	if t.warmup > 0 {
		stop := t.during("warming up", 0, t.warmup)
		_, err := f.load(ctx, order{Do: doLoad, Duration: t.warmup})
		stop()
		if err != nil {
			return nil, err
		}
	}
	before, err := f.usage(ctx)
	if err != nil {
		return nil, err
	}
	stop := t.during("writing", t.warmup, t.duration)
	var r loadReport
	shares, err := t.profiled(ctx, func(ctx context.Context) (err error) {
		r, err = f.load(ctx, order{Do: doLoad, Duration: t.duration})
		return err
	})
	stop()
	if err != nil {
		return nil, err
	}
	after, err := f.usage(ctx)
	if err != nil {
		return nil, err
	}
	out, err := writeFigures(r, after.since(before))
	if err != nil {
		return nil, err
	}
	for part, share := range shares {
		out[part] = share * out["cpuMicrosPerWrite"]
	}
	return out, nil
}

func writeFigures(r loadReport, u usage) (figures, error) {
	if r.Writes == 0 {
		return nil, fmt.Errorf("no write was acknowledged")
	}
	h := hdrhistogram.Import(r.Latency)
	writes, bytes := float64(r.Writes), float64(r.Bytes)
	out := figures{
		"writesPerSecond": writes / r.Elapsed.Seconds(),
		"p50Micros":       float64(h.ValueAtQuantile(50)),
		"p99Micros":       float64(h.ValueAtQuantile(99)),
		"maxMicros":       float64(h.Max()),
		"retriesPerWrite": float64(r.Retries) / writes,
		// Of both engines: what is synced and written for one write on all replicas.
		"fsyncsPerWrite":      float64(u.LogSyncs+u.DocumentSyncs) / writes,
		"bytesWrittenPerByte": float64(u.LogBytes+u.DocumentBytes+u.TableBytes) / bytes,
		"tableBytesPerByte":   float64(u.TableBytes) / bytes,
		"linkBytesPerByte":    float64(u.LinkBytes) / bytes,
		"framesPerWrite":      float64(u.LinkFrames) / writes,
		"mallocsPerWrite":     float64(u.Mallocs) / writes,
	}
	if u.Measured {
		out["cpuMicrosPerWrite"] = micros(u.CPU) / writes
		if u.DiskBytes > 0 {
			out["deviceBytesPerByte"] = float64(u.DiskBytes) / bytes
		}
	}
	return out, nil
}
