package jsonmerge

import (
	"fmt"
	"runtime"
	"testing"

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
	for _, n := range []int{500, 2000, 260_000} {
		patches := edits(n)
		b.Run(fmt.Sprintf("accumulator/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mergeAll(b, Document, patches)
			}
			perPatch(b, n)
		})
	}
	for _, n := range []int{500, 2000} {
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

// The longest documents known hold 260,000 deltas, so what is done for each must
// not grow with what is there. Bytes allocated tell, whatever else the machine
// is doing: re-encoding would make it 16 times as much for 4 times the patches.
func TestLinear(t *testing.T) {
	for _, mode := range []Mode{Document, Patch} {
		small, large := edits(10_000), edits(40_000)
		one := allocated(func() { mergeAll(t, mode, small) })
		four := allocated(func() { mergeAll(t, mode, large) })
		if four > 6*one {
			t.Errorf("mode %d: %d bytes for %d patches, %d for %d", mode, one, len(small), four, len(large))
		}
	}
}

// Removing one by one from the front, as many undos do, is linear as well.
func TestRemovingIsLinear(t *testing.T) {
	remove := func(n int) func() {
		return func() {
			a := New(Document)
			for _, p := range edits(n) {
				_ = a.Add(p)
			}
			for i := range n {
				_ = a.Add(fmt.Appendf(nil, `{"changes":{"%d":null}}`, i+1))
			}
			if b, err := a.Result(); err != nil || string(b) != `{"changes":{}}` {
				t.Errorf("%d bytes left, %v", len(b), err)
			}
		}
	}
	if one, four := allocated(remove(5_000)), allocated(remove(20_000)); four > 6*one {
		t.Errorf("%d bytes for 5,000, %d for 20,000", one, four)
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
