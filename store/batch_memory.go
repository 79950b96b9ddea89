package store

import (
	"sync"
	"unsafe"

	"github.com/adamantdb/adamant/merkle"
)

// leafChange is one document's step within the batch, for the tracker.
type leafChange struct {
	index    uint64
	bucket   uint8
	old, new leafSum
}

// leafSum is a document's part in its bucket's sum: nothing while it is not there.
type leafSum struct {
	merkle.Sum
	there bool
}

// sum is what the tracker takes.
func (l *leafSum) sum() *merkle.Sum {
	if !l.there {
		return nil
	}
	return &l.Sum
}

// begin starts a batch. The caller holds mu, and closes the batch.
func (d *Documents) begin() *docBatch { return d.beginIn(&d.engine.batches) }

// beginLarge is begin for the documents of a large pull. Their batches have memory of their own: the small ones in between,
// which announce them, would find it far too large and let go of it.
func (d *Documents) beginLarge() *docBatch { return d.beginIn(&d.engine.bulk.batches) }

func (d *Documents) beginIn(pool *sync.Pool) *docBatch {
	b, _ := pool.Get().(*docBatch)
	if b == nil {
		b = &docBatch{docs: map[uint64]*docState{}}
	}
	b.d, b.pool, b.state, b.holes = d, pool, d.meta.state, d.meta.holes
	return b
}

// close gives the batch's memory to the next one, unless that is far more than this batch used: in the hands of members with
// little to write it would add up.
func (b *docBatch) close() {
	pool := b.pool
	keep := wellUsed(cap(b.order), len(b.order), leastKeptOrder, maxKeptOrder) && b.batch.keeps()
	clear(b.docs)
	clear(b.order)
	clear(b.used)
	clear(b.changes)
	b.states.reset()
	b.batch.reset()
	*b = docBatch{batch: b.batch, docs: b.docs, order: b.order[:0], used: b.used[:0], states: b.states, key: b.key[:0], value: b.value[:0],
		changes: b.changes[:0], buckets: changedBuckets{states: b.buckets.states[:0]}}
	if keep {
		pool.Put(b)
	}
}

// release ends one use of a staged batch; the last one closes it.
func (b *docBatch) release() {
	if b.users.Add(-1) == 0 {
		b.d.engine.pinned.Add(-b.pinned)
		b.close()
	}
}

// part ends the stage's own use. Who else uses it, and nobody begins to any more, keeps its memory, which counts from now on.
func (b *docBatch) part() {
	if b.users.Load() > 1 {
		b.pinned = b.memory()
		b.d.engine.pinned.Add(b.pinned)
	}
	b.release()
}

// memory is about how many bytes of memory the batch takes.
func (b *docBatch) memory() int64 {
	states := len(b.states.slabs) * statesAtOnce * int(unsafe.Sizeof(docState{}))
	changes := cap(b.changes) * int(unsafe.Sizeof(leafChange{}))
	buckets := cap(b.buckets.states) * int(unsafe.Sizeof(changedBucket{}))
	return int64(b.left + b.batch.memory() + states + changes + buckets)
}

// Memory for so many documents is kept whatever was used of it, and none for more.
const (
	leastKeptOrder = 2 * statesAtOnce
	maxKeptOrder   = 1 << 14
)

// wellUsed reports whether there is at most eight times as much as was used, and no more than may be kept.
func wellUsed(there, used, least, most int) bool { return there <= most && there <= max(least, 8*used) }

// known returns what a batch knows of a document; nil when it has not met it.
func (b *docBatch) known(p place) *docState {
	s := b.docs[p.hash]
	for s != nil && s.key != p.key {
		s = s.twin
	}
	return s
}

// add makes room for a document.
func (b *docBatch) add(p place) *docState {
	s := b.states.next()
	s.place, s.twin = p, b.docs[p.hash]
	b.docs[p.hash] = s
	b.order = append(b.order, s)
	return s
}

// changedBuckets is the records of the buckets that a batch changes, in the order of their first changes: every change of a document
// looks for one.
type changedBuckets struct {
	at     [merkle.Buckets]uint16 // one more than where in states; 0: not there
	states []changedBucket
}

type changedBucket struct {
	bucketState
	bucket uint8
}

// of returns a bucket's record; nil when there is none.
func (c *changedBuckets) of(bucket uint8) *bucketState {
	if at := c.at[bucket]; at > 0 {
		return &c.states[at-1].bucketState
	}
	return nil
}

// add makes an empty record for a bucket that has none. Pointers to the others no longer count.
func (c *changedBuckets) add(bucket uint8) *bucketState {
	c.states = append(c.states, changedBucket{bucket: bucket})
	c.at[bucket] = uint16(len(c.states))
	return &c.states[len(c.states)-1].bucketState
}

// statesAtOnce is for how many documents memory is allocated together.
const statesAtOnce = 32

// docStates is the memory of a batch's documents: zeroed, and none is handed out twice before a reset.
type docStates struct {
	slabs [][]docState
	used  int
}

func (m *docStates) next() *docState {
	slab, at := m.used/statesAtOnce, m.used%statesAtOnce
	if slab == len(m.slabs) {
		m.slabs = append(m.slabs, make([]docState, statesAtOnce))
	}
	m.used++
	return &m.slabs[slab][at]
}

// reset takes all of it back. Nobody may look at any of it any more.
func (m *docStates) reset() {
	for i := range m.slabs {
		if first := i * statesAtOnce; first < m.used {
			clear(m.slabs[i][:min(statesAtOnce, m.used-first)])
		}
	}
	m.used = 0
}
