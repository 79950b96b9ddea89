package store

import (
	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// The order in which repair becomes durable:
//
//	1 Import          unsynced   documents of a bucket
//	2 Session.Finish  unsynced   the bucket's progress; the write-ahead log keeps it behind 1
//	3 Sync            fsync      1 and 2 are durable; soon after 2, or a crash would have the bucket pulled again
//	4 CloseHoles      synced     the holes shrink to what some bucket still lacks
//
// A crash keeps a prefix of this. So progress without its documents cannot be, nor a closed hole without the progress
// that closed it; and a member that crashed between 2 and 4 goes on with the buckets it had done.

// recordHealed is what all ways to heal a bucket end in: Session.Finish and MarkProven. The check runs under the lock that
// imports take.
func (d *Documents) recordHealed(bucket uint8, healed interval.Set, seen uint64, check func() error) error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := check(); err != nil {
		return err
	}
	d.endSession(bucket)
	before := d.meta.healed[bucket]
	now := AddHealed(before, healed, d.meta.holes)
	if now.Equal(before) {
		return nil
	}
	b := d.begin()
	defer b.close()
	b.setHealed(bucket, now)
	b.sawAhead(seen)
	return b.commit(false)
}

// Sync makes durable what was imported and finished before the call, together with everything else that the engine holds.
func (d *Documents) Sync() error { return d.engine.Sync() }

// Past is a member's sums at one index, for a comparison with a peer that holds the truth there. See MarkProven.
type Past struct {
	Index   uint64
	Sums    *merkle.Summary
	learned *bucketCounts
}

// PastAt is SummaryAt for a comparison that may prove buckets right.
func (d *Documents) PastAt(index uint64) (*Past, bool) {
	d.pub.RLock()
	defer d.pub.RUnlock()
	sums, ok := d.summaryAt(index)
	if !ok {
		return nil, false
	}
	p := &Past{Index: index, Sums: sums}
	if d.learned != nil {
		learned := *d.learned
		p.learned = &learned
	}
	return p, true
}

// MarkProven records that a bucket holds the effect of everything up to the index of the past: a peer that covers as much
// and had learned nothing beyond had the same sum there, and what was applied here since was applied to a right state.
//
// What was pulled since the sums were read voids the proof, which is then ErrProofLost: it may have come from a member
// that does not know of a delete yet, and the bucket, not covering the delete either, took the document in.
func (d *Documents) MarkProven(bucket uint8, p *Past) error {
	return d.recordHealed(bucket, interval.Of(1, p.Index), p.Index, func() error {
		if d.learned.of(bucket) != p.learned.of(bucket) {
			return ErrProofLost
		}
		return nil
	})
}

// Healed returns which indexes of the member's holes a bucket holds already.
func (d *Documents) Healed(bucket uint8) interval.Set {
	d.pub.RLock()
	defer d.pub.RUnlock()
	return d.meta.healed[bucket]
}

// CloseHoles closes what every bucket has healed, and returns it. The documents are made durable first, then the
// smaller set of holes; progress within it is of no more use and goes in the same step. When that makes the member
// complete, its delete records go too. (Completeness can also come later, by applying what was learned ahead; then they
// go with that batch.)
func (d *Documents) CloseHoles() (interval.Set, error) {
	return d.closeHoles(d.healedEverywhere)
}

// closeHoles closes what may be closed both before and after what is here has been made durable; may reads d.meta.
func (d *Documents) closeHoles(may func() interval.Set) (interval.Set, error) {
	if err := d.acquire(); err != nil {
		return nil, err
	}
	defer d.engine.release()
	d.pub.RLock()
	closed := may()
	d.pub.RUnlock()
	if closed.Empty() {
		return nil, nil
	}
	// Progress of other buckets that commits from here on may only be closed by the next call: what is synced now does
	// not hold it.
	if err := d.engine.Sync(); err != nil {
		return nil, err
	}
	unlock, err := d.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if closed = closed.Intersect(may()); closed.Empty() {
		return nil, nil // a bucket lost its progress meanwhile (Damage)
	}
	holes := d.meta.holes.Minus(closed)
	b := d.begin()
	defer b.close()
	b.setHoles(holes)
	for bucket, healed := range d.meta.healed {
		if left := healed.Intersect(holes); !left.Equal(healed) {
			b.setHealed(bucket, left)
		}
	}
	if err := b.commit(true); err != nil {
		return nil, err
	}
	return closed, nil
}

// healedEverywhere is the part of the holes that every bucket has healed. The caller holds a lock.
func (d *Documents) healedEverywhere() interval.Set {
	return HealedEverywhere(d.meta.holes, merkle.Buckets, func(bucket int) interval.Set { return d.meta.healed[uint8(bucket)] })
}
