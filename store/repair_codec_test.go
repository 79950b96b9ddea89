package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cespare/xxhash/v2"
)

func sampleListing() *Listing {
	return &Listing{Bucket: 9, Since: 5, From: 1, To: math.MaxUint64, Rest: merkle.Bucket{Sum: merkle.Sum{A: 1, B: 2}, Count: 3},
		Rows:     []Row{{Hash: 7, LastIndex: 300, Generation: 2, Leaf: 5, Gap: true}, {Hash: 7, LastIndex: 301, Generation: 2, Leaf: 5}, {Hash: 8, LastIndex: 1}},
		Coverage: interval.Set{{First: 1, Last: 5}, {First: 9, Last: 900}}, Applied: 900, Ahead: 1000}
}

func sampleQuery() *ExportQuery {
	return &ExportQuery{From: Cursor{Hash: 4, Key: Key{"space", "a"}, Generation: 5, After: -1, BaseIndex: 3}, Budget: 1 << 20,
		Wants: []Want{{Hash: 5}, {Hash: 9, Have: []Have{
			{Key: Key{"space", "b"}, Deleted: 17, Upto: math.MaxInt64},
			{Key: Key{"space", "c"}, Generation: 4, BaseIndex: 6, Upto: 12, Held: []SeqRange{{First: 0, Last: 3, Chain: Chain{1}}, {First: 5, Last: 12}}}}}}}
}

// sampleChunk is one that a member with two documents exports.
func sampleChunk(t testing.TB) (*Chunk, *scripted) {
	t.Helper()
	y, s := newDocsMember(t), newScript()
	a, b, gone := keyInBucket(FullRange(), 9, 0), keyInBucket(FullRange(), 9, 1), keyInBucket(FullRange(), 9, 2)
	if a.Hash() > b.Hash() {
		a, b = b, a
	}
	s.create(a, 10)
	s.append(a, 4, 10)
	s.create(b, 10)
	s.append(b, 3, 10)
	s.compact(b, 2, []byte("base"))
	y.follow(t, s, s.last())
	wants := []Want{{Hash: a.Hash()}, {Hash: b.Hash()}, {Hash: gone.Hash(), Have: []Have{{Key: gone, Generation: 1, Upto: math.MaxInt64}}}}
	for i := 2; i > 0 && wants[i].Hash < wants[i-1].Hash; i-- {
		wants[i], wants[i-1] = wants[i-1], wants[i]
	}
	c := exportOver(t, y.Documents, 9, &ExportQuery{Wants: wants, Budget: 1 << 20}, &traffic{})
	if err := verifyChunk(FullRange(), c); err != nil { // which fills in the chains
		t.Fatal(err)
	}
	return c, &scripted{y, s}
}

// scripted is a member that has applied a script.
type scripted struct {
	*docsMember
	s *script
}

func TestRepairEncodingsRoundTrip(t *testing.T) {
	l, err := DecodeListing(sampleListing().AppendBinary(nil))
	if err != nil || !reflect.DeepEqual(l, sampleListing()) {
		t.Errorf("listing %+v, %v", l, err)
	}
	q, err := DecodeExportQuery(sampleQuery().AppendBinary(nil))
	if err != nil || !reflect.DeepEqual(q, sampleQuery()) {
		t.Errorf("query %+v, %v", q, err)
	}
	chunk, _ := sampleChunk(t)
	if len(chunk.Docs) != 2 || len(chunk.Absent) != 1 || len(chunk.Docs[0].Entries) != 5 || len(chunk.Docs[1].Entries) != 2 {
		t.Fatalf("chunk %+v", chunk)
	}
	chunk.Done, chunk.Next = false, sampleQuery().From
	prefix := []byte("what was there")
	wire := chunk.AppendBinary(prefix)
	c, err := DecodeChunk(wire[len(prefix):])
	if err == nil {
		err = verifyChunk(FullRange(), c) // which fills in the chains
	}
	if err != nil || !reflect.DeepEqual(c, chunk) || !bytes.HasPrefix(wire, prefix) {
		t.Errorf("chunk %+v, %v", c, err)
	}
}

