package store

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2"
)

// smallBulk makes everything a large pull.
var smallBulk = bulkLimits{chunk: 1, table: 2000, least: 1, total: 1 << 20}

// bulkScript fills bucket 9 with documents of different shapes, and returns their keys.
func bulkScript(documents, deltas int) (*script, []Key) {
	s := newScript()
	keys := make([]Key, documents)
	for i := range keys {
		keys[i] = keyInBucket(FullRange(), 9, i)
		s.create(keys[i], 20)
	}
	for i, key := range keys {
		s.append(key, deltas+i%3, 20)
		switch i % 7 {
		case 2:
			s.compact(key, 3, []byte("a base"))
		case 3:
			s.compact(key, 0, []byte("all of it"))
		case 5:
			s.delete(key)
		}
	}
	return s, keys
}

// records returns everything that a member holds of its documents.
func records(t testing.TB, d *Documents) map[string]string {
	t.Helper()
	lower, upper := prefixRange(appendPartition(nil, d.partition))
	it, err := d.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = it.Close() }()
	all := map[string]string{}
	for ok := it.First(); ok; ok = it.Next() {
		if k := it.Key(); k[4] == sectionDocuments || k[5] == metaBucket || k[5] == metaState || k[5] == metaIngest {
			all[string(k)] = string(it.Value())
		}
	}
	return all
}

