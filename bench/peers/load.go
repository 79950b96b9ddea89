package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A value is {"t":"…"} with letters, and {"t":null}: to adamant a delta's redo and undo, to the others so many bytes.
const (
	payloadHead = `{"t":"`
	payloadTail = `"}`
	payloadUndo = `{"t":null}`
	minSize     = len(payloadHead) + len(payloadTail) + len(payloadUndo)
)

// payloadsPerWriter differ, so that nothing on the way can keep one and be quick with it.
const payloadsPerWriter = 16

// creators make the documents before a load, however many writers there are.
const creators = 128

// writer is one closed loop: it writes to documents of its own in random order, one write at a time.
type writer struct {
	number    int
	documents []int
	rng       *rand.Rand
	payloads  [][]byte // never changed
	writes    uint64
	retries   uint64
}

func newWriters(s settings, o CreateOrder) []*writer {
	var all []*writer
	for i := range o.Writers {
		all = append(all, newWriter(o.FirstWriter+i, s.Size, s.Seed))
	}
	for i, d := range o.Documents {
		if len(all) == 0 {
			break // with few writers, a site may have documents but no writer
		}
		w := all[i%len(all)]
		w.documents = append(w.documents, d.Number)
	}
	return all
}

func newWriter(number, size int, seed uint64) *writer {
	w := &writer{number: number, rng: rand.New(rand.NewPCG(seed, uint64(number)))}
	for range payloadsPerWriter {
		w.payloads = append(w.payloads, newPayload(w.rng, size))
	}
	return w
}

func newPayload(rng *rand.Rand, size int) []byte {
	value := make([]byte, 0, size)
	value = append(value, payloadHead...)
	for len(value) < size-len(payloadTail)-len(payloadUndo) {
		value = append(value, "abcdefghijklmnopqrstuvwxyz0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ."[rng.IntN(64)])
	}
	value = append(value, payloadTail...)
	return append(value, payloadUndo...)
}

func (w *writer) payload() []byte { return w.payloads[w.rng.IntN(len(w.payloads))] }

// createAll makes every document of the order.
func createAll(ctx context.Context, sys system, s settings, o CreateOrder) error {
	makers := make([]*writer, min(creators, len(o.Documents)))
	return each(makers, func(i int, _ *writer) error {
		w := newWriter(o.FirstWriter+i, s.Size, s.Seed+1) // other values than those written later
		for n := i; n < len(o.Documents); n += len(makers) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := sys.create(ctx, o.Documents[n], w.payload()); err != nil {
				return err
			}
		}
		return nil
	})
}

// load lets all writers write until the time is over, and waits for what is in flight then.
func load(ctx context.Context, sys system, writers []*writer, length time.Duration) (LoadReport, error) {
	latency := newRecorder()
	begun := time.Now()
	var last atomic.Int64
	err := each(writers, func(_ int, w *writer) error {
		w.writes, w.retries = 0, 0
		defer func() { maximum(&last, int64(time.Since(begun))) }()
		for time.Since(begun) < length {
			if err := ctx.Err(); err != nil {
				return err // not every system heeds it
			}
			document := w.documents[w.rng.IntN(len(w.documents))]
			sent := time.Now()
			retries, err := sys.write(ctx, document, w.payload())
			if err != nil {
				return err
			}
			latency.record(w.number, time.Since(sent))
			w.writes++
			w.retries += uint64(retries)
		}
		return nil
	})
	r := LoadReport{Elapsed: time.Duration(last.Load()), Latency: latency.merged().Export()}
	for _, w := range writers {
		r.Writes += w.writes
		r.Retries += w.retries
	}
	return r, err
}

// maximum raises a value to v.
func maximum(a *atomic.Int64, v int64) {
	for {
		old := a.Load()
		if old >= v || a.CompareAndSwap(old, v) {
			return
		}
	}
}
