package store

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2"
)

// An empty member gets everything from a complete one, and nothing twice.
func TestEmptyMemberHeals(t *testing.T) {
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	for i := range 400 {
		key := keyInBucket(FullRange(), uint8(i), i)
		s.create(key, 20)
		s.append(key, 1+i%7, 10)
		switch i % 9 {
		case 3:
			s.compact(key, 2, []byte("a base"))
		case 5:
			s.delete(key)
		}
	}
	y.follow(t, s, s.last())
	if err := x.RecordHole(1, s.last()); err != nil {
		t.Fatal(err)
	}
	moved := x.pullAll(t, y)
	x.mustEqual(t, y)
	if st := x.Status(); !st.Complete || st.DeleteRecords != 0 {
		t.Errorf("status %+v", st)
	}
	if st := y.Status(); moved.report.Documents != int(st.Documents) || moved.report.Bytes != st.Bytes || len(moved.report.Divergent) > 0 {
		t.Errorf("moved %+v, the peer holds %d documents of %d bytes", moved.report, st.Documents, st.Bytes)
	}
	if again := x.pullAll(t, y); again.chunks != 0 {
		t.Errorf("equal members moved %+v", again)
	}
}

// A document that is many times larger than the budget goes over in pieces, each of which holds what it costs to hold.
func TestLargeDocumentInManyChunks(t *testing.T) {
	n := 20_000
	if slowBuild || testing.Short() {
		n = 2000
	}
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	key := Key{"space", "large"}
	s.create(key, 20)
	for range n / 100 {
		s.append(key, 100, 64)
	}
	s.compact(key, int64(n), bytes.Repeat([]byte("base"), 5000))
	y.follow(t, s, s.last())
	if err := x.RecordHole(1, s.last()); err != nil {
		t.Fatal(err)
	}
	bucket, budget := FullRange().Bucket(key.Hash()), n*10
	moved := x.pullBucket(t, y, bucket, budget)
	h, _, err := x.Head(key)
	want, _, _ := y.Head(key)
	if err != nil || h != want {
		t.Fatalf("head %+v, %v; want %+v", h, err, want)
	}
	if moved.chunks < 8 || moved.largest > budget+200 || int64(moved.bytes) > want.Bytes*2 {
		t.Errorf("%d bytes in %d chunks, the largest %d, for a document of %d bytes", moved.bytes, moved.chunks, moved.largest, want.Bytes)
	}
	if moved.report.Entries != int(want.Entries) || moved.report.Bytes != want.Bytes+want.BaseBytes {
		t.Errorf("stored %+v, the document has %d entries of %d bytes", moved.report, want.Entries, want.Bytes)
	}
}

// Whatever the budget, an export makes progress, and pieces of the smallest size add up to the same.
func TestSmallestBudget(t *testing.T) {
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	key := Key{"space", "doc"}
	s.create(key, 20)
	s.append(key, 5, 10)
	s.compact(key, 4, []byte("base"))
	s.append(key, 5, 10)
	y.follow(t, s, s.last())
	x.follow(t, s, s.last(), interval.Range{First: 2, Last: 4})
	moved := x.pullBucket(t, y, FullRange().Bucket(key.Hash()), 0)
	if moved.report.Entries != 9 || moved.chunks != 1+9+1 { // the base, the entries one by one, the end
		t.Errorf("%d entries in %d chunks", moved.report.Entries, moved.chunks)
	}
	h, _, _ := x.Head(key)
	want, _, _ := y.Head(key)
	if h != want {
		t.Errorf("head %+v, want %+v", h, want)
	}
}

// What the asker holds is not sent, however it lies between what it lacks.
func TestOnlyMissingEntriesAreSent(t *testing.T) {
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	key := Key{"space", "doc"}
	s.create(key, 20)
	for range 60 {
		s.append(key, 2, 10)
	}
	y.follow(t, s, s.last())
	x.follow(t, s, s.last(), interval.Range{First: 5, Last: 9}, interval.Range{First: 20, Last: 20}, interval.Range{First: 50, Last: 55})
	moved := x.pullBucket(t, y, FullRange().Bucket(key.Hash()), 1<<20)
	if moved.report.Entries != 2*(5+1+6) || moved.chunks != 1 {
		t.Errorf("moved %+v in %d chunks", moved.report, moved.chunks)
	}
	if h, _, _ := x.Head(key); h.Gap() {
		t.Errorf("still has a gap: %+v", h)
	}
}

