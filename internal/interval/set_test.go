package interval

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The oracle is a map of the members of a small window of indexes; the window
// lies at either end of the index space or somewhere between.
const window = 40

var windows = []uint64{0, 1, 1 << 40, math.MaxUint64 - window + 1}

type oracle map[uint64]bool

func (o oracle) set(base uint64) Set {
	var s Set
	for i := range uint64(window) {
		if o[base+i] {
			s = s.Union(Of(base+i, base+i))
		}
	}
	return s
}

func drawOracle(t *rapid.T, base uint64, label string) oracle {
	o := oracle{}
	bits := rapid.Uint64Range(0, 1<<window-1).Draw(t, label)
	if rapid.Bool().Draw(t, label+" in runs") {
		bits &= bits >> 1 // fewer, further apart
	} else {
		bits |= bits<<1&(1<<window-1) | bits>>2
	}
	for i := range uint64(window) {
		if bits&(1<<i) != 0 {
			o[base+i] = true
		}
	}
	return o
}

func checkCanonical(t *rapid.T, s Set) {
	for i, r := range s {
		if r.First > r.Last {
			t.Fatalf("%v: empty range", s)
		}
		if i > 0 && (s[i-1].Last >= r.First || r.First-s[i-1].Last < 2) {
			t.Fatalf("%v: unsorted, overlapping or adjacent", s)
		}
	}
}

func checkSame(t *rapid.T, what string, got Set, base uint64, want func(i uint64) bool) {
	checkCanonical(t, got)
	var n, least, most uint64
	for k := range uint64(window) {
		i := base + k
		if got.Contains(i) != want(i) {
			t.Fatalf("%s = %v: contains %d: %v, want %v", what, got, i, got.Contains(i), want(i))
		}
		if want(i) {
			if n == 0 {
				least = i
			}
			n, most = n+1, i
		}
	}
	if got.Len() != n || got.Empty() != (n == 0) || got.Min() != least || got.Max() != most {
		t.Fatalf("%s = %v: len %d min %d max %d, want %d %d %d", what, got, got.Len(), got.Min(), got.Max(), n, least, most)
	}
}

func TestOperationsAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom(windows).Draw(t, "base")
		a, b := drawOracle(t, base, "a"), drawOracle(t, base, "b")
		s, u := a.set(base), b.set(base)
		before, beforeU := slices.Clone(s), slices.Clone(u)

		checkSame(t, "s", s, base, func(i uint64) bool { return a[i] })
		checkSame(t, "union", s.Union(u), base, func(i uint64) bool { return a[i] || b[i] })
		checkSame(t, "intersect", s.Intersect(u), base, func(i uint64) bool { return a[i] && b[i] })
		checkSame(t, "minus", s.Minus(u), base, func(i uint64) bool { return a[i] && !b[i] })

		equal, covers := true, true
		for i := range uint64(window) {
			equal = equal && a[base+i] == b[base+i]
			covers = covers && (a[base+i] || !b[base+i])
		}
		if s.Equal(u) != equal || s.Covers(u) != covers {
			t.Fatalf("%v, %v: equal %v covers %v, want %v %v", s, u, s.Equal(u), s.Covers(u), equal, covers)
		}
		if !s.Covers(s.Intersect(u)) || !s.Union(u).Covers(u) || !s.Minus(u).Union(s.Intersect(u)).Equal(s) {
			t.Fatalf("%v, %v: algebra does not hold", s, u)
		}

		// Results are the caller's: writing to them changes no operand.
		for _, r := range []Set{s.Union(u), s.Union(nil), s.Intersect(u), s.Minus(u), s.Minus(nil)} {
			for i := range r {
				r[i] = Range{7, 7}
			}
		}
		if !s.Equal(before) || !u.Equal(beforeU) {
			t.Fatal("an operand changed")
		}

		got, rest, err := Decode(append(s.AppendBinary(nil), 1, 2, 3))
		if err != nil || !got.Equal(s) || len(rest) != 3 {
			t.Fatalf("%v decodes to %v, %d left, %v", s, got, len(rest), err)
		}
	})
}

func TestEnds(t *testing.T) {
	all := Of(0, math.MaxUint64)
	tests := []struct {
		name      string
		got, want Set
	}{
		{"empty", Of(2, 1), nil},
		{"nothing applied", Of(1, 0), nil},
		{"all minus all", all.Minus(all), nil},
		{"all minus first", all.Minus(Of(0, 0)), Set{{1, math.MaxUint64}}},
		{"all minus last", all.Minus(Of(math.MaxUint64, math.MaxUint64)), Set{{0, math.MaxUint64 - 1}}},
		{"hole in the middle", all.Minus(Of(5, 9)), Set{{0, 4}, {10, math.MaxUint64}}},
		{"closing the hole", all.Minus(Of(5, 9)).Union(Of(5, 9)), all},
		{"union at the end", Of(math.MaxUint64, math.MaxUint64).Union(Of(0, math.MaxUint64-1)), all},
		{"union with nothing", Set(nil).Union(nil), nil},
		{"adjacent become one", Of(1, 5).Union(Of(6, 9)), Set{{1, 9}}},
		{"one apart stay two", Of(1, 5).Union(Of(7, 9)), Set{{1, 5}, {7, 9}}},
		{"intersection at one index", Of(1, 5).Intersect(Of(5, 9)), Set{{5, 5}}},
	}
	for _, tt := range tests {
		if !tt.got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	if n := all.Len(); n != math.MaxUint64 {
		t.Errorf("all indexes: %d", n)
	}
	if n := Of(1, math.MaxUint64).Len(); n != math.MaxUint64 {
		t.Errorf("all but 0: %d", n)
	}
}

func TestString(t *testing.T) {
	for _, tt := range []struct {
		s    Set
		want string
	}{
		{nil, ""},
		{Of(1, 5), "[1,5]"},
		{Of(1, 5).Union(Of(9, 9)), "[1,5] [9,9]"},
		{Of(math.MaxUint64, math.MaxUint64), "[18446744073709551615,18446744073709551615]"},
	} {
		if got := tt.s.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
