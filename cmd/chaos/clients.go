//go:build unix

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// endPatience is for how long clients try to learn, after the last fault, what became of their last write.
const endPatience = 60 * time.Second

// clients write and read until the context ends. The returned group is done when each knows the outcome of its last write.
func (f *field) clients(ctx context.Context) *sync.WaitGroup {
	var all sync.WaitGroup
	for i := range f.o.Writers {
		w := &writer{field: f, r: rand.New(rand.NewPCG(f.o.Seed, uint64(1000+i)))}
		all.Go(func() { w.run(ctx) })
	}
	for i := range max(1, f.o.Writers/4) {
		r := rand.New(rand.NewPCG(f.o.Seed, uint64(2000+i)))
		all.Go(func() {
			for ctx.Err() == nil {
				once, cancel := context.WithTimeout(context.Background(), time.Duration(200+r.IntN(2800))*time.Millisecond)
				f.readOnce(once, r)
				cancel()
			}
		})
	}
	all.Go(func() {
		for r := rand.New(rand.NewPCG(f.o.Seed, 3)); ctx.Err() == nil; {
			once, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			f.doubt(once, r)
			cancel()
		}
	})
	all.Go(func() { f.contests(ctx) })
	return &all
}

// writer types some documents, a few keystrokes at a time. Nobody else writes them, so that it knows what is there.
type writer struct {
	*field
	r   *rand.Rand
	own [4]*document
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		i := w.r.IntN(len(w.own))
		d := w.own[i]
		// What has been begun is brought to an end, so that the outcome is known.
		last, cancel := w.afterwards(ctx, endPatience)
		switch {
		case d == nil:
			w.own[i] = w.create(last)
		case d.acked.Load() == d.limit:
			w.finish(last, d)
			w.own[i] = nil
		case w.r.IntN(400) == 0:
			w.compact(last, d)
		default:
			if !w.write(last, d) {
				w.own[i] = nil
			}
		}
		cancel()
	}
}

func (w *writer) create(ctx context.Context) *document {
	d := w.docs.begin(w.r)
	delta := d.deltas(1, 1)[0]
	d.proposed.Store(1)
	doubt, err := w.docs.persist(ctx, d.key, w.r, func(ctx context.Context, h *host) error {
		_, err := h.client.Create(ctx, d.key, delta)
		return err
	})
	if errors.As(err, new(*adamant.ExistsError)) && doubt { // by the attempt that was in doubt: reads will tell if not
		err = nil
	}
	if err != nil {
		w.unexpected(ctx, d, "creation", err)
		return nil
	}
	d.acked.Store(1)
	w.Documents.Add(1)
	w.wrote(1, len(delta.Redo))
	w.docs.add(d)
	return d
}

func (w *writer) wrote(deltas, bytes int) {
	w.Writes.Add(1)
	w.Deltas.Add(int64(deltas))
	w.Bytes.Add(int64(bytes))
}

// unexpected is for what no answer may say of a document that only this writer writes.
func (w *writer) unexpected(ctx context.Context, d *document, what string, err error) {
	if ctx.Err() != nil {
		w.fail("%s of %s has no outcome %v after the last fault", what, d.key, endPatience)
		return
	}
	w.lost.Add(1)
	w.fail("%s of %s, of which %d are acknowledged and %d sent: %v", what, d.key, d.acked.Load(), d.proposed.Load(), err)
}

// write appends some deltas, and repeats the same ones until they are acknowledged. It says whether they were.
func (w *writer) write(ctx context.Context, d *document) bool {
	head := d.acked.Load()
	last := min(head+1+int64(w.r.IntN(8)*w.r.IntN(8)), d.limit)
	deltas := d.deltas(head+1, last)
	d.proposed.Store(last)
	_, err := w.docs.persist(ctx, d.key, w.r, func(ctx context.Context, h *host) error {
		got, err := h.client.Append(ctx, d.key, deltas)
		if err == nil && got != last {
			w.fail("%s acknowledges an append to %s up to %d with head %d", h.name, d.key, last, got)
		}
		return err
	})
	if err != nil {
		w.unexpected(ctx, d, "append", err)
		w.docs.abandon(d)
		return false
	}
	size := 0
	for _, x := range deltas {
		size += len(x.Redo)
	}
	w.wrote(len(deltas), size)
	d.acked.Store(last)
	w.docs.touch(d)
	return true
}

// whole reads the document as it must be now, nothing being on its way.
func (w *writer) whole(ctx context.Context, d *document) (doc httpapi.Document, ok bool) {
	_, err := w.docs.persist(ctx, d.key, w.r, func(ctx context.Context, h *host) (err error) {
		doc, err = h.client.Get(ctx, d.key, "lease")
		return err
	})
	if err != nil {
		w.unexpected(ctx, d, "read", err)
		return doc, false
	}
	w.LeaseReads.Add(1)
	if err := d.check(doc.JSON, 0, doc.Head); err != nil || doc.Head != d.acked.Load() {
		w.lost.Add(1)
		w.fail("%s is at %d, acknowledged is %d: %v", d.key, doc.Head, d.acked.Load(), err)
		return doc, false
	}
	return doc, true
}

