package store

import (
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
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

func (s *Session) importChunk(c *Chunk) (ImportReport, error) {
	d := s.d
	if c.Bucket != s.bucket {
		return ImportReport{}, &ChunkError{Bucket: s.bucket, Reason: fmt.Sprintf("it is for bucket %d", c.Bucket)}
	}
	if err := verifyChunk(d.hashes, c); err != nil {
		return ImportReport{}, err
	}
	unlock, err := d.lock()
	if err != nil {
		return ImportReport{}, err
	}
	defer unlock()
	if d.sessions[s.bucket] != s {
		return ImportReport{}, ErrSessionLost
	}
	i := importer{d: d, b: d.begin(), chunk: c, know: Knowledge{Mine: d.meta.bucketCoverage(s.bucket), Theirs: c.Coverage,
		TheirHighest: max(c.Applied, c.Ahead), MineComplete: d.meta.complete()}}
	defer i.b.close()
	i.b.learned = true
	// Delete records would be dropped by the same batch when the member is complete even after it.
	i.records = !d.meta.holes.Empty() || max(d.meta.state.ahead, i.know.TheirHighest) > d.meta.state.applied
	if err := i.run(); err != nil {
		return ImportReport{}, err
	}
	if !i.changed {
		return i.report, nil
	}
	i.b.sawAhead(i.know.TheirHighest)
	if err := i.b.commit(false); err != nil {
		return ImportReport{}, err
	}
	return i.report, nil
}

// importer merges one chunk into one batch.
type importer struct {
	d       *Documents
	b       *docBatch
	chunk   *Chunk
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

func marksOf(entries []Entry) []Mark {
	marks := make([]Mark, len(entries))
	for i := range entries {
		e := &entries[i]
		marks[i] = Mark{Begin: e.SeqBegin, End: e.SeqEnd, Index: e.Index, Chain: e.Chain}
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
	return i.perform(s, doc, &decision)
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
	case ActionRecord:
		if !i.records {
			return nil
		}
		i.changed = true
		return i.b.putDeleteRecord(s, decision.Deleted)
	case ActionDelete:
		if err := i.b.remove(s); err != nil {
			return err
		}
		if i.records {
			if err := i.b.putDeleteRecord(s, decision.Deleted); err != nil {
				return err
			}
		}
		i.report.Removed++
	case ActionInstall:
		h := decision.Head
		h.HasBase, h.BaseSeq, h.BaseIndex, h.BaseBytes = false, 0, 0, 0
		h.Span, h.Entries, h.Bytes = 0, 0, 0
		if err := i.b.restart(s, h); err != nil {
			return err
		}
		if err := i.take(s, doc, decision); err != nil {
			return err
		}
	case ActionUnion:
		m, h := &decision.Head, s.head
		rises := m.Floor > h.Floor
		h.LastIndex, h.HeadSeq, h.Chain = m.LastIndex, m.HeadSeq, m.Chain
		h.Floor, h.FloorKnown, h.Dropped = m.Floor, m.FloorKnown, m.Dropped
		s.dirty = true
		if rises {
			if err := i.b.dropEntries(s, h.Floor); err != nil {
				return err
			}
		}
		if err := i.take(s, doc, decision); err != nil {
			return err
		}
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
		stored, err := i.b.putEntry(s, e)
		if err != nil {
			return err
		}
		if stored {
			i.report.Entries++
			i.report.Bytes += int64(e.Size())
		}
	}
	return nil
}

// neighbours is what this member holds around the entries of a chunk.
type neighbours struct {
	head  *Head
	marks []Mark
	next  map[int64]Entry // by SeqBegin: entries right behind one of the chunk's
}

// neighbours reads this member's entries that overlap the chunk's or touch them, and the one at their head. Usually
// there are hardly any: a peer sends what was said to be missing.
func (i *importer) neighbours(p place, h *Head, doc *ChunkDoc) (neighbours, error) {
	n := neighbours{head: h, next: map[int64]Entry{}}
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
		if err == nil && doc.Entries[k].SeqBegin-1 <= h.HeadSeq {
			err = r.around(doc.Entries[k].SeqBegin-1, doc.Entries[k].SeqEnd)
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
			e, err := decodeEntryValue(append([]byte(nil), v...))
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
	var canonical []byte
	for _, k := range take {
		e := &doc.Entries[k]
		if !known(e.Chain) {
			continue
		}
		before, ok := n.chainAt(e.SeqBegin - 1)
		if ok {
			canonical = e.AppendBinary(canonical[:0])
			if before.Next(canonical) != e.Chain {
				return e.SeqEnd, true
			}
		}
		if behind, ok := n.next[e.SeqEnd+1]; ok && known(behind.Chain) {
			canonical = behind.AppendBinary(canonical[:0])
			if e.Chain.Next(canonical) != behind.Chain {
				return behind.SeqEnd, true
			}
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
