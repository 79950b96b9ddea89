package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// This file is the slow, obvious implementation that the engine is compared with: maps instead of records, sums instead
// of counters, and the rules of design §6 written down once more.

type modelDoc struct {
	gen, last  uint64
	headSeq    int64
	chain      Chain
	base       []byte
	hasBase    bool
	baseSeq    int64
	baseIndex  uint64
	floor      int64
	floorKnown bool
	dropped    bool
	entries    map[int64]Entry
}

func (d *modelDoc) clone() *modelDoc {
	c := *d
	c.entries = maps.Clone(d.entries)
	return &c
}

func (d *modelDoc) dropToFloor() {
	for seq := range d.entries {
		if seq <= d.floor {
			delete(d.entries, seq)
		}
	}
}

// head computes from the entries what the engine counts along.
func (d *modelDoc) head() Head {
	h := Head{Generation: d.gen, LastIndex: d.last, HeadSeq: d.headSeq, Chain: d.chain, HasBase: d.hasBase, BaseSeq: d.baseSeq,
		BaseIndex: d.baseIndex, BaseBytes: int64(len(d.base)), Floor: d.floor, Dropped: d.dropped, FloorKnown: d.floorKnown}
	for _, e := range d.entries {
		h.Span += e.SeqEnd - e.SeqBegin + 1
		h.Entries++
		h.Bytes += int64(len(e.AppendBinary(nil)))
	}
	return h
}

type modelMember struct {
	docs    map[Key]*modelDoc
	deleted map[Key]uint64
	applied uint64
	ahead   uint64
	holes   interval.Set
	roots   map[uint64]merkle.Summary // exact summaries this member may be asked for
}

func newModelMember() *modelMember {
	return &modelMember{docs: map[Key]*modelDoc{}, deleted: map[Key]uint64{}, roots: map[uint64]merkle.Summary{}}
}

func (m *modelMember) clone() *modelMember {
	c := *m
	c.docs, c.deleted = map[Key]*modelDoc{}, maps.Clone(m.deleted)
	for k, d := range m.docs {
		c.docs[k] = d.clone()
	}
	c.roots = map[uint64]merkle.Summary{}
	return &c
}

func (m *modelMember) sick() bool { return !m.holes.Empty() || m.ahead > m.applied }

func (m *modelMember) covers(i uint64) bool { return i <= m.applied && !m.holes.Contains(i) }

// finish ends a batch: a complete member needs no delete records.
func (m *modelMember) finish() {
	if !m.sick() {
		m.deleted = map[Key]uint64{}
	}
}

func (m *modelMember) apply(c *Mutation) {
	if c.Index <= m.applied {
		return
	}
	m.applied = c.Index
	gen := c.Generation
	if c.Kind != Append && c.Kind != Compact {
		gen = c.Index
	}
	d := m.docs[c.Key]
	if d != nil && d.gen > gen || m.deleted[c.Key] >= gen {
		return
	}
	if c.Kind == Delete {
		delete(m.docs, c.Key)
		if m.sick() {
			m.deleted[c.Key] = c.Index
		}
		return
	}
	if d == nil || d.gen < gen {
		d = &modelDoc{gen: gen, headSeq: -1, floor: -1, entries: map[int64]Entry{}}
		m.docs[c.Key] = d
		delete(m.deleted, c.Key)
	}
	d.last = max(d.last, c.Index)
	if c.Kind == Create {
		d.floor, d.floorKnown = max(d.floor, c.Deltas[0].SeqBegin-1), true
	}
	if c.Kind == Compact || c.Kind == Replace {
		if c.Index > d.baseIndex {
			d.hasBase, d.base, d.baseSeq, d.baseIndex = true, c.Base, c.BaseSeq, c.Index
		}
		d.floor, d.floorKnown = max(d.floor, c.Floor), true
		d.dropped = d.dropped || c.Dropped
	}
	if c.HeadSeq > d.headSeq {
		d.headSeq, d.chain = c.HeadSeq, c.Chain
	}
	for _, delta := range c.Deltas {
		if _, ok := d.entries[delta.SeqEnd]; !ok {
			d.entries[delta.SeqEnd] = Entry{Delta: delta, Index: c.Index, Term: c.Term}
		}
	}
	d.dropToFloor()
}

