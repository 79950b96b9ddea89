package antientropy

import (
	"fmt"
	"sync"
	"time"
)

// Compression says when replies with documents are compressed.
type Compression uint8

const (
	// CompressAuto measures, for each peer, with which of the two documents come sooner.
	CompressAuto Compression = iota
	// CompressOff never asks for it.
	CompressOff
	// CompressAlways asks for it always; a reply that does not get smaller comes as it is.
	CompressAlways
)

// String returns "auto", "off" or "always".
func (c Compression) String() string {
	switch c {
	case CompressAuto:
		return "auto"
	case CompressOff:
		return "off"
	case CompressAlways:
		return "always"
	}
	return fmt.Sprintf("compression(%d)", uint8(c))
}

// ParseCompression is the inverse of String.
func ParseCompression(s string) (Compression, error) {
	for c := CompressAuto; c <= CompressAlways; c++ {
		if s == c.String() {
			return c, nil
		}
	}
	return 0, fmt.Errorf("unknown compression %q: want auto, off or always", s)
}

// links decides whether to ask a peer for compressed replies. What counts is how fast documents come, uncompressed bytes per
// second from question to answer: that weighs the rate of the link against what compressing costs at the peer and undoing it
// costs here. The two ways are compared by trying both. Safe for concurrent use.
type links struct {
	mode Compression
	mu   sync.Mutex
	to   map[string]*link
}

// link is what is known of one peer: rates in bytes per second, moving averages; 0: not tried.
type link struct {
	plain, packed float64
	asked         int
	futile        bool // the last reply that was to be compressed did not get smaller
}

const (
	// worthwhile is by how much faster compressed replies have to be: they cost both sides work.
	worthwhile = 1.25
	// tryOther is how seldom the way is tried that is not the better one.
	tryOther = 16
	// tryFutile is that while what is stored there does not get smaller.
	tryFutile = 128
	// telling is the size from which on a reply says something about the rate.
	telling = 64 << 10
)

func (l *links) wish(host string) bool {
	if l.mode != CompressAuto {
		return l.mode == CompressAlways
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.of(host)
	k.asked++
	switch {
	case k.plain == 0:
		return false
	case k.packed == 0:
		return true
	}
	if k.futile {
		return k.asked%tryFutile == 0
	}
	better := k.packed > worthwhile*k.plain
	return better != (k.asked%tryOther == 0)
}

// saw takes note of a reply of so many bytes, uncompressed, that was asked for with a wish, and came compressed or not. One
// that did not although it was to be has cost the attempt and brought nothing; its rate is that of the link by chance.
func (l *links) saw(host string, wish, packed bool, bytes int, took time.Duration) {
	if l.mode != CompressAuto || bytes < telling || took <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.of(host)
	average := &k.plain
	if wish {
		average, k.futile = &k.packed, !packed
	}
	rate := float64(bytes) / took.Seconds()
	if *average == 0 {
		*average = rate
	}
	*average += (rate - *average) / 8
}

func (l *links) of(host string) *link {
	k := l.to[host]
	if k == nil {
		if l.to == nil {
			l.to = map[string]*link{}
		}
		k = &link{}
		l.to[host] = k
	}
	return k
}