// mustHaveHeads verifies that no record is without a head, and that heads count what is there.
func mustHaveHeads(t testing.TB, d *Documents) {
	t.Helper()
	type counted struct{ span, entries, bytes, bases int64 }
	heads, found := map[Key]Head{}, map[Key]counted{}
	for key, value := range records(t, d) {
		if key[4] != sectionDocuments {
			continue
		}
		k, err := decodeRecordKey([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		c := found[k.key]
		switch k.kind {
		case kindDelete:
			continue
		case kindHead:
			if heads[k.key], err = decodeHeadValue([]byte(value)); err != nil {
				t.Fatal(err)
			}
			continue
		case kindBase:
			c.bases += int64(len(value) - checksumLen)
		case kindEntry:
			size, span, err := entrySize([]byte(value))
			if err != nil {
				t.Fatal(err)
			}
			c.span, c.entries, c.bytes = c.span+span, c.entries+1, c.bytes+size
		}
		found[k.key] = c
		h, ok, err := d.Head(k.key)
		if err != nil || !ok || h.Generation != k.generation {
			t.Fatalf("%s of %s, generation %d, without a head (%v)", k.kind, k.key, k.generation, err)
		}
	}
	for key, h := range heads {
		if c := found[key]; c != (counted{h.Span, h.Entries, h.Bytes, h.BaseBytes}) {
			t.Fatalf("%s: found %+v, the head is %+v", key, c, h)
		}
	}
}

// What is ingested is, byte for byte, what merging entry by entry stores.
func TestIngestStoresWhatMergingDoes(t *testing.T) {
	s, _ := bulkScript(40, 30)
	y := newDocsMember(t)
	y.follow(t, s, s.last())
	for _, budget := range []int{300, 1000, 5000, 1 << 20} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			x, merged := newDocsMember(t), newDocsMember(t)
			x.e.bulk.limits = smallBulk
			var moved [2]traffic
			for i, m := range []*docsMember{x, merged} {
				if err := m.RecordHole(1, s.last()); err != nil {
					t.Fatal(err)
				}
				moved[i] = m.pullBucket(t, y, 9, budget)
				mustHaveHeads(t, m.Documents)
			}
			if a, b := records(t, x.Documents), records(t, merged.Documents); !mapsEqual(a, b) {
				t.Errorf("%d records, %d when they are merged", len(a), len(b))
			}
			if a, b := moved[0].report, moved[1].report; a.Entries != b.Entries || a.Bytes != b.Bytes {
				t.Errorf("reports %+v, %+v when merged", a, b)
			}
			if n := x.e.bulk.tables.Load(); budget < 1<<20 && n < 3 || n != 2 && budget == 1<<20 || merged.e.bulk.tables.Load() > 0 {
				t.Errorf("%d tables", n)
			}
			if x.e.bulk.gathered.Load() != 0 {
				t.Errorf("%d bytes are still gathered", x.e.bulk.gathered.Load())
			}
			sx, _ := x.Summary()
			sy, _ := y.Summary()
			if sx != sy {
				t.Error("not what the peer has")
			}
		})
	}
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// Documents that commands have brought here, before or while tables are written, are merged and not overwritten.
func TestIngestBesideCommands(t *testing.T) {
	for name, when := range map[string]int{"before": 0, "while tables are written": 1, "each time": 2} {
		t.Run(name, func(t *testing.T) {
			s, keys := bulkScript(40, 30)
			hole := s.last()
			x, y := newDocsMember(t), newDocsMember(t)
			x.e.bulk.limits = smallBulk
			y.follow(t, s, s.last())
			if err := x.RecordHole(1, hole); err != nil {
				t.Fatal(err)
			}
			touched := 0
			touch := func() {
				for range 3 {
					if key := keys[touched*5%len(keys)]; touched < len(keys) && s.heads[key] != nil {
						switch touched % 3 {
						case 0:
							s.append(key, 2, 10)
						case 1:
							s.delete(key)
						case 2:
							s.delete(key)
							s.create(key, 10)
						}
					}
					touched++
				}
				x.follow(t, s, s.last())
			}
			calls := 0
			switch when {
			case 0:
				touch()
			case 1:
				x.e.bulk.written = func() {
					if calls++; calls%2 == 1 {
						touch()
					}
				}
			case 2:
				x.e.bulk.written = touch
			}
			x.pullBucket(t, y, 9, 1000)
			x.e.bulk.written = nil
			mustHaveHeads(t, x.Documents)
			if x.e.bulk.tables.Load() == 0 || touched == 0 {
				t.Errorf("%d tables, %d documents touched", x.e.bulk.tables.Load(), touched)
			}
			for _, key := range keys {
				if h, ok, err := x.Head(key); ok && s.heads[key] == nil || err != nil {
					t.Errorf("%s is back: %+v, %v", key, h, err)
				}
			}
			y.follow(t, s, s.last())
			x.pullBucket(t, y, 9, 1000)
			mustHaveHeads(t, x.Documents)
			sx, _ := x.Summary()
			sy, _ := y.Summary()
			if sx != sy {
				t.Error("not what the peer has")
			}
			if len(x.meta.ingests) > 0 {
				t.Error("still announced")
			}
		})
	}
}

