package store

import (
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"github.com/adamantdb/adamant/internal/interval"
)

// ImportReport says what a chunk changed.
type ImportReport struct {
	Documents int   // that changed, removed ones included
	Removed   int   // that were removed because the peer's absence proves a delete
	Entries   int   // stored
	Bytes     int64 // of stored deltas and bases
	Divergent []Divergence
}

// Divergence is a document whose history here and at a peer cannot both come from one log. It was left alone.
type Divergence struct {
	Key        Key
	Generation uint64
	Seq        int64 // where, as far as one seq can say it
	Reason     DivergenceReason
}

func (v *Divergence) String() string {
	return fmt.Sprintf("document %s, generation %d, at seq %d: %s", v.Key, v.Generation, v.Seq, v.Reason)
}

func (s *Session) importChunk(c *Chunk, atOnce bool) (report ImportReport, err error) {
	d := s.d
	if c.Bucket != s.bucket {
		return report, &ChunkError{Bucket: s.bucket, Reason: fmt.Sprintf("it is for bucket %d", c.Bucket)}
	}
	if err := verifyChunk(d.hashes, c); err != nil {
		return report, err
	}
	if !atOnce {
		if c, err = s.gather(c, &report); err != nil {
			return report, err
		}
		if report.Documents > 0 && len(c.Docs)+len(c.Absent) == 0 { // then there is no need to wait for the writers' lock
			return report, s.flushFull(&c.Next)
		}
	}
	if err := s.merge(c, &report); err != nil || atOnce {
		return report, err
	}
	return report, s.flushFull(&c.Next)
}

// pieceBytes is about how much is merged in one batch: the lock that commands need too is held for that long.
const pieceBytes = 256 << 10

// merge puts a verified chunk into batches.
func (s *Session) merge(c *Chunk, report *ImportReport) error {
	p := pieces{rest: slices.Clone(c.Docs)}
	for first := true; first || len(p.rest) > 0; first = false {
		piece := *c
		if piece.Docs = p.next(); !first {
			piece.Absent = nil
		}
		if n := len(report.Divergent); n > 0 && len(piece.Docs) > 0 && piece.Docs[0].Key == report.Divergent[n-1].Key {
			piece.Docs = piece.Docs[1:] // the piece before has shown that nothing of it is to be taken
		}
		more := c.partial()
		if len(p.rest) > 0 {
			more = p.rest[0].Key
		}
		if err := s.mergePiece(&piece, more, report); err != nil {
			return err
		}
	}
	return nil
}

// partial returns the key of the document of which the next chunk brings more; the zero key when there is none.
func (c *Chunk) partial() Key {
	if c.Done || c.Next.After == math.MaxInt64 {
		return Key{}
	}
	return c.Next.Key
}

// mergePiece merges a part of a chunk in one batch; of the document more, which may be its last one, more is to come.
func (s *Session) mergePiece(c *Chunk, more Key, report *ImportReport) error {
	d := s.d
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if d.sessions[s.bucket] != s {
		return ErrSessionLost
	}
	i := importer{d: d, b: d.begin(), chunk: c, more: more, know: Knowledge{Mine: d.meta.bucketCoverage(s.bucket), Theirs: c.Coverage,
		TheirHighest: max(c.Applied, c.Ahead), MineComplete: d.meta.complete()}}
	defer i.b.close()
	i.b.learned = true
	// Delete records would be dropped by the same batch when the member is complete even after it.
	i.records = !Complete(d.meta.holes, max(d.meta.state.ahead, i.know.TheirHighest), d.meta.state.applied)
	if err := i.run(); err != nil {
		return err
	}
	if i.changed {
		i.b.sawAhead(i.know.TheirHighest)
		if err := i.b.commit(false); err != nil {
			return err
		}
	}
	report.add(&i.report)
	return nil
}

// add adds what another piece of the chunk came to.
func (r *ImportReport) add(o *ImportReport) {
	r.Documents += o.Documents
	r.Removed += o.Removed
	r.Entries += o.Entries
	r.Bytes += o.Bytes
	for _, v := range o.Divergent {
		if n := len(r.Divergent); n == 0 || r.Divergent[n-1].Key != v.Key { // or else another piece of the document
			r.Divergent = append(r.Divergent, v)
		}
	}
}

// pieces cuts documents into pieces that are merged one after the other. Each is what a peer with a small budget could
// have sent.
type pieces struct{ rest []ChunkDoc }

func (p *pieces) next() (docs []ChunkDoc) {
	for size := 0; len(p.rest) > 0; {
		doc := p.rest[0]
		size += len(doc.Base)
		n := 0
		for n < len(doc.Entries) && size < pieceBytes {
			size += len(doc.Entries[n].Delta) + entryOverhead
			n++
		}
		if n < len(doc.Entries) {
			if n > 0 || doc.HasBase {
				left := doc
				left.Base, left.HasBase, left.Entries = nil, false, doc.Entries[n:]
				doc.Entries = doc.Entries[:n]
				docs, p.rest[0] = append(docs, doc), left
			}
			return docs
		}
		docs, p.rest = append(docs, doc), p.rest[1:]
	}
	return docs
}

