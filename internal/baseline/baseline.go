// Package baseline measures what durability and a round trip cost on this machine by themselves: figures of a store mean
// little without them.
package baseline

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// Raw costs of this machine at this moment, beside which every figure stands.
const (
	syncs = 200
	trips = 1000
	size  = 256
)

// Costs are medians over one process that does nothing else.
type Costs struct {
	FsyncMicros             float64 `json:"fsyncMicros"`             // append 256 bytes to a file and fdatasync it
	LoopbackRoundTripMicros float64 `json:"loopbackRoundTripMicros"` // 256 bytes to an echoing TCP socket and back
}

// Measure takes the costs of this moment: a fraction of a second. dir is on the disk to measure.
func Measure(dir string) (Costs, error) {
	sync, err := syncMicros(dir)
	if err != nil {
		return Costs{}, fmt.Errorf("raw fsync in %s: %w", dir, err)
	}
	trip, err := tripMicros()
	if err != nil {
		return Costs{}, fmt.Errorf("raw round trip: %w", err)
	}
	return Costs{FsyncMicros: sync, LoopbackRoundTripMicros: trip}, nil
}

// syncMicros writes like a write-ahead log does: into a file that is preallocated, each record synced.
func syncMicros(dir string) (_ float64, err error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if rerr := os.Remove(f.Name()); err == nil {
			err = rerr
		}
	}()
	if _, err := f.Write(make([]byte, syncs*size)); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	record := make([]byte, size)
	var took []float64
	for i := range syncs {
		begun := time.Now()
		if _, err := f.WriteAt(record, int64(i)*size); err != nil {
			return 0, err
		}
		if err := dataSync(f); err != nil {
			return 0, err
		}
		took = append(took, micros(time.Since(begun)))
	}
	return median(took), nil
}

func tripMicros() (float64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	echoed := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			c.Close()
		}
		echoed <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	b := make([]byte, size)
	var took []float64
	for range trips {
		begun := time.Now()
		if _, err := c.Write(b); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return 0, err
		}
		took = append(took, micros(time.Since(begun)))
	}
	if err := c.Close(); err != nil {
		return 0, err
	}
	return median(took), <-echoed
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// median is the mean of the two values in the middle of an even number of them.
func median(values []float64) float64 {
	slices.Sort(values)
	mid := len(values) / 2
	return (values[mid-1] + values[mid]) / 2
}
