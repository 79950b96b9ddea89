package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"pgregory.net/rapid"
)

var sampleDelta = Delta{SeqBegin: 300, SeqEnd: 302, Redo: []byte(`{"a":1}`), Undo: []byte(`{"a":null}`), Who: "alice", Request: []byte("r-1"),
	AssetBytes: -5, RequiresFutureInvalidation: true, WhenToInvalidate: 1 << 40}

var sampleHead = Head{Generation: 5, LastIndex: 900, HeadSeq: 302, Chain: Chain{1, 2, 3}, HasBase: true, BaseSeq: 250, BaseIndex: 800,
	BaseBytes: 77, Floor: 249, Dropped: true, FloorKnown: true, Span: 53, Entries: 50, Bytes: 4096}

// The bytes on disk and on the wire may not change by accident: other members, and tomorrow's program, read them.
func TestFormatIsPinned(t *testing.T) {
	key := Key{Space: "space", Key: "key"}
	p := place{key: key, hash: key.Hash(), bucket: FullRange().Bucket(key.Hash())}
	chain := SeedChain(key)
	h := sampleHead
	sum := leaf(key, &h)
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"delta", sampleDelta.AppendBinary(nil), "01ac020209808080808040077b2261223a317d0a7b2261223a6e756c6c7d05616c69636503722d31"},
		{"head", appendHeadValue(nil, &h), "0107058407ae0201020300000000000000000000000000fa01a0064dfa0135328020a8ae5b4d"},
		{"entry", appendEntryValue(nil, &Entry{Delta: sampleDelta, Index: 7, Term: 2, Chain: chain}), "000000000000000700000000000000021f058d806e0749622435de727b2e6a0b01ac020209808080808040077b2261223a317d0a7b2261223a6e756c6c7d05616c69636503722d31a21368f4"},
		{"seed", chain[:], "1f058d806e0749622435de727b2e6a0b"},
		{"next", func() []byte { c := chain.Next([]byte("delta")); return c[:] }(), "2f457d1efe2f2d50e4be3cc32ecd1e24"},
		{"replaced", func() []byte { c := chain.Replaced(9, []byte("base")); return c[:] }(), "7212aca17520ea8ff50e3277e0aecb1f"},
		{"entry key", appendEntry(nil, 7, p, 5, 302), "00000007014f034f2c2f397c2cb96c73706163652f6b6579000000000000000005800000000000012e"},
		{"leaf", []byte(sum.String()), "6138393964646336653231643036363231376237653863666264656637396432"},
		{"state", appendState(nil, &memberState{applied: 1000, ahead: 1001, documents: 3, bytes: 70000, deleteRecords: 1}), "e807e90703f0a20401b7144228"},
		{"bucket", appendBucketState(nil, &bucketState{Bucket: merkle.Bucket{Sum: merkle.Sum{A: 1, B: 2}, Count: 300}, deleteRecords: 4}), "00000000000000010000000000000002ac0204c7a44be2"},
		{"range", appendRange(nil, Range{1, 2}), "000000000000000100000000000000029c51424f"},
		{"stamp", encodeStamp("c", "h", "i"), "010163016801699520974e"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func genDelta() *rapid.Generator[Delta] {
	return rapid.Custom(func(t *rapid.T) Delta {
		small := rapid.SliceOfN(rapid.Byte(), 0, 40)
		begin := rapid.Int64Range(0, MaxSeq).Draw(t, "begin")
		d := Delta{SeqBegin: begin, SeqEnd: rapid.Int64Range(begin, MaxSeq).Draw(t, "end"), Redo: small.Draw(t, "redo"),
			Undo: small.Draw(t, "undo"), Who: rapid.String().Draw(t, "who"), Request: small.Draw(t, "request"),
			AssetBytes: rapid.Int64().Draw(t, "assets"), WhenToInvalidate: rapid.Int64().Draw(t, "when"),
			RequiresFutureInvalidation: rapid.Bool().Draw(t, "future")}
		for _, b := range []*[]byte{&d.Redo, &d.Undo, &d.Request} {
			if len(*b) == 0 {
				*b = nil
			}
		}
		return d
	})
}

func TestDeltaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := genDelta().Draw(t, "delta")
		b := d.AppendBinary([]byte("prefix"))[len("prefix"):]
		if len(b) != d.Size() {
			t.Fatalf("Size %d, encoded %d", d.Size(), len(b))
		}
		got, rest, err := DecodeDelta(append(b, "rest"...))
		if err != nil || string(rest) != "rest" || !reflect.DeepEqual(got, d) {
			t.Fatalf("got %+v, rest %q, %v", got, rest, err)
		}
		e := Entry{Delta: d, Index: rapid.Uint64().Draw(t, "index"), Term: rapid.Uint64().Draw(t, "term"), Chain: SeedChain(Key{})}
		v := appendEntryValue(nil, &e)
		if got, err := decodeEntryValue(v); err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("got %+v, %v", got, err)
		}
		size, span, err := entrySize(v)
		if err != nil || size != int64(len(b)) || span != d.SeqEnd-d.SeqBegin+1 {
			t.Fatalf("size %d, span %d, %v", size, span, err)
		}
	})
}

