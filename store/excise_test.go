package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/internal/spoil"
)

// TestScrubOfDamagedTable: the engine finds a damaged block itself, and the bucket goes as a whole, out of the files too.
func TestScrubOfDamagedTable(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	o.CacheBytes = 1
	s := newScript()
	for i := range 40 {
		key := keyInBucket(FullRange(), uint8(scrubbed+i%3-1), i)
		s.create(key, 10)
		s.append(key, 40, 200)
	}
	m, peer := newDocsMember(t), newDocsMember(t)
	e, d := openMember(t, o)
	m.Documents, m.e = d, e
	m.follow(t, s, s.last())
	peer.follow(t, s, s.last())
	must(t, e.db.Flush())
	lower, upper := prefixRange(appendPartition(nil, 7))
	must(t, e.db.Compact(context.Background(), lower, upper, false))
	must(t, e.Close())
	must(t, spoil.Tables(mem, "docs", 20_000))
	e, d = openMember(t, o)
	m.Documents, m.e = d, e
	defer func() { _ = e.Close() }()
	r := &scrubRun{t: t, m: m, peer: peer}
	damaged := 0
	for b := range 256 {
		report := r.scrub(uint8(b))
		if report.Found == 0 {
			continue
		}
		damaged++
		if !report.Damaged.Whole || report.Findings[0].Kind != "engine" || !strings.Contains(fmt.Sprint(report.Findings), "orrupt") {
			t.Fatalf("bucket %d: %v", b, report.Findings)
		}
		done, err := m.Damage(uint8(b), report.Damaged)
		must(t, err)
		if done.Unreclaimed != "" || !done.Whole || done.Documents == 0 {
			t.Errorf("bucket %d: %+v", b, done)
		}
	}
	if damaged == 0 || damaged > 2 {
		t.Fatalf("%d buckets were damaged", damaged)
	}
	m.pullAll(t, peer)
	m.mustEqual(t, peer)
	r.mustReadAlike()
	for b := range 256 {
		if again := r.scrub(uint8(b)); again.Found > 0 {
			t.Fatalf("bucket %d after healing: %v", b, again.Findings)
		}
	}
	must(t, e.db.Compact(context.Background(), lower, upper, false)) // nothing damaged is left to be met
}

// newBlocksRun makes a member with a document in each bucket, in tables of which the middle is damaged, and a peer.
func newBlocksRun(t *testing.T, mem *vfs.MemFS, files vfs.FS) *scrubRun {
	t.Helper()
	o := testOptions(files)
	o.CacheBytes = 1
	s := newScript()
	for i := range 256 {
		key := keyInBucket(FullRange(), uint8(i), i)
		s.create(key, 10)
		s.append(key, 3, 50)
	}
	m, peer := &docsMember{}, newDocsMember(t)
	m.e, m.Documents = openMember(t, o)
	m.follow(t, s, s.last())
	peer.follow(t, s, s.last())
	must(t, m.e.db.Flush())
	must(t, m.e.Close())
	must(t, spoil.Tables(mem, "docs", 20_000))
	m.e, m.Documents = openMember(t, o)
	return &scrubRun{t: t, m: m, peer: peer}
}

// unreadable lists the buckets of which a scrub cannot read all.
func (r *scrubRun) unreadable() (buckets []uint8) {
	r.t.Helper()
	for b := range 256 {
		if report := r.scrub(uint8(b)); report.Damaged.Whole {
			buckets = append(buckets, uint8(b))
		} else if report.Found > 0 {
			r.t.Fatalf("bucket %d: %v", b, report.Findings)
		}
	}
	return buckets
}

