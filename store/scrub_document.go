package store

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// rawScan reads the records of a kind in a bucket, of which some may be anything. It stops at those whose keys belong
// into the bucket; the others are strays.
//
//	partition | section | bucket | kind | hash | "space/key" 00 | generation | seqEnd
//	                                    └──────── name ─────────┘
type rawScan struct {
	s     *scrubber
	kind  recordKind
	it    *pebble.Iterator
	valid bool
	key   recordKey // of the record at hand
	name  []byte
}

func (s *scrubber) scan(r pebble.Reader, kind recordKind) (*rawScan, error) {
	prefix := appendKind(nil, s.d.partition, s.bucket, kind)
	lower, upper := prefixRange(prefix)
	if s.done != nil {
		lower = successor(append(bytes.Clone(prefix), s.done...))
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readError(s.d.partition, Key{}, kind, err)
	}
	c := &rawScan{s: s, kind: kind, it: it}
	c.load(it.First())
	return c, nil
}

// load looks at the record that the iterator stands at, and goes on to the next that has a place in the bucket.
func (c *rawScan) load(ok bool) {
	for ; ok; ok = c.it.Next() {
		key := c.it.Key()
		if c.valid && c.follows(key) {
			return
		}
		if k, in := c.s.d.keyIn(c.s.bucket, key); in {
			end := kindPrefixLen + 8 + len(k.key.Space) + 1 + len(k.key.Key) + 1
			c.key, c.name, c.valid = k, append(c.name[:0], key[kindPrefixLen:end]...), true
			return
		}
		c.s.stray(key, "no key of the bucket")
		c.s.tell(len(key))
	}
	c.valid = false
}

// follows takes over a key that is of the same document as the record before, without decoding the name again.
func (c *rawScan) follows(key []byte) bool {
	tail, same := bytes.CutPrefix(key[kindPrefixLen:], c.name)
	if !same || c.kind != kindEntry || len(tail) != 16 {
		return false
	}
	c.key.generation, c.key.seqEnd = binary.BigEndian.Uint64(tail), decodeSeq(tail[8:])
	return true
}

// at reports whether the record at hand is of a document.
func (c *rawScan) at(name []byte) bool { return c.valid && bytes.Equal(c.name, name) }

// take returns the value of the record at hand. It is good until the next call of next.
func (c *rawScan) take() ([]byte, error) {
	v, err := c.it.ValueAndErr()
	if err != nil {
		return nil, readError(c.s.d.partition, c.key.key, c.kind, err)
	}
	c.s.report.Records++
	c.s.report.Bytes += int64(len(c.it.Key()) + len(v))
	c.s.tell(len(c.it.Key()) + len(v))
	return v, nil
}

func (c *rawScan) next() { c.load(c.it.Next()) }

// skip goes on to the next document.
func (c *rawScan) skip(name []byte) {
	if c.at(name) {
		c.load(c.it.SeekGE(successor(append(appendKind(nil, c.s.d.partition, c.s.bucket, c.kind), name...))))
	}
}

func (c *rawScan) close() error {
	if err := c.it.Close(); err != nil {
		return readError(c.s.d.partition, Key{}, c.kind, err)
	}
	return nil
}

// documents reads documents in one instant, for about a second; false when there are no more.
func (s *scrubber) documents() (more bool, err error) {
	i, done, err := s.instant()
	if err != nil {
		return false, err
	}
	defer done()
	var scans [4]*rawScan
	defer func() {
		for _, c := range scans {
			if c == nil {
				continue
			}
			if closeErr := c.close(); err == nil {
				err = closeErr
			}
		}
	}()
	for n, kind := range []recordKind{kindHead, kindBase, kindEntry, kindDelete} {
		if scans[n], err = s.scan(i, kind); err != nil {
			return false, err
		}
	}
	began := time.Now()
	for {
		if err := s.ctx.Err(); err != nil {
			return false, err
		}
		var first *rawScan
		for _, c := range scans {
			if c.valid && (first == nil || bytes.Compare(c.name, first.name) < 0) {
				first = c
			}
		}
		if first == nil {
			return false, nil
		}
		s.done = append([]byte(nil), first.name...)
		v := verifier{s: s, name: s.done, key: first.key.key, complete: i.complete}
		if err := v.run(scans[0], scans[1], scans[2], scans[3]); err != nil {
			return false, err
		}
		for _, c := range scans {
			c.skip(s.done)
		}
		if time.Since(began) > scrubInstant || s.report.Damaged.Whole {
			return true, nil
		}
	}
}

// verifier verifies one document.
type verifier struct {
	s        *scrubber
	name     []byte
	key      Key
	complete bool // the member

	head                 *Head // nil: there is none
	bases                int
	entries, span, bytes int64
	last                 Entry // the newest entry; its delta is not kept
}