// merge takes over what another member knows of a key: the rule of design §6 as far as it brings knowledge forward.
func (m *modelMember) merge(key Key, y *modelMember) {
	mine, theirs := m.docs[key], y.docs[key]
	switch {
	case theirs == nil && mine == nil:
		if y.deleted[key] > 0 {
			m.deleted[key] = max(m.deleted[key], y.deleted[key])
		}
	case theirs == nil:
		if y.deleted[key] >= mine.gen || y.covers(mine.last) {
			delete(m.docs, key)
			m.deleted[key] = max(y.deleted[key], mine.last)
		}
	case mine == nil && (m.deleted[key] >= theirs.gen || m.covers(theirs.last)):
	case mine == nil || mine.gen < theirs.gen:
		m.docs[key] = theirs.clone()
		delete(m.deleted, key)
	case mine.gen == theirs.gen:
		for seq, e := range theirs.entries {
			if _, ok := mine.entries[seq]; !ok {
				mine.entries[seq] = e
			}
		}
		if theirs.baseIndex > mine.baseIndex {
			mine.hasBase, mine.base, mine.baseSeq, mine.baseIndex = true, theirs.base, theirs.baseSeq, theirs.baseIndex
		}
		if theirs.headSeq > mine.headSeq {
			mine.headSeq, mine.chain = theirs.headSeq, theirs.chain
		}
		mine.floor, mine.floorKnown = max(mine.floor, theirs.floor), mine.floorKnown || theirs.floorKnown
		mine.dropped = mine.dropped || theirs.dropped
		mine.last = max(mine.last, theirs.last)
		mine.dropToFloor()
	}
	m.ahead = max(m.ahead, y.applied, y.ahead)
}

func (m *modelMember) summary(r Range) merkle.Summary {
	var s merkle.Summary
	for k, d := range m.docs {
		h := d.head()
		b := r.Bucket(k.Hash())
		s[b] = s[b].Add(merkle.Bucket{Sum: leaf(k, &h), Count: 1})
	}
	return s
}

// check compares a member of the engine with the model, record by record.
func (m *modelMember) check(d *Documents) error {
	if got := d.Applied(); got != m.applied {
		return fmt.Errorf("applied %d, want %d", got, m.applied)
	}
	st := d.Status()
	if st.Ahead != m.ahead || !st.Holes.Equal(m.holes) || st.Complete == m.sick() || st.Documents != int64(len(m.docs)) ||
		st.DeleteRecords != int64(len(m.deleted)) {
		return fmt.Errorf("status %+v, want ahead %d, holes %s, %d documents, %d delete records", st, m.ahead, m.holes, len(m.docs), len(m.deleted))
	}
	want := m.summary(d.Range())
	got, index := d.Summary()
	if got != want || index != m.applied {
		return fmt.Errorf("summary at %d differs from a rebuild at %d in the buckets %v", index, m.applied, merkle.Diff(&got, &want))
	}
	if st.Root != want.Root() {
		return errors.New("root differs from a rebuild")
	}
	for i, want := range m.roots {
		got, ok := d.SummaryAt(i)
		if ok != (i >= m.ahead) || ok && *got != want {
			return fmt.Errorf("summary at %d (applied %d, ahead %d): ok %v, equal %v", i, m.applied, m.ahead, ok, got != nil && *got == want)
		}
	}
	bytes := int64(0)
	seen := 0
	for info, err := range d.Inventory("") {
		if err != nil {
			return err
		}
		seen++
		doc := m.docs[info.Key]
		if doc == nil {
			return fmt.Errorf("inventory has %s", info.Key)
		}
		if want := doc.head(); info.Head != want {
			return fmt.Errorf("head of %s:\n got %+v\nwant %+v", info.Key, info.Head, want)
		}
		bytes += info.Head.Bytes + info.Head.BaseBytes
		if err := doc.check(d, info.Key); err != nil {
			return fmt.Errorf("%s: %w", info.Key, err)
		}
	}
	if seen != len(m.docs) || bytes != st.Bytes {
		return fmt.Errorf("inventory has %d documents of %d, %d bytes; status says %d", seen, len(m.docs), bytes, st.Bytes)
	}
	return m.checkRecords(d)
}

