package store

import (
	"fmt"

	"github.com/adamantdb/adamant/internal/interval"
)

// Apply writes mutations, in index order, and records last as applied: one Pebble batch without fsync. What it wrote
// is durable after the next DocEngine.Sync; a crash before that loses a suffix of all batches of the engine, never part of one.
//
// Mutations with an index up to Applied are skipped: after a restart Raft replays what the engine may hold. Apply
// decides nothing, but never lets an older index undo newer knowledge that repair has brought (design §6, "no regress").
//
// The chain after each delta is computed from the one before it where that is known. Where it is not (this member lacks
// the predecessor, and the mutation has no Prior), only the last delta gets a chain, the command's.
func (d *Documents) Apply(batch []Mutation, last uint64) error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkOrder(batch, last); err != nil {
		return fmt.Errorf("store: partition %d: %w", d.partition, err)
	}
	if last <= d.meta.state.applied {
		return nil
	}
	b := d.begin()
	defer b.close()
	diverged, err := b.apply(batch, last)
	if err != nil {
		return err
	}
	if err := b.commit(false); err != nil {
		return err
	}
	d.reportDivergence(diverged)
	return nil
}

// apply adds mutations to the batch.
func (b *docBatch) apply(batch []Mutation, last uint64) (diverged []divergence, err error) {
	applied := b.state.applied
	for i := range batch {
		m := &batch[i]
		if m.Index <= applied {
			continue
		}
		p, err := b.d.place(m.Key)
		if err != nil {
			return nil, err
		}
		s, err := b.document(p)
		if err != nil {
			return nil, err
		}
		b.advance(m.Index)
		a := application{b: b, s: s, m: m}
		if err := a.run(); err != nil {
			return nil, err
		}
		b.settle(s, m.Index)
		if a.diverged {
			diverged = append(diverged, divergence{m.Key, m.HeadSeq})
		}
	}
	b.advance(last)
	return diverged, nil
}

type divergence struct {
	key Key
	seq int64
}

func (d *Documents) reportDivergence(list []divergence) {
	for _, v := range list {
		d.engine.opts.Logger.Error("history of a document contradicts the log", "partition", d.partition, "document", v.key, "seq", v.seq)
		if f := d.engine.opts.Events.Divergence; f != nil {
			f(d.partition, v.key, v.seq)
		}
	}
}

// checkOrder validates before anything is written, so that a malformed mutation changes nothing.
func checkOrder(batch []Mutation, last uint64) error {
	before := uint64(0)
	for i := range batch {
		m := &batch[i]
		if err := m.Validate(); err != nil {
			return err
		}
		if m.Index <= before || m.Index > last {
			return fmt.Errorf("mutation at index %d after %d, in a batch that ends at %d", m.Index, before, last)
		}
		before = m.Index
	}
	return nil
}

// application is one mutation meeting one document.
type application struct {
	b        *docBatch
	s        *docState
	m        *Mutation
	diverged bool
}

// run lets the mutation take effect unless its generation is known to be over: a newer one is there, or a delete record
// says so. A record kills every generation up to its index (design §6, "no regress").
func (a *application) run() error {
	generation := a.generation()
	if h := a.s.head; h != nil && h.Generation > generation || a.s.deleted >= generation {
		return nil
	}
	switch a.m.Kind {
	case Create:
		return a.create()
	case Append:
		return a.append()
	case Compact:
		return a.compact()
	case Replace:
		return a.replace()
	case Delete:
		return a.delete()
	}
	return a.m.invalid("unknown kind")
}

// generation returns which generations the mutation concerns: this one and, what it ends, all before.
func (a *application) generation() uint64 {
	if a.m.Kind == Append || a.m.Kind == Compact {
		return a.m.Generation
	}
	return a.m.Index
}

// create starts a generation. When that generation is there already it was pulled ahead: then only what the source
// lacked is filled in, which is nothing unless the source had not seen the creation itself.
func (a *application) create() error {
	floor := a.m.Deltas[0].SeqBegin - 1
	if h := a.s.head; h == nil || h.Generation != a.m.Index {
		err := a.b.restart(a.s, Head{Generation: a.m.Index, LastIndex: a.m.Index, HeadSeq: floor, Chain: SeedChain(a.s.key),
			Floor: floor, FloorKnown: true})
		if err != nil {
			return err
		}
	} else {
		a.touch()
		h.Floor, h.FloorKnown = max(h.Floor, floor), true
	}
	return a.putDeltas(SeedChain(a.s.key))
}