// importer merges one chunk into one batch.
type importer struct {
	d       *Documents
	b       *docBatch
	chunk   *Chunk
	more    Key // the document that the chunk holds only a part of, if any
	know    Knowledge
	records bool // delete records are kept
	changed bool
	report  ImportReport
}

func (i *importer) run() error {
	for n := range i.chunk.Absent {
		a := &i.chunk.Absent[n]
		if err := i.merge(a.Key, &ChunkDoc{Key: a.Key}, &DocView{Deleted: a.Deleted}); err != nil {
			return err
		}
	}
	if err := i.b.documents(i.chunk.Bucket, len(i.chunk.Docs), func(n int) place {
		key := i.chunk.Docs[n].Key
		return place{key: key, hash: key.Hash(), bucket: i.chunk.Bucket}
	}); err != nil {
		return err
	}
	for n := range i.chunk.Docs {
		doc := &i.chunk.Docs[n]
		theirs := DocView{Exists: true, Head: doc.Head, Entries: marksOf(doc.Entries)}
		if doc.HasBase {
			theirs.BaseHash = baseHash(doc.Base)
		}
		if err := i.merge(doc.Key, doc, &theirs); err != nil {
			return err
		}
	}
	return nil
}

func marksOf(entries []ChunkEntry) []Mark {
	marks := make([]Mark, len(entries))
	for i := range entries {
		marks[i] = entries[i].Mark
	}
	return marks
}

// baseHash is never 0, which stands for "not known".
func baseHash(base []byte) uint64 { return max(1, xxhash.Sum64(base)) }

// merge decides about one document and does what was decided.
func (i *importer) merge(key Key, doc *ChunkDoc, theirs *DocView) error {
	p, err := i.d.place(key)
	if err != nil {
		return err
	}
	s, err := i.b.document(p)
	if err != nil {
		return err
	}
	mine := DocView{Deleted: s.deleted}
	if s.head != nil {
		mine.Exists, mine.Head = true, *s.head
	}
	var links neighbours
	if mine.Exists && theirs.Exists && mine.Head.Generation == theirs.Head.Generation {
		if links, err = i.neighbours(p, &mine.Head, doc); err != nil {
			return err
		}
		mine.Entries = links.marks
		if theirs.BaseHash != 0 && mine.Head.HasBase && mine.Head.BaseIndex == theirs.Head.BaseIndex {
			if mine.BaseHash, err = i.myBaseHash(p, &mine.Head); err != nil {
				return err
			}
		}
	}
	decision := MergeDocument(&mine, theirs, &i.know)
	if decision.Action == ActionInstall || decision.Action == ActionUnion {
		if seq, broken := links.broken(doc, decision.Take); broken {
			decision = Decision{Action: ActionDiverged, Reason: DivergedChain, Seq: seq}
		}
	}
	if decision.TakeBase && !doc.HasBase {
		return i.bad(key, "its base was not sent, and is needed")
	}
	if err := i.perform(s, doc, &decision); err != nil || decision.Action == ActionDiverged || !theirs.Exists || key == i.more {
		return err
	}
	if s.head != nil && s.head.Generation == theirs.Head.Generation && lacking(s.head, i.know.Theirs) {
		return lackingError(i.chunk.Bucket, key, s.head)
	}
	return nil
}

// lacking reports whether a document, with everything that its sender has of it, has a gap that the sender claims to
// cover: then the sender has lost something, and what it covers heals nothing.
func lacking(h *Head, theirs interval.Set) bool {
	return h.Gap() && theirs.Covers(interval.Of(1, h.LastIndex))
}

func lackingError(bucket uint8, key Key, h *Head) error {
	return &ChunkError{Bucket: bucket, Key: key, Reason: fmt.Sprintf("all of it makes %d of %d seqs, and its sender covers them", h.Span, h.HeadSeq-h.Floor)}
}

func (i *importer) bad(key Key, reason string) error {
	return &ChunkError{Bucket: i.chunk.Bucket, Key: key, Reason: reason}
}

// myBaseHash is only asked for when the peer sent a base of the same index, which it does not do unless it must.
func (i *importer) myBaseHash(p place, h *Head) (uint64, error) {
	v, ok, err := get(i.d.engine.db, appendGeneration(nil, i.d.partition, p, kindBase, h.Generation))
	if err != nil || !ok {
		return 0, err
	}
	if v, err = unseal(v); err != nil {
		return 0, &CorruptionError{Partition: i.d.partition, Key: p.key, Kind: kindBase.String(), Err: err}
	}
	return baseHash(v), nil
}

// perform puts a decision into the batch.
func (i *importer) perform(s *docState, doc *ChunkDoc, decision *Decision) error {
	switch decision.Action {
	case ActionKeep:
		return nil
	case ActionDiverged:
		v := Divergence{Key: s.key, Seq: decision.Seq, Reason: decision.Reason}
		if s.head != nil {
			v.Generation = s.head.Generation
		}
		i.report.Divergent = append(i.report.Divergent, v)
		return nil
	}
	if err := decision.Perform(&batchDoc{i.b, s}, i.records, func() error { return i.take(s, doc, decision) }); err != nil {
		return err
	}
	switch decision.Action {
	case ActionRecord:
		i.changed = i.changed || i.records
		return nil
	case ActionDelete:
		i.report.Removed++
	}
	i.changed = true
	i.report.Documents++
	i.b.settle(s, 0)
	return nil
}