func (doc *modelDoc) check(d *Documents, key Key) error {
	if h, ok, err := d.Head(key); err != nil || !ok || h != doc.head() {
		return fmt.Errorf("cached head %+v, %v, %v; want %+v", h, ok, err, doc.head())
	}
	v, err := d.View(key)
	if err != nil {
		return err
	}
	defer func() { _ = v.Close() }()
	return doc.checkView(v)
}

// checkView compares every way to read a view.
func (doc *modelDoc) checkView(v *View) error {
	if want := doc.head(); v.Head != want {
		return fmt.Errorf("head of the view: %+v, want %+v", v.Head, want)
	}
	base, err := v.Base()
	if err != nil || !bytes.Equal(base, doc.base) || doc.hasBase != (base != nil) {
		return fmt.Errorf("base %q, %v; want %q", base, err, doc.base)
	}
	ends := slices.Sorted(maps.Keys(doc.entries))
	after := doc.floor
	if len(ends) > 2 {
		after = ends[1]
	}
	for _, from := range []int64{-1, after} {
		var forward, backward []int64
		for e, err := range v.Entries(from) {
			if err != nil {
				return err
			}
			if err := sameEntry(e, doc.entries[e.SeqEnd]); err != nil {
				return err
			}
			forward = append(forward, e.SeqEnd)
		}
		for e, err := range v.EntriesReverse(from) {
			if err != nil {
				return err
			}
			backward = append(backward, e.SeqEnd)
		}
		slices.Reverse(backward)
		var want []int64
		for _, seq := range ends {
			if seq > from {
				want = append(want, seq)
			}
		}
		if !slices.Equal(forward, want) || !slices.Equal(backward, want) {
			return fmt.Errorf("entries after %d: %v, reverse %v, want %v", from, forward, backward, want)
		}
	}
	for i, seq := range ends {
		if e, ok, err := v.EntryAt(seq); err != nil || !ok || sameEntry(e, doc.entries[seq]) != nil {
			return fmt.Errorf("entry at %d: %v, %v", seq, ok, err)
		}
		newest, err := v.NewestEnds(seq, 3)
		want := slices.Clone(ends[max(0, i-2) : i+1])
		slices.Reverse(want)
		if err != nil || !slices.Equal(newest, want) {
			return fmt.Errorf("newest ends at %d: %v, %v, want %v", seq, newest, err, want)
		}
	}
	for _, seq := range []int64{doc.floor, doc.headSeq + 1} {
		if _, ok, err := v.EntryAt(seq); ok || err != nil {
			return fmt.Errorf("entry at %d: %v, %v", seq, ok, err)
		}
	}
	return nil
}

// sameEntry leaves the chain out: the model does not compute it, the log's tests do.
func sameEntry(got, want Entry) error {
	if got.Index != want.Index || got.Term != want.Term || !bytes.Equal(got.AppendBinary(nil), want.AppendBinary(nil)) {
		return fmt.Errorf("entry %+v, want %+v", got, want)
	}
	return nil
}

// checkRecords looks for records that belong to nothing.
func (m *modelMember) checkRecords(d *Documents) error {
	lower, upper := prefixRange(append(appendPartition(nil, d.partition), sectionDocuments))
	it, err := d.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer func() { _ = it.Close() }()
	deleted := map[Key]uint64{}
	for ok := it.First(); ok; ok = it.Next() {
		k, err := decodeRecordKey(it.Key())
		if err != nil {
			return err
		}
		doc := m.docs[k.key]
		if k.hash != k.key.Hash() || k.bucket != d.hashes.Bucket(k.hash) {
			return fmt.Errorf("record of %s is misplaced", k.key)
		}
		switch k.kind {
		case kindHead:
			if doc == nil {
				return fmt.Errorf("stray head of %s", k.key)
			}
		case kindBase:
			if doc == nil || !doc.hasBase || doc.gen != k.generation {
				return fmt.Errorf("stray base of %s, generation %d", k.key, k.generation)
			}
		case kindEntry:
			if doc == nil || doc.gen != k.generation || doc.entries[k.seqEnd].Index == 0 {
				return fmt.Errorf("stray entry of %s, generation %d, seq %d", k.key, k.generation, k.seqEnd)
			}
		case kindDelete:
			if deleted[k.key], err = decodeDeleteValue(it.Value()); err != nil {
				return err
			}
		}
	}
	if !maps.Equal(deleted, m.deleted) {
		return fmt.Errorf("delete records %v, want %v", deleted, m.deleted)
	}
	return it.Error()
}