func (a *application) append() error {
	complete := !a.b.sickAt(a.m.Index)
	if h := a.s.head; complete && (h == nil || h.Generation != a.m.Generation || h.HeadSeq+1 < a.m.Deltas[0].SeqBegin) {
		// A member that has seen everything knows what an append follows. The command is wrong, here and everywhere.
		a.diverged = true
	}
	if err := a.join(); err != nil {
		return err
	}
	a.touch()
	return a.putDeltas(a.m.Prior)
}

// compact brings a base and raises the floor. Of two bases the one of the higher index stays; floors only rise.
func (a *application) compact() error {
	if err := a.join(); err != nil {
		return err
	}
	a.touch()
	h := a.s.head
	if a.m.Index > h.BaseIndex {
		if err := a.b.putBase(a.s, a.m.BaseSeq, a.m.Index, a.m.Base); err != nil {
			return err
		}
	}
	a.forward(a.m.Chain)
	h.Floor, h.FloorKnown = max(h.Floor, a.m.Floor), true
	h.Dropped = h.Dropped || a.m.Dropped
	return a.b.dropEntries(a.s, h.Floor)
}

// replace starts a generation that consists of a base; of one that was pulled ahead, that is a compaction to the base.
func (a *application) replace() error {
	if h := a.s.head; h != nil && h.Generation == a.m.Index {
		return a.compact()
	}
	err := a.b.restart(a.s, Head{Generation: a.m.Index, LastIndex: a.m.Index, HeadSeq: a.m.BaseSeq, Chain: a.m.Chain,
		Floor: a.m.BaseSeq, FloorKnown: true, Dropped: a.m.Dropped})
	if err != nil {
		return err
	}
	return a.b.putBase(a.s, a.m.BaseSeq, a.m.Index, a.m.Base)
}

// delete removes the document. A sick member remembers that: its coverage alone cannot tell others' copies from news.
func (a *application) delete() error {
	if err := a.b.remove(a.s); err != nil {
		return err
	}
	if a.b.sickAt(a.m.Index) {
		return a.b.putDeleteRecord(a.s, a.m.Index)
	}
	return nil
}

// join makes sure that the document is there in the mutation's generation: a sick member may not have seen its
// creation. How far down its deltas go is then unknown.
func (a *application) join() error {
	if h := a.s.head; h != nil && h.Generation == a.generation() {
		return nil
	}
	return a.b.restart(a.s, Head{Generation: a.generation(), LastIndex: a.m.Index, HeadSeq: neutralFloor, Floor: neutralFloor})
}

// touch raises the last index.
func (a *application) touch() {
	a.s.head.LastIndex = max(a.s.head.LastIndex, a.m.Index)
	a.s.dirty = true
}

// forward moves head seq and chain to the command's when that is ahead of what is there.
func (a *application) forward(chain Chain) {
	h := a.s.head
	switch {
	case a.m.HeadSeq > h.HeadSeq:
		h.HeadSeq, h.Chain = a.m.HeadSeq, chain
	case a.m.HeadSeq == h.HeadSeq && h.Chain != chain:
		a.diverged = true
	}
}

// putDeltas stores the mutation's deltas; prior is the chain before the first one, if the caller knows it.
func (a *application) putDeltas(prior Chain) error {
	h := a.s.head
	known := prior != Chain{}
	if h.HeadSeq+1 == a.m.Deltas[0].SeqBegin && h.HeadSeq >= 0 {
		// This member's own history decides: if the leader built upon another one, its chain must not cover that up.
		known, prior = true, h.Chain
	}
	for i := range a.m.Deltas {
		e := Entry{Delta: a.m.Deltas[i], Index: a.m.Index, Term: a.m.Term}
		last := i == len(a.m.Deltas)-1
		if known {
			a.b.value = e.Delta.AppendBinary(a.b.value[:0])
			prior = prior.Next(a.b.value)
			e.Chain = prior
		} else if last {
			e.Chain = a.m.Chain
		}
		if last && e.Chain != a.m.Chain {
			a.diverged = true
		}
		if _, err := a.b.putEntry(a.s, &e); err != nil {
			return err
		}
	}
	return nil
}

// RecordHole makes it durable that the member skips the indexes [first, last]: it received a marker instead of the
// entries (design §5). first must be Applied+1. The hole's fsync covers everything applied before, which lies before it
// in the write-ahead log: a hole never is on disk without what it begins after.
func (d *Documents) RecordHole(first, last uint64) error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	applied := d.meta.state.applied
	if first != applied+1 || last < first {
		return fmt.Errorf("store: partition %d: hole [%d, %d] does not follow the applied index %d", d.partition, first, last, applied)
	}
	b := d.begin()
	defer b.close()
	b.setHoles(d.meta.holes.Union(interval.Of(first, last)))
	b.advance(last)
	return b.commit(true)
}
