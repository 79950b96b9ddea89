package merkle

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawSummary(t *rapid.T, label string) Summary {
	var s Summary
	number := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 2))
	for range rapid.IntRange(0, 300).Draw(t, label) {
		s[rapid.Uint8().Draw(t, "bucket")] = Bucket{Sum{number.Draw(t, "a"), number.Draw(t, "b")}, number.Draw(t, "count")}
	}
	return s
}

func TestSummarySizes(t *testing.T) {
	var s Summary
	if n := len(s.AppendBinary(nil)); n != 32 {
		t.Errorf("empty: %d bytes", n)
	}
	for i := range s {
		s[i] = Bucket{Sum{1, 2}, 512}
	}
	if n := len(s.AppendBinary(nil)); n != 32+Buckets*18 {
		t.Errorf("512 documents a bucket: %d bytes", n)
	}
	for i := range s {
		s[i].Count = math.MaxUint64
	}
	if n := len(s.AppendBinary(nil)); n != MaxSummarySize {
		t.Errorf("largest: %d bytes, want %d", n, MaxSummarySize)
	}
}

func TestDiff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawSummary(t, "summary")
		b := a
		var want []uint8
		for _, i := range rapid.SliceOfDistinct(rapid.Uint8(), rapid.ID).Draw(t, "differ") {
			switch rapid.IntRange(0, 2).Draw(t, "in") {
			case 0:
				b[i].Sum.A++
			case 1:
				b[i].Sum.B--
			case 2:
				b[i].Count ^= 1
			}
			want = append(want, i)
		}
		slices.Sort(want)
		if got := Diff(&a, &b); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
		if (a.Root() == b.Root()) != (len(want) == 0) {
			t.Fatalf("roots %v and %v, %d buckets differ", a.Root(), b.Root(), len(want))
		}
	})
}

// Roots are compared across hosts and versions: these values are the format.
func TestKnownHashes(t *testing.T) {
	if got, want := HashLeaf(nil).String(), "ef46db3751d8e999a7d6c6db487918f7"; got != want {
		t.Errorf("empty leaf %s, want %s", got, want)
	}
	leaf := HashLeaf([]byte("space/key"))
	if got, want := leaf.String(), "4f2c2f397c2cb96c66325f341fa034f1"; got != want {
		t.Errorf("leaf %s, want %s", got, want)
	}
	s := Summary{7: {leaf, 1}}
	if got, want := s.Root().String(), "9136095917a766f0a80c68ec95a0515f"; got != want {
		t.Errorf("root %s, want %s", got, want)
	}
}

func TestSumIsAGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(l string) Sum { return Sum{rapid.Uint64().Draw(t, l), rapid.Uint64().Draw(t, l)} }
		a, b, c := draw("a"), draw("b"), draw("c")
		if a.Add(b) != b.Add(a) || a.Add(b).Add(c) != a.Add(b.Add(c)) || a.Add(b).Sub(b) != a || a.Sub(a) != (Sum{}) {
			t.Fatal(a, b, c)
		}
		k, l := Bucket{a, 3}, Bucket{b, 2}
		if k.Add(l).Sub(l) != k || k.Add(l).Count != 5 {
			t.Fatal(k, l)
		}
	})
}

// Leaves that differ by little must not cancel out in sums: the lanes of n
// numbered leaves add up to n different prefixes.
func TestLanesDiffer(t *testing.T) {
	seen := map[Sum]bool{}
	lanes := map[uint64]bool{}
	var sum Sum
	for i := range uint64(20000) {
		leaf := HashLeaf(binary.BigEndian.AppendUint64([]byte("space/key"), i))
		sum = sum.Add(leaf)
		if leaf.A == leaf.B || seen[sum] || lanes[leaf.A] || lanes[leaf.B] {
			t.Fatalf("leaf %d: %v", i, leaf)
		}
		seen[sum], lanes[leaf.A], lanes[leaf.B] = true, true, true
	}
}