// TestOnlyTheTailIsSent: of a document that has no gap, only what follows its end is sent, whatever of it is older than the hole.
func TestOnlyTheTailIsSent(t *testing.T) {
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	key := Key{"space", "doc"}
	s.create(key, 20)
	for range 40 {
		s.append(key, 1, 2000)
	}
	y.follow(t, s, s.last())
	x.follow(t, s, 30)
	if err := x.RecordHole(31, s.last()); err != nil {
		t.Fatal(err)
	}
	moved := x.pullBucket(t, y, FullRange().Bucket(key.Hash()), 1<<20)
	if want := int(s.last()) - 30; moved.report.Entries != want || moved.bytes < want*2000 || moved.bytes > (want+2)*2000 {
		t.Errorf("moved %+v in %d bytes", moved.report, moved.bytes)
	}
}

// More gaps than one query can describe are described one part after the other, also when the peer cannot fill them.
func TestMoreGapsThanAQueryDescribes(t *testing.T) {
	for _, room := range []wantRoom{{ranges: 10, scan: 1000}, {ranges: 1000, scan: 10}, {ranges: 1, scan: 1}} {
		t.Run(fmt.Sprintf("%+v", room), func(t *testing.T) { testMoreGaps(t, room) })
	}
}

func testMoreGaps(t *testing.T, room wantRoom) {
	const gaps = 95
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	x.room = room
	key := Key{"space", "doc"}
	s.create(key, 1)
	for range 2 * gaps {
		s.append(key, 1, 1)
	}
	// Every other command is in a hole: written as the engine would, but in one step.
	var mine []Mutation
	var holes interval.Set
	for i := range s.log {
		if i%2 == 0 {
			mine = append(mine, s.log[i])
		} else {
			holes = append(holes, interval.Range{First: uint64(i + 1), Last: uint64(i + 1)})
		}
	}
	for _, m := range []*docsMember{x, y} {
		if err := m.Apply(mine, s.last()); err != nil {
			t.Fatal(err)
		}
		setHoles(t, m.Documents, holes)
	}
	bucket := FullRange().Bucket(key.Hash())
	if moved := x.pullBucket(t, y, bucket, 1<<20); moved.report.Entries != 0 || moved.chunks != (gaps+min(room.ranges, room.scan))/min(room.ranges, room.scan) {
		t.Errorf("from a peer with the same gaps: %+v in %d chunks", moved.report, moved.chunks)
	}
	full := newDocsMember(t)
	full.follow(t, s, s.last())
	moved := x.pullBucket(t, full, bucket, 1<<20)
	h, _, _ := x.Head(key)
	want, _, _ := full.Head(key)
	if h != want || moved.report.Entries != gaps {
		t.Errorf("moved %+v; head %+v, want %+v", moved.report, h, want)
	}
}

func setHoles(t testing.TB, d *Documents, holes interval.Set) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.begin()
	defer b.close()
	b.setHoles(holes)
	if err := b.commit(true); err != nil {
		t.Fatal(err)
	}
}

// A document that goes, is replaced, or is compacted while it is being pulled ends as the peer has it.
func TestDocumentChangesWhileItIsPulled(t *testing.T) {
	for name, change := range map[string]func(*script, Key){
		"deleted":       func(s *script, k Key) { s.delete(k) },
		"created again": func(s *script, k Key) { s.delete(k); s.create(k, 3); s.append(k, 2, 3) },
		"compacted":     func(s *script, k Key) { s.compact(k, 2, []byte("base")) },
		"longer":        func(s *script, k Key) { s.append(k, 3, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			x, y, s := newDocsMember(t), newDocsMember(t), newScript()
			key := Key{"space", "doc"}
			bucket := FullRange().Bucket(key.Hash())
			s.create(key, 10)
			s.append(key, 20, 10)
			y.follow(t, s, 2)
			if err := x.RecordHole(1, 2); err != nil {
				t.Fatal(err)
			}
			session := x.BeginSession(bucket)
			var moved traffic
			first := exportOver(t, y.Documents, bucket, &ExportQuery{Wants: []Want{{Hash: key.Hash()}}, Budget: 300}, &moved)
			if report, err := session.Import(first); err != nil || first.Done || report.Entries < 2 || report.Entries > 18 {
				t.Fatalf("first chunk: %+v, %v", report, err)
			}
			change(s, key)
			y.follow(t, s, s.last())
			for from := first.Next; from != (Cursor{}); {
				wants, err := x.Wants(bucket, []uint64{key.Hash()}, from)
				if err != nil {
					t.Fatal(err)
				}
				c := exportOver(t, y.Documents, bucket, &ExportQuery{Wants: wants, From: from, Budget: 300}, &moved)
				if _, err := session.Import(c); err != nil {
					t.Fatal(err)
				}
				from = c.Next
			}
			if healed, err := session.Finish(); err != nil || !healed.Equal(interval.Of(1, 2)) {
				t.Fatalf("healed %s, %v", healed, err)
			}
			sx, _ := x.Summary()
			sy, _ := y.Summary()
			if sx != sy {
				h, ok, _ := x.Head(key)
				t.Errorf("%+v, %v, differs from the peer's", h, ok)
			}
			if x.Status().Ahead != s.last() {
				t.Errorf("ahead %d, the peer was at %d", x.Status().Ahead, s.last())
			}
		})
	}
}

