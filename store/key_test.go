package store

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestKeyValidation(t *testing.T) {
	for _, c := range []struct {
		space, key string
		ok         bool
	}{
		{"abc", "k", true},
		{"a.b_c-D", "0.9_Z-a", true},
		{"...", ".", true},
		{strings.Repeat("s", 127), strings.Repeat("k", 511), true},
		{"", "k", false},
		{"ab", "k", false},
		{strings.Repeat("s", 128), "k", false},
		{"abc", "", false},
		{"abc", strings.Repeat("k", 512), false},
		{"abc", "a/b", false},
		{"a/c", "b", false},
		{"abc", "a b", false},
		{"abc", "a\x00", false},
		{"abc", "é", false},
		{"abc", "a\n", false},
		{"ab\xff", "a", false},
	} {
		k := Key{Space: c.space, Key: c.key}
		err := k.Validate()
		if (err == nil) != c.ok {
			t.Errorf("%q: %v", k, err)
		}
		var keyErr *KeyError
		if err != nil && (!errors.As(err, &keyErr) || keyErr.Code() != CodeKey) {
			t.Errorf("%q: %T", k, err)
		}
		parsed, err := ParseKey(k.String())
		if c.ok && (err != nil || parsed != k) {
			t.Errorf("parse %q: %q, %v", k, parsed, err)
		}
		if !c.ok && err == nil {
			t.Errorf("%q was parsed as %q", k, parsed)
		}
	}
	if _, err := ParseKey("noslash"); err == nil {
		t.Error("a key without slash was parsed")
	}
	if text := (&KeyError{Key: Key{Space: strings.Repeat("x", 1<<20)}}).Error(); len(text) > 300 {
		t.Errorf("error text of %d bytes", len(text))
	}
}

func TestHashIsOfSpaceSlashKey(t *testing.T) {
	// xxhash64 of "space/key", as any other implementation gives it.
	if got := (Key{Space: "space", Key: "key"}).Hash(); got != 0x4f2c2f397c2cb96c {
		t.Errorf("%#x", got)
	}
	if (Key{Space: "abc", Key: "d"}).Hash() == (Key{Space: "abcd", Key: "d"}).Hash() {
		t.Error("boundary between space and key does not count")
	}
}

// slowBucket is the definition, with numbers of any size.
func slowBucket(r Range, hash uint64) uint8 {
	width := new(big.Int).SetUint64(r.Last)
	width.Sub(width, new(big.Int).SetUint64(r.First)).Add(width, big.NewInt(1))
	at := new(big.Int).SetUint64(hash)
	at.Sub(at, new(big.Int).SetUint64(r.First)).Mul(at, big.NewInt(256)).Div(at, width)
	return uint8(at.Uint64())
}

func TestBucketAgainstDefinition(t *testing.T) {
	edge := rapid.SampledFrom([]uint64{0, 1, 2, 127, 128, 255, 256, 257, 1 << 32, 1<<56 - 1, 1 << 56, 1<<63 - 1, 1 << 63, math.MaxUint64 - 1, math.MaxUint64})
	number := rapid.OneOf(rapid.Uint64(), edge)
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		r := Range{min(a, b), max(a, b)}
		hash := rapid.OneOf(rapid.Uint64Range(r.First, r.Last), rapid.SampledFrom([]uint64{r.First, r.Last})).Draw(t, "hash")
		if got, want := r.Bucket(hash), slowBucket(r, hash); got != want {
			t.Fatalf("%s: bucket of %016x is %d, want %d", r, hash, got, want)
		}
		if hash < r.Last && r.Bucket(hash+1) < r.Bucket(hash) {
			t.Fatalf("%s: buckets are not in hash order at %016x", r, hash)
		}
	})
}

func TestBucketEdges(t *testing.T) {
	for _, c := range []struct {
		r    Range
		hash uint64
		want uint8
	}{
		{FullRange(), 0, 0},
		{FullRange(), math.MaxUint64, 255},
		{FullRange(), 1<<56 - 1, 0},
		{FullRange(), 1 << 56, 1},
		{Range{5, 5}, 5, 0},                                   // one hash
		{Range{0, 255}, 254, 254},                             // one hash per bucket
		{Range{0, 511}, 255, 127},                             // two
		{Range{0, 1}, 1, 128},                                 // fewer hashes than buckets
		{Range{1 << 63, math.MaxUint64}, 1 << 63, 0},          // upper half
		{Range{1 << 63, math.MaxUint64}, math.MaxUint64, 255}, //
		{Range{0, math.MaxUint64 - 1}, math.MaxUint64 - 1, 255},
		{Range{10, 20}, 3, 0},    // outside: the nearest
		{Range{0, 20}, 300, 243}, // 20·256/21
	} {
		if got := c.r.Bucket(c.hash); got != c.want {
			t.Errorf("%s, %d: %d, want %d", c.r, c.hash, got, c.want)
		}
	}
	if (Range{2, 1}).Validate() == nil || FullRange().Validate() != nil {
		t.Error("validation of ranges")
	}
}

