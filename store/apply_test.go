package store

import (
	"errors"
	"reflect"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ruleRun is a member with one document in view.
type ruleRun struct {
	t   *testing.T
	e   *DocEngine
	d   *Documents
	key Key
	div []int64
}

func newRuleRun(t *testing.T) *ruleRun {
	r := &ruleRun{t: t, key: Key{Space: "space", Key: "doc"}}
	o := testOptions(vfs.NewMem())
	o.Events.Divergence = func(_ uint32, _ Key, seq int64) { r.div = append(r.div, seq) }
	r.e, r.d = openMember(t, o)
	t.Cleanup(func() { _ = r.e.Close() })
	return r
}

func (r *ruleRun) apply(list ...Mutation) {
	r.t.Helper()
	for i := range list {
		must(r.t, r.d.Apply(list[i:i+1], list[i].Index))
	}
	if got, _ := r.d.Summary(); got != rebuild(r.t, r.d) {
		r.t.Fatal("sums differ from a rebuild")
	}
}

// head returns the document's head, the zero one when there is none.
func (r *ruleRun) head() Head {
	r.t.Helper()
	h, _, err := r.d.Head(r.key)
	must(r.t, err)
	return h
}

func (r *ruleRun) seqs() []int64 {
	r.t.Helper()
	v, err := r.d.View(r.key)
	must(r.t, err)
	defer func() { must(r.t, v.Close()) }()
	var list []int64
	for e, err := range v.Entries(-1) {
		must(r.t, err)
		list = append(list, e.SeqEnd)
	}
	return list
}

func (r *ruleRun) deleteRecord() uint64 {
	r.t.Helper()
	p, err := r.d.place(r.key)
	must(r.t, err)
	index, err := readDeleteRecord(r.e.db, 7, p)
	must(r.t, err)
	return index
}

// learn does what an import does: put state of an index that this member has not applied.
func (r *ruleRun) learn(ahead uint64, change func(b *docBatch, s *docState)) {
	r.t.Helper()
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	b := r.d.begin()
	defer b.close()
	b.learned = true
	p, err := r.d.place(r.key)
	must(r.t, err)
	s, err := b.document(p)
	must(r.t, err)
	change(b, s)
	b.settle(s, 0)
	b.sawAhead(ahead)
	must(r.t, b.commit(false))
}

// mutations creates the document at index 1 and appends seq i at index i.
func (r *ruleRun) mutations(n int) []Mutation {
	create := createAt(1)
	create.Key = r.key
	create.Chain = SeedChain(r.key).Next(create.Deltas[0].AppendBinary(nil))
	list := []Mutation{create}
	h := Head{Generation: 1, HeadSeq: 1, Chain: create.Chain}
	for i := uint64(2); i <= uint64(n); i++ {
		m := appendAt(i, r.key, h, 1)
		list = append(list, m)
		h.HeadSeq, h.Chain = m.HeadSeq, m.Chain
	}
	return list
}

func (r *ruleRun) compactAt(index uint64, base, floor, head int64, chain Chain) Mutation {
	return Mutation{Kind: Compact, Key: r.key, Index: index, Term: 1, Generation: 1, BaseSeq: base, Base: []byte{byte(index)}, Floor: floor,
		Dropped: floor > 0, HeadSeq: head, Chain: chain}
}

func (r *ruleRun) deleteAt(index uint64) Mutation {
	return Mutation{Kind: Delete, Key: r.key, Index: index, Term: 1, Generation: 1}
}

func TestReplayChangesNothing(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(5)
	r.apply(list...)
	before, sum := r.head(), r.d.Status()
	must(t, r.d.Apply(list, 5))     // all of it again
	must(t, r.d.Apply(list[:3], 3)) // and a part
	must(t, r.d.Apply(nil, 4))
	if r.head() != before || !reflect.DeepEqual(r.d.Status(), sum) {
		t.Errorf("%+v, %+v", r.head(), r.d.Status())
	}
	more := appendAt(6, r.key, before, 1)
	must(t, r.d.Apply(append(list, more), 6)) // old and new in one batch
	if h := r.head(); h.HeadSeq != 6 || h.Entries != 6 || r.d.Applied() != 6 {
		t.Errorf("%+v", h)
	}
}

func TestNoRegressOnNewerGeneration(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(3)
	r.learn(9, func(b *docBatch, s *docState) {
		must(t, b.restart(s, Head{Generation: 9, LastIndex: 9, HeadSeq: 0, Floor: 0, FloorKnown: true}))
		must(t, b.putBase(s, 0, 9, []byte("newer")))
	})
	before := r.head()
	r.apply(list...)
	r.apply(r.compactAt(4, 2, 1, 3, list[2].Chain), r.deleteAt(5))
	if h := r.head(); h != before || r.deleteRecord() != 0 {
		t.Errorf("an older command changed %+v into %+v", before, h)
	}
}

func TestNoRegressOnDeleteRecord(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(3)
	r.learn(8, func(b *docBatch, s *docState) { must(t, b.putDeleteRecord(s, 8)) })
	r.apply(list...)
	r.apply(r.compactAt(4, 2, 1, 3, list[2].Chain), r.deleteAt(5))
	if h := r.head(); h != (Head{}) || r.deleteRecord() != 8 {
		t.Errorf("a deleted document came back: %+v, record %d", h, r.deleteRecord())
	}
	again := createAt(10)
	again.Key = r.key
	again.Chain = SeedChain(r.key).Next(again.Deltas[0].AppendBinary(nil))
	must(t, r.d.Apply([]Mutation{again}, 10)) // complete with this batch
	if h := r.head(); h.Generation != 10 || r.deleteRecord() != 0 {
		t.Errorf("%+v, record %d", h, r.deleteRecord())
	}
}

// A record is the last index of a generation that is over: it ends that generation, even where commands of it are still
// to come, and no later one.
func TestDeleteRecordEndsItsGenerationOnly(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(3)
	r.apply(list[0])
	r.learn(8, func(b *docBatch, s *docState) {
		must(t, b.remove(s))
		must(t, b.putDeleteRecord(s, 1))
	})
	r.apply(list[1:]...)
	if h := r.head(); h != (Head{}) {
		t.Errorf("an append brought a dead generation back: %+v", h)
	}
	newer := createAt(5)
	newer.Key = r.key
	newer.Chain = SeedChain(r.key).Next(newer.Deltas[0].AppendBinary(nil))
	r.apply(newer)
	if h := r.head(); h.Generation != 5 || r.deleteRecord() != 0 {
		t.Errorf("%+v, record %d", h, r.deleteRecord())
	}
}

func TestDeleteLeavesRecordWhileSickOnly(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(2)
	r.apply(list...)
	r.apply(r.deleteAt(3))
	if r.deleteRecord() != 0 || r.d.Status().DeleteRecords != 0 {
		t.Error("a complete member keeps no delete records")
	}
	must(t, r.d.RecordHole(4, 6))
	r.apply(r.deleteAt(7)) // of a document created within the hole, for all this member knows
	if r.deleteRecord() != 7 || r.d.Status().DeleteRecords != 1 {
		t.Errorf("record %d", r.deleteRecord())
	}
	r.apply(r.deleteAt(8))
	if r.deleteRecord() != 8 || r.d.Status().DeleteRecords != 1 {
		t.Errorf("record %d, %d records", r.deleteRecord(), r.d.Status().DeleteRecords)
	}
	r.learn(9, func(b *docBatch, _ *docState) { b.setHoles(nil) })
	if r.deleteRecord() != 8 {
		t.Error("without holes, but not complete before 9 is applied")
	}
	must(t, r.d.Apply(nil, 9))
	if s := r.d.Status(); !s.Complete || s.DeleteRecords != 0 || r.deleteRecord() != 0 {
		t.Errorf("%+v, record %d", s, r.deleteRecord())
	}
}

// Ahead counts as sick: what was learned of 20 may include a copy that the delete at 5 must be weighed against.
func TestDeleteLeavesRecordWhileAhead(t *testing.T) {
	r := newRuleRun(t)
	r.apply(r.mutations(2)...)
	r.learn(20, func(*docBatch, *docState) {})
	r.apply(r.deleteAt(5))
	if r.deleteRecord() != 5 {
		t.Errorf("record %d", r.deleteRecord())
	}
}

func TestUnknownGenerationHasAGap(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(6)
	must(t, r.d.RecordHole(1, 3))
	r.apply(list[3:5]...)
	h := r.head()
	if h.Generation != 1 || h.FloorKnown || h.Floor != neutralFloor || !h.Gap() || h.Span != 2 || h.HeadSeq != 5 || h.Chain != list[4].Chain {
		t.Errorf("%+v", h)
	}
	// The compaction says how far down the deltas go; it closes the gap by dropping what is missing.
	r.apply(r.compactAt(6, 4, 3, 5, list[4].Chain))
	h = r.head()
	if !h.FloorKnown || h.Floor != 3 || h.Gap() || !reflect.DeepEqual(r.seqs(), []int64{4, 5}) {
		t.Errorf("%+v, %v", h, r.seqs())
	}
}

// A sick source that missed the creation gives its entries only. The creation, applied later, completes the document:
// leaving it alone because the generation is there would lose the first delta for good.
func TestCreateFillsWhatASickSourceLacked(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(3)
	r.learn(3, func(b *docBatch, s *docState) {
		must(t, b.restart(s, Head{Generation: 1, LastIndex: 3, HeadSeq: neutralFloor, Floor: neutralFloor}))
		e := Entry{Delta: list[2].Deltas[0], Index: 3, Term: 1, Chain: list[2].Chain}
		_, err := b.putEntry(s, &e)
		must(t, err)
	})
	if h := r.head(); !h.Gap() {
		t.Fatalf("%+v", h)
	}
	r.apply(list[0])
	if h := r.head(); h.HeadSeq != 3 || h.Entries != 2 || h.LastIndex != 3 || !h.FloorKnown {
		t.Errorf("the creation undid what was pulled ahead: %+v", h)
	}
	r.apply(list[1:]...)
	if h := r.head(); h.Gap() || h.Entries != 3 || h.Span != 3 || h.LastIndex != 3 || h.Floor != 0 || h.Chain != list[2].Chain {
		t.Errorf("%+v", h)
	}
}

func TestPulledAheadIsNotCountedTwice(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(6)
	other := newRuleRun(t)
	other.apply(list...)
	want := other.head()
	r.apply(list[:2]...)
	r.learn(6, func(b *docBatch, s *docState) {
		for _, m := range list[2:6] {
			_, err := b.putEntry(s, &Entry{Delta: m.Deltas[0], Index: m.Index, Term: m.Term, Chain: m.Chain})
			must(t, err)
		}
		s.head.LastIndex = 6
	})
	if h := r.head(); h != want {
		t.Fatalf("pulled %+v, want %+v", h, want)
	}
	if _, ok := r.d.SummaryAt(2); ok {
		t.Error("an exact summary of an index before what was learned")
	}
	r.apply(list[2:4]...)
	r.apply(list[4:]...)
	if h := r.head(); h != want || !r.d.Status().Complete {
		t.Errorf("applied on top: %+v, want %+v", h, want)
	}
	if _, ok := r.d.SummaryAt(6); !ok {
		t.Error("no summary although everything learned is applied")
	}
	if len(r.div) > 0 {
		t.Errorf("divergence at %v", r.div)
	}
}

func TestEntriesBelowTheFloorAreNotStored(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(6)
	r.apply(list[:2]...)
	r.learn(7, func(b *docBatch, s *docState) { // a compaction at 7 with floor 4, and the entries above
		h := s.head
		h.LastIndex, h.HeadSeq, h.Chain, h.Floor, h.Dropped = 7, 6, list[5].Chain, 4, true
		must(t, b.putBase(s, 5, 7, []byte("base")))
		must(t, b.dropEntries(s, 4))
		for _, m := range list[4:6] {
			_, err := b.putEntry(s, &Entry{Delta: m.Deltas[0], Index: m.Index, Term: m.Term, Chain: m.Chain})
			must(t, err)
		}
	})
	before := r.head()
	if before.Gap() || before.Entries != 2 {
		t.Fatalf("%+v", before)
	}
	r.apply(list[2:]...)
	must(t, r.d.Apply(nil, 6))
	if h := r.head(); h != before || !reflect.DeepEqual(r.seqs(), []int64{5, 6}) {
		t.Errorf("%+v, %v", h, r.seqs())
	}
}

// The same, with a compaction of a lower floor among the commands that are applied later.
func TestFloorsOnlyRise(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(4)
	r.apply(list...)
	r.learn(9, func(b *docBatch, s *docState) {
		s.head.LastIndex, s.head.Floor, s.head.Dropped = 9, 3, true
		must(t, b.putBase(s, 3, 9, []byte("base")))
		must(t, b.dropEntries(s, 3))
	})
	before := r.head()
	r.apply(r.compactAt(5, 2, 1, 4, list[3].Chain))
	if h := r.head(); h != before || h.Gap() {
		t.Errorf("%+v, want %+v", h, before)
	}
}

// Two compactions of one batch count what they drop once.
func TestTwoCompactionsInOneBatch(t *testing.T) {
	for _, n := range []int{10, 200} {
		r := newRuleRun(t)
		list := r.mutations(n)
		r.apply(list...)
		c, h := list[n-1].Chain, int64(n)
		must(t, r.d.Apply([]Mutation{r.compactAt(uint64(n)+1, h, h-6, h, c), r.compactAt(uint64(n)+2, h, h-2, h, c)}, uint64(n)+2))
		if got := r.head(); got.Entries != 2 || got.Span != 2 || got.Gap() || len(r.seqs()) != 2 || got.Bytes != 2*int64(list[n-1].Deltas[0].Size()) {
			t.Errorf("%d entries: %+v", n, got)
		}
	}
}

func TestOlderCompactionKeepsNewerBase(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(8)
	r.apply(list[:3]...)
	r.learn(9, func(b *docBatch, s *docState) { // from a sick source: the base of index 9, whose floor is low
		s.head.LastIndex = 9
		must(t, b.putBase(s, 2, 9, []byte("newer")))
	})
	r.apply(r.compactAt(4, 3, 2, 3, list[2].Chain))
	h := r.head()
	v, err := r.d.View(r.key)
	must(t, err)
	base, err := v.Base()
	must(t, err)
	must(t, v.Close())
	if h.BaseIndex != 9 || h.BaseSeq != 2 || string(base) != "newer" || h.Floor != 2 || !h.Dropped || !reflect.DeepEqual(r.seqs(), []int64{3}) || h.LastIndex != 9 {
		t.Errorf("%+v, base %q, %v", h, base, r.seqs())
	}
}

func TestReplaceStartsAGeneration(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(5)
	r.apply(list...)
	r.apply(r.compactAt(6, 4, 3, 5, list[4].Chain))
	replaced := Mutation{Kind: Replace, Key: r.key, Index: 7, Term: 1, BaseSeq: 2, HeadSeq: 2, Floor: 2, Base: []byte("new"), Dropped: true,
		Chain: SeedChain(r.key).Replaced(2, []byte("new"))}
	r.apply(replaced)
	h := r.head()
	if h.Generation != 7 || h.HeadSeq != 2 || h.Gap() || h.Entries != 0 || h.Bytes != 0 || h.BaseSeq != 2 || len(r.seqs()) != 0 {
		t.Errorf("%+v", h)
	}
	next := appendAt(8, r.key, h, 3)
	r.apply(next)
	if h := r.head(); h.HeadSeq != 5 || h.Gap() || h.Span != 3 || h.Entries != 1 {
		t.Errorf("%+v", h)
	}
	if n := countRecords(t, r.d); n != 3 {
		t.Errorf("%d records, want head, base and entry of one generation", n)
	}
}

func countRecords(t *testing.T, d *Documents) int {
	lower, upper := prefixRange(append(appendPartition(nil, d.partition), sectionDocuments))
	it, err := d.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	must(t, err)
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	must(t, it.Close())
	return n
}

// Chains of entries: known through the prior chain of the command, or through what is there; else only the last.
func TestChainsOfEntries(t *testing.T) {
	three := func(prior Chain) Mutation {
		key := Key{Space: "space", Key: "doc"}
		m := Mutation{Kind: Append, Key: key, Index: 9, Term: 1, Generation: 1, Prior: prior}
		chain := Chain{1}
		for seq := int64(5); seq <= 7; seq++ {
			d := Delta{SeqBegin: seq, SeqEnd: seq}
			chain = chain.Next(d.AppendBinary(nil))
			m.Deltas, m.HeadSeq, m.Chain = append(m.Deltas, d), seq, chain
		}
		return m
	}
	for _, prior := range []Chain{{}, {1}} {
		r := newRuleRun(t)
		must(t, r.d.RecordHole(1, 8))
		m := three(prior)
		r.apply(m)
		v, err := r.d.View(r.key)
		must(t, err)
		want := Chain{1}
		for e, err := range v.Entries(-1) {
			must(t, err)
			want = want.Next(e.AppendBinary(nil))
			if known := prior != (Chain{}) || e.SeqEnd == 7; known && e.Chain != want || !known && e.Chain != (Chain{}) {
				t.Errorf("prior %s: chain of %d is %s", prior, e.SeqEnd, e.Chain)
			}
		}
		must(t, v.Close())
		if h := r.head(); h.Chain != want || len(r.div) > 0 {
			t.Errorf("head %+v, divergence %v", h, r.div)
		}
	}
}

// When the log's chain contradicts this member's history, the member keeps its own: the difference must go on showing.
func TestDivergenceIsReportedAndKept(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(3)
	r.apply(list[:2]...)
	wrong := list[2]
	wrong.Prior, wrong.Chain = Chain{7}, Chain{8}
	r.apply(wrong)
	if h := r.head(); h.Chain != list[2].Chain || len(r.div) != 1 || r.div[0] != 3 {
		t.Errorf("%+v, %v", h, r.div)
	}
	r.apply(r.compactAt(4, 2, 1, 3, Chain{8}))
	if h := r.head(); h.Chain != list[2].Chain || len(r.div) != 2 {
		t.Errorf("%+v, %v", h, r.div)
	}
}

// TestDivergenceInAGap: a delta whose successors came from a peer is compared with what the leader makes of it, too.
func TestDivergenceInAGap(t *testing.T) {
	r, y, s := newRuleRun(t), newDocsMember(t), newScript()
	x := &docsMember{r.d, r.e, wantRoom{maxWantRanges, maxWantScan}}
	s.create(r.key, 10)
	for range 10 {
		s.append(r.key, 1, 10)
	}
	x.follow(t, s, 5, interval.Range{First: 3, Last: 3})
	y.follow(t, s, s.last(), interval.Range{First: 6, Last: 6})
	x.pullBucket(t, y, FullRange().Bucket(r.key.Hash()), 1<<20)
	if h := r.head(); !h.Gap() || h.LastIndex != s.last() {
		t.Fatalf("head %+v", h)
	}
	wrong := s.log[5]
	wrong.Chain[3]++
	r.apply(wrong)
	if len(r.div) != 1 {
		t.Errorf("found at %d", r.div)
	}
}

func TestMalformedMutationsChangeNothing(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(3)
	r.apply(list...)
	good := appendAt(4, r.key, r.head(), 1)
	two := good
	two.Deltas = append([]Delta{}, good.Deltas[0], good.Deltas[0])
	for name, m := range map[string]Mutation{
		"no kind":              func() Mutation { m := good; m.Kind = 0; return m }(),
		"unknown kind":         func() Mutation { m := good; m.Kind = 9; return m }(),
		"no index":             func() Mutation { m := good; m.Index = 0; return m }(),
		"bad key":              func() Mutation { m := good; m.Key.Space = "x"; return m }(),
		"no deltas":            func() Mutation { m := good; m.Deltas = nil; return m }(),
		"create of nothing":    func() Mutation { m := good; m.Kind, m.Deltas = Create, nil; return m }(),
		"deltas not in a row":  two,
		"head is not the last": func() Mutation { m := good; m.HeadSeq++; return m }(),
		"negative seq":         func() Mutation { m := good; m.Deltas = []Delta{{SeqBegin: -1, SeqEnd: 4}}; return m }(),
		"seq too high": func() Mutation {
			m := good
			m.Deltas = []Delta{{SeqBegin: 4, SeqEnd: MaxSeq + 1}}
			m.HeadSeq = MaxSeq + 1
			return m
		}(),
		"generation to come": func() Mutation { m := good; m.Generation = 4; return m }(),
		"no generation":      func() Mutation { m := good; m.Generation = 0; return m }(),
		"base above head":    r.compactAt(4, 9, 1, 3, Chain{}),
		"floor above head":   r.compactAt(4, 3, 4, 3, Chain{}),
		"floor below all":    r.compactAt(4, 3, -2, 3, Chain{}),
		"compact generation": func() Mutation { m := r.compactAt(4, 3, 1, 3, Chain{}); m.Generation = 0; return m }(),
		"replace with floor": {Kind: Replace, Key: r.key, Index: 4, BaseSeq: 3, HeadSeq: 3, Floor: 2},
		"replace with head":  {Kind: Replace, Key: r.key, Index: 4, BaseSeq: 3, HeadSeq: 4, Floor: 3},
	} {
		before := r.d.Status()
		err := r.d.Apply([]Mutation{createAt(4), m}, 5)
		if m.Index == 4 {
			err = r.d.Apply([]Mutation{m}, 5)
		}
		if err == nil || !reflect.DeepEqual(r.d.Status(), before) {
			t.Errorf("%s: %v, %+v", name, err, r.d.Status())
		}
	}
	for name, call := range map[string]func() error{
		"out of order": func() error { return r.d.Apply([]Mutation{createAt(6), createAt(5)}, 6) },
		"twice":        func() error { return r.d.Apply([]Mutation{createAt(5), createAt(5)}, 6) },
		"beyond last":  func() error { return r.d.Apply([]Mutation{createAt(5)}, 4) },
		"hole late":    func() error { return r.d.RecordHole(5, 9) },
		"hole early":   func() error { return r.d.RecordHole(3, 9) },
		"hole empty":   func() error { return r.d.RecordHole(4, 3) },
	} {
		if err := call(); err == nil || r.d.Applied() != 3 {
			t.Errorf("%s: %v", name, err)
		}
	}
	var invalid *InvalidError
	if err := r.d.Apply([]Mutation{{Kind: Create, Key: r.key, Index: 4}}, 4); !errors.As(err, &invalid) || Code(err) != CodeInvalid {
		t.Errorf("%v", err)
	}
}

// TestSeveralDocumentsAtOneIndex: an entry may have several commands, and is applied as a whole or not at all.
func TestSeveralDocumentsAtOneIndex(t *testing.T) {
	r := newRuleRun(t)
	at := func(key string, index uint64) Mutation {
		m := createAt(index)
		m.Key.Key = key
		m.Chain = SeedChain(m.Key).Next(m.Deltas[0].AppendBinary(nil))
		return m
	}
	must(r.t, r.d.Apply([]Mutation{at("a", 1)}, 1))
	one, _ := r.d.Summary()
	both := []Mutation{at("b", 2), at("c", 2)}
	must(r.t, r.d.Stage(both, 2))
	must(r.t, r.d.Stage(both, 2)) // again
	must(r.t, r.d.Flush())
	now, index := r.d.Summary()
	if s := r.d.Status(); s.Documents != 3 || s.Applied != 2 || index != 2 || now != rebuild(t, r.d) {
		t.Errorf("%+v, sums of %d", s, index)
	}
	if past, ok := r.d.SummaryAt(1); !ok || *past != one {
		t.Error("the sums before are those of a part of the entry")
	}
	for _, m := range both {
		if h, ok, err := r.d.Head(m.Key); !ok || err != nil || h.LastIndex != 2 || h.Generation != 2 {
			t.Errorf("%s: %+v, %v, %v", m.Key, h, ok, err)
		}
	}
}

// TestTwoMutationsOfADocumentAtOneIndex: what changed a document last is told by the index alone, so an index has one command of it,
// whatever lies in between; an entry that has two changes nothing.
func TestTwoMutationsOfADocumentAtOneIndex(t *testing.T) {
	for _, stage := range []bool{false, true} {
		r := newRuleRun(t)
		must(t, r.d.Apply([]Mutation{createAt(1), createAt(2)}, 2))
		head := func(i uint64) Head {
			h, ok, err := r.d.Head(createAt(i).Key)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			return h
		}
		key := createAt(1).Key
		first := appendAt(3, key, head(1), 1)
		second := appendAt(3, key, Head{Generation: 1, HeadSeq: first.HeadSeq, Chain: first.Chain}, 1)
		entry := []Mutation{first, appendAt(3, createAt(2).Key, head(2), 1), second}
		apply := r.d.Apply
		if stage {
			apply = r.d.Stage
		}
		if err := apply(entry, 3); err == nil {
			t.Error("accepted")
		}
		if got := r.d.Applied(); got != 2 {
			t.Errorf("applied %d", got)
		}
	}
}

// Few entries are deleted one by one, many by one range delete within the document.
func TestCompactionDeletes(t *testing.T) {
	for _, n := range []int{3, pointDeletes, pointDeletes + 1, 500} {
		r := newRuleRun(t)
		list := r.mutations(n + 2)
		r.apply(list...)
		neighbour := createAt(uint64(n) + 3)
		r.apply(neighbour)
		m := r.compactAt(uint64(n)+4, int64(n)+1, int64(n), int64(n)+2, list[n+1].Chain)
		points, ranges := r.deletesOf(m)
		if wantPoints := n <= pointDeletes; wantPoints != (points == n) || wantPoints == (ranges == 1) {
			t.Errorf("%d entries: %d point deletes, %d range deletes", n, points, ranges)
		}
		r.apply(m)
		if got := r.seqs(); len(got) != 2 || got[0] != int64(n)+1 {
			t.Errorf("%d entries: left %v", n, got)
		}
		if _, ok, err := r.d.Head(neighbour.Key); !ok || err != nil {
			t.Error("the neighbour is gone")
		}
		r.apply(r.deleteAt(uint64(n) + 5))
		if left := countRecords(t, r.d); left != 2 {
			t.Errorf("%d records left, want the neighbour's two", left)
		}
	}
}

// deletesOf builds the batch of a mutation without committing it.
func (r *ruleRun) deletesOf(m Mutation) (points, ranges int) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	b := r.d.begin()
	defer b.close()
	p, err := r.d.place(m.Key)
	must(r.t, err)
	s, err := b.document(p)
	must(r.t, err)
	b.advance(m.Index)
	_, err = Replay(&batchDoc{b, s}, &m, b.sickAt(m.Index))
	must(r.t, err)
	for _, op := range b.batch.ops {
		switch op.kind {
		case opDelete:
			points++
		case opDeleteRange:
			ranges++
		}
	}
	return points, ranges
}