// run stops at the first finding.
func (v *verifier) run(heads, bases, entries, deletes *rawScan) error {
	if heads.at(v.name) {
		value, err := heads.take()
		if err != nil {
			return err
		}
		v.s.report.Documents++
		h, err := decodeHeadValue(value)
		if err != nil {
			v.s.damaged(v.key, kindHead, "%v", err)
			return nil
		}
		v.head = &h
	}
	for _, c := range []struct {
		scan   *rawScan
		verify func(k *recordKey, value []byte) (sound bool)
	}{{deletes, v.deleteRecord}, {bases, v.base}, {entries, v.entry}} {
		for ; c.scan.at(v.name); c.scan.next() {
			value, err := c.scan.take()
			if err != nil {
				return err
			}
			if !c.verify(&c.scan.key, value) {
				return nil
			}
		}
		if err := c.scan.it.Error(); err != nil {
			return readError(v.s.d.partition, v.key, c.scan.kind, err)
		}
	}
	if v.head != nil {
		v.counts()
	}
	return nil
}

func (v *verifier) bad(kind recordKind, format string, a ...any) bool {
	v.s.damaged(v.key, kind, format, a...)
	return false
}

func (v *verifier) deleteRecord(_ *recordKey, value []byte) bool {
	if _, err := decodeDeleteValue(value); err != nil {
		return v.bad(kindDelete, "%v", err)
	}
	if v.head != nil {
		return v.bad(kindDelete, "beside a document")
	}
	return true
}

// belongs verifies that a record is of the document's generation.
func (v *verifier) belongs(k *recordKey) bool {
	switch {
	case v.head == nil:
		return v.bad(k.kind, "of generation %d without a head", k.generation)
	case k.generation != v.head.Generation:
		return v.bad(k.kind, "of generation %d, the document is of %d", k.generation, v.head.Generation)
	}
	return true
}

func (v *verifier) base(k *recordKey, value []byte) bool {
	if !v.belongs(k) {
		return false
	}
	body, err := unseal(value)
	switch {
	case err != nil:
		return v.bad(kindBase, "%v", err)
	case !v.head.HasBase:
		return v.bad(kindBase, "the head knows of none")
	case int64(len(body)) != v.head.BaseBytes:
		return v.bad(kindBase, "%d bytes, the head says %d", len(body), v.head.BaseBytes)
	}
	v.bases++
	return true
}

func (v *verifier) entry(k *recordKey, value []byte) bool {
	if !v.belongs(k) {
		return false
	}
	e, err := decodeEntryValue(value)
	if err == nil {
		err = e.Validate()
	}
	h := v.head
	switch {
	case err != nil:
		return v.bad(kindEntry, "at seq %d: %v", k.seqEnd, err)
	case e.SeqEnd != k.seqEnd:
		return v.bad(kindEntry, "delta ends at %d under the key of %d", e.SeqEnd, k.seqEnd)
	case e.SeqEnd <= h.Floor || e.SeqEnd > h.HeadSeq:
		return v.bad(kindEntry, "[%d, %d] outside of floor %d and head %d", e.SeqBegin, e.SeqEnd, h.Floor, h.HeadSeq)
	case e.Index < h.Generation || e.Index > h.LastIndex:
		return v.bad(kindEntry, "of index %d outside of [%d, %d]", e.Index, h.Generation, h.LastIndex)
	case v.entries > 0 && (e.SeqBegin <= v.last.SeqEnd || e.Index < v.last.Index):
		return v.bad(kindEntry, "[%d, %d] of index %d out of order", e.SeqBegin, e.SeqEnd, e.Index)
	}
	canonical := value[entryOverhead-checksumLen : len(value)-checksumLen]
	if before, ok := v.chainBefore(&e); ok && known(e.Chain) && before.Next(canonical) != e.Chain {
		return v.bad(kindEntry, "chain broken at seq %d", e.SeqEnd)
	}
	v.entries++
	v.span += e.SeqEnd - e.SeqBegin + 1
	v.bytes += int64(len(canonical))
	v.last = Entry{Delta: Delta{SeqBegin: e.SeqBegin, SeqEnd: e.SeqEnd}, Index: e.Index, Chain: e.Chain}
	return true
}

// chainBefore is the chain before an entry, as far as what is here tells.
func (v *verifier) chainBefore(e *Entry) (Chain, bool) {
	if v.entries > 0 && v.last.SeqEnd+1 == e.SeqBegin {
		return v.last.Chain, known(v.last.Chain)
	}
	h := v.head
	first := v.entries == 0 && h.FloorKnown && !h.Dropped && e.SeqBegin == h.Floor+1 && e.Index == h.Generation
	if !first {
		return Chain{}, false
	}
	return SeedChain(v.key), true
}

// counts compares the head with what was found.
func (v *verifier) counts() {
	h := v.head
	switch {
	case h.HasBase && v.bases == 0:
		v.bad(kindBase, "missing")
	case h.Entries != v.entries || h.Span != v.span || h.Bytes != v.bytes:
		v.bad(kindHead, "it counts %d entries of %d seqs and %d bytes, there are %d of %d and %d", h.Entries, h.Span, h.Bytes,
			v.entries, v.span, v.bytes)
	case v.entries > 0 && v.last.SeqEnd == h.HeadSeq && known(v.last.Chain) && v.last.Chain != h.Chain:
		v.bad(kindHead, "its chain is not that of the last entry, at seq %d", h.HeadSeq)
	case v.complete && h.Gap():
		v.bad(kindHead, "%d of %d seqs above floor %d are missing", h.HeadSeq-h.Floor-h.Span, h.HeadSeq-h.Floor, h.Floor)
	}
}