// history is a leader: it makes valid commands and remembers them, as the Raft log would.
type history struct {
	pick  func(n int) int // 0 ≤ pick(n) < n
	keys  []Key
	truth *modelMember
	log   []*Mutation // position i holds index i+1; nil: a command of another kind, such as a barrier
}

func newHistory(pick func(int) int, documents int) *history {
	h := &history{pick: pick, truth: newModelMember()}
	for i := range documents {
		h.keys = append(h.keys, Key{Space: "space" + fmt.Sprint(i%2), Key: fmt.Sprintf("doc%d", i)})
	}
	return h
}

// commit appends one command to the log.
func (h *history) commit() {
	index := uint64(len(h.log) + 1)
	m := h.command(h.keys[h.pick(len(h.keys))])
	if m != nil {
		m.Index, m.Term = index, 1+index/10
		if m.Kind == Create || m.Kind == Replace {
			m.Generation = 0 // ignored
		}
		if err := m.Validate(); err != nil {
			panic(err)
		}
		h.truth.apply(m)
	}
	h.truth.applied = index
	h.log = append(h.log, m)
}

func (h *history) command(key Key) *Mutation {
	d := h.truth.docs[key]
	if d == nil {
		if h.pick(8) == 0 {
			return nil
		}
		m := &Mutation{Kind: Create, Key: key, Chain: SeedChain(key)}
		h.deltas(m, int64(h.pick(3)), 1)
		return m
	}
	m := &Mutation{Key: key, Generation: d.gen, HeadSeq: d.headSeq, Chain: d.chain}
	switch h.pick(12) {
	case 0:
		return &Mutation{Kind: Delete, Key: key, Generation: d.gen}
	case 1:
		m.Kind, m.BaseSeq, m.Base, m.Dropped = Replace, int64(h.pick(20)), h.bytes(), true
		m.HeadSeq, m.Floor, m.Chain = m.BaseSeq, m.BaseSeq, SeedChain(key).Replaced(m.BaseSeq, m.Base)
	case 2, 3, 4:
		low := d.floor
		if d.hasBase {
			low = max(low, d.baseSeq)
		}
		m.Kind, m.Base, m.Dropped = Compact, h.bytes(), d.dropped
		m.BaseSeq = max(0, low) + int64(h.pick(int(d.headSeq-max(0, low))+1))
		m.Floor = d.floor
		keep := 1 + h.pick(5)
		ends := slices.Sorted(maps.Keys(d.entries))
		for ; len(ends) > 0 && ends[len(ends)-1] > m.BaseSeq; ends = ends[:len(ends)-1] {
		}
		if len(ends) > keep {
			m.Floor, m.Dropped = ends[len(ends)-1-keep], true
		}
	default:
		m.Kind, m.Prior = Append, d.chain
		h.deltas(m, d.headSeq+1, 1+h.pick(4))
	}
	return m
}

func (h *history) bytes() []byte { return bytes.Repeat([]byte{byte(h.pick(256))}, h.pick(40)) }

func (h *history) deltas(m *Mutation, begin int64, n int) {
	for range n {
		d := Delta{SeqBegin: begin, SeqEnd: begin + int64(h.pick(3)), Redo: h.bytes(), Undo: h.bytes(), Who: "me", AssetBytes: int64(h.pick(3)) - 1,
			RequiresFutureInvalidation: h.pick(2) == 0}
		m.Deltas = append(m.Deltas, d)
		m.Chain = m.Chain.Next(d.AppendBinary(nil))
		m.HeadSeq, begin = d.SeqEnd, d.SeqEnd+1
	}
}

// slice returns the commands of the indexes [first, last] as a state machine hands them over.
func (h *history) slice(first, last uint64) []Mutation {
	var list []Mutation
	for i := first; i <= last; i++ {
		if m := h.log[i-1]; m != nil {
			list = append(list, *m)
		}
	}
	return list
}
