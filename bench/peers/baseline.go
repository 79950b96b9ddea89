package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Raw costs of this machine at this moment, beside which every figure stands.
const (
	baselineSyncs = 200
	baselineTrips = 1000
	baselineBytes = 256
)

// baseline are medians over one process that does nothing else.
type baseline struct {
	FsyncMicros             float64 `json:"fsyncMicros"`             // append 256 bytes to a file and fdatasync it
	LoopbackRoundTripMicros float64 `json:"loopbackRoundTripMicros"` // 256 bytes to an echoing TCP socket and back
}

func measureBaseline(dir string) (baseline, error) {
	sync, err := syncMicros(dir)
	if err != nil {
		return baseline{}, fmt.Errorf("raw fsync in %s: %w", dir, err)
	}
	trip, err := tripMicros()
	if err != nil {
		return baseline{}, fmt.Errorf("raw round trip: %w", err)
	}
	return baseline{FsyncMicros: sync, LoopbackRoundTripMicros: trip}, nil
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
	if _, err := f.Write(make([]byte, baselineSyncs*baselineBytes)); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	record := make([]byte, baselineBytes)
	var took []float64
	for i := range baselineSyncs {
		begun := time.Now()
		if _, err := f.WriteAt(record, int64(i)*baselineBytes); err != nil {
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
	b := make([]byte, baselineBytes)
	var took []float64
	for range baselineTrips {
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
