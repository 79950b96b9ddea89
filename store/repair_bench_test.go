package store

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkPullBucket is the local work of healing one bucket of 512 documents of 20 deltas of 64 bytes, without a
// network: list, compare, export, encode, decode, verify, import.
func BenchmarkPullBucket(b *testing.B) {
	y, s := newDocsMember(b), newScript()
	const documents = 512
	for i := range documents {
		key := keyInBucket(FullRange(), 9, i)
		s.create(key, 64)
		s.append(key, 19, 64)
	}
	y.follow(b, s, s.last())
	var bytes, entries int64
	for b.Loop() {
		b.StopTimer()
		e, err := OpenDocs(testOptions(vfs.NewMem()))
		if err != nil {
			b.Fatal(err)
		}
		d, err := e.Member(7, FullRange())
		if err != nil {
			b.Fatal(err)
		}
		x := &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
		if err := x.RecordHole(1, s.last()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		moved := x.pullBucket(b, y, 9, 1<<20)
		bytes, entries = bytes+moved.report.Bytes, entries+int64(moved.report.Entries)
		b.StopTimer()
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(bytes)/1e6/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkList is one listing of a bucket of 512 documents, all of them as rows or all as the rest.
func BenchmarkList(b *testing.B) {
	y, s := newDocsMember(b), newScript()
	for i := range 512 {
		s.create(keyInBucket(FullRange(), 9, i), 64)
	}
	y.follow(b, s, s.last())
	for name, since := range map[string]uint64{"rows": 0, "rest": s.last()} {
		b.Run(name, func(b *testing.B) {
			bytes := 0
			for b.Loop() {
				bytes = len(pageOf(b, y.Documents, 9, ListQuery{Since: since}).AppendBinary(nil))
			}
			b.ReportMetric(float64(bytes), "wire-bytes")
		})
	}
}
