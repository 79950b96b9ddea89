package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/adamantdb/adamant/internal/interval"
)

// Large pulls do not go through the write-ahead log and the memtable, which cost several times what the documents
// themselves do. What arrives in large chunks of documents that are not here at all is gathered by the session, written
// as sorted tables beside the engine, and given to it whole:
//
//	1 gather    memory    records of documents, as they will be stored; nobody sees them
//	2 announce  fsync     metaIngest: the bucket may have records without heads
//	3 tables    fsync     entries and bases, in files that nothing knows of
//	4 ingest    fsync     the engine takes the files: records without heads, which nobody sees
//	5 heads     unsynced  one batch: heads, sums, counts, and the end of the announcement
//
// 2 and 3 are made durable side by side. 4 and 5 are done for several sessions at once (installGroup). They hold the writers' lock, after verifying that no command has touched the documents meanwhile; those that one
// has are merged entry by entry, like everything small. A crash leaves a prefix: after 4 there may be records that no
// head tells of, and opening the member removes them (sweepIngests). A head without its records cannot be.

// bulkLimits say when a pull is large.
type bulkLimits struct {
	chunk int   // bytes of a chunk from which on its documents are gathered
	table int   // gathered bytes that are written
	least int   // bytes of a table: less is merged entry by entry
	total int64 // bytes that all sessions of the host take for what they have gathered
}

var defaultBulkLimits = bulkLimits{chunk: 64 << 10, table: 4 << 20, least: 64 << 10, total: 24 << 20}

// bulkState is what an engine keeps of large pulls.
type bulkState struct {
	limits   bulkLimits
	gathered atomic.Int64             // bytes: of bases, and of buffers whether full or not
	files    atomic.Uint64            // names of tables
	dirMade  atomic.Bool              // where tables are written
	tables   atomic.Int64             // ingested
	buffers  [bufferClasses]sync.Pool // of *[]byte: bulkImport.records that were used, by size
	lists    sync.Pool                // of *[]bulkDoc: bulkImport.docs that were used, empty
	scratch  sync.Pool                // of *chunkScratch, for exports and decoders
	writers  sync.Pool                // of *[]byte, for tables
	batches  sync.Pool                // of *docBatch, of heads
	written  func()                   // tests only: called between steps 3 and 4; may be nil
}

// bulkImport is what a session has gathered. The zero value is empty.
type bulkImport struct {
	docs    []bulkDoc
	records bulkRecords // of all docs
}

// bulkDoc is a document that was not here when it arrived.
type bulkDoc struct {
	place
	head     Head // the peer's; the counts are those of the records
	highest  uint64
	base     []byte
	from, to recordPlace // its records
	bytes    int         // of them
	last     int64       // seqEnd of the last record
	chain    Chain       // after it; zero when it is not known

	theirs interval.Set // what the peer covers; empty until the end of the document has arrived
}

func (m *bulkDoc) size() int { return m.bytes + len(m.base) }

func (m *bulkDoc) hasEntries() bool { return m.bytes > 0 }

// gather takes what it can of a verified chunk, and returns the rest, for merge.
func (s *Session) gather(c *Chunk, report *ImportReport) (*Chunk, error) {
	large := chunkBytes(c) >= s.d.engine.bulk.limits.chunk
	if !large && len(s.bulk.docs) == 0 {
		return c, nil
	}
	g, err := s.newGatherer(c, large)
	if err != nil {
		return nil, err
	}
	defer g.close()
	rest := *c
	rest.Docs = nil
	for i := range c.Docs {
		doc := &c.Docs[i]
		taken, err := g.take(doc)
		if err != nil {
			return nil, err
		}
		if !taken {
			rest.Docs = append(rest.Docs, *doc)
			continue
		}
		if doc.Key != c.partial() {
			s.bulk.docs[len(s.bulk.docs)-1].theirs = c.Coverage
		}
		report.Documents++
		report.Entries += len(doc.Entries)
		report.Bytes += int64(len(doc.Base))
		for j := range doc.Entries {
			report.Bytes += int64(len(doc.Entries[j].Delta))
		}
	}
	return &rest, nil
}

