package store

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/internal/spoil"
)

// A part of a document that does not link to the part before it is refused, whichever way the parts are stored.
func TestPartsOfADocumentLink(t *testing.T) {
	s := newScript()
	key := keyInBucket(FullRange(), 9, 0)
	s.create(key, 100)
	s.append(key, 200, 100)
	y := newDocsMember(t)
	y.follow(t, s, s.last())
	for name, bulk := range map[string]bool{"merged": false, "ingested": true} {
		t.Run(name, func(t *testing.T) {
			x := newDocsMember(t)
			if bulk {
				x.e.bulk.limits = smallBulk
				x.e.bulk.limits.table = 1 << 20
			}
			must(t, x.RecordHole(1, s.last()))
			session := x.BeginSession(9)
			q := &ExportQuery{Wants: []Want{{Hash: key.Hash()}}, Budget: 4000}
			for n := 0; ; n++ {
				c := exportOver(t, y.Documents, 9, q, &traffic{})
				if n == 1 {
					delta := bytes.Clone(c.Docs[0].Entries[0].Delta)
					delta[bytes.LastIndexByte(delta, delta[len(delta)/2])] ^= 1
					c.Docs[0].Entries[0].Delta = delta
				}
				report, err := session.Import(c)
				if err != nil || len(report.Divergent) > 0 {
					if n != 1 {
						t.Errorf("refused at part %d: %+v, %v", n, report.Divergent, err)
					}
					return
				}
				if c.Done {
					break
				}
				q.From = c.Next
			}
			t.Error("taken")
		})
	}
}

// A member that has lost an entry, and does not know it yet, exports nothing of the document.
func TestLostEntryIsNotExportedOver(t *testing.T) {
	s := newScript()
	key := keyInBucket(FullRange(), 9, 0)
	s.create(key, 100)
	for _, n := range []int{15, 3, 32} {
		s.append(key, n, 100)
	}
	for name, lost := range map[string][]int64{"first": {s.heads[key].Floor + 1}, "middle": {20}, "last": {s.heads[key].HeadSeq}, "of a gap": {20}} {
		for _, budget := range []int{500, 1 << 20} {
			y := newDocsMember(t)
			if name == "of a gap" {
				y.follow(t, s, s.last(), interval.Range{First: 3, Last: 3})
				budget = 1 << 20
			} else {
				y.follow(t, s, s.last())
			}
			if h, _, err := y.Head(key); err != nil || h.Gap() != (name == "of a gap") {
				t.Fatalf("%s: %+v, %v", name, h, err)
			}
			p, err := y.place(key)
			must(t, err)
			for _, seq := range lost {
				must(t, y.e.db.Delete(appendEntry(nil, 7, p, 1, seq), nil))
			}
			var bad *CorruptionError
			q := &ExportQuery{Wants: []Want{{Hash: key.Hash()}}, Budget: budget}
			for c := (&Chunk{}); !c.Done; q.From = c.Next {
				if c, err = y.Export(9, q); err != nil {
					break
				}
			}
			if !errors.As(err, &bad) || bad.Key != key {
				t.Errorf("%s, budget %d: %v", name, budget, err)
			}
		}
	}
}

// A peer that covers a document and sends it with an entry missing heals nothing: nobody becomes complete with a gap.
func TestGapIsNotHealed(t *testing.T) {
	s := newScript()
	key := keyInBucket(FullRange(), 9, 0)
	s.create(key, 100)
	s.append(key, 50, 100)
	y := newDocsMember(t)
	y.follow(t, s, s.last())
	for _, budget := range []int{2000, 1 << 20} {
		for name, bulk := range map[string]bulkLimits{"merged": defaultBulkLimits, "ingested": smallBulk} {
			x := newDocsMember(t)
			x.e.bulk.limits = bulk
			x.e.bulk.limits.table = 1 << 20
			must(t, x.RecordHole(1, s.last()))
			for again := range 2 { // what the first session left does not make the second one's gap one to be healed
				session := x.BeginSession(9)
				var from Cursor
				for c := (&Chunk{}); !c.Done; from = c.Next {
					wants, err := x.Wants(9, []uint64{key.Hash()}, from)
					must(t, err)
					c = exportOver(t, y.Documents, 9, &ExportQuery{Wants: wants, From: from, Budget: budget}, &traffic{})
					must(t, verifyChunk(FullRange(), c))
					for i := range c.Docs {
						entries := c.Docs[i].Entries
						for j := range entries {
							entries[j].Linked = false
						}
						c.Docs[i].Entries = slices.DeleteFunc(entries, func(e ChunkEntry) bool { return e.End == 20 })
					}
					if _, err := session.Import(c); err != nil && !errors.As(err, new(*ChunkError)) {
						t.Fatal(err)
					}
				}
				healed, err := session.Finish()
				if err == nil || !x.Healed(9).Empty() {
					t.Errorf("%s, budget %d, time %d: healed %s, %v", name, budget, again, healed, err)
				}
				session.Abandon()
			}
			x.pullBucket(t, y, 9, budget) // as it is
			if h, ok, err := x.Head(key); err != nil || !ok || h.Gap() || x.Healed(9).Empty() {
				t.Errorf("%s, budget %d: %+v, %v", name, budget, h, err)
			}
		}
	}
}

