package store

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
)

// A chunk takes hardly more than what it brings, whatever the deltas' size; with the smallest ones from some hundred of
// them for a document.
func TestChunkHasLittleBesidesTheDeltas(t *testing.T) {
	for _, test := range []struct {
		size, deltas int
		most         float64 // wire bytes for a byte of the log
	}{{64, 300, 1.02}, {64, 30, 1.05}, {4096, 20, 1.005}, {0, 300, 1.05}} {
		t.Run(fmt.Sprintf("%d bytes", test.size), func(t *testing.T) {
			x, y, s := newDocsMember(t), newDocsMember(t), newScript()
			keys := make([]Key, 40)
			for i := range keys {
				keys[i] = keyInBucket(FullRange(), 9, i)
				s.create(keys[i], test.size)
			}
			for range test.deltas - 1 { // in turn: each has an index of its own
				for _, key := range keys {
					s.append(key, 1, test.size)
				}
			}
			y.follow(t, s, s.last())
			if err := x.RecordHole(1, s.last()); err != nil {
				t.Fatal(err)
			}
			moved := x.pullBucket(t, y, 9, 100_000)
			if got := float64(moved.bytes) / float64(y.Status().Bytes); got > test.most {
				t.Errorf("%.3f bytes on the wire for a byte of the log, want %.3f", got, test.most)
			}
			sx, _ := x.Summary()
			sy, _ := y.Summary()
			if moved.report.Bytes != y.Status().Bytes || sx != sy {
				t.Errorf("moved %+v of %d bytes", moved.report, y.Status().Bytes)
			}
		})
	}
}

// oddChunk has entries of every kind that the encoding tells apart.
func oddChunk() *Chunk {
	doc := ChunkDoc{Key: keyInBucket(FullRange(), 9, 0), Head: Head{Generation: 3, LastIndex: 90, HeadSeq: 100, Floor: 4, FloorKnown: true}}
	delta := func(index, term uint64, d Delta, chain Chain) {
		doc.Entries = append(doc.Entries, ChunkEntry{Mark: Mark{Begin: d.SeqBegin, End: d.SeqEnd, Index: index, Chain: chain}, Term: term, Delta: d.AppendBinary(nil)})
	}
	chain := SeedChain(doc.Key)
	linked := func(index, term uint64, d Delta) {
		chain = chain.Next(d.AppendBinary(nil))
		delta(index, term, d, chain)
	}
	linked(3, 9, Delta{SeqBegin: 5, SeqEnd: 5})
	linked(3, 8, Delta{SeqBegin: 6, SeqEnd: 6, Redo: []byte("redo"), Undo: []byte("undo"), Who: "who", Request: []byte("request")})
	linked(5, 8, Delta{SeqBegin: 7, SeqEnd: 9})
	linked(5, math.MaxUint64, Delta{SeqBegin: 10, SeqEnd: 10, RequiresFutureInvalidation: true, WhenToInvalidate: -5})
	delta(6, 0, Delta{SeqBegin: 20, SeqEnd: 20}, Chain{})
	delta(80, 7, Delta{SeqBegin: 21, SeqEnd: 21, AssetBytes: 1 << 40}, Chain{1})
	linked(90, 7, Delta{SeqBegin: 100, SeqEnd: 100, Redo: bytes.Repeat([]byte("x"), arenaBlock)})
	doc.Head.Chain = chain
	doc.link()
	return &Chunk{Bucket: 9, Coverage: interval.Of(1, 95), Applied: 95, Docs: []ChunkDoc{doc}, Done: true}
}

func TestOddEntriesRoundTrip(t *testing.T) {
	want := oddChunk()
	var linked []bool
	for _, e := range want.Docs[0].Entries {
		linked = append(linked, e.Linked)
	}
	if !reflect.DeepEqual(linked, []bool{true, true, true, false, false, false, false}) {
		t.Errorf("linked: %v", linked)
	}
	wire := want.AppendBinary(nil)
	c, err := DecodeChunk(wire)
	if err == nil {
		err = verifyChunk(FullRange(), c)
	}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Fatalf("%v: %+v, want %+v", err, c, want)
	}
	if !bytes.Equal(c.AppendBinary(nil), wire) {
		t.Error("encodes to other bytes")
	}
}

