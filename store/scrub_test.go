package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// scrubRun is a member whose bucket 10 is damaged, with a peer to heal from. Both have documents elsewhere, too.
type scrubRun struct {
	t       *testing.T
	m, peer *docsMember
	key     Key // with a base, and deltas before and behind it
	next    Key // of the same bucket, of deltas only
	p       place
	head    Head
}

const scrubbed = 10 // the bucket

func newScrubRun(t *testing.T) *scrubRun {
	s := newScript()
	r := &scrubRun{t: t, m: newDocsMember(t), peer: newDocsMember(t), key: keyInBucket(FullRange(), scrubbed, 0), next: keyInBucket(FullRange(), scrubbed, 1)}
	for i := range 6 {
		key := keyInBucket(FullRange(), uint8(scrubbed+i/4), i)
		s.create(key, 10)
		s.append(key, 6, 30)
		s.append(key, 2, 30)
	}
	s.compact(r.key, 4, []byte(`{"snapshot":true}`))
	s.append(r.key, 3, 30)
	gone := keyInBucket(FullRange(), scrubbed, 9)
	s.create(gone, 10)
	s.delete(gone)
	r.m.follow(t, s, s.last())
	r.peer.follow(t, s, s.last())
	var err error
	r.p, err = r.m.place(r.key)
	must(t, err)
	r.head, _, err = r.m.Documents.Head(r.key)
	must(t, err)
	return r
}

func (r *scrubRun) scrub(bucket uint8) *ScrubReport {
	r.t.Helper()
	report, err := r.m.ScrubBucket(context.Background(), bucket, nil)
	must(r.t, err)
	return report
}

// heal removes what a report names, pulls it, and reads everything back.
func (r *scrubRun) heal(report *ScrubReport) traffic {
	r.t.Helper()
	_, err := r.m.Damage(report.Bucket, report.Damaged)
	must(r.t, err)
	if got, _ := r.m.Summary(); got != rebuild(r.t, r.m.Documents) || r.m.Complete() {
		r.t.Fatal("the sums are not those of what is left, or the member is complete")
	}
	moved := r.m.pullBucket(r.t, r.peer, report.Bucket, 1<<20)
	if _, err := r.m.CloseHoles(); err != nil || !r.m.Complete() {
		r.t.Fatalf("close holes: %v; complete %v", err, r.m.Complete())
	}
	r.m.mustEqual(r.t, r.peer)
	r.mustReadAlike()
	for b := range 256 {
		if again := r.scrub(uint8(b)); again.Found > 0 {
			r.t.Fatalf("bucket %d after healing: %+v", b, again.Findings)
		}
	}
	return moved
}

// mustReadAlike compares all records of both members' documents.
func (r *scrubRun) mustReadAlike() {
	r.t.Helper()
	mine, theirs := rawRecords(r.t, r.m), rawRecords(r.t, r.peer)
	if len(mine) != len(theirs) {
		r.t.Fatalf("%d records, the peer has %d", len(mine), len(theirs))
	}
	for k, v := range theirs {
		if mine[k] != v {
			r.t.Fatalf("record %x: %x, the peer has %x", k, mine[k], v)
		}
	}
}

func rawRecords(t *testing.T, m *docsMember) map[string]string {
	t.Helper()
	must(t, m.Flush())
	lower, upper := prefixRange(append(appendPartition(nil, 7), sectionDocuments))
	it, err := m.e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	must(t, err)
	records := map[string]string{}
	for ok := it.First(); ok; ok = it.Next() {
		records[string(it.Key())] = string(it.Value())
	}
	must(t, it.Close())
	return records
}

func (r *scrubRun) get(key []byte) []byte {
	r.t.Helper()
	v, ok, err := get(r.m.e.db, key)
	must(r.t, err)
	if !ok {
		r.t.Fatalf("no record %x", key)
	}
	return v
}

func (r *scrubRun) set(key, value []byte) { must(r.t, r.m.e.db.Set(key, value, pebble.NoSync)) }
func (r *scrubRun) delete(key []byte)     { must(r.t, r.m.e.db.Delete(key, pebble.NoSync)) }

// flip damages a bit of a record without making its checksum fit.
func (r *scrubRun) flip(key []byte) {
	v := r.get(key)
	v[len(v)/2] ^= 0x10
	r.set(key, v)
}