// compact makes what is there the base.
func (w *writer) compact(ctx context.Context, d *document) {
	doc, ok := w.whole(ctx, d)
	if !ok {
		return
	}
	history := 1 + w.r.IntN(40)
	_, err := w.docs.persist(ctx, d.key, w.r, func(ctx context.Context, h *host) error {
		return h.client.Compact(ctx, d.key, doc.Head, doc.JSON, history)
	})
	if err != nil {
		w.unexpected(ctx, d, "compaction", err)
		return
	}
	w.Writes.Add(1)
}

// finish checks a document that is complete, and mostly deletes it.
func (w *writer) finish(ctx context.Context, d *document) {
	if _, ok := w.whole(ctx, d); !ok || w.docs.retire(d, w.r) {
		return
	}
	d.gone.Store(true)
	_, err := w.docs.persist(ctx, d.key, w.r, func(ctx context.Context, h *host) error { return h.client.Delete(ctx, d.key) })
	if err != nil {
		w.unexpected(ctx, d, "deletion", err)
		return
	}
	w.Writes.Add(1)
	w.Deleted.Add(1)
	w.docs.bury(d, w.r)
}

// readOnce reads some document where it is led, as far as is known, or anywhere.
func (f *field) readOnce(ctx context.Context, r *rand.Rand) {
	d := f.docs.any(r)
	if d == nil {
		pause(ctx, 10*time.Millisecond)
		return
	}
	level := []string{"lease", "lease", "quorum", "stale"}[r.IntN(4)]
	at := f.docs.at(d.key, r)
	if r.IntN(4) == 0 {
		at = f.hosts[r.IntN(len(f.hosts))]
	}
	if !f.read(ctx, d, at, level, int64(r.IntN(8))) {
		pause(ctx, 2*time.Millisecond)
	}
}

// doubt asks all hosts at the same time for a document that was written a moment ago: who was deposed and does not know it
// must not answer with what it has.
func (f *field) doubt(ctx context.Context, r *rand.Rand) {
	if d := f.docs.recent(r); d != nil {
		var asking sync.WaitGroup
		for _, h := range f.hosts {
			asking.Go(func() { f.read(ctx, d, h, "lease", 0) })
		}
		asking.Wait()
	}
	pause(ctx, 20*time.Millisecond)
}

// read reads the newest deltas of a document at a host, from so many before the newest acknowledged one on, and compares
// what it sees with what was acknowledged before. It says whether it was answered.
func (f *field) read(ctx context.Context, d *document, at *host, level string, before int64) bool {
	if d.abandoned.Load() {
		return false
	}
	acked, deleted := d.acked.Load(), d.deleted.Load()
	after := max(0, acked-before)
	got, err := at.client.HeadPatch(ctx, d.key, after, level)
	if level != "stale" {
		f.docs.learn(d.key, at, err)
	}
	switch judge(err) {
	case refused, unknown:
		f.Refused.Add(1)
		return false
	case broken:
		f.fail("%s answers a %s read of %s: %v", at.name, level, d.key, err)
		return false
	}
	switch level {
	case "lease":
		f.LeaseReads.Add(1)
	case "quorum":
		f.QuorumReads.Add(1)
	default:
		f.StaleReads.Add(1)
	}
	f.compare(d, at.name+" "+level, sight{level == "stale", acked, after, deleted}, got, err)
	return true
}

// sight is what was known before a read.
type sight struct {
	stale        bool
	acked, after int64
	deleted      bool
}

// compare judges what a read saw.
func (f *field) compare(d *document, where string, s sight, got httpapi.Document, err error) {
	switch {
	case err == nil && s.deleted && !s.stale:
		f.resurrected.Add(1)
		f.fail("%s shows %s at %d, which was deleted", where, d.key, got.Head)
	case err == nil && got.Head > d.proposed.Load():
		f.fail("%s shows %s at %d, and only %d were written", where, d.key, got.Head, d.proposed.Load())
	case err == nil && got.Head < s.acked && !s.stale:
		f.old(d, where, s, got.Head)
	case err == nil:
		if err := d.check(got.JSON, s.after, got.Head); err != nil {
			f.lost.Add(1)
			f.fail("%s shows %s after %d up to %d wrongly: %v", where, d.key, s.after, got.Head, err)
		}
	case errors.As(err, new(*adamant.NotFoundError)):
		if !s.stale && !d.gone.Load() {
			f.old(d, where, s, 0)
		}
	default:
		var future *adamant.FutureError
		if errors.As(err, &future) && !s.stale && !d.gone.Load() {
			f.old(d, where, s, future.Head)
		}
	}
}

func (f *field) old(d *document, where string, s sight, head int64) {
	f.stale.Add(1)
	f.fail("%s shows %s at %d, after %d were acknowledged", where, d.key, head, s.acked)
}
