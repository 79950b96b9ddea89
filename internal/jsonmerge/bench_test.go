package jsonmerge

import (
	"fmt"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
)

// edits are patches as an editor sends them, one per keystroke.
func edits(n int) [][]byte {
	patches := make([][]byte, n)
	for i := range patches {
		patches[i] = fmt.Appendf(nil, `{"changes":{"%d":[[%d,0,"x"]]}}`, i+1, i)
	}
	return patches
}

func mergeAll(tb testing.TB, mode Mode, patches [][]byte) []byte {
	a := New(mode)
	for _, p := range patches {
		if err := a.Add(p); err != nil {
			tb.Fatal(err)
		}
	}
	b, err := a.Result()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// BenchmarkMerge shows the cost per patch: the same for any number of patches
// here, growing with it where each patch decodes and encodes the document.
func BenchmarkMerge(b *testing.B) {
	for _, n := range []int{1000, 4000, 260_000} {
		patches := edits(n)
		b.Run(fmt.Sprintf("accumulator/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mergeAll(b, Document, patches)
			}
			perPatch(b, n)
		})
	}
	for _, n := range []int{1000, 4000} {
		patches := edits(n)
		b.Run(fmt.Sprintf("one-by-one/%d", n), func(b *testing.B) {
			for b.Loop() {
				doc := []byte(`{}`)
				for _, p := range patches {
					doc, _ = jsonpatch.MergePatch(doc, p)
				}
			}
			perPatch(b, n)
		})
	}
}

func perPatch(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/patch")
}

func BenchmarkBase(b *testing.B) { // one large document, read once
	doc := mergeAll(b, Document, edits(50_000))
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		a := New(Document)
		if err := a.Base(doc); err != nil {
			b.Fatal(err)
		}
		if _, err := a.Result(); err != nil {
			b.Fatal(err)
		}
	}
}

// The longest documents known hold 260,000 deltas. Quadratic work would take
// minutes; the bound leaves room for the race detector and a busy machine.
func TestManyPatches(t *testing.T) {
	start := time.Now()
	const n = 260_000
	for _, mode := range []Mode{Document, Patch} {
		got := mergeAll(t, mode, edits(n))
		if last := fmt.Sprintf(`"%d":[[%d,0,"x"]]}}`, n, n-1); string(got[len(got)-len(last):]) != last {
			t.Fatalf("ends with %s", got[len(got)-len(last):])
		}
	}
	// Removed one by one from the front, as after many undos.
	a := New(Document)
	for _, p := range edits(n) {
		_ = a.Add(p)
	}
	for i := range n {
		_ = a.Add(fmt.Appendf(nil, `{"changes":{"%d":null}}`, i+1))
	}
	if b, err := a.Result(); err != nil || string(b) != `{"changes":{}}` {
		t.Fatalf("%d bytes left, %v", len(b), err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}