// Every flipped bit and every cut is found: the checksum covers the whole way.
func TestRepairEncodingsDetectDamage(t *testing.T) {
	chunk, _ := sampleChunk(t)
	decoders := map[string]struct {
		wire   []byte
		decode func([]byte) error
	}{
		"listing": {sampleListing().AppendBinary(nil), func(b []byte) error { _, err := DecodeListing(b); return err }},
		"query":   {sampleQuery().AppendBinary(nil), func(b []byte) error { _, err := DecodeExportQuery(b); return err }},
		"chunk":   {chunk.AppendBinary(nil), func(b []byte) error { _, err := DecodeChunk(b); return err }},
	}
	for name, d := range decoders {
		for i := range d.wire {
			damaged := bytes.Clone(d.wire)
			damaged[i] ^= 1 << (i % 8)
			if d.decode(damaged) == nil {
				t.Fatalf("%s: a flipped bit in byte %d goes unnoticed", name, i)
			}
			if d.decode(d.wire[:i]) == nil {
				t.Fatalf("%s: cut to %d bytes goes unnoticed", name, i)
			}
		}
		if d.decode(append(bytes.Clone(d.wire), 0)) == nil {
			t.Errorf("%s: a byte too many goes unnoticed", name)
		}
		var chunkError *ChunkError
		if err := d.decode(nil); name == "chunk" && !errors.As(err, &chunkError) || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// resum gives arbitrary bytes the checksum that lets them reach the decoder.
func resum(b []byte) []byte { return binary.BigEndian.AppendUint64(bytes.Clone(b), xxhash.Sum64(b)) }

func FuzzDecodeListing(f *testing.F) {
	wire := sampleListing().AppendBinary(nil)
	f.Add(wire[:len(wire)-repairSumLen])
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := DecodeListing(resum(b))
		if err == nil && !bytes.Equal(l.AppendBinary(nil), resum(b)) {
			t.Fatalf("%+v encodes to other bytes", l)
		}
		if err == nil {
			if _, err := Compare(l, l); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzDecodeExportQuery(f *testing.F) {
	wire := sampleQuery().AppendBinary(nil)
	f.Add(wire[:len(wire)-repairSumLen])
	_, y := sampleChunk(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := DecodeExportQuery(resum(b))
		if err != nil {
			return
		}
		if q.Budget < 1<<30 && !bytes.Equal(q.AppendBinary(nil), resum(b)) {
			t.Fatalf("%+v encodes to other bytes", q)
		}
		if c, err := y.Export(9, q); err == nil {
			if err := verifyChunk(FullRange(), c); err != nil {
				t.Fatalf("exports what it would not import: %v", err)
			}
		}
	})
}

// FuzzImport lets hostile chunks with a good checksum loose on a member: it takes them or refuses them, and stays
// consistent with itself.
func FuzzImport(f *testing.F) {
	chunk, _ := sampleChunk(f)
	wire := chunk.AppendBinary(nil)
	f.Add(wire[:len(wire)-repairSumLen])
	chunk.Absent = nil
	setRedo(&chunk.Docs[0].Entries[2], "other")
	wire = chunk.AppendBinary(nil)
	f.Add(wire[:len(wire)-repairSumLen])
	x := newDocsMember(f)
	s := newScript()
	s.create(keyInBucket(FullRange(), 9, 2), 10)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeChunk(resum(b))
		if err != nil {
			return
		}
		if !bytes.Equal(c.AppendBinary(nil), resum(b)) {
			t.Fatalf("%+v encodes to other bytes", c)
		}
		if err := x.e.Drop(7); err != nil {
			t.Fatal(err)
		}
		d, err := x.e.Member(7, FullRange())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Apply(s.log, 1); err != nil {
			t.Fatal(err)
		}
		before := d.Status()
		_, err = d.importAlone(9, c)
		var bad *ChunkError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("not the chunk's fault: %v", err)
		}
		if after := d.Status(); err != nil && !reflect.DeepEqual(after, before) {
			t.Fatalf("refused, and changed %+v to %+v", before, after)
		}
		if summary, _ := d.Summary(); summary != rebuild(t, d) {
			t.Fatal("sums differ from a rebuild")
		}
	})
}