// A session that is lost withdraws no announcement that the session that took the bucket over rests on.
func TestLostSessionKeepsAnnouncement(t *testing.T) {
	s, _ := bulkScript(14, 30)
	y := newDocsMember(t)
	y.follow(t, s, s.last())
	rec := newCrashRecorder(7)
	e, d := openMember(t, testOptions(rec.fs()))
	x := &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
	e.bulk.limits = smallBulk
	e.bulk.limits.table = 1 << 20
	must(t, x.RecordHole(1, s.last()))
	var wants []Want
	for _, hash := range pageOf(t, y.Documents, 9, ListQuery{}).Hashes() {
		wants = append(wants, Want{Hash: hash})
	}
	pull := func() *Session {
		session := x.BeginSession(9)
		_, err := session.Import(exportOver(t, y.Documents, 9, &ExportQuery{Wants: wants, Budget: 3000}, &traffic{}))
		must(t, err)
		if len(session.bulk.docs) == 0 {
			t.Fatal("nothing gathered")
		}
		return session
	}
	lost, session := pull(), pull()
	inside := false
	e.bulk.written = func() {
		if inside {
			return
		}
		inside = true
		lost.Abandon()
		must(t, e.Sync()) // of the host's tick
		rec.start()
	}
	must(t, session.flushBulk())
	rec.stop()
	if !inside || len(x.meta.ingests) > 0 || x.ingesting != nil {
		t.Errorf("met: %v; announced at the end: %v, %v", inside, x.meta.ingests, x.ingesting)
	}
	must(t, e.Close())
	for i, image := range rec.images {
		e, d := openMember(t, testOptions(image.fs))
		mustHaveHeads(t, d)
		must(t, e.Close())
		if t.Failed() {
			t.Fatalf("image %d of %d", i, len(rec.images))
		}
	}
	if len(rec.images) < 5 {
		t.Errorf("%d images", len(rec.images))
	}
}

