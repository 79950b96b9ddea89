package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/adamantdb/adamant/merkle"
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
		{"designPartitionScale", "one partition: of its buckets, one in", 1},
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
	bucket, err := t.designed(ctx, "bucket", inBuckets(1, designBucket))
	if err != nil {
		return nil, err
	}
	partition, err := t.designed(ctx, "partition", inBuckets(merkle.Buckets/t.settings.Scale, designBucket))
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

// inBuckets finds documents for the first buckets of a cluster's only partition, so many for each.
func inBuckets(buckets, count int) []placed {
	list := make([]placed, 0, buckets*count)
	found := make([]int, buckets)
	for n := 0; len(list) < buckets*count; n++ {
		if b := int(store.FullRange().Bucket(documentKey(n).Hash())); b < buckets && found[b] < count {
			found[b]++
			list = append(list, placed{Number: n})
		}
	}
	return list
}

// designed are the settings as --design wants them, but for flags that were given, which check refuses.
func (s settings) designed(given func(flag string) bool) settings {
	want := designSettings
	for _, f := range []struct {
		name string
		take func()
	}{
		{"docs", func() { s.Documents = want.Documents }}, {"deltas", func() { s.Deltas = want.Deltas }}, {"delta-size", func() { s.Size = want.Size }},
		{"partitions", func() { s.Partitions = want.Partitions }}, {"load", func() { s.Load = want.Load }}, {"kills", func() { s.Kills = want.Kills }},
	} {
		if !given(f.name) {
			f.take()
		}
	}
	return s
}

// designSettings are what --design does not leave to flags.
var designSettings = settings{Documents: designPartition, Deltas: designDeltas, Size: designSize, Partitions: 1, Missing: missingAll, Kind: kindMissing}

func (s settings) checkDesign() error {
	w := designSettings
	if s.Documents != w.Documents || s.Deltas != w.Deltas || s.Size != w.Size || s.Partitions != w.Partitions || s.Load != w.Load || s.Kills != w.Kills {
		return fmt.Errorf("--design repairs documents of its own, without writes and kills: want none of --docs, --deltas, --delta-size, --partitions, --load and --kills")
	}
	return nil
}
