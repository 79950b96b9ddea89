package baseline

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// How much is moved to measure a bandwidth, and how often.
const (
	streamed = 64 << 20
	chunk    = 1 << 20
	streams  = 3
)

// Bandwidths bound what anything can move that goes over a socket to a disk. They are medians.
type Bandwidths struct {
	DiskMegabytesPerSecond     float64 `json:"diskMegabytesPerSecond"`     // 64 MiB into a new file, in order, and one fdatasync
	LoopbackMegabytesPerSecond float64 `json:"loopbackMegabytesPerSecond"` // 64 MiB over a TCP connection on loopback
}

// MeasureBandwidths takes the bandwidths of this moment. dir is on the disk to measure.
func MeasureBandwidths(dir string) (Bandwidths, error) {
	var disk, loopback []float64
	for range streams {
		d, err := diskBandwidth(dir)
		if err != nil {
			return Bandwidths{}, fmt.Errorf("raw disk bandwidth in %s: %w", dir, err)
		}
		l, err := loopbackBandwidth()
		if err != nil {
			return Bandwidths{}, fmt.Errorf("raw loopback bandwidth: %w", err)
		}
		disk, loopback = append(disk, d), append(loopback, l)
	}
	slices.Sort(disk)
	slices.Sort(loopback)
	return Bandwidths{DiskMegabytesPerSecond: disk[streams/2], LoopbackMegabytesPerSecond: loopback[streams/2]}, nil
}

// pattern is a chunk that no layer below can shrink to nothing.
func pattern() []byte {
	b := make([]byte, chunk)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func diskBandwidth(dir string) (_ float64, err error) {
	f, err := os.CreateTemp(dir, "stream-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	b := pattern()
	begun := time.Now()
	for range streamed / chunk {
		if _, err := f.Write(b); err != nil {
			return 0, err
		}
	}
	if err := dataSync(f); err != nil {
		return 0, err
	}
	return megabytesPerSecond(time.Since(begun)), nil
}

func loopbackBandwidth() (float64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			l.Close() // nobody else comes
			sent <- err
			return
		}
		b := pattern()
		for i := 0; i < streamed/chunk && err == nil; i++ {
			_, err = c.Write(b)
		}
		sent <- errors.Join(err, c.Close())
	}()
	c, err := l.Accept()
	if err != nil {
		return 0, errors.Join(err, <-sent)
	}
	defer c.Close()
	begun := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, chunk))
	took := time.Since(begun)
	if err := errors.Join(err, <-sent); err != nil {
		return 0, err
	}
	if n != streamed {
		return 0, fmt.Errorf("%d of %d bytes arrived", n, streamed)
	}
	return megabytesPerSecond(took), nil
}

func megabytesPerSecond(took time.Duration) float64 { return streamed / 1e6 / took.Seconds() }
