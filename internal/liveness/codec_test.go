package liveness

import (
	"encoding/binary"
	"math"
	"reflect"
	"testing"
)

var beats = []Beat{
	{},
	{Version: 1, Digest: 2},
	{Version: math.MaxUint64, Digest: math.MaxUint64, Listed: true},
	{Version: 3, Digest: 4, Listed: true, Pairs: []Pair{{0, 0}}},
	{Version: 3, Digest: 4, Listed: true, Pairs: []Pair{{0, 1}, {1, math.MaxUint64}, {500, 2}, {math.MaxUint32, 3}}},
}

var answers = []Answer{
	{},
	{Yes: true},
	{Unlisted: true},
	{Yes: true, Refused: []uint32{0}},
	{Unlisted: true, Refused: []uint32{5, 1, math.MaxUint32}},
}

func TestBeatRoundTrip(t *testing.T) {
	for _, b := range beats {
		bytes := b.AppendBinary([]byte("x"))
		got, err := DecodeBeat(bytes[1:])
		if err != nil || !reflect.DeepEqual(got, b) {
			t.Errorf("%+v became %+v, %v", b, got, err)
		}
		for i := 1; i < len(bytes); i++ {
			if got, err := DecodeBeat(bytes[1:i]); err == nil {
				t.Errorf("%+v cut at %d of %d was read as %+v", b, i-1, len(bytes)-1, got)
			}
		}
		if _, err := DecodeBeat(append(bytes[1:], 0)); err == nil {
			t.Errorf("%+v with another byte was read", b)
		}
	}
}

func TestAnswerRoundTrip(t *testing.T) {
	for _, a := range answers {
		bytes := a.AppendBinary([]byte("x"))
		got, err := DecodeAnswer(bytes[1:])
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%+v became %+v, %v", a, got, err)
		}
		for i := 1; i < len(bytes); i++ {
			if got, err := DecodeAnswer(bytes[1:i]); err == nil {
				t.Errorf("%+v cut at %d of %d was read as %+v", a, i-1, len(bytes)-1, got)
			}
		}
		if _, err := DecodeAnswer(append(bytes[1:], 0)); err == nil {
			t.Errorf("%+v with another byte was read", a)
		}
	}
}

// TestIdleBeatIsSmall: what two hosts with a thousand quiet partitions exchange.
func TestIdleBeatIsSmall(t *testing.T) {
	h := newPair(t)
	for p := range uint32(1000) {
		h.word(p, 1)
	}
	h.settle(at(0))
	b, a, _ := h.beat(at(30))
	if n := len(b.AppendBinary(nil)) + len(a.AppendBinary(nil)); n > 32 {
		t.Fatalf("%d bytes", n)
	}
}

func TestMalformedBeats(t *testing.T) {
	head := func(listed byte) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{codecVersion, 9}, 77), listed)
	}
	for name, in := range map[string][]byte{
		"empty":               {},
		"another version":     append([]byte{codecVersion + 1}, head(0)[1:]...),
		"twice the partition": append(head(1), 2, 5, 1, 0, 1),
		"partition too large": append(binary.AppendUvarint(append(head(1), 1), 1<<32), 1),
		"sum too large":       append(append(binary.AppendUvarint(append(head(1), 2), 1<<32-1), 1), 1, 1),
		"sum wraps":           append(append(binary.AppendUvarint(append(append(head(1), 2), 5, 1), math.MaxUint64), 1), 1),
		"more than there is":  append(head(1), 3, 1, 1),
		"count out of bounds": binary.AppendUvarint(head(1), maxPairs+1),
		"count wraps":         binary.AppendUvarint(head(1), math.MaxUint64),
		"varint too long":     append(head(1), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	} {
		if b, err := DecodeBeat(in); err == nil {
			t.Errorf("%s: read as %+v", name, b)
		}
	}
	for name, in := range map[string][]byte{
		"empty":               {},
		"another version":     {codecVersion + 1, 1, 0},
		"yes and unlisted":    {codecVersion, 3, 0},
		"partition too large": binary.AppendUvarint([]byte{codecVersion, 0, 1}, 1<<32),
		"more than there is":  {codecVersion, 0, 3, 1, 1},
	} {
		if a, err := DecodeAnswer(in); err == nil {
			t.Errorf("%s: read as %+v", name, a)
		}
	}
}

func FuzzDecodeBeat(f *testing.F) {
	for _, b := range beats {
		f.Add(b.AppendBinary(nil))
	}
	f.Add([]byte{})
	f.Add(binary.AppendUvarint(append(make([]byte, 10), 1), 1<<40))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := DecodeBeat(in)
		if cap(b.Pairs) > 4*len(in)+8 {
			t.Fatalf("room for %d pairs out of %d bytes", cap(b.Pairs), len(in))
		}
		if err != nil {
			return
		}
		for i := 1; i < len(b.Pairs); i++ {
			if b.Pairs[i-1].Partition >= b.Pairs[i].Partition {
				t.Fatalf("out of order: %v", b.Pairs)
			}
		}
		again, err := DecodeBeat(b.AppendBinary(nil))
		if err != nil || !reflect.DeepEqual(again, b) {
			t.Fatalf("%+v became %+v, %v", b, again, err)
		}
		NewTable(1).Heard("x", b, at(0))
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	for _, a := range answers {
		f.Add(a.AppendBinary(nil))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := DecodeAnswer(in)
		if cap(a.Refused) > 4*len(in)+8 {
			t.Fatalf("room for %d partitions out of %d bytes", cap(a.Refused), len(in))
		}
		if err != nil {
			return
		}
		if a.Yes && a.Unlisted {
			t.Fatalf("yes and no: %+v", a)
		}
		again, err := DecodeAnswer(a.AppendBinary(nil))
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("%+v became %+v, %v", a, again, err)
		}
	})
}
