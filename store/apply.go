package store

import "fmt"

// Apply writes mutations, in index order, and records last as applied: one Pebble batch without fsync. What it wrote
// is durable after the next DocEngine.Sync; a crash before that loses a suffix of all batches of the engine, never part of one.
//
// Mutations of different documents may share an index, that of an entry that had several commands, and take effect together.
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
	b.used = b.used[:0]
	doc := batchDoc{b: b}
	a := application{t: &doc, value: b.value}
	for i := range batch {
		m := &batch[i]
		if m.Index <= applied {
			continue
		}
		p, err := b.d.place(m.Key)
		if err != nil {
			return nil, err
		}
		s, err := b.commanded(p)
		if err != nil {
			return nil, err
		}
		if s.at == m.Index { // what is stored of a document says by the index which command it is of
			return nil, fmt.Errorf("store: partition %d: two mutations of %s at index %d", b.d.partition, m.Key, m.Index)
		}
		s.at = m.Index
		b.advance(m.Index)
		doc.s = s
		contradicts, err := a.replay(m, b.sickAt(m.Index))
		if err != nil {
			return nil, err
		}
		b.settle(s, m.Index)
		b.used = append(b.used, s)
		if contradicts {
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
		again := i > 0 && m.Index == before && m.Key == batch[i-1].Key
		if again || m.Index < before || m.Index > last {
			return fmt.Errorf("mutation at index %d after %d, in a batch that ends at %d", m.Index, before, last)
		}
		before = m.Index
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
	b.setHoles(Skip(d.meta.holes, applied, last))
	b.advance(last)
	return b.commit(true)
}