// Append, compact, delete and create again of one document in one batch, which the engine never saw.
func TestOneBatchOverlaysItself(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(90)
	last := list[89]
	batch := append(list, r.compactAt(91, 88, 80, 90, last.Chain), r.compactAt(92, 90, 85, 90, last.Chain))
	must(t, r.d.Apply(batch, 92))
	if h := r.head(); h.Entries != 5 || h.Span != 5 || h.Gap() || h.BaseIndex != 92 {
		t.Errorf("%+v", h)
	}
	again := createAt(95)
	again.Key = r.key
	again.Chain = SeedChain(r.key).Next(again.Deltas[0].AppendBinary(nil))
	must(t, r.d.Apply([]Mutation{appendAt(93, r.key, r.head(), 1), r.deleteAt(94), again, r.deleteAt(96)}, 96))
	if n := countRecords(t, r.d); n != 0 || r.d.Status().Bytes != 0 || r.d.Status().Documents != 0 {
		t.Errorf("%d records, %+v", n, r.d.Status())
	}
	if got, _ := r.d.Summary(); got != (merkle.Summary{}) {
		t.Error("sums of nothing")
	}
	for i := uint64(89); i <= 96; i++ {
		if _, ok := r.d.SummaryAt(i); !ok {
			t.Errorf("no summary at %d", i)
		}
	}
	if c := r.d.Coverage(); !c.Equal(interval.Of(1, 96)) {
		t.Errorf("coverage %s", c)
	}
}

// TestGapOnACompleteMember: a member that has seen everything knows what an append follows; one that leaves a gap, or has
// no document to follow, is divergence. On a sick member it is what holes look like.
func TestGapOnACompleteMember(t *testing.T) {
	for _, missing := range []int{2, 0} { // the delta before it, or the document
		r := newRuleRun(t)
		list := r.mutations(4)
		r.apply(list[:missing]...)
		m := list[3]
		r.apply(m)
		if len(r.div) != 1 {
			t.Errorf("after %d of 3 commands: divergence %v", missing, r.div)
		}
		r = newRuleRun(t)
		r.apply(list[:missing]...)
		must(t, r.d.RecordHole(uint64(missing)+1, m.Index-1))
		r.apply(m)
		if len(r.div) != 0 {
			t.Errorf("on a sick member: divergence %v", r.div)
		}
	}
}
