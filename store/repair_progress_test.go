package store

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// markAll marks all buckets but some as healed.
func (m *docsMember) markAll(t testing.TB, healed interval.Set, but ...uint8) {
	t.Helper()
	for b := range 256 {
		if !slices.Contains(but, uint8(b)) {
			if err := m.markHealed(uint8(b), healed, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestProgressAndHoles(t *testing.T) {
	x, s := newDocsMember(t), newScript()
	key := Key{"space", "doc"}
	s.create(key, 10)
	s.append(key, 20, 10)
	for range 20 {
		s.append(key, 1, 10)
	}
	x.follow(t, s, 20, interval.Range{First: 3, Last: 6}, interval.Range{First: 10, Last: 12})
	x.markAll(t, interval.Of(1, 10), 77)
	if closed, err := x.CloseHoles(); err != nil || !closed.Empty() {
		t.Fatalf("closed %s, %v, with one bucket to go", closed, err)
	}
	if h := x.Healed(3); !h.Equal(interval.Set{{First: 3, Last: 6}, {First: 10, Last: 10}}) || !x.Healed(77).Empty() {
		t.Fatalf("healed %s and %s", h, x.Healed(77))
	}
	if c := list77(t, x); !c.Equal(x.Coverage()) {
		t.Errorf("bucket 77 covers %s", c)
	}
	if l := pageOf(t, x.Documents, 3, ListQuery{}); !l.Coverage.Equal(x.Coverage().Union(x.Healed(3))) {
		t.Errorf("bucket 3 covers %s", l.Coverage)
	}
	if err := x.markHealed(77, interval.Of(4, 20), 25); err != nil {
		t.Fatal(err)
	}
	closed, err := x.CloseHoles()
	if err != nil || !closed.Equal(interval.Set{{First: 4, Last: 6}, {First: 10, Last: 10}}) {
		t.Fatalf("closed %s, %v", closed, err)
	}
	st := x.Status()
	if !st.Holes.Equal(interval.Set{{First: 3, Last: 3}, {First: 11, Last: 12}}) || st.Ahead != 25 || st.Complete {
		t.Errorf("status %+v", st)
	}
	if !x.Healed(3).Equal(interval.Of(3, 3)) || !x.Healed(77).Equal(interval.Of(11, 12)) {
		t.Errorf("progress %s and %s is not trimmed", x.Healed(3), x.Healed(77))
	}
	x.markAll(t, interval.Of(1, math.MaxUint64))
	if _, err := x.CloseHoles(); err != nil {
		t.Fatal(err)
	}
	if st := x.Status(); !st.Holes.Empty() || st.Complete || !x.Healed(77).Empty() || !x.Healed(3).Empty() {
		t.Errorf("without holes, and not yet at 25: %+v", st)
	}
}

func list77(t testing.TB, m *docsMember) interval.Set {
	return pageOf(t, m.Documents, 77, ListQuery{}).Coverage
}

// Delete records go when the member becomes complete: by closing its holes, or by applying what it learned ahead.
func TestDeleteRecordsGoWithCompleteness(t *testing.T) {
	for _, ahead := range []uint64{0, 5} {
		x, s := newDocsMember(t), newScript()
		a, b := Key{"space", "a"}, Key{"space", "b"}
		s.create(a, 10)
		s.create(b, 10)
		s.append(b, 1, 10)
		s.delete(a)
		s.append(b, 1, 10)
		x.follow(t, s, 4, interval.Range{First: 3, Last: 3})
		if n := x.Status().DeleteRecords; n != 1 {
			t.Fatalf("%d delete records while sick", n)
		}
		x.markAll(t, interval.Of(3, 3), 0)
		if err := x.markHealed(0, interval.Of(3, 3), ahead); err != nil {
			t.Fatal(err)
		}
		if _, err := x.CloseHoles(); err != nil {
			t.Fatal(err)
		}
		if n := x.Status().DeleteRecords; n != int64(min(1, ahead)) {
			t.Errorf("ahead %d: %d delete records without holes", ahead, n)
		}
		x.follow(t, s, 5)
		if st := x.Status(); st.DeleteRecords != 0 || !st.Complete {
			t.Errorf("ahead %d: %+v", ahead, st)
		}
	}
}

func TestSessionRules(t *testing.T) {
	x, s := newDocsMember(t), newScript()
	key := Key{"space", "doc"}
	s.create(key, 10)
	for range 30 {
		s.append(key, 1, 10)
	}
	x.follow(t, s, 10, interval.Range{First: 3, Last: 6})
	session := x.BeginSession(5)
	session.Answer(interval.Of(1, 20), 20, 22)
	x.follow(t, s, 20, interval.Range{First: 12, Last: 14}) // a hole that appears meanwhile
	session.Answer(interval.Set{{First: 1, Last: 4}, {First: 6, Last: 30}}, 30, 0)
	healed, err := session.Finish()
	if err != nil || !healed.Equal(interval.Set{{First: 1, Last: 4}, {First: 6, Last: 10}}) {
		t.Fatalf("healed %s, %v", healed, err)
	}
	if h := x.Healed(5); !h.Equal(interval.Set{{First: 3, Last: 4}, {First: 6, Last: 6}}) || x.Status().Ahead != 30 {
		t.Errorf("recorded %s, status %+v", h, x.Status())
	}
	if _, err := session.Finish(); !errors.Is(err, ErrSessionLost) {
		t.Errorf("a second end: %v", err)
	}
	if _, err := x.BeginSession(5).Finish(); err == nil {
		t.Error("a session without an answer heals")
	}

	empty := &Chunk{Bucket: 5, Done: true, Coverage: interval.Of(1, 20), Applied: 20}
	for name, disturb := range map[string]func(){
		"another session": func() { x.BeginSession(5) },
		"an import":       func() { _, _ = x.importAlone(5, empty) },
		"marked healed":   func() { _ = x.markHealed(5, interval.Of(4, 4), 0) },
	} {
		session := x.BeginSession(5)
		if _, err := session.Import(empty); err != nil {
			t.Fatal(err)
		}
		disturb()
		if _, err := session.Import(empty); !errors.Is(err, ErrSessionLost) {
			t.Errorf("%s: import: %v", name, err)
		}
		if _, err := session.Finish(); !errors.Is(err, ErrSessionLost) {
			t.Errorf("%s: finish: %v", name, err)
		}
	}
	session = x.BeginSession(5)
	if _, err := x.importAlone(6, &Chunk{Bucket: 6, Done: true}); err != nil {
		t.Fatal(err)
	}
	session.Answer(interval.Of(1, 20), 20, 0)
	if _, err := session.Finish(); err != nil {
		t.Errorf("an import into another bucket: %v", err)
	}
}

// Everything of repair survives a crash after the next sync, in the order it was written, and nothing half.
func TestCrashBetweenTheStepsOfRepair(t *testing.T) {
	s := newScript()
	var keys []Key
	for i := range 12 {
		keys = append(keys, keyInBucket(FullRange(), uint8(i%3), i))
		s.create(keys[i], 10)
		s.append(keys[i], 3, 10)
	}
	y := newDocsMember(t)
	y.follow(t, s, s.last())
	seeds := int64(5)
	if slowBuild {
		seeds = 1
	}
	for seed := range seeds {
		r := newRand(seed)
		fs := vfs.NewCrashableMem()
		var clones []*vfs.MemFS
		x := openCrash(t, fs)
		if err := x.RecordHole(1, s.last()); err != nil {
			t.Fatal(err)
		}
		step := func() {
			clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * r.IntN(3), RNG: r}))
		}
		step()
		for b := range 256 {
			session := x.BeginSession(uint8(b))
			answer := pageOf(t, y.Documents, uint8(b), ListQuery{})
			session.Answer(answer.Coverage, answer.Applied, answer.Ahead)
			x.pullHashes(t, session, y, uint8(b), answer.Hashes(), 150)
			if b < 5 || b > 250 {
				step()
			}
			if _, err := session.Finish(); err != nil {
				t.Fatal(err)
			}
			if b < 5 || b > 250 {
				step()
			}
			if b == 1 {
				if err := x.e.Sync(); err != nil {
					t.Fatal(err)
				}
				step()
			}
		}
		if closed, err := x.CloseHoles(); err != nil || !closed.Equal(interval.Of(1, s.last())) {
			t.Fatalf("closed %s, %v", closed, err)
		}
		step()
		if err := x.e.Close(); err != nil {
			t.Fatal(err)
		}
		for n, clone := range clones {
			verifyAfterCrash(t, openCrash(t, clone), y, s, n == len(clones)-1)
		}
	}
}

func openCrash(t testing.TB, fs *vfs.MemFS) *docsMember {
	t.Helper()
	e, err := OpenDocs(testOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Member(7, FullRange())
	if err != nil {
		t.Fatal(err)
	}
	return &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
}

// verifyAfterCrash: what is marked as healed is there; and repair goes on with the rest only.
func verifyAfterCrash(t *testing.T, x, y *docsMember, s *script, done bool) {
	t.Helper()
	defer func() { _ = x.e.Close() }()
	st := x.Status()
	if st.Complete != done || st.Applied != s.last() {
		t.Fatalf("after the crash: %+v", st)
	}
	mine, _ := x.Summary()
	theirs, _ := y.Summary()
	for b := range 256 {
		if !x.Healed(uint8(b)).Empty() && mine[b] != theirs[b] {
			t.Fatalf("bucket %d is marked as healed and is not", b)
		}
	}
	if done {
		x.mustEqual(t, y)
		return
	}
	for b := range 3 { // where the documents are
		if x.Healed(uint8(b)).Empty() {
			x.pullBucket(t, y, uint8(b), 1000)
		}
	}
	x.markAll(t, interval.Of(1, s.last()))
	if _, err := x.CloseHoles(); err != nil {
		t.Fatal(err)
	}
	x.mustEqual(t, y)
	if !x.Status().Complete {
		t.Errorf("status %+v", x.Status())
	}
}

// A member that was healed answers for the past only where it was what the log prescribes. Here the hole hides a creation;
// the deletion, applied at 5, has made that good, and a peer that has applied 3 has nothing to teach any more.
func TestHealedMemberForgetsItsPast(t *testing.T) {
	s := newScript()
	kept, gone := keyInBucket(FullRange(), 9, 1), keyInBucket(FullRange(), 9, 2)
	s.create(kept, 10)
	s.create(gone, 10)
	s.append(kept, 1, 10)
	s.append(kept, 1, 10)
	s.delete(gone)
	s.append(kept, 1, 10)
	x, y := newDocsMember(t), newDocsMember(t)
	x.follow(t, s, 6, interval.Range{First: 2, Last: 2})
	y.follow(t, s, 3)
	if moved := x.pullAll(t, y); moved.report.Documents > 0 || !x.Status().Complete {
		t.Fatalf("%+v, %+v", moved.report, x.Status())
	}
	s.append(kept, 1, 10)
	x.follow(t, s, 7)
	answered := 0
	for i := uint64(1); i <= 7; i++ {
		truth := newDocsMember(t)
		truth.follow(t, s, i)
		want, _ := truth.Summary()
		got, ok := x.SummaryAt(i)
		if ok {
			answered++
		}
		if ok && *got != want {
			t.Errorf("a complete member differs from the log at %d", i)
		}
	}
	if answered != 2 { // 6, where the hole was closed, and 7
		t.Errorf("%d indexes answered for", answered)
	}
}
