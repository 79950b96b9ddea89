package merkle

import (
	"encoding/binary"
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// history is the slow oracle: every document's leaf at every state the tracker
// went through, and the summary rebuilt from them each time it is asked.
type history struct {
	docs   map[uint16]Sum            // now
	states map[uint64]map[uint16]Sum // after each index, since the last Learn
	index  uint64
	oldest uint64   // before it, Learn made the past untold
	log    []uint64 // index of each change since then
}

func newHistory(index uint64) *history {
	h := &history{docs: map[uint16]Sum{}, states: map[uint64]map[uint16]Sum{}, index: index, oldest: index}
	h.keep()
	return h
}

func (h *history) keep() { h.states[h.index] = maps.Clone(h.docs) }

// moveTo fills in the indexes between, which changed nothing.
func (h *history) moveTo(index uint64) {
	for h.index < index {
		h.keep()
		h.index++
	}
	h.keep()
}

func rebuild(docs map[uint16]Sum) Summary {
	var s Summary
	for doc, leaf := range docs {
		k := &s[bucketOf(doc)]
		k.Sum = k.Sum.Add(leaf)
		k.Count++
	}
	return s
}

// bucketOf makes collisions likely and both ends of the array used.
func bucketOf(doc uint16) uint8 { return uint8(doc%3) * 127 }

// floor is the oldest index a ring of the capacity has to answer for.
func (h *history) floor(capacity int) uint64 {
	if pushed := len(h.log) - capacity; pushed > 0 {
		return h.log[pushed-1]
	}
	return h.oldest
}

// set changes one document's leaf in the oracle and says what Replace or Learn
// has to be told.
func (h *history) set(t *rapid.T) (bucket uint8, before, after *Sum) {
	doc := rapid.Uint16Range(0, 11).Draw(t, "doc")
	if old, ok := h.docs[doc]; ok {
		before = &old
	}
	if before == nil || rapid.Bool().Draw(t, "change") {
		leaf := Sum{rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")}
		after, h.docs[doc] = &leaf, leaf
	} else {
		delete(h.docs, doc)
	}
	return bucketOf(doc), before, after
}

func TestTrackerAgainstRebuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(0, 12).Draw(t, "capacity")
		start := rapid.Uint64Range(0, 5).Draw(t, "start")
		h := newHistory(start)
		tr := NewTracker(Summary{}, start, capacity)

		t.Repeat(map[string]func(*rapid.T){
			"replace": func(t *rapid.T) {
				h.moveTo(h.index + rapid.Uint64Range(0, 2).Draw(t, "step"))
				bucket, before, after := h.set(t)
				tr.Replace(h.index, bucket, before, after)
				if !same(before, after) {
					h.log = append(h.log, h.index)
				}
				h.keep()
			},
			"advance": func(t *rapid.T) {
				h.moveTo(h.index + rapid.Uint64Range(0, 3).Draw(t, "step"))
				tr.Advance(h.index)
			},
			"learn": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
					return
				}
				bucket, before, after := h.set(t)
				tr.Learn(bucket, before, after)
				if !same(before, after) {
					h.log, h.oldest = nil, h.index
				}
				h.keep()
			},
			"forget": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
					return
				}
				tr.Forget()
				if tr.Kept() != 0 {
					t.Fatalf("keeps room for %d changes", tr.Kept())
				}
				h.log, h.oldest = nil, h.index
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
					return
				}
				bucket, _, _ := h.set(t)
				tr.Reset(bucket, rebuild(h.docs)[bucket])
				h.log, h.oldest = nil, h.index
				h.keep()
			},
			"": func(t *rapid.T) { checkTracker(t, tr, h, capacity) },
		})
	})
}

func same(a, b *Sum) bool { return a != nil && b != nil && *a == *b }

func checkTracker(t *rapid.T, tr *Tracker, h *history, capacity int) {
	now, index := tr.Current()
	if index != h.index || now != rebuild(h.docs) {
		t.Fatalf("current at %d differs from the rebuilt one at %d", index, h.index)
	}
	if k := bucketOf(1); tr.Bucket(k) != now[k] {
		t.Fatalf("bucket %d: %v, want %v", k, tr.Bucket(k), now[k])
	}
	if len(tr.ring) > capacity || cap(tr.ring) > 2*capacity+8 {
		t.Fatalf("ring of %d (room for %d), capacity %d", len(tr.ring), cap(tr.ring), capacity)
	}
	floor := h.floor(capacity)
	if tr.floor != floor {
		t.Fatalf("oldest %d, want %d", tr.floor, floor)
	}
	for i := range h.index + 3 {
		s, ok := tr.At(i)
		if want := i >= floor && i <= h.index; ok != want {
			t.Fatalf("at %d: %v, want %v (oldest %d, current %d)", i, ok, want, floor, h.index)
		}
		if !ok && s != nil {
			t.Fatalf("at %d: refused, yet a summary", i)
		}
		if ok && *s != rebuild(h.states[i]) {
			t.Fatalf("at %d: differs from the rebuilt one in buckets %v", i, Diff(s, new(rebuild(h.states[i]))))
		}
	}
}

