package store

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// BenchmarkLogStore measures durable entries of 256 bytes: an op is one StoreLogs of one group, with one writer per group, and
// fsyncs/op says how many of them share one. Groups truncate as they do in operation.
func BenchmarkLogStore(b *testing.B) {
	for _, k := range logKinds {
		for _, groups := range []int{1, 64} {
			for _, batch := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s/groups=%d/batch=%d", k.name, groups, batch), func(b *testing.B) {
					benchmarkLogStore(b, k, groups, batch)
				})
			}
		}
	}
}

func benchmarkLogStore(b *testing.B, k logKind, groups, batch int) {
	o := logOptions(b.TempDir())
	o.MemTableBytes = 64 << 20
	e := openLog(b, k, o)
	writers := make([]LogGroup, groups)
	for p := range writers {
		writers[p] = openLogGroup(b, e, uint32(p))
		mustLog(b, writers[p].StoreLog(logEntry(1, 1))) // bolt creates its file
	}
	data := make([]byte, 256)
	b.SetBytes(int64(batch * len(data)))
	before := e.Stats()
	b.ResetTimer()
	var wg sync.WaitGroup
	for p, g := range writers {
		n := b.N / groups
		if p < b.N%groups {
			n++
		}
		wg.Go(func() {
			if err := benchmarkLogWriter(g, n, batch, data); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	after := e.Stats()
	b.ReportMetric(float64(after.Syncs-before.Syncs)/float64(b.N), "fsyncs/op")
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "entries/s")
}

// benchmarkLogWriter stores n batches, and drops the older half of the log whenever it has grown to 8192 entries.
func benchmarkLogWriter(g LogGroup, n, batch int, data []byte) error {
	const keep = 4096
	logs := make([]*raft.Log, batch)
	last := uint64(1)
	for range n {
		for i := range logs {
			last++
			logs[i] = &raft.Log{Index: last, Term: 1, Type: raft.LogCommand, Data: data}
		}
		if err := g.StoreLogs(logs); err != nil {
			return err
		}
		first, err := g.FirstIndex()
		if err != nil {
			return err
		}
		if last-first >= 2*keep {
			if err := g.SaveMarker(Marker{Index: last - keep, Term: 1}, true); err != nil {
				return err
			}
			if err := g.DeleteRange(first, last-keep); err != nil {
				return err
			}
		}
	}
	return nil
}
