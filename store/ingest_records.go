package store

import (
	"encoding/binary"
	"math/bits"
)

// bulkRecords are records as they will be stored, in blocks, so that none moves while more of them come:
//
//	block     records, each: seqEnd u64 | length u32 | value
type bulkRecords struct {
	blocks [][]byte // what is in a block stays where it is, and a record is in one block
	size   int      // of all of them: bytes that are used
}

const recordHeader = 8 + 4

// recordPlace is a place between records.
type recordPlace struct{ block, at int }

// end is behind the last record.
func (r *bulkRecords) end() recordPlace {
	n := len(r.blocks)
	if n == 0 {
		return recordPlace{}
	}
	return recordPlace{n - 1, len(r.blocks[n-1])}
}

// room returns the block that a record of n bytes is to be appended to; left bytes are about to come, it among them. Blocks begin
// small: many buckets may be pulled at a time, and what counts as gathered is all that blocks take, not what is in them.
func (b *bulkState) room(r *bulkRecords, n, left int) *[]byte {
	last := len(r.blocks) - 1
	if last < 0 || cap(r.blocks[last])-len(r.blocks[last]) < n {
		block := b.buffer(max(n, min(max(left, r.size), mostBlock)))
		b.gathered.Add(int64(cap(block)))
		r.blocks = append(r.blocks, block)
		last++
	}
	r.size += n
	return &r.blocks[last]
}

// spans visits what lies in each block between two places.
func (r *bulkRecords) spans(from, to recordPlace, visit func([]byte) error) error {
	for n := from.block; n < len(r.blocks) && n <= to.block; n++ {
		b := r.blocks[n]
		if n == to.block {
			b = b[:to.at]
		}
		if n == from.block {
			b = b[from.at:]
		}
		if err := visit(b); err != nil {
			return err
		}
	}
	return nil
}

// each visits a document's records.
func (m *bulkDoc) each(records *bulkRecords, visit func(seqEnd int64, value []byte) error) error {
	return records.spans(m.from, m.to, func(b []byte) error {
		for len(b) > 0 {
			n := recordHeader + int(binary.BigEndian.Uint32(b[8:]))
			if err := visit(int64(binary.BigEndian.Uint64(b)), b[recordHeader:n:n]); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	})
}

// move copies a document's records to where nothing is yet.
func (b *bulkState) move(to *bulkRecords, m *bulkDoc, from *bulkRecords) {
	left := m.bytes
	_ = from.spans(m.from, m.to, func(p []byte) error {
		if len(p) > 0 {
			block := b.room(to, len(p), left)
			*block = append(*block, p...)
			left -= len(p)
		}
		return nil
	})
	m.from, m.to = recordPlace{}, to.end()
}

// Buffers have one of few sizes, each twice the one before, so that what one session has used fits the next one.
const (
	leastBuffer   = 2 << 10
	bufferClasses = 13        // up to 8 MiB; larger ones are not kept
	mostBlock     = 256 << 10 // but for a record that is larger
)

// classOf returns the class of the smallest buffers that hold so many bytes.
func classOf(bytes int) int { return bits.Len(uint(max(bytes, leastBuffer)-1) / leastBuffer) }

// buffer returns an empty buffer of at least so many bytes.
func (b *bulkState) buffer(size int) []byte {
	class := classOf(size)
	if class >= bufferClasses {
		return make([]byte, 0, size)
	}
	if used, ok := b.buffers[class].Get().(*[]byte); ok {
		return *used
	}
	return make([]byte, 0, leastBuffer<<class)
}

// giveBack keeps the blocks for others.
func (b *bulkState) giveBack(r *bulkRecords) {
	for _, block := range r.blocks {
		b.gathered.Add(-int64(cap(block)))
		b.keep(block)
	}
	*r = bulkRecords{}
}

// keep takes a buffer back.
func (b *bulkState) keep(used []byte) {
	if class := classOf(cap(used)); class < bufferClasses && cap(used) == leastBuffer<<class {
		used = used[:0]
		b.buffers[class].Put(&used)
	}
}
