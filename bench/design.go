package main

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"

	"github.com/adamantdb/adamant/store"
)

// What the source design has in mind: documents of 1000 deltas of 64 bytes, 512 of them in a bucket, 256 buckets in a partition, 64
// partitions on a host; and what it promises of repairs over a link of 1 Gb/s.
const (
	designDeltas     = 1000
	designSize       = 64
	designBucket     = 512
	designPartition  = 256 * designBucket
	designPartitions = 64

	promisedBucketMillis    = 250
	promisedPartitionMillis = 16_000 // from four sources
	promisedHostMinutes     = 17

	gigabit = 1e9 / 8 // bytes a second
)

func designMetrics() []metric {
	return []metric{
		{"designBucketBytes", "one bucket: MB missing", 1e-6}, {"designBucketMillis", "one bucket: pulling ms", 1},
		{"designBucketPromisedMillis", "the source design's, at 1 Gb/s", 1},
		{"designBucketGigabitMillis", "at 1 Gb/s its bytes on the wire take (computed)", 1},
		{"designPartitionScale", "one partition: of its documents, one in", 1},
		{"designPartitionBytes", "that much: MB missing", 1e-6}, {"designPartitionMillis", "that much: pulling ms", 1},
		{"designPartitionEntriesPerSecond", "that much: entries/s", 1}, {"designPartitionMegabytesPerSecond", "that much: MB/s", 1},
		{"designPartitionExtrapolatedMillis", "all of it: ms (extrapolated)", 1},
		{"designPartitionPromisedMillis", "the source design's, from four sources at 1 Gb/s", 1},
		{"designPartitionGigabitMillis", "at 1 Gb/s its bytes on the wire take (extrapolated)", 1},
		{"designHostExtrapolatedMinutes", "one host, 64 partitions: minutes (extrapolated)", 1},
		{"designHostPromisedMinutes", "the source design's, at 1 Gb/s", 1},
	}
}

// design measures the source design's own figures: the repair of one bucket, and of a part of one partition.
func (t trial) design(ctx context.Context) (figures, error) {
	t.settings.Partitions, t.settings.Deltas, t.settings.Size = 1, designDeltas, designSize
	bucket, err := t.designed(ctx, "bucket", inBucket(0, designBucket))
	if err != nil {
		return nil, err
	}
	all := make([]placed, designPartition/t.settings.Scale)
	for i := range all {
		all[i].Number = i
	}
	partition, err := t.designed(ctx, "partition", all)
	if err != nil {
		return nil, err
	}
	return designFigures(bucket, partition, float64(t.settings.Scale)), nil
}

func designFigures(bucket, partition figures, scale float64) figures {
	whole := partition["pullMillis"] * scale
	return figures{
		"designBucketBytes": bucket["bytesMissing"], "designBucketMillis": bucket["pullMillis"],
		"designBucketPromisedMillis": promisedBucketMillis, "designBucketGigabitMillis": bucket["bytesOnWire"] / gigabit * 1000,
		"designPartitionScale": scale, "designPartitionBytes": partition["bytesMissing"], "designPartitionMillis": partition["pullMillis"],
		"designPartitionEntriesPerSecond":   partition["entriesPerSecond"],
		"designPartitionMegabytesPerSecond": partition["megabytesPerSecond"],
		"designPartitionExtrapolatedMillis": whole, "designPartitionPromisedMillis": promisedPartitionMillis,
		"designPartitionGigabitMillis":  partition["bytesOnWire"] * scale / gigabit * 1000,
		"designHostExtrapolatedMinutes": whole * designPartitions / 60_000, "designHostPromisedMinutes": promisedHostMinutes,
		"diskMegabytesPerSecond":     math.Min(bucket["diskMegabytesPerSecond"], partition["diskMegabytesPerSecond"]),
		"loopbackMegabytesPerSecond": math.Min(bucket["loopbackMegabytesPerSecond"], partition["loopbackMegabytesPerSecond"]),
	}
}

// designed repairs an empty host of a cluster of its own that holds these documents.
func (t trial) designed(ctx context.Context, name string, documents []placed) (out figures, err error) {
	t.dir = filepath.Join(t.dir, name)
	t.settings.Documents = len(documents)
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }() // the next one may need the room
	return t.onCluster(ctx, func(ctx context.Context, f *fleet) (figures, error) {
		r := t.newRepair(f)
		if err := r.make(ctx, documents, nil); err != nil {
			return nil, err
		}
		out, _, err := r.measure(ctx, nil, nil)
		return out, err
	})
}

// inBucket finds documents of one bucket of a cluster's only partition.
func inBucket(bucket uint8, count int) []placed {
	list := make([]placed, 0, count)
	for n := 0; len(list) < count; n++ {
		if store.FullRange().Bucket(documentKey(n).Hash()) == bucket {
			list = append(list, placed{Number: n})
		}
	}
	return list
}
