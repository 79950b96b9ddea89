package adamant

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/adamantdb/adamant/store"
)

// readBench applies mutations to one document of a store in memory, and keeps all deltas for a slow oracle.
type readBench struct {
	t       *testing.T
	docs    *store.Documents
	key     Key
	index   uint64
	created uint64
	chain   Chain
	deltas  []Delta
	base    []byte
	baseSeq int64
	hasBase bool
	floor   int64
	dropped bool
}

func newReadBench(t *testing.T) *readBench {
	t.Helper()
	e, err := store.OpenDocs(store.DocOptions{Dir: "docs", FS: vfs.NewMem(), Cluster: "c", Host: "h", Incarnation: "i"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	docs, err := e.Member(0, store.FullRange())
	if err != nil {
		t.Fatal(err)
	}
	return &readBench{t: t, docs: docs, key: Key{Space: "games", Key: "g1"}}
}

func (b *readBench) apply(m store.Mutation) {
	b.t.Helper()
	b.index++
	m.Key, m.Index, m.Term, m.Chain = b.key, b.index, 1, b.chain
	if m.Kind == store.Create || m.Kind == store.Replace {
		b.created = b.index
	}
	m.Generation = b.created
	if err := b.docs.Apply([]store.Mutation{m}, b.index); err != nil {
		b.t.Fatal(err)
	}
}

// add creates the document with the first delta, and appends the others one by one.
func (b *readBench) add(deltas ...Delta) {
	b.t.Helper()
	for _, d := range deltas {
		kind := store.Append
		if len(b.deltas) == 0 && !b.hasBase {
			kind, b.chain, b.floor = store.Create, store.SeedChain(b.key), d.SeqBegin-1
		}
		b.chain = b.chain.Next(d.AppendBinary(nil))
		b.deltas = append(b.deltas, d)
		b.apply(store.Mutation{Kind: kind, Deltas: []Delta{d}, HeadSeq: d.SeqEnd})
	}
}

func (b *readBench) head() int64 {
	if n := len(b.deltas); n > 0 && b.deltas[n-1].SeqEnd > b.baseSeq {
		return b.deltas[n-1].SeqEnd
	}
	return b.baseSeq
}

// compact drops as the leader would: all but the newest `history` deltas that end at or before seq.
func (b *readBench) compact(seq int64, history int) {
	b.t.Helper()
	var ends []int64
	for _, d := range b.deltas {
		if d.SeqEnd <= seq && d.SeqEnd > b.floor {
			ends = append(ends, d.SeqEnd)
		}
	}
	if len(ends) > history {
		b.floor, b.dropped = ends[len(ends)-history-1], true
	}
	b.base, b.baseSeq, b.hasBase = b.oracle(seq), seq, true
	b.apply(store.Mutation{Kind: store.Compact, HeadSeq: b.head(), BaseSeq: seq, Base: b.base, Floor: b.floor, Dropped: b.dropped})
}

func (b *readBench) replace(seq int64, base string) {
	b.t.Helper()
	b.chain = store.SeedChain(b.key).Replaced(seq, []byte(base))
	b.base, b.baseSeq, b.hasBase, b.floor, b.dropped, b.deltas = []byte(base), seq, true, seq, true, nil
	b.apply(store.Mutation{Kind: store.Replace, HeadSeq: seq, BaseSeq: seq, Base: b.base, Floor: seq, Dropped: true})
}

// oracle is the document at a seq, merged one delta at a time by another library.
func (b *readBench) oracle(seq int64) []byte {
	b.t.Helper()
	doc, from := []byte("{}"), int64(-1)
	if b.hasBase && b.baseSeq <= seq {
		doc, from = b.base, b.baseSeq
	}
	for _, d := range b.deltas {
		if d.SeqEnd > from && d.SeqEnd <= seq {
			var err error
			if doc, err = jsonpatch.MergePatch(doc, d.Redo); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	return doc
}

// patches merges patches, keeping nulls.
func (b *readBench) patches(list [][]byte) []byte {
	b.t.Helper()
	merged := []byte("{}")
	for _, p := range list {
		var err error
		if merged, err = jsonpatch.MergeMergePatches(merged, p); err != nil {
			b.t.Fatal(err)
		}
	}
	return merged
}

func (b *readBench) view() *store.View {
	b.t.Helper()
	v, err := b.docs.View(b.key)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = v.Close() })
	return v
}

// check compares every read at, below and above every boundary with the oracle.
func (b *readBench) check() {
	b.t.Helper()
	v := b.view()
	d, err := readDocument(context.Background(), v, b.key)
	if err != nil || !jsonpatch.Equal(d.JSON, b.oracle(b.head())) || d.Head != b.head() {
		b.t.Errorf("get: %s at %d, %v; want %s at %d", d.JSON, d.Head, err, b.oracle(b.head()), b.head())
	}
	for seq := int64(-2); seq <= b.head()+2; seq++ {
		var redos, undos [][]byte
		for _, delta := range b.deltas {
			if delta.SeqEnd > seq {
				redos = append(redos, delta.Redo)
				undos = append([][]byte{delta.Undo}, undos...)
			}
		}
		d, err := readHeadPatch(context.Background(), v, b.key, seq)
		b.checkPatch(store.OpHeadPatch, seq, d, err, redos)
		d, err = readRewind(context.Background(), v, b.key, seq)
		b.checkPatch(store.OpRewind, seq, d, err, undos)
	}
}

func (b *readBench) checkPatch(op store.Op, seq int64, d Document, err error, want [][]byte) {
	b.t.Helper()
	var wantErr error
	switch {
	case seq > b.head():
		wantErr = &FutureError{Key: b.key, Op: op, Seq: seq, Head: b.head()}
	case b.dropped && seq < b.floor:
		wantErr = &HorizonError{Key: b.key, Op: op, Seq: seq, Horizon: b.floor}
	}
	if wantErr != nil {
		if !reflect.DeepEqual(err, wantErr) {
			b.t.Errorf("%s at %d: %v, want %v", op, seq, err, wantErr)
		}
		return
	}
	if err != nil || d.Reads != len(want) || d.Head != b.head() || !jsonpatch.Equal(d.JSON, b.patches(want)) {
		b.t.Errorf("%s at %d: %s (%d reads, head %d), %v; want %s of %d", op, seq, d.JSON, d.Reads, d.Head, err, b.patches(want), len(want))
	}
}

// one is delta n: it sets field n and a counter, and every third one removes what an earlier one set.
func one(n int64) Delta {
	redo := fmt.Sprintf(`{"n":%d,"f%d":{"v":%d}}`, n, n, n)
	undo := fmt.Sprintf(`{"n":%d,"f%d":null}`, n-1, n)
	if n%3 == 0 {
		redo = fmt.Sprintf(`{"n":%d,"f%d":null}`, n, n-2)
		undo = fmt.Sprintf(`{"n":%d,"f%d":{"v":%d}}`, n-1, n-2, n-2)
	}
	return Delta{SeqBegin: n, SeqEnd: n, Redo: []byte(redo), Undo: []byte(undo), Who: "w"}
}

func tenDeltas() []Delta {
	var list []Delta
	for n := int64(1); n <= 10; n++ {
		list = append(list, one(n))
	}
	return list
}

func TestReadsWithoutCompaction(t *testing.T) {
	b := newReadBench(t)
	b.add(tenDeltas()...)
	b.check()
}

func TestReadsAfterCompactions(t *testing.T) {
	for _, history := range []int{1, 2, 5, 100} {
		for _, seq := range []int64{1, 4, 9, 10} {
			t.Run(fmt.Sprintf("history %d at %d", history, seq), func(t *testing.T) {
				b := newReadBench(t)
				b.add(tenDeltas()...)
				b.compact(seq, history)
				b.check()
				b.add(one(11), one(12))
				b.check()
				b.compact(11, history)
				b.check()
			})
		}
	}
}

// Deltas of several seqs are taken whole by a head patch or rewind that points into them.
func TestReadsOfWideDeltas(t *testing.T) {
	b := newReadBench(t)
	b.add(Delta{SeqBegin: 5, SeqEnd: 7, Redo: []byte(`{"a":1}`), Undo: []byte(`{"a":null}`)},
		Delta{SeqBegin: 8, SeqEnd: 8, Redo: []byte(`{"b":{"c":null,"d":2}}`), Undo: []byte(`{"b":null}`)},
		Delta{SeqBegin: 9, SeqEnd: 12, Redo: []byte(`{"a":null}`), Undo: []byte(`{"a":1}`)})
	b.check()
	v := b.view()
	d, err := readHeadPatch(t.Context(), v, b.key, 6)
	if err != nil || string(d.JSON) != `{"a":null,"b":{"c":null,"d":2}}` || d.Reads != 3 {
		t.Errorf("head patch after 6: %s, %d reads, %v", d.JSON, d.Reads, err)
	}
	b.compact(12, 1)
	b.check()
}

func TestReadsAfterReplacement(t *testing.T) {
	b := newReadBench(t)
	b.add(tenDeltas()...)
	b.replace(4, `{"fresh":null,"kept":1}`)
	b.check()
	if d, err := readDocument(t.Context(), b.view(), b.key); err != nil || string(d.JSON) != `{"fresh":null,"kept":1}` || d.Reads != 1 {
		t.Errorf("after the replacement: %s, %d reads, %v", d.JSON, d.Reads, err)
	}
	b.add(one(5), one(6))
	b.check()
	b.replace(100, `[1,2]`)
	b.check()
}

func TestReadsCountRecords(t *testing.T) {
	b := newReadBench(t)
	b.add(tenDeltas()...)
	b.compact(6, 3)
	v := b.view()
	for _, tc := range []struct {
		name  string
		reads int
		do    func() (Document, error)
	}{
		{"base and 4 deltas", 5, func() (Document, error) { return readDocument(t.Context(), v, b.key) }},
		{"head patch at the head", 0, func() (Document, error) { return readHeadPatch(t.Context(), v, b.key, 10) }},
		{"head patch of 2", 2, func() (Document, error) { return readHeadPatch(t.Context(), v, b.key, 8) }},
		{"rewind at the head", 0, func() (Document, error) { return readRewind(t.Context(), v, b.key, 10) }},
		{"rewind of 6 below the base", 6, func() (Document, error) { return readRewind(t.Context(), v, b.key, 4) }},
	} {
		if d, err := tc.do(); err != nil || d.Reads != tc.reads {
			t.Errorf("%s: %d reads, %v; want %d", tc.name, d.Reads, err, tc.reads)
		}
	}
}

func TestReadsNameWhatIsNotJSON(t *testing.T) {
	b := newReadBench(t)
	b.add(one(1), Delta{SeqBegin: 2, SeqEnd: 4, Redo: []byte("{"), Undo: []byte(`{}`)}, Delta{SeqBegin: 5, SeqEnd: 5, Redo: []byte(`{}`)})
	v := b.view()
	notJSON := func(err error) (seq int64) {
		var e *NotJSONError
		if !errors.As(err, &e) || e.Key != b.key {
			return -99
		}
		return e.Seq
	}
	if _, err := readDocument(t.Context(), v, b.key); notJSON(err) != 4 {
		t.Errorf("get: %v", err)
	}
	if _, err := readHeadPatch(t.Context(), v, b.key, 2); notJSON(err) != 4 {
		t.Errorf("head patch: %v", err)
	}
	if d, err := readHeadPatch(t.Context(), v, b.key, 4); err != nil || d.Reads != 1 {
		t.Errorf("a head patch that leaves it out: %+v, %v", d, err)
	}
	if _, err := readRewind(t.Context(), v, b.key, 4); notJSON(err) != 5 {
		t.Errorf("rewind over an empty undo: %v", err)
	}
	b.replace(7, "\xff")
	if _, err := readDocument(t.Context(), b.view(), b.key); notJSON(err) != 7 {
		t.Errorf("a base that is not JSON: %v", err)
	}
}

// TestStaleReadOfAMemberThatDoesNotRun: what is stored can be read, and says that nobody knows how old it is.
func TestStaleReadOfAMemberThatDoesNotRun(t *testing.T) {
	synctest.Test(t, testStaleReadOfAMemberThatDoesNotRun)
}

func testStaleReadOfAMemberThatDoesNotRun(t *testing.T) {
	c := newSimCluster(t, 3, 1, 3, nil)
	c.ready()
	c.fill(0, 1, 1)
	c.healthy()
	h := c.host("h2")
	stale := WithConsistency(ReadStale)
	c.wait("the document", func() error {
		_, err := h.Get(testContext(t), testKey(0), stale)
		return err
	})
	m := h.member(0)
	m.steps.Lock() // the steward starts what does not run
	defer m.steps.Unlock()
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	d, err := h.Get(testContext(t), testKey(0), stale)
	if err != nil || d.Head != 1 || d.Staleness == nil || d.Staleness.Age != AgeUnknown || d.Staleness.Index == 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := h.Get(testContext(t), testKey(0)); err == nil {
		t.Fatal("a member that does not run serves")
	}
	for i, err := range h.Inventory(testContext(t), Scope{}, stale) {
		if err != nil || i.Staleness == nil {
			t.Fatalf("%+v, %v", i, err)
		}
	}
}

// TestPartsAreNotMerged: a member with a hole has of a document what was appended since, and not yet what was there before. Merging that
// would show a document, or changes of one, that never were. Found by cmd/chaos in hosts whose disks were lost.
func TestPartsAreNotMerged(t *testing.T) {
	h, err := Open(Options{Dir: t.TempDir(), Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	key, docs := testKey(0), h.member(0).docs
	missed := docs.Applied() + 1
	if err := docs.RecordHole(missed, missed+2); err != nil {
		t.Fatal(err)
	}
	newer := []Delta{testDelta(4, "x"), testDelta(5, "x")}
	err = docs.Apply([]store.Mutation{{Kind: store.Append, Key: key, Index: missed + 3, Term: 1, Generation: missed, Deltas: newer, HeadSeq: 5}}, missed+3)
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range h.Log(testContext(t), key, WithConsistency(ReadStale)) {
		if err != nil || e.Delta.SeqBegin < 4 || e.Staleness == nil || e.Staleness.Complete {
			t.Errorf("%+v, %v", e, err)
		}
	}
	_, got := h.Get(testContext(t), key, WithConsistency(ReadStale))
	_, patch := h.HeadPatch(testContext(t), key, 2, WithConsistency(ReadStale))
	_, back := h.Rewind(testContext(t), key, 2, WithConsistency(ReadStale))
	for _, err := range []error{got, patch, back} {
		if Code(err) != CodeUnavailable {
			t.Errorf("a read of a part: %v", err)
		}
	}
}

// TestReadsAboveWhatIsMissing: what lies below a base, or below where a patch begins, is read by nobody; that it is missing keeps no stale
// read from being exact. Stale reads work on every member, always (design §9).
func TestReadsAboveWhatIsMissing(t *testing.T) {
	h, err := Open(Options{Dir: t.TempDir(), Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	key, docs := testKey(0), h.member(0).docs
	at := docs.Applied() + 5
	if err := docs.RecordHole(at-4, at); err != nil {
		t.Fatal(err)
	}
	// The creation and the appends to 9 are missed. The compaction to 9 keeps a history of three deltas, which are not here.
	compact := store.Mutation{Kind: store.Compact, Key: key, Generation: at - 4, Index: at + 1, Term: 1, HeadSeq: 9,
		Chain: store.Chain{9}, BaseSeq: 9, Base: []byte(`{"a":9}`), Floor: 6, Dropped: true}
	if err := docs.Apply([]store.Mutation{compact}, at+1); err != nil {
		t.Fatal(err)
	}
	add := func(index uint64, seq int64) {
		d := testDelta(seq, "x")
		head, _, err := docs.Head(key)
		if err != nil {
			t.Fatal(err)
		}
		chain := store.Chain{byte(seq)}
		if head.HeadSeq == seq-1 {
			chain = head.Chain.Next(d.AppendBinary(nil))
		}
		err = docs.Apply([]store.Mutation{{Kind: store.Append, Key: key, Generation: at - 4, Index: index, Term: 1, HeadSeq: seq, Chain: chain, Deltas: []store.Delta{d}}}, index)
		if err != nil {
			t.Fatal(err)
		}
	}
	get := func() (Document, error) { return h.Get(testContext(t), key, WithConsistency(ReadStale)) }
	patch := func(after int64) func() (Document, error) {
		return func() (Document, error) { return h.HeadPatch(testContext(t), key, after, WithConsistency(ReadStale)) }
	}
	rewind := func(to int64) func() (Document, error) {
		return func() (Document, error) { return h.Rewind(testContext(t), key, to, WithConsistency(ReadStale)) }
	}
	check := func(what string, read func() (Document, error), want string) {
		t.Helper()
		d, err := read()
		if err != nil || string(d.JSON) != want || d.Staleness == nil || d.Staleness.Complete {
			t.Errorf("%s: %s, %v", what, d.JSON, err)
		}
	}
	refused := func(what string, read func() (Document, error)) {
		t.Helper()
		if d, err := read(); Code(err) != CodeUnavailable || !strings.Contains(err.Error(), "missing here") {
			t.Errorf("%s: %s, %v", what, d.JSON, err)
		}
	}
	check("the base alone", get, `{"a":9}`)
	add(at+2, 10)
	check("the base and what follows", get, `{"a":9,"s10":"x"}`)
	check("what follows the base", patch(9), `{"s10":"x"}`)
	check("the way back to the base", rewind(9), `{"s10":null}`)
	check("nothing", patch(10), `{}`)
	refused("the patch over what is missing", patch(8))
	refused("the way back over what is missing", rewind(6))
	if _, err := patch(5)(); Code(err) != CodeHeadPatch {
		t.Errorf("below what was dropped: %v", err)
	}
	if err := docs.RecordHole(at+3, at+3); err != nil {
		t.Fatal(err)
	}
	add(at+4, 12)
	refused("the document without 11", get)
	refused("the patch without 11", patch(9))
	refused("the way back without 11", rewind(10))
	check("what follows 11", patch(11), `{"s12":"x"}`)
}