// Two histories of one document are never merged, and a bucket that met them is not healed.
func TestDivergenceIsNeverMerged(t *testing.T) {
	key, other := Key{"space", "doc"}, keyInBucket(FullRange(), FullRange().Bucket(Key{"space", "doc"}.Hash()), 1)
	bucket := FullRange().Bucket(key.Hash())
	build := func(length, size int, hole uint64) *docsMember {
		m, s := newDocsMember(t), newScript()
		s.create(key, 10)
		s.append(key, 3, 10)
		s.append(key, 1, size) // the index that tells the two apart
		for range length {
			s.append(key, 1, 10)
		}
		s.create(other, 1)
		if hole == 0 {
			m.follow(t, s, s.last())
			return m
		}
		hole = min(hole, s.last())
		m.follow(t, s, s.last(), interval.Range{First: hole, Last: hole})
		return m
	}
	for name, test := range map[string]struct {
		mine, theirs int
		hole         uint64
	}{
		"equally long":              {3, 3, 100},
		"mine is longer":            {5, 3, 100},
		"theirs is longer":          {3, 5, 100},
		"mine ends where they part": {0, 4, 100},
		"mine begins behind":        {5, 0, 3}, // and theirs fills the gap with something else
		"theirs begins behind":      {2, 5, 3},
	} {
		t.Run(name, func(t *testing.T) {
			x, y := build(test.mine, 7, test.hole), build(test.theirs, 8, 0)
			before, _, _ := x.Head(key)
			session := x.BeginSession(bucket)
			var moved traffic
			hashes := []uint64{min(key.Hash(), other.Hash()), max(key.Hash(), other.Hash())}
			wants, err := x.Wants(bucket, hashes, Cursor{})
			if err != nil {
				t.Fatal(err)
			}
			c := exportOver(t, y.Documents, bucket, &ExportQuery{Wants: wants, Budget: 1 << 20}, &moved)
			report, err := session.Import(c)
			if err != nil || len(report.Divergent) != 1 || report.Divergent[0].Key != key || report.Divergent[0].Reason != DivergedChain {
				t.Fatalf("report %+v, %v", report, err)
			}
			if after, _, _ := x.Head(key); after != before {
				t.Errorf("the document changed: %+v, was %+v", after, before)
			}
			if _, ok, _ := x.Head(other); !ok && test.mine <= test.theirs {
				t.Error("the other document was not taken")
			}
			if _, err := session.Finish(); !errors.Is(err, ErrSessionDiverged) {
				t.Errorf("finish: %v", err)
			}
			if !x.Healed(bucket).Empty() {
				t.Errorf("healed %s", x.Healed(bucket))
			}
		})
	}
}