// A session that was lost installs nothing of what it has gathered.
func TestLostSessionIngestsNothing(t *testing.T) {
	s, _ := bulkScript(20, 30)
	x, y := newDocsMember(t), newDocsMember(t)
	x.e.bulk.limits = smallBulk
	x.e.bulk.limits.table = 1 << 20
	y.follow(t, s, s.last())
	if err := x.RecordHole(1, s.last()); err != nil {
		t.Fatal(err)
	}
	session := x.BeginSession(9)
	answer := pageOf(t, y.Documents, 9, ListQuery{})
	wants, err := x.Wants(9, answer.Hashes(), Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	c := exportOver(t, y.Documents, 9, &ExportQuery{Wants: wants, Budget: 1500}, &traffic{})
	if _, err := session.Import(c); err != nil || len(session.bulk.docs) == 0 || x.Status().Documents != 0 {
		t.Fatalf("%d documents gathered, %+v, %v", len(session.bulk.docs), x.Status(), err)
	}
	x.e.bulk.written = func() { x.BeginSession(9) }
	if _, err := session.Finish(); err != ErrSessionLost {
		t.Errorf("finish: %v", err)
	}
	x.e.bulk.written = nil
	if n := x.e.bulk.gathered.Load(); x.Status().Documents != 0 || n != 0 || len(x.meta.ingests) > 0 {
		t.Errorf("%+v, %d bytes gathered, announced %v", x.Status(), n, x.meta.ingests)
	}
	mustHaveHeads(t, x.Documents)
	if left, err := x.e.files().List(x.e.files().PathJoin("docs", tableDir)); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// What all sessions of a host have gathered is bounded, however much each could gather.
func TestGatheredIsBoundedForTheHost(t *testing.T) {
	s, _ := bulkScript(60, 30)
	x, y := newDocsMember(t), newDocsMember(t)
	x.e.bulk.limits = bulkLimits{chunk: 1, table: 1 << 20, least: 1, total: 4000}
	y.follow(t, s, s.last())
	if err := x.RecordHole(1, s.last()); err != nil {
		t.Fatal(err)
	}
	most := int64(0)
	x.e.bulk.written = func() { most = max(most, x.e.bulk.gathered.Load()) }
	x.pullBucket(t, y, 9, 1000)
	x.mustEqual(t, y)
	if most == 0 || most > 2*(4000+2000) || x.e.bulk.gathered.Load() != 0 { // a chunk of 1,000 bytes takes twice that here, and buffers double
		t.Errorf("at most %d bytes gathered, %d left", most, x.e.bulk.gathered.Load())
	}
}

// A document that a reader waits for is there at once, also beside a large pull of the same bucket.
func TestImportAtOnceBesideALargePull(t *testing.T) {
	s, _ := bulkScript(20, 30)
	x, y := newDocsMember(t), newDocsMember(t)
	x.e.bulk.limits = smallBulk
	x.e.bulk.limits.table = 1 << 20
	y.follow(t, s, s.last())
	if err := x.RecordHole(1, s.last()); err != nil {
		t.Fatal(err)
	}
	session := x.BeginSession(9)
	hashes := pageOf(t, y.Documents, 9, ListQuery{}).Hashes()
	var wants []Want
	for _, hash := range hashes {
		wants = append(wants, Want{Hash: hash})
	}
	c := exportOver(t, y.Documents, 9, &ExportQuery{Wants: wants, Budget: 3000}, &traffic{})
	if _, err := session.Import(c); err != nil || len(session.bulk.docs) < 2 {
		t.Fatalf("%d documents gathered, %v", len(session.bulk.docs), err)
	}
	for _, hash := range []uint64{hashes[0], hashes[len(hashes)-1]} { // one that is gathered, and one that is not
		one := exportOver(t, y.Documents, 9, &ExportQuery{Wants: []Want{{Hash: hash}}, Budget: 1 << 20}, &traffic{})
		if _, err := session.ImportAtOnce(one); err != nil {
			t.Fatal(err)
		}
		h, ok, err := x.Head(one.Docs[0].Key)
		want, _, _ := y.Head(one.Docs[0].Key)
		if !ok || err != nil || h != want {
			t.Errorf("%+v, %v, %v, want %+v", h, ok, err, want)
		}
	}
	c = exportOver(t, y.Documents, 9, &ExportQuery{Wants: wants, From: c.Next, Budget: 1 << 20}, &traffic{})
	if _, err := session.Import(c); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Finish(); err != nil {
		t.Fatal(err)
	}
	mustHaveHeads(t, x.Documents)
	x.mustEqual(t, y)
}

// A power failure at any operation of the disk leaves documents with everything that belongs to them or nothing, and a
// member that can go on.
func TestCrashDuringIngest(t *testing.T) {
	s, _ := bulkScript(14, 30)
	y := newDocsMember(t)
	y.follow(t, s, s.last())
	for seed := range crashSeeds() {
		rec := newCrashRecorder(80 + seed)
		e, d := openMember(t, testOptions(rec.fs()))
		x := &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
		x.e.bulk.limits = smallBulk
		x.e.bulk.limits.table = 6000
		must(t, x.RecordHole(1, s.last()))
		rec.start()
		x.pullBucket(t, y, 9, 1500)
		must(t, x.e.Sync())
		rec.take()
		rec.acknowledged(1)
		if x.e.bulk.tables.Load() < 2 {
			t.Fatalf("%d tables", x.e.bulk.tables.Load())
		}
		must(t, e.Close())
		swept, part := 0, 0
		for i, image := range rec.images {
			e, err := OpenDocs(testOptions(image.fs))
			must(t, err)
			if _, closer, err := e.db.Get(appendMetaBucket(nil, 7, metaIngest, 9)); err == nil {
				swept++
				must(t, closer.Close())
			}
			d, err := e.Member(7, FullRange())
			must(t, err)
			mustHaveHeads(t, d)
			summary, _ := d.Summary()
			if summary != rebuild(t, d) {
				t.Fatalf("image %d: sums differ from a rebuild", i)
			}
			if n := d.Status().Documents; n > 0 && n < y.Status().Documents {
				part++
			}
			if h := d.Healed(9); image.durable == 1 && !h.Equal(interval.Of(1, s.last())) {
				t.Fatalf("image %d: healed %s", i, h)
			}
			m := &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
			m.pullBucket(t, y, 9, 1500)
			mustHaveHeads(t, d)
			sx, _ := m.Summary()
			sy, _ := y.Summary()
			if sx != sy {
				t.Fatalf("image %d: not what the peer has", i)
			}
			must(t, e.Close())
		}
		if swept == 0 || part == 0 {
			t.Errorf("%d images, %d announced, %d with a part", len(rec.images), swept, part)
		}
		t.Logf("%d images, %d announced, %d with a part", len(rec.images), swept, part)
	}
}

// What is merged and not gathered goes in pieces, so that commands get their turn; a large document is no exception.
func TestPiecesOfAChunk(t *testing.T) {
	s := newScript()
	large, small := keyInBucket(FullRange(), 9, 0), keyInBucket(FullRange(), 9, 1)
	s.create(large, 10)
	s.append(large, 2000, 1000)
	s.compact(large, 1990, bytes.Repeat([]byte("b"), 2*pieceBytes))
	s.create(small, 10)
	y := newDocsMember(t)
	y.follow(t, s, s.last())
	var wants []Want
	for _, key := range []Key{large, small} {
		wants = append(wants, Want{Hash: key.Hash()})
	}
	if wants[0].Hash > wants[1].Hash {
		wants[0], wants[1] = wants[1], wants[0]
	}
	c := exportOver(t, y.Documents, 9, &ExportQuery{Wants: wants, Budget: 1 << 30}, &traffic{})
	n, entries := 0, 0
	for p := (pieces{rest: append([]ChunkDoc(nil), c.Docs...)}); len(p.rest) > 0; n++ {
		docs := p.next()
		size := chunkBytes(&Chunk{Docs: docs})
		for i := range docs {
			entries += len(docs[i].Entries)
		}
		if size > pieceBytes+2000 && !docs[len(docs)-1].HasBase {
			t.Errorf("a piece of %d bytes", size)
		}
	}
	if n < 6 || entries != 1991 {
		t.Errorf("%d pieces with %d entries", n, entries)
	}
	x := newDocsMember(t)
	x.e.bulk.limits.chunk = math.MaxInt
	must(t, x.RecordHole(1, s.last()))
	report, err := x.importAlone(9, c)
	if err != nil || report.Entries != 1991 || len(c.Docs[0].Entries)+len(c.Docs[1].Entries) != 1991 {
		t.Errorf("%+v, %v", report, err)
	}
	mustHaveHeads(t, x.Documents)
	sx, _ := x.Summary()
	sy, _ := y.Summary()
	if sx != sy {
		t.Error("not what the peer has")
	}
}
