package store

import "slices"

// chunkScratch is memory for what a chunk consists of. A member that is pulled from, or that pulls much, makes one chunk
// after the other, each of some hundred kilobytes that nobody needs for long: taken anew every time, they would have the
// garbage collector look through the whole process several times a second.
type chunkScratch struct {
	arena arena // of deltas
	docs  []ChunkDoc
	slab  []ChunkEntry // of all documents, one behind the other
}

// takeScratch returns memory for a chunk.
func (b *bulkState) takeScratch() *chunkScratch {
	if m, ok := b.scratch.Get().(*chunkScratch); ok {
		return m
	}
	return new(chunkScratch)
}

// giveScratch takes memory back of which nothing is used any more.
func (b *bulkState) giveScratch(m *chunkScratch) {
	m.reset()
	b.scratch.Put(m)
}

// mostScratch is how many entries are kept for the next chunk: more come together of very small ones only.
const mostScratch = 1 << 14

// reset takes everything back that was given out.
func (m *chunkScratch) reset() {
	m.arena.reset()
	clear(m.docs) // of keys and bases
	m.docs = m.docs[:0]
	if cap(m.slab) > mostScratch {
		m.slab = nil
	}
	m.slab = m.slab[:0]
}

// entries returns room for n entries. It may hold what was there before.
func (m *chunkScratch) entries(n int) []ChunkEntry {
	if n > cap(m.slab)-len(m.slab) {
		m.slab = make([]ChunkEntry, 0, max(n, 256, min(2*cap(m.slab), mostScratch))) // what was given out stays where it is
	}
	at := len(m.slab)
	m.slab = m.slab[:at+n]
	return m.slab[at : at : at+n]
}

// arena gives out memory for small things that live and die together.
type arena struct {
	free   []byte
	blocks [][]byte // given out, at least in part
	spare  [][]byte
}

const (
	arenaBlock = 64 << 10
	arenaKept  = 32 // blocks
)

// join returns a and b in one piece.
func (m *arena) join(a, b []byte) []byte {
	n := len(a) + len(b)
	if n > arenaBlock/4 {
		return append(append(make([]byte, 0, n), a...), b...)
	}
	if n > len(m.free) {
		m.next()
	}
	out := m.free[:n:n]
	m.free = m.free[n:]
	copy(out[copy(out, a):], b)
	return out
}

// next begins another block.
func (m *arena) next() {
	if n := len(m.spare); n > 0 {
		m.free, m.spare = m.spare[n-1], m.spare[:n-1]
	} else {
		m.free = make([]byte, arenaBlock)
	}
	m.blocks = append(m.blocks, m.free)
}

// reset takes everything back.
func (m *arena) reset() {
	m.spare = append(m.spare, m.blocks...)
	if len(m.spare) > arenaKept {
		m.spare = slices.Delete(m.spare, arenaKept, len(m.spare))
	}
	m.free, m.blocks = nil, m.blocks[:0]
}