// A change that comes late must not make an older summary wrong: it makes it
// unanswerable.
func TestReplaceBelowCurrentForgets(t *testing.T) {
	a, b := HashLeaf([]byte("a")), HashLeaf([]byte("b"))
	tr := NewTracker(Summary{}, 10, 8)
	tr.Replace(11, 1, nil, &a)
	tr.Advance(20)
	tr.Advance(15) // no way back
	tr.Replace(12, 1, nil, &b)
	if _, ok := tr.At(12); ok || tr.floor != 20 {
		t.Fatalf("still answers from %d", tr.floor)
	}
	if s, ok := tr.At(20); !ok || s[1] != (Bucket{a.Add(b), 2}) {
		t.Fatalf("at 20: %v %v", s[1], ok)
	}
}

// What changes nothing uses no room and forgets nothing.
func TestNothingChanged(t *testing.T) {
	a := HashLeaf([]byte("a"))
	tr := NewTracker(Summary{}, 0, 2)
	tr.Replace(1, 1, nil, &a)
	for i := range uint64(10) {
		tr.Replace(2+i, 1, &a, &a)
		tr.Replace(2+i, 1, nil, nil)
	}
	tr.Learn(1, &a, &a)
	if s, ok := tr.At(0); !ok || *s != (Summary{}) || tr.floor != 0 {
		t.Fatalf("at 0: %v, oldest %d", ok, tr.floor)
	}
	if _, index := tr.Current(); index != 11 {
		t.Fatalf("index %d", index)
	}
}

func TestNegativeCapacity(t *testing.T) {
	a := HashLeaf([]byte("a"))
	tr := NewTracker(Summary{}, 0, -1)
	tr.Replace(4, 255, nil, &a)
	if s, ok := tr.At(4); !ok || s[255].Count != 1 || tr.floor != 4 {
		t.Fatalf("%v, oldest %d", ok, tr.floor)
	}
}

func leaves(n int) []Sum {
	l := make([]Sum, n)
	for i := range l {
		l[i] = HashLeaf(binary.BigEndian.AppendUint64(nil, uint64(i)))
	}
	return l
}

func TestNoAllocation(t *testing.T) {
	l := leaves(8)
	tr := NewTracker(Summary{}, 0, 4)
	var index uint64
	update := func() {
		index++
		tr.Replace(index, uint8(index), &l[index%8], &l[(index+1)%8])
	}
	for range 8 {
		update()
	}
	leaf := make([]byte, 60)
	if n := testing.AllocsPerRun(100, func() { _, _ = tr.At(index - 2) }); n != 1 {
		t.Errorf("a past summary takes %v allocations, want its own only", n)
	}
	for name, f := range map[string]func(){
		"update": update,
		"leaf":   func() { HashLeaf(leaf) },
		"root":   func() { s, _ := tr.Current(); s.Root() },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkHashLeaf(b *testing.B) {
	leaf := make([]byte, 100) // a key and six numbers
	b.SetBytes(int64(len(leaf)))
	b.ReportAllocs()
	for b.Loop() {
		HashLeaf(leaf)
	}
}

func BenchmarkReplace(b *testing.B) {
	l := leaves(256)
	tr := NewTracker(Summary{}, 0, 4096)
	var index uint64
	b.ReportAllocs()
	for b.Loop() {
		index++
		tr.Replace(index, uint8(index), &l[index&255], &l[(index+1)&255])
	}
}

func BenchmarkUpdate(b *testing.B) { // hash the new leaf, then Replace
	tr := NewTracker(Summary{}, 0, 4096)
	leaf := make([]byte, 100)
	var index uint64
	old := HashLeaf(leaf)
	b.ReportAllocs()
	for b.Loop() {
		index++
		binary.BigEndian.PutUint64(leaf, index)
		leaf := HashLeaf(leaf)
		tr.Replace(index, uint8(index), &old, &leaf)
		old = leaf
	}
}

func BenchmarkAt1000Back(b *testing.B) {
	l := leaves(256)
	tr := NewTracker(Summary{}, 0, 4096)
	for i := range uint64(5000) {
		tr.Replace(i, uint8(i), &l[i&255], &l[(i+1)&255])
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = tr.At(4000)
	}
}

func BenchmarkRoot(b *testing.B) {
	var s Summary
	for i, leaf := range leaves(Buckets) {
		s[i] = Bucket{leaf, 512}
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Root()
	}
}