// A chunk without documents is the same one in memory that was used and in new memory.
func TestEmptyChunkRoundTrips(t *testing.T) {
	want := &Chunk{Bucket: 48, Coverage: interval.Of(99, 148), Applied: 46, Ahead: 50, Done: true}
	var d ChunkDecoder
	if _, err := d.Decode(oddChunk().AppendBinary(nil)); err != nil {
		t.Fatal(err)
	}
	if c, err := d.Decode(want.AppendBinary(nil)); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%#v (%v), want %#v", c, err, want)
	}
}

// FuzzDecodeChunk: what is decoded encodes to the same bytes, and takes no more memory than its size allows.
func FuzzDecodeChunk(f *testing.F) {
	wire := oddChunk().AppendBinary(nil)
	f.Add(wire[:len(wire)-repairSumLen])
	wire = (&Chunk{Bucket: 48, Coverage: interval.Of(99, 148), Applied: 46, Ahead: 50, Done: true}).AppendBinary(nil)
	f.Add(wire[:len(wire)-repairSumLen])
	chunk, _ := sampleChunk(f)
	wire = chunk.AppendBinary(nil)
	f.Add(wire[:len(wire)-repairSumLen])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeChunk(resum(b))
		var used ChunkDecoder
		if _, err := used.Decode(wire); err != nil {
			t.Fatal(err)
		}
		if again, err2 := used.Decode(resum(b)); (err == nil) != (err2 == nil) || err == nil && !reflect.DeepEqual(again, c) {
			t.Fatalf("into memory that was used: %+v (%v), want %+v (%v)", again, err2, c, err)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(c.AppendBinary(nil), resum(b)) {
			t.Fatalf("%+v encodes to other bytes", c)
		}
		for _, doc := range c.Docs {
			for _, e := range doc.Entries {
				d, rest, err := DecodeDelta(e.Delta)
				if err != nil || len(rest) > 0 || d.SeqBegin != e.Begin || d.SeqEnd != e.End {
					t.Fatalf("entry [%d, %d] has the delta %+v, %d bytes more, %v", e.Begin, e.End, d, len(rest), err)
				}
			}
		}
	})
}

// More entries than a chunk may have are refused before memory is taken for them, and not exported.
func TestEntriesOfAChunkAreBounded(t *testing.T) {
	doc := ChunkDoc{Key: keyInBucket(FullRange(), 9, 0), Head: Head{Generation: 1, LastIndex: 1, HeadSeq: maxChunkEntries + 1, FloorKnown: true}}
	for i := range int64(maxChunkEntries) {
		doc.Entries = append(doc.Entries, ChunkEntry{Mark: Mark{Begin: i + 1, End: i + 1, Index: 1}, Term: 1,
			Delta: (&Delta{SeqBegin: i + 1, SeqEnd: i + 1}).AppendBinary(nil)})
	}
	c := &Chunk{Bucket: 9, Coverage: interval.Of(1, 1), Applied: 1, Docs: []ChunkDoc{doc}, Done: true}
	if _, err := DecodeChunk(c.AppendBinary(nil)); err != nil {
		t.Error(err)
	}
	c.Docs[0].Entries = append(c.Docs[0].Entries, ChunkEntry{Mark: Mark{Begin: maxChunkEntries + 1, End: maxChunkEntries + 1, Index: 1}, Term: 1,
		Delta: (&Delta{SeqBegin: maxChunkEntries + 1, SeqEnd: maxChunkEntries + 1}).AppendBinary(nil)})
	if _, err := DecodeChunk(c.AppendBinary(nil)); err == nil {
		t.Error("decoded")
	}
	y, s := newDocsMember(t), newScript()
	s.create(doc.Key, 0)
	for range 700 {
		s.append(doc.Key, 100, 0)
	}
	y.follow(t, s, s.last())
	c, err := y.Export(9, &ExportQuery{Wants: []Want{{Hash: doc.Key.Hash()}}, Budget: 1 << 30})
	if err != nil || c.Done || len(c.Docs[0].Entries) != maxChunkEntries {
		t.Errorf("exported %d entries, done %v, %v", len(c.Docs[0].Entries), c.Done, err)
	}
}