func chunkBytes(c *Chunk) (n int) {
	for i := range c.Docs {
		n += len(c.Docs[i].Base)
		for j := range c.Docs[i].Entries {
			n += len(c.Docs[i].Entries[j].Delta)
		}
	}
	return n
}

// gatherer takes the documents of one chunk.
type gatherer struct {
	s       *Session
	large   bool
	highest uint64
	heads   *walker // of documents that are here; nil unless the chunk is large
}

func (s *Session) newGatherer(c *Chunk, large bool) (*gatherer, error) {
	g := &gatherer{s: s, large: large, highest: max(c.Applied, c.Ahead)}
	if err := s.d.acquire(); err != nil {
		return nil, err
	}
	if n := len(c.Docs); large && n > 0 {
		var err error
		first, last := c.Docs[0].Key.Hash(), c.Docs[n-1].Key.Hash()
		if g.heads, err = newWalker(s.d.engine.db, s.d.partition, s.bucket, kindHead, first, last); err != nil {
			s.d.engine.release()
			return nil, err
		}
	}
	return g, nil
}

func (g *gatherer) close() {
	g.heads.close()
	g.s.d.engine.release()
}

// take takes a document of a large chunk that is not here, or what follows of one that was taken last. One that is here
// since the chunk began to be gathered is found when what is gathered is written.
func (g *gatherer) take(doc *ChunkDoc) (bool, error) {
	s := g.s
	p, err := s.d.place(doc.Key)
	if err != nil {
		return false, err
	}
	if n := len(s.bulk.docs); n > 0 && s.bulk.docs[n-1].key == doc.Key {
		last := &s.bulk.docs[n-1]
		if last.continues(doc) {
			if !last.links(doc) {
				return false, &ChunkError{Bucket: s.bucket, Key: doc.Key, Reason: fmt.Sprintf("chain broken behind seq %d", last.last)}
			}
			s.put(last, doc)
			last.highest = max(last.highest, g.highest)
			return true, nil
		}
		return false, s.flushBulk() // it changed on the way: what was gathered of it has to be there to be merged with
	}
	if !g.large || doc.Head.HasBase && !doc.HasBase {
		return false, nil
	}
	if _, here, err := g.heads.head(p); err != nil || here {
		return false, err
	}
	if n := len(s.bulk.docs); n > 0 && comparePlaces(s.bulk.docs[n-1].place, p) > 0 { // a page was listed again
		if err := s.flushBulk(); err != nil {
			return false, err
		}
	}
	at := s.bulk.records.end()
	if s.bulk.docs == nil {
		s.bulk.docs = s.d.engine.bulk.list()
	}
	s.bulk.docs = append(s.bulk.docs, bulkDoc{place: p, head: doc.Head, highest: g.highest, base: bytes.Clone(doc.Base), from: at, to: at, last: math.MinInt64})
	s.d.engine.bulk.gathered.Add(int64(len(doc.Base)))
	s.put(&s.bulk.docs[len(s.bulk.docs)-1], doc)
	return true, nil
}

// continues reports whether a document of a chunk is the next part of what is gathered.
func (m *bulkDoc) continues(doc *ChunkDoc) bool {
	same := doc.Head
	same.Span, same.Entries, same.Bytes = m.head.Span, m.head.Entries, m.head.Bytes
	return same == m.head && !doc.HasBase && (len(doc.Entries) == 0 || doc.Entries[0].Begin > m.last)
}

// links reports whether the next part's first entry follows from the last one that is gathered, as far as the chains tell:
// verifyChunk sees one part at a time.
func (m *bulkDoc) links(doc *ChunkDoc) bool {
	if len(doc.Entries) == 0 {
		return true
	}
	e := &doc.Entries[0]
	return e.Begin != m.last+1 || !known(m.chain) || !known(e.Chain) || m.chain.Next(e.Delta) == e.Chain
}