// What is gathered takes about as much memory as is said, in however many buckets, and buffers are counted as they are.
func TestGatheredBuffersAreBounded(t *testing.T) {
	s := newScript()
	const buckets = 64
	keys := make([]Key, buckets)
	for b := range buckets {
		keys[b] = keyInBucket(FullRange(), uint8(b), 0)
		s.create(keys[b], 10)
		s.append(keys[b], 20, 5000)
	}
	y, x := newDocsMember(t), newDocsMember(t)
	y.follow(t, s, s.last())
	must(t, x.RecordHole(1, s.last()))
	var sessions []*Session
	held := 0
	for b := range buckets {
		session := x.BeginSession(uint8(b))
		sessions = append(sessions, session)
		_, err := session.Import(exportOver(t, y.Documents, uint8(b), &ExportQuery{Wants: []Want{{Hash: keys[b].Hash()}}, Budget: 90_000}, &traffic{}))
		must(t, err)
		for _, block := range session.bulk.records.blocks {
			held += cap(block)
		}
	}
	if n := x.e.bulk.gathered.Load(); held == 0 || int64(held) != n || n > x.e.bulk.limits.total {
		t.Errorf("%d sessions hold buffers of %d bytes, %d counted, with a bound of %d", buckets, held, n, x.e.bulk.limits.total)
	}
	for _, session := range sessions {
		session.Abandon()
	}
	if n := x.e.bulk.gathered.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

// A document that a command brings here while tables are written, and that contradicts the peer's, is told of.
func TestDivergenceOfWhatWasGatheredIsReported(t *testing.T) {
	key := keyInBucket(FullRange(), 9, 0)
	var scripts [2]*script
	for i := range scripts {
		scripts[i] = newScript()
		scripts[i].create(keyInBucket(FullRange(), 8, 0), 10)
		scripts[i].create(key, 100+i)
		scripts[i].append(key, 50, 100)
	}
	x, y := newDocsMember(t), newDocsMember(t)
	x.e.bulk.limits = smallBulk
	x.e.bulk.limits.table = 1 << 20
	y.follow(t, scripts[0], scripts[0].last())
	must(t, x.RecordHole(1, 1))
	session := x.BeginSession(9)
	var reported []Divergence
	q := &ExportQuery{Wants: []Want{{Hash: key.Hash()}}, Budget: 2000}
	for c := (&Chunk{}); !c.Done; q.From = c.Next {
		c = exportOver(t, y.Documents, 9, q, &traffic{})
		report, err := session.Import(c)
		must(t, err)
		reported = append(reported, report.Divergent...)
	}
	x.e.bulk.written = func() { x.follow(t, scripts[1], 2) }
	if _, err := session.Finish(); err != ErrSessionDiverged {
		t.Errorf("finish: %v", err)
	}
	if reported = append(reported, session.Diverged()...); len(reported) != 1 || reported[0].Key != key || session.Diverged() != nil {
		t.Errorf("reported %v", reported)
	}
}

// TestFinishThatFailsEndsItsSession: what it failed for is damage of the member's own records, and the scrub that has to take that out
// waits for the bucket's session to end.
func TestFinishThatFailsEndsItsSession(t *testing.T) {
	const n = 60
	mem := vfs.NewMem()
	o := testOptions(mem)
	o.CacheBytes = 1
	s := newScript()
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = keyInBucket(FullRange(), 9, i)
	}
	fill := func(from int) {
		for i := from; i < n; i += 2 {
			s.create(keys[i], 10)
			s.append(keys[i], 40, 200)
		}
	}
	fill(0)
	had := s.last()
	fill(1)
	m, peer := &docsMember{room: wantRoom{maxWantRanges, maxWantScan}}, newDocsMember(t)
	m.e, m.Documents = openMember(t, o)
	m.follow(t, s, had)
	peer.follow(t, s, s.last())
	must(t, m.e.db.Flush())
	lower, upper := prefixRange(appendPartition(nil, 7))
	must(t, m.e.db.Compact(context.Background(), lower, upper, false))
	must(t, m.e.Close())
	must(t, spoil.Tables(mem, "docs", 20_000))
	m.e, m.Documents = openMember(t, o)
	defer func() { _ = m.e.Close() }()
	must(t, m.RecordHole(had+1, s.last()))

	session := m.BeginSession(9)
	theirs, err := peer.List(9, ListQuery{Since: had})
	must(t, err)
	session.Answer(theirs.Coverage, theirs.Applied, theirs.Ahead)
	mine, err := m.List(9, ListQuery{Since: had, Also: theirs.Hashes()})
	must(t, err)
	plan, err := Compare(mine, theirs)
	must(t, err)
	m.pullHashes(t, session, peer, 9, slices.Clone(plan.Hashes()), 1<<20)
	if _, err = session.Finish(); !errors.As(err, new(*CorruptionError)) {
		t.Fatalf("the pull did not meet the damage: %v", err)
	}
	if report, err := m.ScrubBucket(context.Background(), 9, nil); err != nil || report.Found == 0 {
		t.Errorf("scrub of the bucket: %+v, %v", report, err)
	}
}

// TestLargePullsLeaveNoTables: not those of documents that consist of a base, nor those of a member that goes before they are given to the
// engine.
func TestLargePullsLeaveNoTables(t *testing.T) {
	pull := func(t *testing.T, s *script, change func(m *docsMember)) {
		mem := vfs.NewMem()
		peer := newDocsMember(t)
		peer.follow(t, s, s.last())
		m := &docsMember{room: wantRoom{maxWantRanges, maxWantScan}}
		m.e, m.Documents = openMember(t, testOptions(mem))
		defer func() { _ = m.e.Close() }()
		must(t, m.RecordHole(1, s.last()))
		change(m)
		session := m.BeginSession(9)
		theirs, err := peer.List(9, ListQuery{})
		must(t, err)
		session.Answer(theirs.Coverage, theirs.Applied, theirs.Ahead)
		m.pullHashes(t, session, peer, 9, theirs.Hashes(), 1<<20)
		_, err = session.Finish()
		left, listErr := mem.List(mem.PathJoin("docs", tableDir))
		must(t, listErr)
		if len(left) > 0 {
			t.Errorf("left: %v (finish: %v)", left, err)
		}
		if m.e.bulk.files.Load() == 0 {
			t.Errorf("no table was written, so this shows nothing (finish: %v)", err)
		}
	}
	t.Run("bases alone", func(t *testing.T) {
		s := newScript()
		for i := range 6 {
			k := keyInBucket(FullRange(), 9, i)
			s.create(k, 10)
			s.compact(k, 0, bytes.Repeat([]byte{byte(i)}, 100_000))
		}
		pull(t, s, func(*docsMember) {})
	})
	t.Run("member dropped", func(t *testing.T) {
		s, _ := bulkScript(40, 30)
		pull(t, s, func(m *docsMember) {
			m.e.bulk.limits = smallBulk
			m.e.bulk.limits.table = 1 << 20
			m.e.bulk.written = func() { must(t, m.e.Drop(7)) }
		})
	})
}