// take stores the base and the entries that a decision names.
func (i *importer) take(s *docState, doc *ChunkDoc, decision *Decision) error {
	if decision.TakeBase {
		if err := i.b.putBase(s, doc.Head.BaseSeq, doc.Head.BaseIndex, doc.Base); err != nil {
			return err
		}
		i.report.Bytes += int64(len(doc.Base))
	}
	for _, n := range decision.Take {
		e := &doc.Entries[n]
		stored, err := i.b.putChunkEntry(s, e)
		if err != nil {
			return err
		}
		if stored {
			i.report.Entries++
			i.report.Bytes += int64(len(e.Delta))
		}
	}
	return nil
}

// neighbours is what this member holds around the entries of a chunk.
type neighbours struct {
	head  *Head
	marks []Mark
	next  map[int64]ChunkEntry // by Begin: entries right behind one of the chunk's
}

// neighbours reads this member's entries that overlap the chunk's or touch them, and the one at their head. Usually
// there are hardly any: a peer sends what was said to be missing.
func (i *importer) neighbours(p place, h *Head, doc *ChunkDoc) (neighbours, error) {
	n := neighbours{head: h, next: map[int64]ChunkEntry{}}
	if h.Entries == 0 {
		return n, nil
	}
	lower, upper := prefixRange(appendGeneration(nil, i.d.partition, p, kindEntry, h.Generation))
	it, err := i.d.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return n, readError(i.d.partition, p.key, kindEntry, err)
	}
	r := neighbourReader{it: it, n: &n, key: appendGeneration(nil, i.d.partition, p, kindEntry, h.Generation), valid: true, read: math.MinInt64}
	for k := range doc.Entries {
		if err == nil && doc.Entries[k].Begin-1 <= h.HeadSeq {
			err = r.around(doc.Entries[k].Begin-1, doc.Entries[k].End)
		}
	}
	if err == nil && doc.Head.HeadSeq < h.HeadSeq {
		err = r.around(doc.Head.HeadSeq, doc.Head.HeadSeq)
	}
	if err != nil {
		err = &CorruptionError{Partition: i.d.partition, Key: p.key, Kind: kindEntry.String(), Err: err}
	}
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = readError(i.d.partition, p.key, kindEntry, closeErr)
	}
	return n, err
}

// neighbourReader walks forward over the entries of a document, reading each at most once.
type neighbourReader struct {
	it    *pebble.Iterator
	n     *neighbours
	key   []byte // prefix of the entries' keys
	valid bool   // the iterator may stand at something; false: nothing follows
	read  int64  // SeqEnd of the newest entry in n.marks
}

// around reads the entries with SeqEnd ≥ from and SeqBegin ≤ to+1. Calls come in ascending order of from.
func (r *neighbourReader) around(from, to int64) error {
	if r.read >= from { // the iterator stands behind what was read; what lies between was read too
		r.valid = r.it.Valid()
	} else {
		r.valid = r.it.SeekGE(appendSeq(r.key[:len(r.key):len(r.key)], from))
	}
	for ; r.valid; r.valid = r.it.Next() {
		m, err := readMark(r.it)
		if err != nil {
			return err
		}
		if m.Begin-1 > to {
			return nil
		}
		if m.Begin-1 == to {
			v, err := r.it.ValueAndErr()
			if err != nil {
				return err
			}
			body, err := unseal(append([]byte(nil), v...))
			if err != nil {
				return err
			}
			e, err := entryOfBody(body, m.End)
			if err != nil {
				return err
			}
			r.n.next[m.Begin] = e
		}
		r.n.marks = append(r.n.marks, m)
		r.read = m.End
	}
	return nil
}

// broken reports whether an entry to be taken does not link to one of mine before or behind it: the chain after a delta
// follows from the chain before it.
func (n *neighbours) broken(doc *ChunkDoc, take []int) (int64, bool) {
	if n.head == nil {
		return 0, false
	}
	for _, k := range take {
		e := &doc.Entries[k]
		if !known(e.Chain) {
			continue
		}
		before, ok := n.chainAt(e.Begin - 1)
		if ok && before.Next(e.Delta) != e.Chain {
			return e.End, true
		}
		if behind, ok := n.next[e.End+1]; ok && known(behind.Chain) && e.Chain.Next(behind.Delta) != behind.Chain {
			return behind.End, true
		}
	}
	return 0, false
}

// chainAt returns my chain after a seq, if I know it.
func (n *neighbours) chainAt(seq int64) (Chain, bool) {
	if seq == n.head.HeadSeq && known(n.head.Chain) {
		return n.head.Chain, true
	}
	if m := findMark(n.marks, seq); m != nil && known(m.Chain) {
		return m.Chain, true
	}
	return Chain{}, false
}