// A split in two moves whole buckets: bucket b of the whole is buckets 2b and 2b+1 of one half.
func TestBucketsSplitInHalves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hash := rapid.Uint64().Draw(t, "hash")
		whole, half := FullRange(), Range{0, 1<<63 - 1}
		offset := 0
		if hash >= 1<<63 {
			half, offset = Range{1 << 63, math.MaxUint64}, 256
		}
		if got := (int(half.Bucket(hash)) + offset) / 2; got != int(whole.Bucket(hash)) {
			t.Fatalf("%016x: %d of the half, %d of the whole", hash, half.Bucket(hash), whole.Bucket(hash))
		}
	})
}

// The engine's order of keys is the order of (bucket, kind, hash, name, generation, seq).
func TestKeyOrder(t *testing.T) {
	seqs := rapid.SampledFrom([]int64{math.MinInt64, -1, 0, 1, 255, 256, math.MaxInt64})
	names := rapid.SampledFrom([]string{"a", "a-", "a.", "aa", "b"}) // '-' and '.' sort below letters
	rapid.Check(t, func(t *rapid.T) {
		draw := func() recordKey {
			k := recordKey{partition: rapid.Uint32Range(1, 2).Draw(t, "partition"), bucket: uint8(rapid.IntRange(0, 1).Draw(t, "bucket")),
				kind: recordKind(rapid.IntRange(1, 4).Draw(t, "kind")), key: Key{Space: "abc", Key: names.Draw(t, "name")}}
			k.hash = rapid.SampledFrom([]uint64{1, 2, k.key.Hash()}).Draw(t, "hash")
			if k.kind == kindBase || k.kind == kindEntry {
				k.generation = rapid.Uint64Range(1, 2).Draw(t, "generation")
			}
			if k.kind == kindEntry {
				k.seqEnd = seqs.Draw(t, "seq")
			}
			return k
		}
		encode := func(k recordKey) []byte {
			switch k.kind {
			case kindBase:
				return appendGeneration(nil, k.partition, k.place(), k.kind, k.generation)
			case kindEntry:
				return appendEntry(nil, k.partition, k.place(), k.generation, k.seqEnd)
			}
			return appendDocument(nil, k.partition, k.place(), k.kind)
		}
		a, b := draw(), draw()
		want := compareRecordKeys(a, b)
		if got := bytes.Compare(encode(a), encode(b)); got != want {
			t.Fatalf("%+v, %+v: %d, want %d", a, b, got, want)
		}
		got, err := decodeRecordKey(encode(a))
		if err != nil || got != a {
			t.Fatalf("%+v decoded as %+v, %v", a, got, err)
		}
	})
}

func compareRecordKeys(a, b recordKey) int {
	sign := func(less, more bool) int {
		switch {
		case less:
			return -1
		case more:
			return 1
		}
		return 0
	}
	order := []int{
		sign(a.partition < b.partition, a.partition > b.partition),
		sign(a.bucket < b.bucket, a.bucket > b.bucket),
		sign(a.kind < b.kind, a.kind > b.kind),
		sign(a.hash < b.hash, a.hash > b.hash),
		strings.Compare(a.key.Key, b.key.Key),
		sign(a.generation < b.generation, a.generation > b.generation),
		sign(a.seqEnd < b.seqEnd, a.seqEnd > b.seqEnd),
	}
	if i := slices.IndexFunc(order, func(v int) bool { return v != 0 }); i >= 0 {
		return order[i]
	}
	return 0
}

func TestSuccessor(t *testing.T) {
	for _, c := range []struct{ in, want []byte }{
		{[]byte{1, 2}, []byte{1, 3}},
		{[]byte{1, 0xff}, []byte{2}},
		{[]byte{0xff, 0xff}, nil},
	} {
		if got := successor(bytes.Clone(c.in)); !bytes.Equal(got, c.want) {
			t.Errorf("%x: %x, want %x", c.in, got, c.want)
		}
	}
}

func TestChain(t *testing.T) {
	a, b := Key{Space: "abc", Key: "d"}, Key{Space: "abcd", Key: "d"}
	seen := map[Chain]string{}
	for name, c := range map[string]Chain{
		"zero":       {},
		"seed a":     SeedChain(a),
		"seed b":     SeedChain(b),
		"next":       SeedChain(a).Next([]byte("x")),
		"next b":     SeedChain(b).Next([]byte("x")),
		"next empty": SeedChain(a).Next(nil),
		"next other": SeedChain(a).Next([]byte("y")),
		"next next":  SeedChain(a).Next([]byte("x")).Next([]byte("x")),
		"replaced":   SeedChain(a).Replaced(1, []byte("x")),
		"replaced 2": SeedChain(a).Replaced(2, []byte("x")),
		"replaced y": SeedChain(a).Replaced(1, []byte("y")),
	} {
		if other := seen[c]; other != "" {
			t.Errorf("%s and %s are equal", name, other)
		}
		if bytes.Equal(c[:8], c[8:]) && name != "zero" {
			t.Errorf("%s: the lanes are equal", name)
		}
		seen[c] = name
	}
	delta := bytes.Repeat([]byte("d"), 100)
	c := SeedChain(a)
	if n := testing.AllocsPerRun(100, func() { c = c.Next(delta) }); n > 0 {
		t.Errorf("%v allocations per step", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = a.Hash() }); n > 0 {
		t.Errorf("%v allocations per hash", n)
	}
}