// put appends a document's entries to the records.
func (s *Session) put(m *bulkDoc, doc *ChunkDoc) {
	left := 0
	for i := range doc.Entries {
		left += recordHeader + entryOverhead + len(doc.Entries[i].Delta)
	}
	m.bytes += left
	records := &s.bulk.records
	for i := range doc.Entries {
		e := &doc.Entries[i]
		n := recordHeader + entryOverhead + len(e.Delta)
		b := s.d.engine.bulk.room(records, n, left)
		left -= n
		*b = binary.BigEndian.AppendUint64(*b, uint64(e.End))
		*b = binary.BigEndian.AppendUint32(*b, uint32(n-recordHeader))
		*b = e.appendValue(*b)
		m.head.Span += e.End - e.Begin + 1
		m.head.Entries++
		m.head.Bytes += int64(len(e.Delta))
		m.last, m.chain = e.End, e.Chain
	}
	m.to = records.end()
}

// drop forgets what is gathered.
func (s *Session) dropBulk() {
	n := 0
	for i := range s.bulk.docs {
		n += len(s.bulk.docs[i].base)
	}
	s.d.engine.bulk.gathered.Add(-int64(n))
	s.d.engine.bulk.giveBack(&s.bulk.records)
	if docs := s.bulk.docs; cap(docs) <= mostKeptDocs {
		clear(docs[:cap(docs)]) // of keys and bases
		docs = docs[:0]
		s.d.engine.bulk.lists.Put(&docs)
	}
	s.bulk = bulkImport{}
}

// mostKeptDocs is how long a list of documents is kept for the next session.
const mostKeptDocs = 1 << 12

// list returns an empty list of documents.
func (b *bulkState) list() []bulkDoc {
	if used, ok := b.lists.Get().(*[]bulkDoc); ok {
		return *used
	}
	return make([]bulkDoc, 0, 64)
}

// flushFull writes what is gathered when that is enough. A document of which more is to come is kept back for its end,
// unless it is large by itself: what follows of it is then merged.
func (s *Session) flushFull(next *Cursor) error {
	l := &s.d.engine.bulk.limits
	n := len(s.bulk.docs)
	if n == 0 || s.bulk.records.size < l.table && s.d.engine.bulk.gathered.Load() < l.total {
		return nil
	}
	last := s.bulk.docs[n-1]
	if n == 1 || last.key != next.Key || next.After == math.MaxInt64 || last.size() >= l.table {
		return s.flushBulk()
	}
	s.bulk.docs = s.bulk.docs[:n-1]
	var tail bulkRecords
	s.d.engine.bulk.move(&tail, &last, &s.bulk.records)
	err := s.flushBulk()
	s.bulk = bulkImport{docs: []bulkDoc{last}, records: tail}
	return err
}

// flushBulk writes what is gathered, whatever way. Nothing is gathered afterwards.
func (s *Session) flushBulk() error {
	if len(s.bulk.docs) == 0 {
		return nil
	}
	defer s.dropBulk()
	r := bulkRun{s: s, d: s.d, docs: make([]*bulkDoc, len(s.bulk.docs)), records: &s.bulk.records}
	for i := range s.bulk.docs {
		r.docs[i] = &s.bulk.docs[i]
	}
	return r.run()
}

// bulkRun writes what one session has gathered.
type bulkRun struct {
	s       *Session
	d       *Documents
	docs    []*bulkDoc // in order
	records *bulkRecords
	merged  []*bulkDoc // to be merged entry by entry
	key     []byte     // scratch
	pending bool       // counted in Documents.ingesting
}

// tries is how often tables are written again without the documents that a command has touched meanwhile.
const tries = 3

