package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/lincheck"
)

// client does one thing after the other, at whichever host it likes, and writes down what it saw.
type client struct {
	w    *world
	id   int
	r    *rand.Rand
	n    int     // entries made so far: each has an id of its own
	head []int64 // of each document, as far as it knows; 0: it does not exist
}

func newClient(w *world, id int) *client {
	return &client{w: w, id: id, r: rand.New(rand.NewPCG(w.plan.Seed, uint64(100+id))), head: make([]int64, w.plan.Documents)}
}

// mortal documents are deleted and replaced, the others only grow.
func mortal(doc int) bool { return doc%3 == 2 }

func keyOf(doc int) adamant.Key {
	return adamant.Key{Space: "space", Key: fmt.Sprint("document-", doc)}
}

func (c *client) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(c.pause()):
		}
		doc := c.r.IntN(len(c.head))
		switch k := c.r.IntN(20); {
		case k < 9:
			c.write(doc)
		case k < 16 || !mortal(doc):
			if k == 19 {
				c.compact(doc)
			} else {
				c.read(doc)
			}
		case k < 18:
			c.try(op{doc: doc, kind: opDelete}, func(ctx context.Context, h *adamant.Host) error { return h.Delete(ctx, keyOf(doc)) })
			c.head[doc] = 0
		default:
			c.replace(doc)
		}
	}
}

func (c *client) newID() string {
	c.n++
	return fmt.Sprintf("c%d-%d", c.id, c.n)
}

// host picks one that is up, often the one that leads as some other believes.
func (c *client) host(doc int) (*machine, *adamant.Host, int) {
	m := c.w.machines[c.w.plan.Hosts[c.r.IntN(len(c.w.plan.Hosts))]]
	h, life := c.w.up(m)
	if h == nil || c.r.IntN(4) == 0 {
		return m, h, life
	}
	if l := c.w.machines[h.Locate(keyOf(doc)).Leader]; l != nil {
		m = l
		h, life = c.w.up(m)
	}
	return m, h, life
}

// try does an operation at some host and writes it down unless it was refused. done is whether it is known to have happened.
func (c *client) try(o op, do func(context.Context, *adamant.Host) error) (done bool, err error) {
	m, h, life := c.host(o.doc)
	if h == nil {
		return false, &adamant.ClosedError{Host: m.name}
	}
	o.client, o.note, o.at = c.id, m.name, time.Since(c.w.begun)
	o.call = c.w.history.tick()
	ctx, cancel := within(time.Duration(50+c.r.IntN(1200)) * time.Millisecond)
	err = do(ctx, h)
	cancel()
	o.ret = c.w.history.tick()
	_, now := c.w.up(m)
	heard := now == life
	switch {
	case heard && refused(err):
		c.refusal(o, err)
		return false, err
	case heard && err == nil:
		o.known = true
	default:
		o.note += fmt.Sprintf(", %v, heard %t", err, heard)
	}
	c.w.history.add(o)
	if !o.known && err == nil {
		err = &adamant.AmbiguousError{Key: keyOf(o.doc), Reason: "the host crashed before its answer was heard"}
	}
	return o.known, err
}

// refusal writes down what a refusal says of a document, if that is why.
func (c *client) refusal(o op, err error) {
	var mismatch *adamant.SeqMismatchError
	switch {
	case c.w.plan.Wild: // it may rest on a lease, as a read of one
		return
	case errors.As(err, &mismatch):
		o.kind, o.head = opMismatch, mismatch.Head
	case errors.As(err, new(*adamant.NotFoundError)):
		o.kind = opMissing
	case errors.As(err, new(*adamant.ExistsError)):
		o.kind = opExists
	default:
		return
	}
	o.known, o.ids = true, nil
	c.w.history.add(o)
	c.w.count(refusals, 1)
}

// refused reports whether an error promises that nothing was done.
func refused(err error) bool {
	return err != nil && !errors.As(err, new(*adamant.AmbiguousError)) && !errors.As(err, new(*adamant.EngineFailedError)) &&
		!errors.Is(err, context.DeadlineExceeded)
}