// TestDamagedBlockOfManyBuckets: a block holds records of many buckets. All of them go at once, none that can be read goes
// along, and the block is gone from the files. That others have begun to repair some of them does not matter.
func TestDamagedBlockOfManyBuckets(t *testing.T) {
	mem := vfs.NewMem()
	r := newBlocksRun(t, mem, mem)
	m, peer := r.m, r.peer
	defer func() { _ = m.e.Close() }()
	lost := r.unreadable()
	if len(lost) < 4 || len(lost) > 100 {
		t.Fatalf("%d buckets cannot be read", len(lost))
	}
	past, ok := m.PastAt(m.Applied())
	middle := lost[len(lost)/2]
	for _, b := range []uint8{lost[0], middle, lost[len(lost)-1]} { // whichever is met first
		session := m.BeginSession(lost[len(lost)-1])
		session.Answer(interval.Of(1, m.Applied()), m.Applied(), 0)
		done, err := m.Damage(b, Damaged{Whole: true})
		must(t, err)
		if b == lost[0] {
			if !slices.Equal(done.Buckets, lost) || done.Documents != int64(len(lost)) {
				t.Fatalf("bucket %d: %+v, unreadable are %d", b, done, lost)
			}
			if got, want := m.Status(), peer.Status(); got.Documents != want.Documents-int64(len(lost)) || got.Bytes != want.Bytes-done.Bytes || got.Complete {
				t.Errorf("status %+v", got)
			}
			if _, err := session.Finish(); !errors.Is(err, ErrSessionLost) {
				t.Errorf("a session of a bucket that went: %v", err)
			}
			if !ok || !errors.Is(m.MarkProven(middle, past), ErrProofLost) {
				t.Error("a proof of before is still one")
			}
		} else if !slices.Equal(done.Buckets, []uint8{b}) {
			t.Errorf("bucket %d, when nothing is damaged: %+v", b, done)
		}
		if done.Unreclaimed != "" || !done.Whole {
			t.Errorf("bucket %d: %+v", b, done)
		}
	}
	if got, _ := m.Summary(); got != rebuild(t, m.Documents) {
		t.Error("the sums are not those of what is left")
	}
	for b := range 256 {
		want := interval.Of(1, m.Applied())
		if slices.Contains(lost, uint8(b)) {
			want = nil
		}
		if got := m.Healed(uint8(b)); !got.Equal(want) {
			t.Errorf("bucket %d holds %s, want %s", b, got, want)
		}
	}
	r.mustHeal()
}

// mustHeal pulls everything, and expects nothing damaged to be left to be met.
func (r *scrubRun) mustHeal() {
	r.t.Helper()
	r.m.pullAll(r.t, r.peer)
	if !r.m.Complete() {
		r.t.Fatalf("not complete: %+v", r.m.Status())
	}
	r.m.mustEqual(r.t, r.peer)
	r.mustReadAlike()
	if left := r.unreadable(); len(left) > 0 {
		r.t.Fatalf("buckets %d cannot be read", left)
	}
}

// TestReclaim: while somebody reads, what was removed cannot be cut out. Trying again changes nothing until it can be, and
// then takes what was pulled meanwhile along.
func TestReclaim(t *testing.T) {
	mem := vfs.NewMem()
	r := newBlocksRun(t, mem, mem)
	defer func() { _ = r.m.e.Close() }()
	lost := r.unreadable()
	v, err := r.m.View(keyInBucket(FullRange(), 0, 0))
	must(t, err)
	done, err := r.m.Damage(lost[1], Damaged{Whole: true})
	must(t, err)
	if done.Unreclaimed == "" || !slices.Equal(done.Buckets, lost) {
		t.Fatalf("%+v", done)
	}
	before := r.m.Status()
	if _, err := r.m.Reclaim(lost[1], nil); !errors.Is(err, errExciseBusy) {
		t.Fatalf("while somebody reads: %v", err)
	}
	if after := r.m.Status(); after.Root != before.Root || !after.Holes.Equal(before.Holes) {
		t.Error("a vain attempt changed the member")
	}
	must(t, v.Close())
	r.m.pullBucket(t, r.peer, lost[0], 1<<20)
	reports, err := r.m.Reclaim(lost[1], nil)
	if done = reports[7]; err != nil || len(reports) != 1 || done.Unreclaimed != "" || !slices.Equal(done.Buckets, lost) || done.Documents > 1 {
		t.Fatalf("%+v, %v", reports, err)
	}
	r.mustHeal()
	lower, upper := prefixRange(appendPartition(nil, 7))
	must(t, r.m.e.db.Compact(context.Background(), lower, upper, false)) // nothing damaged is left to be met
}