// A complete member that imports from a damaged one keeps what it has.
func TestCompleteMemberIsNotChangedByADamagedOne(t *testing.T) {
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	key := Key{"space", "doc"}
	bucket := FullRange().Bucket(key.Hash())
	s.create(key, 10)
	s.append(key, 3, 10)
	x.follow(t, s, 2)
	if err := y.Apply(nil, 2); err != nil { // has applied everything, and holds nothing
		t.Fatal(err)
	}
	session := x.BeginSession(bucket)
	wants, err := x.Wants(bucket, []uint64{key.Hash()}, Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	report, err := session.Import(exportOver(t, y.Documents, bucket, &ExportQuery{Wants: wants, Budget: 1000}, &traffic{}))
	if err != nil || report.Documents != 0 || len(report.Divergent) != 1 || report.Divergent[0].Reason != DivergedKnown {
		t.Errorf("report %+v, %v", report, err)
	}
	if h, ok, err := x.Head(key); !ok || err != nil || h.HeadSeq != 4 {
		t.Errorf("head %+v, %v, %v", h, ok, err)
	}
	if st := x.Status(); !st.Complete || st.Ahead != 0 {
		t.Errorf("status %+v", st)
	}
}

// A delete that is learned by absence ends the generation that was here, and none that was created since.
func TestLearnedDeleteEndsItsGenerationOnly(t *testing.T) {
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	key := Key{"space", "doc"}
	bucket := FullRange().Bucket(key.Hash())
	s.create(key, 10)    // 1
	s.append(key, 1, 10) // 2
	s.delete(key)        // 3
	s.create(key, 10)    // 4, skipped by y
	s.append(key, 1, 10) // 5, skipped by y
	y.follow(t, s, 5, interval.Range{First: 4, Last: 5})
	x.follow(t, s, 1)
	if moved := x.pullBucket(t, y, bucket, 1000); moved.report.Removed != 1 {
		t.Fatalf("moved %+v", moved.report)
	}
	x.follow(t, s, 2) // of the dead generation
	if h, ok, _ := x.Head(key); ok {
		t.Fatalf("came back: %+v", h)
	}
	x.follow(t, s, 5)
	h, ok, err := x.Head(key)
	if !ok || err != nil || h.Generation != 4 || h.HeadSeq != 2 || h.Gap() {
		t.Errorf("head %+v, %v, %v", h, ok, err)
	}
	if st := x.Status(); !st.Complete || st.DeleteRecords != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestExportRefusesWhatIsNotItsBucket(t *testing.T) {
	y := newDocsMember(t)
	a, b := keyInBucket(FullRange(), 9, 0), keyInBucket(FullRange(), 10, 0)
	for name, wants := range map[string][]Want{
		"another bucket": {{Hash: b.Hash()}},
		"not ascending":  {{Hash: a.Hash()}, {Hash: a.Hash()}},
		"another's key":  {{Hash: a.Hash(), Have: []Have{{Key: b}}}},
		"no key":         {{Hash: a.Hash(), Have: []Have{{Key: Key{"a", "b"}}}}},
	} {
		var bad *QueryError
		if _, err := y.Export(9, &ExportQuery{Wants: wants}); !errors.As(err, &bad) || Code(err) != CodeBadQuery {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Damage must not travel: a record that is not what was written fails the export.
func TestExportVerifiesWhatItReads(t *testing.T) {
	for _, kind := range []recordKind{kindHead, kindBase, kindEntry} {
		y, s := newDocsMember(t), newScript()
		key := Key{"space", "doc"}
		s.create(key, 10)
		s.compact(key, 1, []byte("base"))
		y.follow(t, s, 2)
		lower, upper := prefixRange(appendKind(nil, 7, FullRange().Bucket(key.Hash()), kind))
		it, err := y.e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			t.Fatal(err)
		}
		it.First()
		k, v := bytes.Clone(it.Key()), bytes.Clone(it.Value())
		_ = it.Close()
		v[len(v)/2] ^= 4
		if err := y.e.db.Set(k, v, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		var damage *CorruptionError
		_, err = y.Export(FullRange().Bucket(key.Hash()), &ExportQuery{Wants: []Want{{Hash: key.Hash()}}, Budget: 1000})
		if !errors.As(err, &damage) || damage.Kind != kind.String() || damage.Key != key {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Imports, applies, listings and exports of one member at the same time, in two directions.
func TestRepairBesideEverythingElse(t *testing.T) {
	s := newScript()
	var keys []Key
	for i := range 8 {
		keys = append(keys, keyInBucket(FullRange(), 9, i))
		s.create(keys[i], 10)
	}
	for i := range 400 {
		s.append(keys[i%8], 1, 10)
		if i%50 == 49 {
			s.delete(keys[i%8])
			s.create(keys[i%8], 10)
		}
	}
	members := []*docsMember{newDocsMember(t), newDocsMember(t)}
	for i, m := range members {
		first := uint64(20 + 40*i)
		m.follow(t, s, 100, interval.Range{First: first, Last: first + 19})
	}
	var work sync.WaitGroup
	for i, m := range members {
		work.Go(func() {
			for m.Applied() < s.last() {
				m.follow(t, s, min(s.last(), m.Applied()+3))
			}
		})
		work.Go(func() {
			for range 10 {
				m.pullBucket(t, members[1-i], 9, 500)
			}
		})
	}
	work.Wait()
	for i, m := range members {
		for b := range 256 {
			m.pullBucket(t, members[1-i], uint8(b), 500)
		}
		if _, err := m.CloseHoles(); err != nil {
			t.Fatal(err)
		}
	}
	witness := newDocsMember(t)
	witness.follow(t, s, s.last())
	for _, m := range members {
		if !m.Status().Complete {
			t.Errorf("status %+v", m.Status())
		}
		m.mustEqual(t, witness)
	}
}