// write creates or appends, and repeats what has an unknown outcome for a while.
func (c *client) write(doc int) {
	key, seq := keyOf(doc), c.head[doc]+1
	o := op{doc: doc, kind: opAppend, seq: seq}
	if seq == 1 {
		o.kind = opCreate
	}
	var deltas []adamant.Delta
	n, long := 1+int64(c.r.IntN(3)), c.r.IntN(4) == 0
	if o.kind == opCreate && !long {
		n = 1
	}
	for i := range n {
		o.ids = append(o.ids, c.newID())
		deltas = append(deltas, adamant.Delta{SeqBegin: seq + i, SeqEnd: seq + i, Redo: lincheck.Redo(seq+i, o.ids[i]), Undo: []byte(`{}`)})
	}
	if long { // one delta of several seqs
		deltas = []adamant.Delta{{SeqBegin: seq, SeqEnd: seq + n - 1, Redo: lincheck.Redo(seq, o.ids...), Undo: []byte(`{}`)}}
	}
	for range 1 + c.r.IntN(4) {
		done, err := c.try(o, func(ctx context.Context, h *adamant.Host) error {
			if o.kind == opCreate {
				return h.Create(ctx, key, deltas[0])
			}
			_, err := h.Append(ctx, key, deltas)
			return err
		})
		if done {
			c.head[doc] = seq + n - 1
			return
		}
		if c.learn(doc, err) {
			return
		}
		time.Sleep(time.Duration(5+c.r.IntN(150)) * time.Millisecond)
	}
}

// learn takes from an error what it says of the document.
func (c *client) learn(doc int, err error) bool {
	var mismatch *adamant.SeqMismatchError
	switch {
	case errors.As(err, &mismatch):
		c.head[doc] = mismatch.Head
	case errors.As(err, new(*adamant.NotFoundError)):
		c.head[doc] = 0
	case errors.As(err, new(*adamant.ExistsError)):
		c.read(doc)
	default:
		return false
	}
	return true
}

func (c *client) replace(doc int) {
	o := op{doc: doc, kind: opReplace, seq: max(1, c.head[doc]+int64(c.r.IntN(5))-2), ids: []string{c.newID()}}
	if done, err := c.try(o, func(ctx context.Context, h *adamant.Host) error {
		return h.Replace(ctx, keyOf(doc), o.seq, lincheck.Redo(o.seq, o.ids...))
	}); done {
		c.head[doc] = o.seq
	} else {
		c.learn(doc, err)
	}
}

// compact reads a document and makes what it read the base; no reader may notice.
func (c *client) compact(doc int) {
	_, h, _ := c.host(doc)
	if h == nil {
		return
	}
	ctx, cancel := within(time.Second)
	defer cancel()
	d, err := h.Get(ctx, keyOf(doc))
	if err != nil || c.w.plan.Wild {
		return
	}
	_ = h.Compact(ctx, keyOf(doc), d.Head, d.JSON, 1+c.r.IntN(4)) // whatever becomes of it
}

func (c *client) read(doc int) {
	level := []adamant.Consistency{adamant.ReadLease, adamant.ReadLease, adamant.ReadQuorum, adamant.ReadStale}[c.r.IntN(4)]
	if level == adamant.ReadLease && c.w.plan.Wild {
		level = adamant.ReadQuorum
	}
	m, h, life := c.host(doc)
	if h == nil {
		return
	}
	ctx, cancel := within(time.Duration(50+c.r.IntN(700)) * time.Millisecond)
	defer cancel()
	o, err := c.w.get(ctx, doc, m, h, level)
	if _, now := c.w.up(m); err != nil || now != life {
		return
	}
	o.client = c.id
	if level == adamant.ReadStale {
		c.w.history.addStale(o)
		return
	}
	c.w.history.add(o)
	c.head[doc] = 0
	if o.found {
		c.head[doc] = o.seq + int64(len(o.ids)) - 1
	}
}

// get reads a document at a host.
func (w *world) get(ctx context.Context, doc int, m *machine, h *adamant.Host, level adamant.Consistency) (op, error) {
	o := op{doc: doc, kind: opRead, known: true, note: m.name + " " + level.String(), at: time.Since(w.begun), client: -1}
	o.call = w.history.tick()
	d, err := h.Get(ctx, keyOf(doc), adamant.WithConsistency(level))
	o.ret = w.history.tick()
	if errors.As(err, new(*adamant.NotFoundError)) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	if d.Staleness != nil && !d.Staleness.Complete {
		return o, errors.New("anything may be missing, and it says so")
	}
	o.found = true
	if o.seq, o.ids, err = lincheck.Entries(d.JSON, d.Head); err != nil {
		w.complain("%s: document %d is not what anybody wrote: %v", m.name, doc, err)
	}
	o.ids = slices.Clip(o.ids)
	return o, err
}
