package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// benchBucket is a member whose bucket 9 holds about so many bytes in deltas of a size.
func benchBucket(b *testing.B, bytes, documents, size int) (*docsMember, *script) {
	y, s := newDocsMember(b), newScript()
	deltas := bytes / documents / size
	for i := range documents {
		key := keyInBucket(FullRange(), 9, i)
		s.create(key, size)
		for left := deltas - 1; left > 0; left -= 100 {
			s.append(key, min(left, 100), size)
		}
	}
	y.follow(b, s, s.last())
	if err := y.e.db.Flush(); err != nil {
		b.Fatal(err)
	}
	return y, s
}

var benchSizes = []struct{ bytes, documents, size int }{{16 << 20, 256, 64}, {64 << 20, 256, 4096}}

// chunksOf is the wire form of a whole bucket.
func chunksOf(b *testing.B, y *docsMember, budget int) (wire [][]byte, entries, bytes int) {
	var wants []Want
	for _, hash := range pageOf(b, y.Documents, 9, ListQuery{}).Hashes() {
		wants = append(wants, Want{Hash: hash})
	}
	q := &ExportQuery{Wants: wants, Budget: budget}
	for {
		c, err := y.Export(9, q)
		if err != nil {
			b.Fatal(err)
		}
		for i := range c.Docs {
			entries += len(c.Docs[i].Entries)
		}
		bytes += chunkBytes(c)
		wire = append(wire, c.AppendBinary(nil))
		if c.Done {
			return wire, entries, bytes
		}
		q.From = c.Next
	}
}

// reportRate is of entries and bytes for each round.
func reportRate(b *testing.B, entries, bytes int, cpu time.Duration) {
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(entries*b.N), "cpu-ns/entry")
	b.ReportMetric(cpu.Seconds()*1e9/float64(bytes*b.N), "cpu-s/GB")
	b.ReportMetric(float64(bytes)*float64(b.N)/1e6/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(float64(entries)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkExport reads a bucket from tables and encodes it.
func BenchmarkExport(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size.size), func(b *testing.B) {
			y, _ := benchBucket(b, size.bytes, size.documents, size.size)
			var entries, bytes int
			start := cpuTime()
			for b.Loop() {
				_, entries, bytes = chunksOf(b, y, 512<<10)
			}
			reportRate(b, entries, bytes, cpuTime()-start)
		})
	}
}

// BenchmarkImport decodes, verifies and stores a bucket, entry by entry and by tables, on a disk.
func BenchmarkImport(b *testing.B) {
	for _, size := range benchSizes {
		y, s := benchBucket(b, size.bytes, size.documents, size.size)
		wire, entries, bytes := chunksOf(b, y, 512<<10)
		for _, way := range []string{"merge", "ingest"} {
			b.Run(fmt.Sprintf("%d/%s", size.size, way), func(b *testing.B) {
				var cpu time.Duration
				for b.Loop() {
					b.StopTimer()
					e, d := openMember(b, DocOptions{Dir: b.TempDir(), FS: vfs.Default, Cluster: "c", Host: "h1", Incarnation: "i1"})
					if way == "merge" {
						e.bulk.limits.chunk = 1 << 40
					}
					must(b, d.RecordHole(1, s.last()))
					b.StartTimer()
					start := cpuTime()
					importAll(b, d, wire)
					must(b, e.Sync())
					b.StopTimer()
					must(b, e.Close())
					cpu += cpuTime() - start // with flushes and compactions that it leaves behind
					if got := d.Status().Bytes; got != int64(bytes) || way == "ingest" != (e.bulk.tables.Load() > 0) {
						b.Fatalf("%d bytes of %d, %d tables", got, bytes, e.bulk.tables.Load())
					}
					b.StartTimer()
				}
				reportRate(b, entries, bytes, cpu)
			})
		}
	}
}

func importAll(b *testing.B, d *Documents, wire [][]byte) {
	session := d.BeginSession(9)
	for _, w := range wire {
		c, err := DecodeChunk(w)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := session.Import(c); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := session.Finish(); err != nil {
		b.Fatal(err)
	}
}