func TestNilAndEmptyAreOne(t *testing.T) {
	a, b := Delta{SeqEnd: 1}, Delta{SeqEnd: 1, Redo: []byte{}, Undo: []byte{}, Request: []byte{}}
	if !bytes.Equal(a.AppendBinary(nil), b.AppendBinary(nil)) {
		t.Fatal("nil and empty differ")
	}
}

func TestDeltaRefusesWhatIsNotCanonical(t *testing.T) {
	good := (&Delta{SeqBegin: 1, SeqEnd: 2}).AppendBinary(nil)
	for name, b := range map[string][]byte{
		"empty":             {},
		"unknown flag":      append([]byte{2}, good[1:]...),
		"long number":       append([]byte{good[0], 0x81, 0x00}, good[2:]...),
		"seq overflow":      {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0, 0, 0, 0},
		"seq above MaxSeq":  {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0},
		"seq above int64":   {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0},
		"length beyond":     {0, 1, 1, 0, 0, 9, 1, 2},
		"enormous length":   {0, 1, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"truncated":         good[:len(good)-1],
		"number too long":   {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"truncated in half": good[:len(good)/2],
	} {
		if d, _, err := DecodeDelta(b); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func TestRecordsDetectDamage(t *testing.T) {
	h := sampleHead
	values := map[string][]byte{
		"head":   appendHeadValue(nil, &h),
		"entry":  appendEntryValue(nil, &Entry{Delta: sampleDelta, Index: 1}),
		"delete": appendDeleteValue(nil, 9),
		"state":  appendState(nil, &memberState{applied: 1}),
		"bucket": appendBucketState(nil, &bucketState{}),
		"range":  appendRange(nil, FullRange()),
	}
	decode := map[string]func([]byte) error{
		"head":   func(b []byte) error { _, err := decodeHeadValue(b); return err },
		"entry":  func(b []byte) error { _, err := decodeEntryValue(b); return err },
		"delete": func(b []byte) error { _, err := decodeDeleteValue(b); return err },
		"state":  func(b []byte) error { _, err := decodeState(b); return err },
		"bucket": func(b []byte) error { _, err := decodeBucketState(b); return err },
		"range":  func(b []byte) error { _, err := decodeRange(b); return err },
	}
	for name, good := range values {
		if err := decode[name](good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i := range good {
			for _, flip := range []byte{1, 0x80} {
				bad := bytes.Clone(good)
				bad[i] ^= flip
				if decode[name](bad) == nil {
					t.Errorf("%s: byte %d changed and not noticed", name, i)
				}
			}
			if decode[name](good[:i]) == nil {
				t.Errorf("%s: cut to %d bytes and not noticed", name, i)
			}
		}
		if decode[name](append(bytes.Clone(good), 0)) == nil {
			t.Errorf("%s: a byte added and not noticed", name)
		}
	}
}

func TestHeadRefusesContradictions(t *testing.T) {
	for name, change := range map[string]func(*Head){
		"floor above head":      func(h *Head) { h.Floor = h.HeadSeq + 1 },
		"base fields, no base":  func(h *Head) { h.HasBase = false },
		"base newer than last":  func(h *Head) { h.BaseIndex = h.LastIndex + 1 },
		"created after changed": func(h *Head) { h.Generation = h.LastIndex + 1 },
	} {
		h := sampleHead
		change(&h)
		if _, err := decodeHeadValue(appendHeadValue(nil, &h)); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDelta(f *testing.F) {
	f.Add(sampleDelta.AppendBinary(nil))
	f.Add((&Delta{}).AppendBinary(nil))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, rest, err := DecodeDelta(b)
		if err != nil {
			return
		}
		if again := d.AppendBinary(nil); !bytes.Equal(again, b[:len(b)-len(rest)]) || len(again) != d.Size() {
			t.Fatalf("%x decodes, and encodes to %x", b, again)
		}
		if d.Validate() != nil {
			t.Fatalf("decoded an invalid delta: %+v", d)
		}
	})
}

// FuzzRecords feeds every decoder of values; the checksum is put on first, or nothing would get past it.
func FuzzRecords(f *testing.F) {
	h := sampleHead
	for _, seed := range [][]byte{
		appendHead(nil, &h),
		appendEntryValue(nil, &Entry{Delta: sampleDelta, Index: 3, Term: 1}),
		appendState(nil, &memberState{applied: 9, ahead: 12, documents: 1, bytes: 5}),
		appendBucketState(nil, &bucketState{deleteRecords: 3}),
		appendRange(nil, FullRange()),
		interval.Of(3, 9).AppendBinary(nil),
		encodeStamp("cluster", "host", "incarnation"),
		appendDeleteValue(nil, 77),
		appendScrubProgress(nil, ScrubProgress{Done: 9, Began: time.Unix(7, 0)}),
	} {
		f.Add(seed)
		if len(seed) > checksumLen {
			f.Add(seed[:len(seed)-checksumLen])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := seal(bytes.Clone(b))
		same := func(what string, again []byte) {
			if !bytes.Equal(again, v) {
				t.Fatalf("%s: %x decodes, and encodes to %x", what, v, again)
			}
		}
		if h, err := decodeHeadValue(v); err == nil {
			same("head", appendHeadValue(nil, &h))
		}
		if e, err := decodeEntryValue(v); err == nil {
			same("entry", appendEntryValue(nil, &e))
		}
		if s, err := decodeState(v); err == nil {
			same("state", appendState(nil, &s))
		}
		if s, err := decodeBucketState(v); err == nil {
			same("bucket", appendBucketState(nil, &s))
		}
		if r, err := decodeRange(v); err == nil {
			same("range", appendRange(nil, r))
		}
		if s, err := decodeIntervals(v); err == nil {
			same("intervals", seal(s.AppendBinary(nil)))
		}
		if i, err := decodeDeleteValue(v); err == nil {
			same("delete", appendDeleteValue(nil, i))
		}
		if c, h, i, err := decodeStamp(v); err == nil {
			same("stamp", encodeStamp(c, h, i))
		}
		if p, err := decodeScrubProgress(v); err == nil && (p.Done < 0 || p.Done > 255) {
			t.Fatalf("a scrub has done %d buckets", p.Done)
		}
		_, _, _ = entrySize(v)
		_, _ = unseal(b)
	})
}

// FuzzParseKey: names that come from applications, operators and other hosts.
func FuzzParseKey(f *testing.F) {
	for _, seed := range []string{"space/key", "abc/a/b", "/", "spa/" + strings.Repeat("k", MaxKey), "sp/k", "space"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s); err == nil && (k.String() != s || k.Validate() != nil) {
			t.Fatalf("%q became %+v", s, k)
		}
	})
}

func FuzzRecordKey(f *testing.F) {
	key := Key{Space: "space", Key: "key"}
	p := place{key: key, hash: key.Hash(), bucket: 3}
	f.Add(appendDocument(nil, 1, p, kindHead))
	f.Add(appendGeneration(nil, 1, p, kindBase, 9))
	f.Add(appendEntry(nil, 1, p, 9, -1))
	f.Add(appendDocument(nil, 1, p, kindDelete))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeRecordKey(b)
		if err != nil {
			return
		}
		again := appendDocument(nil, k.partition, k.place(), k.kind)
		switch k.kind {
		case kindBase:
			again = appendGeneration(nil, k.partition, k.place(), k.kind, k.generation)
		case kindEntry:
			again = appendEntry(nil, k.partition, k.place(), k.generation, k.seqEnd)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x decodes, and encodes to %x", b, again)
		}
	})
}