// forge changes an entry of the document and makes its checksum fit.
func (r *scrubRun) forge(seqEnd int64, change func(*Entry)) {
	key := appendEntry(nil, 7, r.p, r.head.Generation, seqEnd)
	e, err := decodeEntryValue(r.get(key))
	must(r.t, err)
	e.Redo = bytes.Clone(e.Redo)
	change(&e)
	r.set(key, appendEntryValue(nil, &e))
}

func (r *scrubRun) forgeHead(change func(*Head)) {
	h := r.head
	change(&h)
	r.set(appendDocument(nil, 7, r.p, kindHead), appendHeadValue(nil, &h))
}

// scrubDamage is everything that a scrub must find, and what it is called.
var scrubDamage = []struct {
	name string
	kind string // of the first finding
	do   func(r *scrubRun)
}{
	{"flipped entry", "entry", func(r *scrubRun) { r.flip(appendEntry(nil, 7, r.p, r.head.Generation, r.head.HeadSeq-1)) }},
	{"flipped base", "base", func(r *scrubRun) { r.flip(appendGeneration(nil, 7, r.p, kindBase, r.head.Generation)) }},
	{"flipped head", "sum", func(r *scrubRun) { r.flip(appendDocument(nil, 7, r.p, kindHead)) }},
	{"forged delta", "entry", func(r *scrubRun) { r.forge(r.head.HeadSeq-1, func(e *Entry) { e.Redo[0] ^= 1 }) }},
	{"forged first delta", "entry", func(r *scrubRun) {
		r.key = r.next
		r.p, _ = r.m.place(r.key)
		r.head, _, _ = r.m.Documents.Head(r.key)
		r.forge(r.head.Floor+1, func(e *Entry) { e.Redo[0] ^= 1 })
	}},
	{"forged chain of the last delta", "head", func(r *scrubRun) {
		r.forge(r.head.HeadSeq, func(e *Entry) {
			e.Redo = append([]byte("x"), e.Redo[1:]...)
			prior, err := decodeEntryValue(r.get(appendEntry(nil, 7, r.p, r.head.Generation, r.head.HeadSeq-1)))
			must(r.t, err)
			e.Chain = prior.Chain.Next(e.AppendBinary(nil))
		})
	}},
	{"delta of another index", "entry", func(r *scrubRun) { r.forge(r.head.HeadSeq-1, func(e *Entry) { e.Index = 1 << 40 }) }},
	{"delta under another seq", "entry", func(r *scrubRun) {
		r.set(appendEntry(nil, 7, r.p, r.head.Generation, r.head.HeadSeq-1), r.get(appendEntry(nil, 7, r.p, r.head.Generation, r.head.HeadSeq)))
	}},
	{"dropped entry", "head", func(r *scrubRun) { r.delete(appendEntry(nil, 7, r.p, r.head.Generation, r.head.HeadSeq-1)) }},
	{"dropped last entry", "head", func(r *scrubRun) { r.delete(appendEntry(nil, 7, r.p, r.head.Generation, r.head.HeadSeq)) }},
	{"dropped base", "base", func(r *scrubRun) { r.delete(appendGeneration(nil, 7, r.p, kindBase, r.head.Generation)) }},
	{"dropped head", "sum", func(r *scrubRun) { r.delete(appendDocument(nil, 7, r.p, kindHead)) }},
	{"dropped document", "sum", func(r *scrubRun) {
		lower, upper := prefixRange(appendDocument(nil, 7, r.p, kindEntry))
		must(r.t, r.m.e.db.DeleteRange(lower, upper, pebble.NoSync))
		r.delete(appendGeneration(nil, 7, r.p, kindBase, r.head.Generation))
		r.delete(appendDocument(nil, 7, r.p, kindHead))
	}},
	{"orphan entry", "entry", func(r *scrubRun) {
		p, err := r.m.place(keyInBucket(FullRange(), scrubbed, 77))
		must(r.t, err)
		r.set(appendEntry(nil, 7, p, 3, 1), appendEntryValue(nil, &Entry{Delta: testDelta(1, 1, 3), Index: 3}))
	}},
	{"entry of another generation", "entry", func(r *scrubRun) {
		r.set(appendEntry(nil, 7, r.p, r.head.Generation+1, 1), r.get(appendEntry(nil, 7, r.p, r.head.Generation, r.head.HeadSeq)))
	}},
	{"delta below the floor", "entry", func(r *scrubRun) {
		r.set(appendEntry(nil, 7, r.p, r.head.Generation, r.head.Floor), appendEntryValue(nil, &Entry{Delta: testDelta(r.head.Floor, r.head.Floor, 3), Index: r.head.LastIndex}))
	}},
	{"delete record beside a document", "sum", func(r *scrubRun) { r.set(appendDocument(nil, 7, r.p, kindDelete), appendDeleteValue(nil, 99)) }},
	{"resurrected document", "sum", func(r *scrubRun) {
		p, err := r.m.place(keyInBucket(FullRange(), scrubbed, 9))
		must(r.t, err)
		r.set(appendDocument(nil, 7, p, kindHead), appendHeadValue(nil, &Head{Generation: 1, LastIndex: 1, HeadSeq: 1, Floor: 1, FloorKnown: true, Dropped: true}))
	}},
	{"head of the past", "sum", func(r *scrubRun) {
		e, err := decodeEntryValue(r.get(appendEntry(nil, 7, r.p, r.head.Generation, r.head.HeadSeq-1)))
		must(r.t, err)
		r.forgeHead(func(h *Head) { h.HeadSeq, h.Chain = e.SeqEnd, e.Chain })
	}},
	{"wrong counts", "head", func(r *scrubRun) { r.forgeHead(func(h *Head) { h.Bytes++ }) }},
	{"wrong stored sum", "sum", func(r *scrubRun) {
		key := appendMetaBucket(nil, 7, metaBucket, scrubbed)
		s, err := decodeBucketState(r.get(key))
		must(r.t, err)
		s.Sum.A++
		r.set(key, appendBucketState(nil, &s))
	}},
	{"wrong sum in memory", "sum", func(r *scrubRun) {
		r.m.pub.Lock()
		defer r.m.pub.Unlock()
		sum := r.m.tracker.Bucket(scrubbed)
		sum.Sum.B--
		r.m.tracker.Reset(scrubbed, sum)
	}},
	{"flipped stored sum", "sum", func(r *scrubRun) { r.flip(appendMetaBucket(nil, 7, metaBucket, scrubbed)) }},
	{"name of no key", "key", func(r *scrubRun) {
		r.set(append(appendKind(nil, 7, scrubbed, kindEntry), "a key of nothing"...), []byte("x"))
	}},
	{"misplaced head", "key", func(r *scrubRun) {
		p := r.p
		p.hash++
		r.set(appendDocument(nil, 7, p, kindHead), r.get(appendDocument(nil, 7, r.p, kindHead)))
	}},
	{"short key", "key", func(r *scrubRun) { r.set(appendKind(nil, 7, scrubbed, kindHead), []byte("x")) }},
}

