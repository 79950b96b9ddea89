package interval

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

func uvarints(v ...uint64) []byte {
	var b []byte
	for _, x := range v {
		b = binary.AppendUvarint(b, x)
	}
	return b
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, "number of ranges: truncated"},
		{"no first", uvarints(1), "1 ranges announced, 0 bytes left"},
		{"no last", []byte{1, 0x80, 0x01}, "range 0: truncated"},
		{"too many ranges", append(uvarints(MaxRanges+1), make([]byte, 4*MaxRanges)...), "at most 65536"},
		{"more than there are bytes", uvarints(1000, 1, 1), "1000 ranges announced, 2 bytes left"},
		{"overlapping", uvarints(2, 1, 4, 0, 1), "range 1: overlaps or touches"},
		{"adjacent", uvarints(2, 1, 4, 1, 1), "range 1: overlaps or touches"},
		{"unsorted", uvarints(2, 10, 0, math.MaxUint64-5, 0), "begins beyond"},
		{"last beyond", uvarints(1, 2, math.MaxUint64-1), "ends beyond"},
		{"second last beyond", uvarints(2, 2, 1, math.MaxUint64-3, 1), "ends beyond"},
		{"long form", []byte{1, 0x81, 0x00, 0}, "shortest form"},
		{"above 64 bits", append([]byte{1}, bytes.Repeat([]byte{0xff}, 11)...), "above 64 bits"},
	} {
		if s, _, err := Decode(tt.b); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want %q", tt.name, s, err, tt.want)
		}
	}
}

func TestDecodeLargest(t *testing.T) {
	s := make(Set, MaxRanges)
	for i := range s {
		s[i] = Range{uint64(3 * i), uint64(3*i + 1)}
	}
	got, rest, err := Decode(s.AppendBinary(nil))
	if err != nil || !got.Equal(s) || len(rest) != 0 {
		t.Fatalf("%d ranges, %d bytes left, %v", len(got), len(rest), err)
	}
	s = append(s, Range{math.MaxUint64, math.MaxUint64})
	if _, _, err := Decode(s.AppendBinary(nil)); err == nil {
		t.Fatal("one more than allowed is accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(Set(nil).AppendBinary(nil))
	f.Add(Of(1, 100).Minus(Of(5, 9)).Minus(Of(20, 20)).AppendBinary(nil))
	f.Add(Of(0, math.MaxUint64).Minus(Of(1<<40, 1<<41)).AppendBinary([]byte{}))
	f.Add(uvarints(2, 1, 4, 1, 1))
	f.Add(uvarints(MaxRanges+1, 1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := Decode(b)
		if err != nil {
			return
		}
		if len(s) > MaxRanges {
			t.Fatalf("%d ranges", len(s))
		}
		for i, r := range s {
			if r.First > r.Last || i > 0 && (s[i-1].Last >= r.First || r.First-s[i-1].Last < 2) {
				t.Fatalf("%v is not canonical", s)
			}
		}
		if used := b[:len(b)-len(rest)]; !bytes.Equal(s.AppendBinary(nil), used) {
			t.Fatalf("%x decodes to %v, which encodes to %x", used, s, s.AppendBinary(nil))
		}
	})
}