func (r *bulkRun) run() error {
	defer func() { // after a failure: what was announced stays so, and ends with the next run of the bucket
		r.d.mu.Lock()
		r.leave()
		r.d.mu.Unlock()
	}()
	for n := 0; len(r.docs) > 0; n++ {
		tables, err := r.plan()
		if err != nil {
			return err
		}
		if n == tries {
			r.merged, r.docs = append(r.merged, r.docs...), nil
		}
		if len(r.docs) == 0 {
			break
		}
		done, err := r.attempt(tables)
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	return r.merge()
}

// attempt announces, writes and ingests tables; false when documents had to be taken out. The announcement becomes durable while
// the tables are written: both have to be so before the engine takes them, and neither before the other.
func (r *bulkRun) attempt(tables []*table) (done bool, err error) {
	defer func() {
		if !done {
			r.d.engine.removeTables(tables)
		}
	}()
	if err := r.announce(); err != nil {
		return false, err
	}
	announced := make(chan error, 1)
	go func() { announced <- r.d.engine.Sync() }()
	err = r.writeAll(tables)
	if err := cmp.Or(<-announced, err); err != nil {
		return false, err
	}
	if f := r.d.engine.bulk.written; f != nil {
		f()
	}
	return r.d.installs.do(r, tables)
}

func (r *bulkRun) writeAll(tables []*table) error {
	for _, t := range tables {
		if err := r.write(t); err != nil {
			return err
		}
	}
	return nil
}

// announce is durable with the next Sync.
func (r *bulkRun) announce() error {
	unlock, err := r.d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	r.enter()
	if r.d.meta.ingests[r.s.bucket] {
		return nil
	}
	b := r.d.begin()
	defer b.close()
	b.setIngest(r.s.bucket, true)
	return b.commit(false)
}

// enter counts the run among those that rest on the bucket's announcement. The caller holds mu.
func (r *bulkRun) enter() {
	if r.pending {
		return
	}
	if r.pending = true; r.d.ingesting == nil {
		r.d.ingesting = map[uint8]int{}
	}
	r.d.ingesting[r.s.bucket]++
}

// leave is the inverse of enter, and may be called for a run that did not enter. The caller holds mu.
func (r *bulkRun) leave() {
	if !r.pending {
		return
	}
	r.pending = false
	if r.d.ingesting[r.s.bucket]--; r.d.ingesting[r.s.bucket] == 0 {
		delete(r.d.ingesting, r.s.bucket)
	}
	if len(r.d.ingesting) == 0 {
		r.d.ingesting = nil
	}
}

// withdraw ends the bucket's announcement with a batch, unless another run still rests on it: that of the session that
// took the bucket over, or of the one that lost it. The caller holds mu.
func (r *bulkRun) withdraw(b *docBatch) bool {
	r.leave()
	if r.d.ingesting[r.s.bucket] > 0 || !r.d.meta.ingests[r.s.bucket] {
		return false
	}
	b.setIngest(r.s.bucket, false)
	return true
}

// merge puts what could not be ingested through the way of small chunks.
func (r *bulkRun) merge() error {
	unlock, err := r.d.lock()
	if err != nil {
		return err
	}
	b := r.d.begin()
	if r.withdraw(b) { // announced, and then there was nothing to ingest
		err = b.commit(false)
	}
	b.close()
	unlock()
	for i := range r.merged {
		if err != nil {
			return err
		}
		var doc ChunkDoc
		if doc, err = r.merged[i].chunkDoc(r.records); err != nil {
			return err
		}
		var report ImportReport
		c := &Chunk{Bucket: r.s.bucket, Docs: []ChunkDoc{doc}, Applied: r.merged[i].highest, Coverage: r.merged[i].theirs}
		err = r.s.merge(c, &report)
		r.s.answers.Diverged = r.s.answers.Diverged || len(report.Divergent) > 0
		r.s.diverged = append(r.s.diverged, report.Divergent...)
	}
	return err
}

// chunkDoc makes of a gathered document what it was.
func (m *bulkDoc) chunkDoc(records *bulkRecords) (ChunkDoc, error) {
	doc := ChunkDoc{Key: m.key, Head: m.head, Base: m.base, HasBase: m.head.HasBase}
	doc.Head.Span, doc.Head.Entries, doc.Head.Bytes = 0, 0, 0
	err := m.each(records, func(seqEnd int64, value []byte) error {
		e, err := entryOfBody(value[:len(value)-checksumLen], seqEnd)
		doc.Entries = append(doc.Entries, e)
		return err
	})
	if err != nil {
		return doc, fmt.Errorf("store: partition: gathered document %s: %w", m.key, err)
	}
	return doc, nil
}