// TestScrubFindsAndHeals: whatever is damaged in one member is found, in its bucket only, and healed from a peer.
func TestScrubFindsAndHeals(t *testing.T) {
	for _, c := range scrubDamage {
		t.Run(c.name, func(t *testing.T) {
			r := newScrubRun(t)
			for b := range 256 {
				if report := r.scrub(uint8(b)); report.Found > 0 || b == scrubbed && (report.Documents != 4 || report.Bytes == 0) {
					t.Fatalf("sound bucket %d: %+v", b, report)
				}
			}
			before := r.m.Status()
			c.do(r)
			for b := range 256 {
				if report := r.scrub(uint8(b)); b != scrubbed && report.Found > 0 {
					t.Errorf("sound bucket %d: %+v", b, report.Findings)
				}
			}
			report := r.scrub(scrubbed)
			if report.Found == 0 || report.Damaged.Whole {
				t.Fatalf("report %+v", report)
			}
			if report.Findings[0].Kind != c.kind {
				t.Errorf("found %s, want a %s", report.Findings, c.kind)
			}
			if after := r.m.Status(); after.Root != before.Root || !after.Complete {
				t.Error("scrubbing changed the member")
			}
			moved := r.heal(report)
			if moved.report.Documents > 1 {
				t.Errorf("%d documents were moved for one", moved.report.Documents)
			}
		})
	}
}

