package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant"
)

// patience is how long a writer tries one write before the trial fails.
const patience = 30 * time.Second

// retryPause is what a writer waits after a refusal that names nobody better.
const retryPause = 2 * time.Millisecond

// document is one that a writer writes: only that writer, so its head is known.
type document struct {
	key  adamant.Key
	host string // leads it, as far as is known
	head int64
}

// writer is one closed loop: it writes to its documents in random order, one write at a time.
type writer struct {
	site     *site
	number   int
	docs     []document
	rng      *rand.Rand
	payloads [][]byte // redos, used in turn
	noise    []byte   // when it is set, deltas are pieces of it
	undo     []byte
	writes   uint64
	retries  uint64
}

// A delta's redo is {"t":"…"} with letters, its undo {"t":null}.
const (
	payloadHead = `{"t":"`
	payloadTail = `"}`
	payloadUndo = `{"t":null}`

	payloadLetters = "abcdefghijklmnopqrstuvwxyz0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ."
)

// payloadsPerWriter differ, so that nothing on the way can keep one and be quick with it.
const payloadsPerWriter = 16

func newWriter(s *site, number, size int, seed uint64) *writer {
	w := &writer{site: s, number: number, rng: rand.New(rand.NewPCG(seed, uint64(number))), undo: []byte(payloadUndo)}
	for range payloadsPerWriter {
		redo := make([]byte, 0, size)
		redo = append(redo, payloadHead...)
		for len(redo) < size-len(payloadTail)-len(payloadUndo) {
			redo = append(redo, payloadLetters[w.rng.IntN(len(payloadLetters))])
		}
		w.payloads = append(w.payloads, append(redo, payloadTail...))
	}
	return w
}

// delta is the document's next one. The payloads are never changed.
func (w *writer) delta(d *document) adamant.Delta {
	redo, undo := w.payloads[w.rng.IntN(len(w.payloads))], w.undo
	if w.noise != nil {
		size := len(redo) + len(undo)
		at := w.rng.IntN(len(w.noise) - size)
		redo, undo = w.noise[at:at+len(redo)], w.noise[at+len(redo):at+size]
	}
	return adamant.Delta{SeqBegin: d.head + 1, SeqEnd: d.head + 1, Redo: redo, Undo: undo}
}

// noiseBytes is much more than a compressor remembers, so that it finds nothing that was there before.
const noiseBytes = 8 << 20

// prepare makes writers and creates their documents.
func (s *site) prepare(ctx context.Context, o prepareOrder) error {
	s.writers = nil
	var noise []byte
	if o.Noise {
		noise = make([]byte, noiseBytes+o.Size)
		_, _ = rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), o.Seed))).Read(noise)
	}
	for i := range o.Writers {
		w := newWriter(s, i, o.Size, o.Seed)
		w.noise = noise
		s.writers = append(s.writers, w)
	}
	for i, p := range o.Documents {
		if len(s.writers) == 0 {
			break // with few writers, a crew may have documents but no writer
		}
		w := s.writers[i%len(s.writers)]
		w.docs = append(w.docs, document{key: documentKey(p.Number), host: p.Host, head: p.Head})
	}
	return each(s.writers, func(_ int, w *writer) error {
		for i := range w.docs {
			d := &w.docs[i]
			if d.head == 0 {
				if err := w.create(ctx, d); err != nil {
					return err
				}
			}
			if err := w.fill(ctx, d, int64(o.Deltas)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *writer) create(ctx context.Context, d *document) error {
	delta := w.delta(d)
	err := w.retry(ctx, d, func(h *adamant.Host, unsure bool) error {
		err := h.Create(ctx, d.key, delta)
		if unsure && errors.As(err, new(*adamant.ExistsError)) {
			return nil
		}
		return err
	})
	if err == nil {
		d.head = delta.SeqEnd
	}
	return err
}

// Deltas that are not measured are appended many at a time.
const (
	fillDeltas = 256
	fillBytes  = 1 << 20
)

// fill appends to a document until it has so many deltas.
func (w *writer) fill(ctx context.Context, d *document, deltas int64) error {
	for d.head < deltas {
		var list []adamant.Delta
		last := document{head: d.head}
		for bytes := 0; last.head < deltas && len(list) < fillDeltas && bytes < fillBytes; last.head++ {
			list = append(list, w.delta(&last))
			bytes += len(list[len(list)-1].Redo)
		}
		err := w.retry(ctx, d, func(h *adamant.Host, _ bool) error {
			_, err := h.Append(ctx, d.key, list) // repeated, it is acknowledged again
			return err
		})
		if err != nil {
			return err
		}
		d.head = last.head
	}
	return nil
}

// load lets all writers write until the time is over, and waits for what is in flight then.
func (s *site) load(ctx context.Context, length time.Duration) (loadReport, error) {
	rec := newRecorder()
	begun := time.Now()
	var last, bytes atomic.Int64
	err := each(s.writers, func(_ int, w *writer) error {
		w.writes, w.retries = 0, 0
		defer func() { maximum(&last, int64(time.Since(begun))) }()
		for time.Since(begun) < length {
			n, err := w.write(ctx, rec)
			if err != nil {
				return err
			}
			bytes.Add(int64(n))
		}
		return nil
	})
	r := loadReport{Elapsed: time.Duration(last.Load()), Bytes: uint64(bytes.Load()), Latency: rec.snapshot()}
	for _, w := range s.writers {
		r.Writes += w.writes
		r.Retries += w.retries
	}
	return r, err
}

// write appends one delta and returns its size.
func (w *writer) write(ctx context.Context, rec *recorder) (int, error) {
	d := &w.docs[w.rng.IntN(len(w.docs))]
	deltas := []adamant.Delta{w.delta(d)}
	want := deltas[0].SeqEnd
	begun := time.Now()
	err := w.retry(ctx, d, func(h *adamant.Host, unsure bool) error {
		head, err := h.Append(ctx, d.key, deltas)
		var mismatch *adamant.SeqMismatchError
		switch {
		case unsure && errors.As(err, &mismatch) && mismatch.Head == want:
			return nil
		case err == nil && head != want:
			return fmt.Errorf("document %s: acknowledged at %d instead of %d", d.key, head, want)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	rec.record(w.number, time.Since(begun))
	d.head = want
	w.writes++
	return len(deltas[0].Redo) + len(deltas[0].Undo), nil
}

// retry does a write at the document's leader until it is acknowledged; unsure says that an earlier attempt may have
// taken effect.
func (w *writer) retry(ctx context.Context, d *document, do func(h *adamant.Host, unsure bool) error) error {
	unsure := false
	var begun time.Time
	for {
		err := do(w.site.hosts[d.host], unsure)
		if err == nil {
			return nil
		}
		var elsewhere *adamant.NotLeaderError
		var ambiguous *adamant.AmbiguousError
		var unavailable *adamant.UnavailableError
		// A leader in another process is out of reach. Hosts hand leaderships back to where the cluster file wants them,
		// so the writer waits, and its latency says so.
		moved := errors.As(err, &elsewhere) && elsewhere.Leader != d.host && w.site.hosts[elsewhere.Leader] != nil
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case moved:
			d.host = elsewhere.Leader
		case errors.As(err, &ambiguous):
			unsure = true
		case !errors.As(err, &elsewhere) && !errors.As(err, &unavailable):
			return err
		}
		w.retries++
		if begun.IsZero() {
			begun = time.Now()
		}
		if time.Since(begun) > patience {
			return fmt.Errorf("document %s: no acknowledgement in %v: %w", d.key, patience, err)
		}
		if !moved {
			time.Sleep(retryPause)
		}
	}
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
