package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
)

// recordBatch gathers what a batch of a member writes, and hands it to Pebble in the order of keys.
//
// Pebble puts one record after the other into a skip list of tens of megabytes. Neighbours take the same way through it, so
// what one has brought into the processor's caches serves the next: in order the same records cost two thirds of the time.
// The batch is also built when its size is known, and not copied as it grows.
type recordBatch struct {
	buf    []byte // keys and values; nothing in it changes before reset
	ops    []recordOp
	sorted []rankedOp    // scratch
	ranges bool          // there are range deletes: what was written before one matters, so the order stays as it is
	out    *pebble.Batch // of the last commit, empty; nil: none, or it failed and something may still hold it
}

// rankedOp is ops[at], and the rank of its key, which is nearly always enough to compare two: little to move about.
type rankedOp struct {
	rank uint64
	at   int32
}

// recordOp is a record to set, or to delete.
type recordOp struct {
	key   int // buf[key:value] is the key
	value int // buf[value:end] is the value, or the upper bound of a range delete
	end   int
	kind  opKind
}

type opKind uint8

const (
	opSet opKind = iota
	opDelete
	opDeleteRange
)

// opOverhead is about what Pebble's encoding adds to a record.
const opOverhead = 12

func (b *recordBatch) add(kind opKind, key, value []byte) {
	op := recordOp{kind: kind, key: len(b.buf)}
	b.buf = append(b.buf, key...)
	op.value = len(b.buf)
	b.buf = append(b.buf, value...)
	op.end = len(b.buf)
	b.ops = append(b.ops, op)
}

// Set, Delete and DeleteRange copy what they are given. Set returns where in buf the value is.
func (b *recordBatch) Set(key, value []byte) (at int) {
	b.add(opSet, key, value)
	return len(b.buf) - len(value)
}

func (b *recordBatch) Delete(key []byte) { b.add(opDelete, key, nil) }
func (b *recordBatch) DeleteRange(from, upTo []byte) {
	b.add(opDeleteRange, from, upTo)
	b.ranges = true
}

// size is about that of the batch for Pebble.
func (b *recordBatch) size() int { return len(b.buf) + opOverhead*len(b.ops) }

// memory is about how many bytes it takes.
func (b *recordBatch) memory() int {
	return cap(b.buf) + cap(b.ops)*int(unsafe.Sizeof(recordOp{})) + cap(b.sorted)*int(unsafe.Sizeof(rankedOp{}))
}

// fill adds everything to a batch of Pebble, which applies the last of two changes of one key.
func (b *recordBatch) fill(out *pebble.Batch) error {
	b.sorted = slices.Grow(b.sorted[:0], len(b.ops))
	for i := range b.ops {
		b.sorted = append(b.sorted, rankedOp{rank(b.keyOf(i)), int32(i)})
	}
	if !b.ranges {
		slices.SortFunc(b.sorted, b.compare)
	}
	for _, s := range b.sorted {
		if err := b.put(out, &b.ops[s.at]); err != nil {
			return err
		}
	}
	return nil
}

func (b *recordBatch) put(out *pebble.Batch, op *recordOp) error {
	key, value := b.buf[op.key:op.value], b.buf[op.value:op.end]
	switch op.kind {
	case opSet:
		return out.Set(key, value, nil)
	case opDelete:
		return out.Delete(key, nil)
	default:
		return out.DeleteRange(key, value, nil)
	}
}

func (b *recordBatch) keyOf(i int) []byte { return b.buf[b.ops[i].key:b.ops[i].value] }

// rank orders keys of one partition by what follows it, as far as it goes: shorter keys come before those that they begin.
func rank(key []byte) uint64 {
	if len(key) >= 12 {
		return binary.BigEndian.Uint64(key[4:])
	}
	var wide [8]byte
	if len(key) > 4 {
		copy(wide[:], key[4:])
	}
	return binary.BigEndian.Uint64(wide[:])
}

// compare orders by key, and changes of one key as they came. All keys are of one partition.
func (b *recordBatch) compare(x, y rankedOp) int {
	if x.rank != y.rank {
		return cmp.Compare(x.rank, y.rank)
	}
	if c := bytes.Compare(b.keyOf(int(x.at)), b.keyOf(int(y.at))); c != 0 {
		return c
	}
	return cmp.Compare(x.at, y.at)
}

// maxKeptBatch bounds the memory of each kind that an empty recordBatch may hold on to, and leastKeptBatch is kept whatever was
// used of it.
const (
	leastKeptBatch = 64 << 10
	maxKeptBatch   = 2 * stageBytes
)

// keeps reports whether the memory is worth keeping for the next batch.
func (b *recordBatch) keeps() bool {
	return wellUsed(cap(b.buf), len(b.buf), leastKeptBatch, maxKeptBatch)
}

// reset empties the batch for the next one.
func (b *recordBatch) reset() { b.buf, b.ops, b.ranges = b.buf[:0], b.ops[:0], false }