// Progress is kept over a restart, and a damaged record of it is no more than a pass that begins anew.
func TestScrubProgress(t *testing.T) {
	o := testOptions(vfs.NewMem())
	e, d := openMember(t, o)
	if p, err := d.ScrubProgress(); err != nil || p != (ScrubProgress{}) {
		t.Errorf("a new member: %+v, %v", p, err)
	}
	want := ScrubProgress{Done: 200, Began: time.Unix(0, 1764000000123456789), Finished: time.Unix(0, 1763000000000000001)}
	must(t, d.SetScrubProgress(want))
	must(t, e.Close())
	e, d = openMember(t, o)
	got, err := d.ScrubProgress()
	if err != nil || got.Done != want.Done || !got.Began.Equal(want.Began) || !got.Finished.Equal(want.Finished) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	must(t, d.SetScrubProgress(ScrubProgress{Done: 1}))
	if got, err := d.ScrubProgress(); err != nil || got != (ScrubProgress{Done: 1}) {
		t.Errorf("without times: %+v, %v", got, err)
	}
	must(t, e.db.Set(appendMeta(nil, 7, metaScrub), []byte("damaged"), pebble.NoSync))
	if got, err := d.ScrubProgress(); err != nil || got != (ScrubProgress{}) {
		t.Errorf("damaged: %+v, %v", got, err)
	}
	must(t, e.Close())
	e, _ = openMember(t, o)
	must(t, e.Close())
}

// A history that fits together is no damage, whatever peers have: comparing finds a divergence, and nobody takes sides.
func TestScrubLeavesDivergenceAlone(t *testing.T) {
	r := newScrubRun(t)
	h, _, err := r.m.Documents.Head(r.next)
	must(t, err)
	index := r.m.Applied() + 1
	mine, theirs := appendAt(index, r.next, h, 1), appendAt(index, r.next, h, 1)
	theirs.Deltas = []Delta{testDelta(h.HeadSeq+1, h.HeadSeq+1, 8)}
	theirs.Chain = h.Chain.Next(theirs.Deltas[0].AppendBinary(nil))
	must(t, r.m.Apply([]Mutation{mine}, index))
	must(t, r.peer.Apply([]Mutation{theirs}, index))
	if r.m.Status().Root == r.peer.Status().Root {
		t.Fatal("nothing diverged")
	}
	if report := r.scrub(scrubbed); report.Found > 0 {
		t.Errorf("found %v", report.Findings)
	}
}

// A sick member's documents may have gaps.
func TestScrubOfASickMember(t *testing.T) {
	s := newScript()
	key := keyInBucket(FullRange(), scrubbed, 0)
	s.create(key, 5)
	for range 4 {
		s.append(key, 2, 5)
	}
	m := newDocsMember(t)
	must(t, m.Apply(s.log[:2], 2))
	must(t, m.RecordHole(3, 3))
	must(t, m.Apply(s.log[3:], 5))
	report, err := m.ScrubBucket(context.Background(), scrubbed, nil)
	if err != nil || report.Found > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	session := m.BeginSession(scrubbed)
	if _, err := m.ScrubBucket(context.Background(), scrubbed, nil); !errors.Is(err, ErrScrubBusy) {
		t.Errorf("during a repair: %v", err)
	}
	session.Abandon()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.ScrubBucket(ctx, scrubbed, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestScrubBesideWriters: nothing is found while everything changes, deletes and new generations included.
func TestScrubBesideWriters(t *testing.T) {
	o := testOptions(vfs.NewMem())
	m := &member{opts: o, model: newModelMember(), h: newHistory(rand.New(rand.NewPCG(4, 4)).IntN, 6)}
	for i := range m.h.keys {
		m.h.keys[i] = keyInBucket(FullRange(), scrubbed, i)
	}
	m.e, m.d = openMember(t, o)
	var writer sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		for i := 0; i < 4000; i++ {
			select {
			case <-stop:
				return
			default:
			}
			m.h.commit()
			batch := m.h.slice(uint64(i+1), uint64(i+1))
			if i%2 == 0 {
				_ = m.d.Stage(batch, uint64(i+1))
			} else {
				_ = m.d.Apply(batch, uint64(i+1))
			}
		}
	})
	records := int64(0)
	for n := 0; n < 300 || m.d.Applied() < 500; n++ {
		paced := 0
		report, err := m.d.ScrubBucket(context.Background(), scrubbed, func(bytes int) { paced += bytes })
		must(t, err)
		if report.Found > 0 {
			t.Fatalf("scrub %d at %d: %v", n, m.d.Applied(), report.Findings)
		}
		if int64(paced) < report.Bytes {
			t.Fatalf("%d bytes were paced, %d read", paced, report.Bytes)
		}
		records += report.Records
	}
	close(stop)
	writer.Wait()
	if records == 0 {
		t.Error("nothing was read")
	}
	must(t, m.e.Close())
}
