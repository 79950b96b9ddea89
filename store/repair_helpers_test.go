package store

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// script writes a log, one command after the other, as a leader with nothing but these documents would.
type script struct {
	log   []Mutation
	heads map[Key]*Head // Generation, HeadSeq, Chain, Floor, Dropped
}

func newScript() *script { return &script{heads: map[Key]*Head{}} }

func (s *script) last() uint64 { return uint64(len(s.log)) }

func (s *script) add(m Mutation) {
	m.Index, m.Term = s.last()+1, 1
	s.log = append(s.log, m)
}

func testDelta(begin, end int64, size int) Delta {
	return Delta{SeqBegin: begin, SeqEnd: end, Redo: bytes.Repeat([]byte{byte(begin)}, size), Undo: []byte("{}"), Who: "w"}
}

func (s *script) create(key Key, size int) {
	h := &Head{Generation: s.last() + 1, HeadSeq: 1, Floor: 0}
	d := testDelta(1, 1, size)
	h.Chain = SeedChain(key).Next(d.AppendBinary(nil))
	s.heads[key] = h
	s.add(Mutation{Kind: Create, Key: key, Deltas: []Delta{d}, Chain: h.Chain, HeadSeq: 1})
}

// append adds n deltas with one command.
func (s *script) append(key Key, n, size int) {
	h := s.heads[key]
	m := Mutation{Kind: Append, Key: key, Generation: h.Generation, Prior: h.Chain}
	for range n {
		d := testDelta(h.HeadSeq+1, h.HeadSeq+1, size)
		h.HeadSeq++
		h.Chain = h.Chain.Next(d.AppendBinary(nil))
		m.Deltas = append(m.Deltas, d)
	}
	m.Chain, m.HeadSeq = h.Chain, h.HeadSeq
	s.add(m)
}

// compact brings a base at the head and keeps some deltas.
func (s *script) compact(key Key, keep int64, base []byte) {
	h := s.heads[key]
	h.Floor, h.Dropped = max(h.Floor, h.HeadSeq-keep), true
	s.add(Mutation{Kind: Compact, Key: key, Generation: h.Generation, BaseSeq: h.HeadSeq, Base: base, Floor: h.Floor, Dropped: true,
		Chain: h.Chain, HeadSeq: h.HeadSeq})
}

func (s *script) delete(key Key) {
	s.add(Mutation{Kind: Delete, Key: key, Generation: s.heads[key].Generation})
	delete(s.heads, key)
}

// docsMember is a member with an engine of its own.
type docsMember struct {
	*Documents
	e    *DocEngine
	room wantRoom // of its queries
}

func newDocsMember(t testing.TB) *docsMember {
	t.Helper()
	e, err := OpenDocs(testOptions(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil && err != ErrClosed {
			t.Error(err)
		}
	})
	d, err := e.Member(7, FullRange())
	if err != nil {
		t.Fatal(err)
	}
	return &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
}

// follow applies the script up to an index, except for the holes, each of which it records.
func (m *docsMember) follow(t testing.TB, s *script, upTo uint64, holes ...interval.Range) {
	t.Helper()
	for next := m.Applied() + 1; next <= upTo; {
		if len(holes) > 0 && holes[0].First == next {
			if err := m.RecordHole(next, holes[0].Last); err != nil {
				t.Fatal(err)
			}
			next, holes = holes[0].Last+1, holes[1:]
			continue
		}
		to := min(upTo, next+99)
		if len(holes) > 0 {
			to = min(to, holes[0].First-1)
		}
		if err := m.Apply(s.log[next-1:to], to); err != nil {
			t.Fatal(err)
		}
		next = to + 1
	}
}

// traffic is what a session moved.
type traffic struct {
	report  ImportReport
	chunks  int
	largest int // bytes
	bytes   int
}

// pullBucket runs one session, everything over the wire.
func (m *docsMember) pullBucket(t testing.TB, peer *docsMember, bucket uint8, budget int) traffic {
	t.Helper()
	s := m.BeginSession(bucket)
	theirs, err := peer.List(bucket, ListQuery{})
	if err != nil {
		t.Fatal(err)
	}
	s.Answer(theirs.Coverage, theirs.Applied, theirs.Ahead)
	mine, err := m.List(bucket, ListQuery{Also: theirs.Hashes()})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Compare(mine, theirs)
	if err != nil || plan.FullNeeded {
		t.Fatalf("compare: %+v, %v", plan, err)
	}
	moved := m.pullHashes(t, s, peer, bucket, plan.Hashes(), budget)
	if _, err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	return moved
}

