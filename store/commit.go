package store

import (
	"fmt"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// commit writes the batch and then publishes what it changed. It writes the records in this order, which matters for
// the delete records only: heads, delete records of a member that became complete, member records.
func (b *docBatch) commit(sync bool) error {
	for _, s := range b.order {
		if err := b.writeHead(s); err != nil {
			return err
		}
	}
	if b.state.deleteRecords > 0 && b.completeAt(b.state.applied) {
		b.dropDeleteRecords()
	}
	b.writeMeta()
	d := b.d
	d.epoch.Add(1)
	for _, s := range b.order {
		if s.dirty {
			d.engine.heads.hide(d.partition, s.place)
		}
	}
	if len(b.reset) > 0 {
		d.engine.heads.shed(d.partition, func(k Key) bool { return b.resets(d.hashes.Bucket(k.Hash())) })
	}
	err := d.engine.commitRecords(&b.batch, sync)
	if err == nil {
		for _, s := range b.order {
			d.engine.heads.put(d.partition, s.place, s.head, nil)
		}
	}
	b.unpark()
	if err != nil {
		return err
	}
	b.publish()
	return nil
}

func (b *docBatch) writeHead(s *docState) error {
	if !s.dirty {
		return nil
	}
	b.key = appendDocument(b.key[:0], b.d.partition, s.place, kindHead)
	if s.head == nil {
		if s.stored == nil {
			return nil // came and went within the batch
		}
		b.batch.Delete(b.key)
		return nil
	}
	if !s.head.possible() {
		return fmt.Errorf("store: partition %d: head of %s would be impossible: %+v", b.d.partition, s.key, *s.head)
	}
	b.value = appendHeadValue(b.value[:0], s.head)
	b.batch.Set(b.key, b.value)
	return nil
}

// dropDeleteRecords removes all of them: a complete member's coverage says the same (design §6).
func (b *docBatch) dropDeleteRecords() {
	for i := range merkle.Buckets {
		bucket := uint8(i)
		if s := b.buckets.of(bucket); s == nil && b.d.meta.deletes[bucket] == 0 || s != nil && s.deleteRecords == 0 {
			continue
		}
		lower, upper := prefixRange(appendKind(nil, b.d.partition, bucket, kindDelete))
		b.batch.DeleteRange(lower, upper)
		b.bucket(bucket).deleteRecords = 0
	}
	b.state.deleteRecords = 0
	for _, s := range b.order {
		s.deleted = 0
	}
}

func (b *docBatch) writeMeta() {
	partition := b.d.partition
	for i := range b.buckets.states {
		s := &b.buckets.states[i]
		b.key = appendMetaBucket(b.key[:0], partition, metaBucket, s.bucket)
		if s.bucketState == (bucketState{}) {
			b.batch.Delete(b.key)
			continue
		}
		b.value = appendBucketState(b.value[:0], &s.bucketState)
		b.batch.Set(b.key, b.value)
	}
	for bucket, healed := range b.healed {
		b.key = appendMetaBucket(b.key[:0], partition, metaHealed, bucket)
		b.writeIntervals(healed)
	}
	for bucket, on := range b.ingests {
		b.writeIngest(bucket, on)
	}
	if b.holesChanged {
		b.key = appendMeta(b.key[:0], partition, metaHoles)
		b.writeIntervals(b.holes)
	}
	b.key = appendMeta(b.key[:0], partition, metaState)
	b.value = appendState(b.value[:0], &b.state)
	b.batch.Set(b.key, b.value)
}

// publish makes the committed records the member's, and feeds the tracker.
func (b *docBatch) publish() {
	d := b.d
	d.pub.Lock()
	defer d.pub.Unlock()
	for i := range b.changes {
		c := &b.changes[i]
		if b.learned {
			d.tracker.Learn(c.bucket, c.old.sum(), c.new.sum())
		} else {
			d.tracker.Replace(c.index, c.bucket, c.old.sum(), c.new.sum())
		}
	}
	if b.learned || len(b.reset) > 0 {
		if d.learned == nil {
			d.learned = new(bucketCounts)
		}
		for _, s := range b.order {
			d.learned[s.bucket]++
		}
	}
	for _, r := range b.reset {
		d.tracker.Reset(r.bucket, r.sum)
		d.learned[r.bucket]++
	}
	d.tracker.Advance(b.state.applied)
	if !b.holes.Covers(d.meta.holes) {
		d.forgetPast()
	}
	d.meta.state, d.meta.holes = b.state, b.holes
	for i := range b.buckets.states {
		d.meta.setDeletes(b.buckets.states[i].bucket, b.buckets.states[i].deleteRecords)
	}
	for bucket, healed := range b.healed {
		d.meta.setHealed(bucket, healed)
	}
	for bucket, on := range b.ingests {
		d.meta.setIngest(bucket, on)
	}
	d.version.Add(1) // while nobody can read: who sees the new version reads the new records
}

func (b *docBatch) resets(bucket uint8) bool {
	return slices.ContainsFunc(b.reset, func(r bucketReset) bool { return r.bucket == bucket })
}

// forgetPast makes the present index the oldest of which the sums are known. When a hole closes, the member covers
// indexes at which it was not what the log prescribes: it had not applied them, or had applied what followed to a wrong
// state, and a later command made that good before repair had to. As the sums of a complete member these would be taken
// for a divergence.
func (d *Documents) forgetPast() { d.tracker.Forget() }

func (b *docBatch) writeIngest(bucket uint8, on bool) {
	b.key = appendMetaBucket(b.key[:0], b.d.partition, metaIngest, bucket)
	if !on {
		b.batch.Delete(b.key)
		return
	}
	b.value = seal(b.value[:0])
	b.batch.Set(b.key, b.value)
}

// writeIntervals stores a set under b.key, or removes the record of an empty one.
func (b *docBatch) writeIntervals(s interval.Set) {
	if s.Empty() {
		b.batch.Delete(b.key)
		return
	}
	b.value = seal(s.AppendBinary(b.value[:0]))
	b.batch.Set(b.key, b.value)
}