// A chunk that cannot be true installs nothing, and says so.
func TestLyingChunks(t *testing.T) {
	other := keyInBucket(FullRange(), 10, 0)
	for name, lie := range map[string]func(*Chunk){
		"for another bucket":          func(c *Chunk) { c.Bucket = 10 },
		"a key of another bucket":     func(c *Chunk) { c.Docs[1].Key = other },
		"an absent key of another":    func(c *Chunk) { c.Absent[0].Key = other },
		"a delete from the future":    func(c *Chunk) { c.Absent[0].Deleted = max(c.Applied, c.Ahead) + 1 },
		"no key":                      func(c *Chunk) { c.Docs[0].Key = Key{"a", "b"} },
		"documents out of order":      func(c *Chunk) { c.Docs[0], c.Docs[1] = c.Docs[1], c.Docs[0] },
		"a document twice":            func(c *Chunk) { c.Docs[1] = c.Docs[0] },
		"there and absent":            func(c *Chunk) { c.Absent[0].Key = c.Docs[0].Key },
		"coverage beyond applied":     func(c *Chunk) { c.Coverage = interval.Of(1, c.Applied+1) },
		"no generation":               func(c *Chunk) { c.Docs[0].Head.Generation = 0 },
		"changed before it was there": func(c *Chunk) { c.Docs[0].Head.LastIndex = 0 },
		"a change from the future":    func(c *Chunk) { c.Docs[0].Head.LastIndex = 100 },
		"floor above the head":        func(c *Chunk) { c.Docs[0].Head.Floor = 100 },
		"a base that is not":          func(c *Chunk) { c.Docs[0].HasBase = true },
		"a base of another size":      func(c *Chunk) { c.Docs[1].Base = []byte("longer") },
		"a base above the head":       func(c *Chunk) { c.Docs[1].Head.BaseSeq = 100 },
		"a base from the future":      func(c *Chunk) { c.Docs[1].Head.BaseIndex = 100 },
		"a base left out":             func(c *Chunk) { c.Docs[1].HasBase, c.Docs[1].Base = false, nil },
		"an impossible entry":         func(c *Chunk) { c.Docs[0].Entries[1].Begin = 5 },
		"an entry above the head":     func(c *Chunk) { c.Docs[0].Head.HeadSeq = 3 },
		"an entry below the floor":    func(c *Chunk) { c.Docs[1].Head.Floor = 3 },
		"an entry from before":        func(c *Chunk) { c.Docs[0].Entries[0].Index = 0 },
		"an entry from the future":    func(c *Chunk) { c.Docs[0].Entries[0].Index = 100 },
		"entries out of order":        func(c *Chunk) { e := c.Docs[0].Entries; e[0], e[1] = e[1], e[0] },
		"other bytes under a chain":   func(c *Chunk) { setRedo(&c.Docs[0].Entries[2], "other") },
		"other bytes in the first":    func(c *Chunk) { setRedo(&c.Docs[0].Entries[0], "other") },
		"another chain at the head":   func(c *Chunk) { c.Docs[0].Head.Chain[3]++ },
		"a history not from this key": func(c *Chunk) {
			c.Docs[0].Entries = c.Docs[0].Entries[:1]
			c.Docs[0].Entries[0].Chain[3]++
			c.Docs[0].Entries[0].Linked = false
		},
		"a link in the middle changed": func(c *Chunk) {
			c.Docs[0].Entries[3].Chain[3]++
			c.Docs[0].Entries[3].Linked = false
		},
		"no chain at the end of a run": func(c *Chunk) { c.Docs[0].Entries = c.Docs[0].Entries[:2] },
		"no chain before a gap": func(c *Chunk) {
			c.Docs[0].Entries = append(c.Docs[0].Entries[:1:1], c.Docs[0].Entries[2:]...)
		},
		"another chain before a gap": func(c *Chunk) {
			e := c.Docs[0].Entries
			e[1].Linked, e[3].Linked = false, false
			e[1].Chain[3]++
			c.Coverage = c.Coverage.Minus(interval.Of(e[2].Index, e[2].Index)) // who does not cover it need not send it
			c.Docs[0].Entries = append(e[:2:2], e[3:]...)
		},
		"no chain to compute one from": func(c *Chunk) { c.Docs[0].Entries = c.Docs[0].Entries[2:] },
		"no chain to compare one with": func(c *Chunk) { c.Docs[0].Entries[3].Chain, c.Docs[0].Entries[3].Linked = Chain{}, false },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := sampleChunk(t)
			x, s := newDocsMember(t), newScript()
			s.create(c.Absent[0].Key, 10)
			x.follow(t, s, 1)
			before := x.Status()
			lie(c)
			report, err := x.importAlone(9, c)
			var bad *ChunkError
			if !errors.As(err, &bad) || Code(err) != CodeBadChunk || bad.Error() == "" {
				t.Errorf("report %+v, %v", report, err)
			}
			if after := x.Status(); !reflect.DeepEqual(after, before) {
				t.Errorf("changed %+v to %+v", before, after)
			}
		})
	}
	c, y := sampleChunk(t)
	x, s := newDocsMember(t), newScript()
	s.create(c.Absent[0].Key, 10)
	x.follow(t, s, 1)
	report, err := x.importAlone(9, c)
	if err != nil || report.Documents != 3 || report.Removed != 1 || report.Entries != 7 {
		t.Errorf("the truth: %+v, %v", report, err)
	}
	mine, _ := x.Summary()
	theirs, _ := y.Summary()
	if mine != theirs {
		t.Errorf("buckets %v differ", merkle.Diff(&mine, &theirs))
	}
}