func (m *docsMember) pullHashes(t testing.TB, s *Session, peer *docsMember, bucket uint8, hashes []uint64, budget int) (moved traffic) {
	t.Helper()
	var from Cursor
	for len(hashes) > 0 {
		wants, err := m.wants(bucket, hashes, from, m.room)
		if err != nil {
			t.Fatal(err)
		}
		chunk := exportOver(t, peer.Documents, bucket, &ExportQuery{Wants: wants, From: from, Budget: budget}, &moved)
		report, err := s.Import(chunk)
		if err != nil {
			t.Fatal(err)
		}
		moved.report.add(&report)
		if from = chunk.Next; chunk.Done {
			n, _ := slices.BinarySearch(hashes, wants[len(wants)-1].Hash+1)
			hashes, from = hashes[n:], Cursor{}
		}
		if moved.chunks > 1_000_000 {
			t.Fatal("the pull does not end")
		}
	}
	return moved
}

// exportOver sends query and chunk through their encodings.
func exportOver(t testing.TB, d *Documents, bucket uint8, q *ExportQuery, moved *traffic) *Chunk {
	t.Helper()
	q, err := DecodeExportQuery(q.AppendBinary(nil))
	if err != nil {
		t.Fatal(err)
	}
	version := d.Version()
	c, err := d.Export(bucket, q)
	if err != nil {
		t.Fatal(err)
	}
	wire := c.AppendBinary(nil)
	got, all, err := d.AppendExport([]byte("before"), bucket, q) // from memory that others have used
	changed := d.Version() != version                            // by writers beside this
	if err != nil || !changed && (all != c.Done || string(got) != "before"+string(wire)) {
		t.Fatalf("the encoded chunk is of %d bytes, all %v (%v), want %d, %v", len(got), all, err, len(wire), c.Done)
	}
	if c, err = DecodeChunk(wire); err != nil {
		t.Fatal(err)
	}
	moved.chunks++
	moved.bytes += len(wire)
	moved.largest = max(moved.largest, len(wire))
	return c
}

// pullAll runs a session for each bucket and closes the holes.
func (m *docsMember) pullAll(t testing.TB, peer *docsMember) (moved traffic) {
	t.Helper()
	for b := range 256 {
		one := m.pullBucket(t, peer, uint8(b), 1<<20)
		moved.report.add(&one.report)
		moved.chunks += one.chunks
		moved.bytes += one.bytes
	}
	if _, err := m.CloseHoles(); err != nil {
		t.Fatal(err)
	}
	return moved
}

// mustEqual compares two members' summaries.
func (m *docsMember) mustEqual(t testing.TB, other *docsMember) {
	t.Helper()
	a, b := m.Status(), other.Status()
	if a.Root != b.Root || a.Documents != b.Documents || a.Bytes != b.Bytes || a.Applied != b.Applied {
		t.Fatalf("members differ:\n%+v\n%+v", a, b)
	}
}

// collidingKeys returns two keys with one hash. xxhash64 mixes 8 bytes at a time into each of four lanes, and a change of
// one word of a lane can be made good by the next word of the same lane; only few such words consist of the characters
// of a key.
func collidingKeys(t testing.TB) (Key, Key) {
	t.Helper()
	const prime1, prime2 = 0x9e3779b185ebca87, 0xc2b2ae3d27d4eb4f
	round := func(acc, word uint64) uint64 { return bits.RotateLeft64(acc+word*prime2, 31) * prime1 }
	inverse := uint64(prime2) // of prime2 modulo 2^64, by Newton's iteration
	for range 6 {
		inverse *= 2 - prime2*inverse
	}
	name := []byte(fmt.Sprintf("space/%066d", 0))
	const lane, first, second = prime2, 8, 40 // the second lane's start, and where its words lie
	word := func(at int) (w uint64) {
		for i := range 8 {
			w |= uint64(name[at+i]) << (8 * i)
		}
		return w
	}
	put := func(at int, w uint64) {
		for i := range 8 {
			name[at+i] = byte(w >> (8 * i))
		}
	}
	a, err := ParseKey(string(name))
	if err != nil {
		t.Fatal(err)
	}
	was, then := word(first), word(second)
	for n := range 100_000_000 {
		put(first, was)
		copy(name[first:], fmt.Sprintf("%08d", n))
		put(second, then+(round(lane, was)-round(lane, word(first)))*inverse)
		if b, err := ParseKey(string(name)); err == nil && b != a {
			if a.Hash() != b.Hash() {
				t.Fatalf("%s and %s do not collide", a, b)
			}
			return a, b
		}
	}
	t.Fatal("no collision found")
	return a, a
}

// importAlone imports a chunk in a session of its own, which takes the bucket over.
func (d *Documents) importAlone(bucket uint8, c *Chunk) (ImportReport, error) {
	return d.BeginSession(bucket).Import(c)
}

// markHealed records progress without a session.
func (d *Documents) markHealed(bucket uint8, healed interval.Set, seen uint64) error {
	return d.recordHealed(bucket, healed, seen, func() error { return nil })
}
