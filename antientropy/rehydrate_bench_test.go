package antientropy

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkRehydrate fills an empty member from two others, everything on the disk and in one process: the CPU of both sides and
// of what the engines do behind, without a network.
func BenchmarkRehydrate(b *testing.B) {
	for _, size := range []struct{ documents, deltas, size int }{{100_000, 10, 64}, {1000, 1000, 64}, {20_000, 10, 256}, {2000, 10, 4096}} {
		b.Run(fmt.Sprintf("%dx%dx%d", size.documents, size.deltas, size.size), func(b *testing.B) {
			c := newLargeCluster(b, 16<<20)
			defer c.close()
			h := newHistory(1)
			c.logs[1] = h
			for range size.deltas {
				for d := range size.documents {
					h.write(key(d), size.size)
				}
			}
			for _, name := range []string{"a", "b"} {
				c.addOn(name, vfs.Default, b.TempDir()).apply(1, h.last())
			}
			entries := size.documents * size.deltas
			last := h.last()
			c.logs[1], h = nil, nil
			var took, cpu time.Duration
			for b.Loop() {
				m := c.addOn("c", vfs.Default, b.TempDir())
				m.member(1)
				m.skip(1, last)
				runtime.GC()
				start, used := time.Now(), cpuTime()
				l := m.start(Options{Interval: time.Second})
				eventually(b, "completeness", func() bool { return m.member(1).docs.Status().Complete })
				took, cpu = took+time.Since(start), cpu+cpuTime()-used
				c.sameRoots(1, "a", "c")
				_ = l
				m.stop()
				if err := m.engine.Close(); err != nil {
					b.Fatal(err)
				}
				delete(c.machines, "c")
			}
			b.ReportMetric(float64(entries*b.N)/took.Seconds(), "entries/s")
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(entries*b.N), "cpu-ns/entry")
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