// Whatever numbers a chunk has, a member that imports it stays consistent with itself, or refuses it.
func TestMutatedChunks(t *testing.T) {
	rounds := 3000
	if slowBuild {
		rounds = 200
	}
	x := newDocsMember(t)
	valid, y := sampleChunk(t)
	wire := valid.AppendBinary(nil)
	for seed := range int64(rounds) {
		r := newRand(seed)
		c, err := DecodeChunk(bytes.Clone(wire))
		if err != nil {
			t.Fatal(err)
		}
		for range 1 + r.IntN(3) {
			mutate(r, c)
		}
		if err := x.e.Drop(7); err != nil {
			t.Fatal(err)
		}
		d, err := x.e.Member(7, FullRange())
		if err != nil {
			t.Fatal(err)
		}
		// The member holds some of it, or nothing, and has perhaps a hole.
		if to := uint64(r.IntN(6)); to > 0 {
			if err := d.Apply(y.s.log[:to], to); err != nil {
				t.Fatal(err)
			}
			setHoles(t, d, interval.Of(uint64(1+r.IntN(6)), to))
		}
		if seed%2 == 0 { // as a peer would send it
			c, err = DecodeChunk(c.AppendBinary(nil))
		}
		if err == nil {
			_, err = d.importAlone(9, c)
		}
		var bad *ChunkError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("seed %d: not the chunk's fault: %v", seed, err)
		}
		if summary, _ := d.Summary(); summary != rebuild(t, d) {
			t.Fatalf("seed %d: sums differ from a rebuild", seed)
		}
		for info, err := range d.Inventory("") {
			if h := info.Head; err != nil || h.Entries < 0 || h.Bytes < 0 || h.Span < h.Entries || h.Floor > h.HeadSeq {
				t.Fatalf("seed %d: %+v, %v", seed, info, err)
			}
		}
	}
}

// setRedo gives an entry another delta, of the seqs it says it has.
func setRedo(e *ChunkEntry, redo string) {
	d := Delta{SeqBegin: e.Begin, SeqEnd: e.End, Redo: []byte(redo)}
	if d.Validate() == nil {
		e.Delta = d.AppendBinary(nil)
	}
}

// mutate changes one number of a chunk.
func mutate(r *rand.Rand, c *Chunk) {
	signed := []int64{-1, 0, 1, 2, 3, 4, 5, 6, math.MaxInt64, math.MaxInt64 - 1}[r.IntN(10)]
	index := []uint64{0, 1, 2, 3, 4, 5, 6, math.MaxUint64, math.MaxUint64 - 1}[r.IntN(9)]
	doc := &c.Docs[r.IntN(len(c.Docs))]
	h := &doc.Head
	numbers := []*int64{&h.HeadSeq, &h.BaseSeq, &h.BaseBytes, &h.Floor}
	indexes := []*uint64{&h.Generation, &h.LastIndex, &h.BaseIndex, &c.Applied, &c.Ahead, &c.Absent[0].Deleted}
	flags := []*bool{&h.HasBase, &h.Dropped, &h.FloorKnown, &doc.HasBase}
	if n := len(doc.Entries); n > 0 {
		e := &doc.Entries[r.IntN(n)]
		numbers = append(numbers, &e.Begin, &e.End)
		indexes = append(indexes, &e.Index)
		flags = append(flags, &e.Linked)
		defer setRedo(e, []string{"", "other"}[r.IntN(2)])
		if r.IntN(3) == 0 {
			e.Chain = Chain{}
		}
	}
	switch r.IntN(4) {
	case 0:
		*numbers[r.IntN(len(numbers))] = signed
	case 1:
		*indexes[r.IntN(len(indexes))] = index
	case 2:
		f := flags[r.IntN(len(flags))]
		*f = !*f
	case 3:
		if n := len(doc.Entries); n > 0 {
			doc.Entries = append(doc.Entries[:r.IntN(n):n], doc.Entries[r.IntN(n):]...)
		}
	}
}
