package merkle

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// compactSummaries are summaries of all forms: by buckets that are not zero, and by how their counts differ.
func compactSummaries() []Summary {
	r := rand.New(rand.NewPCG(1, 2))
	list := []Summary{{}}
	for _, n := range []int{1, 7, 255, 256} {
		for _, spread := range []uint64{0, 60, 1 << 40, math.MaxUint64} {
			var s Summary
			for _, i := range r.Perm(Buckets)[:n] {
				s[i] = Bucket{Sum: Sum{r.Uint64(), r.Uint64()}, Count: 500}
				if spread > 0 {
					s[i].Count += r.Uint64() % spread
				}
			}
			list = append(list, s)
		}
	}
	return list
}

func TestCompactRoundTrip(t *testing.T) {
	for i, s := range compactSummaries() {
		b := s.AppendCompact([]byte{1, 2})[2:]
		got, rest, err := DecodeCompact(append(b, 9))
		if err != nil || got != s || len(rest) != 1 || rest[0] != 9 || len(b) > MaxCompactSize {
			t.Errorf("summary %d: %v, equal %v, %d bytes left, of %d", i, err, got == s, len(rest), len(b))
		}
		for n := range b {
			if _, _, err := DecodeCompact(b[:n]); err == nil {
				t.Fatalf("summary %d: %d of its %d bytes were accepted", i, n, len(b))
			}
		}
	}
}

// TestCompactIsSmall: 512 documents a bucket, as hashes spread them.
func TestCompactIsSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var s Summary
	for range 131_072 {
		i := r.IntN(Buckets)
		s[i] = s[i].Add(Bucket{Sum: Sum{r.Uint64(), r.Uint64()}, Count: 1})
	}
	if n := len(s.AppendCompact(nil)); n > 4_400 {
		t.Errorf("%d bytes", n)
	}
}

func TestDecodeCompactRefuses(t *testing.T) {
	one := func(bucket ...byte) []byte { // bucket 9 only, which holds one document
		b := make([]byte, 1+bitmapSize)
		b[2] = 2
		return append(append(b, 1), bucket...)
	}
	whole := Summary{9: {Sum{1, 2}, 1}}
	zeros := make([]byte, 17)
	full := make([]byte, 1, MaxCompactSize)
	for range bitmapSize {
		full = append(full, 0xff)
	}
	full = append(full, 1)
	for range Buckets {
		full = append(full, zeros...)
	}
	if _, rest, err := DecodeCompact(whole.AppendCompact(nil)); err != nil || len(rest) > 0 {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, "truncated"},
		{"another form", []byte{2, 0}, "unknown form 2"},
		{"half a bitmap", make([]byte, 16), "truncated"},
		{"no mean", make([]byte, 33), "mean"},
		{"a mean in its long form", append(make([]byte, 33), 0x81, 0), "mean"},
		{"no bucket", one(), "bucket 9: truncated"},
		{"no end of count", one(append(zeros[:16:16], 0x80, 0x80)...), "bucket 9: count"},
		{"zero bucket", one(append(zeros[:16:16], 1)...), "bucket 9: marked as not zero"},
		{"long form", one(append(zeros[:16:16], 0x82, 0x00)...), "bucket 9: count"},
		{"above 64 bits", one(append(zeros[:16:16], bytes.Repeat([]byte{0xff}, 11)...)...), "bucket 9: count"},
		{"another mean", one(append(zeros[:16:16], 2)...), "the mean of other counts"},
		{"a bitmap of everything", full, "a bitmap of everything"},
	} {
		if _, _, err := DecodeCompact(tt.b); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzDecodeCompact(f *testing.F) {
	for _, s := range compactSummaries() {
		f.Add(s.AppendCompact(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := DecodeCompact(b)
		if err != nil {
			return
		}
		if again := s.AppendCompact(nil); !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Errorf("%x became %x", b[:len(b)-len(rest)], again)
		}
	})
}
