package store

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// damage loses a document, or only its head, by going around everything; then Damage is told of it.
func (m *member) damage(t fataler, key Key, head bool) {
	p, err := m.d.place(key)
	must(t, err)
	if head {
		must(t, m.d.Flush())
		must(t, m.e.db.Delete(appendDocument(nil, 7, p, kindHead), pebble.NoSync))
	}
	report, err := m.d.Damage(p.bucket, Damaged{Documents: []Key{key}})
	must(t, err)
	if had := int64(0); m.model.docs[key] != nil {
		if had++; report.Documents != had || report.Whole {
			t.Fatalf("report %+v of a document", report)
		}
	}
	m.model.damage(key, m.d.Range())
}

func (m *modelMember) damage(key Key, r Range) {
	delete(m.docs, key)
	delete(m.deleted, key)
	m.holes = m.holes.Union(interval.Of(1, m.applied))
	m.roots = map[uint64]merkle.Summary{m.applied: m.summary(r)}
	m.finish()
}

// damage mirrors Documents.Damage.
func (n *pureNode) damage(group int, r *rand.Rand) {
	holes := n.now.holes.Union(interval.Of(1, n.now.applied))
	for g := range n.now.healed {
		n.now.healed[g] = n.now.covered(g).Intersect(holes)
	}
	n.now.healed[group] = nil
	n.now.holes = holes
	for i := range n.now.docs {
		if i%n.groups == group && r.IntN(2) == 0 {
			n.now.docs[i] = pureDoc{}
		}
	}
	n.sessions[group] = nil
	n.learned[group]++
	n.forget()
	n.sync()
}

func (n *diskNode) damage(group int, r *rand.Rand) {
	var keys []Key
	for i, key := range n.l.h.keys {
		if i%n.groups == group && r.IntN(2) == 0 {
			keys = append(keys, key)
		}
	}
	bucket := n.l.buckets[group]
	try(n.d.Damage(bucket, Damaged{Documents: keys, Whole: r.IntN(4) == 0}))
}

// Schedules in which members lose documents besides everything else that happens to them: nothing that was deleted comes
// back, nobody calls itself complete who is not, and everyone heals.
func TestDamageBySearch(t *testing.T) {
	schedules := *repairSchedules / 4
	if testing.Short() || slowBuild {
		schedules /= 10
	}
	for _, members := range []int{3, 5} {
		searchDamage(t, schedules/2, func(seed int64, verbose bool) (*world, error) {
			return playPureWith(seed, members, brokenRules{}, verbose, true)
		})
	}
}

// The same with engines, crashes and the product's own functions.
func TestDamageEndToEnd(t *testing.T) {
	schedules := *repairSchedules / 200
	if testing.Short() || slowBuild {
		schedules /= 4
	}
	searchDamage(t, schedules, func(seed int64, verbose bool) (*world, error) { return playDiskWith(seed, 3, verbose, true) })
}

func searchDamage(t *testing.T, schedules int, play func(seed int64, verbose bool) (*world, error)) {
	t.Helper()
	var damaged atomic.Int64
	bad, heals, _ := search(0, schedules, func(seed int64) (*world, error) {
		w, err := play(seed, false)
		damaged.Add(int64(w.damaged))
		return w, err
	})
	t.Logf("%d schedules, %d heals, %d times damaged", schedules, heals, damaged.Load())
	if bad >= 0 {
		w, err := play(bad, true)
		t.Fatalf("seed %d: %v\n  %s", bad, err, strings.Join(w.story, "\n  "))
	}
	if heals == 0 || damaged.Load() < int64(schedules) {
		t.Errorf("%d heals, %d times damaged: the schedules do not reach what they are for", heals, damaged.Load())
	}
}

// TestCrashDuringDamage: a crash leaves all of it or nothing.
func TestCrashDuringDamage(t *testing.T) {
	for seed := range crashSeeds() {
		r := newCrashRun(t, 60+seed)
		for i := range 12 {
			for range 4 {
				r.m.h.commit()
			}
			r.step(false, func() { r.m.advance(t, 3, 0) })
			r.step(true, func() { r.m.damage(t, r.m.h.keys[i%len(r.m.h.keys)], false) })
		}
		r.verify()
	}
}

// TestCrashDuringRunRemoval: a crash at any step of removing the buckets that share a damaged block, and of cutting it out,
// leaves all of them as they were or all of them as holes. Either way the member can be healed.
func TestCrashDuringRunRemoval(t *testing.T) {
	rec := newCrashRecorder(7)
	r := newBlocksRun(t, rec.mem, rec.fs())
	lost := r.unreadable()
	last := r.m.Applied()
	must(t, r.m.e.Sync())
	whole := r.m.Status().Documents
	rec.start()
	rec.writing(1)
	done, err := r.m.Damage(lost[1], Damaged{Whole: true})
	must(t, err)
	if !slices.Equal(done.Buckets, lost) || done.Unreclaimed != "" {
		t.Fatalf("%+v", done)
	}
	rec.acknowledged(1)
	rec.take()
	o := r.m.e.opts
	must(t, r.m.e.Close())
	var seen [2]int
	for i, image := range rec.images {
		if slowBuild && i%8 > 0 && i < len(rec.images)-1 {
			continue
		}
		o.FS = image.fs
		r.m.e, r.m.Documents = openMember(t, o)
		st := r.m.Status()
		switch {
		case st.Applied != last:
			t.Fatalf("image %d: applied %d, want %d", i, st.Applied, last)
		case st.Complete && st.Documents == whole && image.durable == 0:
			seen[0]++
		case st.Holes.Equal(interval.Of(1, last)) && st.Documents == whole-int64(len(lost)):
			seen[1]++
			for b := range 256 {
				if gone := slices.Contains(lost, uint8(b)); gone != r.m.Healed(uint8(b)).Empty() {
					t.Fatalf("image %d: bucket %d holds %s", i, b, r.m.Healed(uint8(b)))
				}
			}
		default:
			t.Fatalf("image %d of %d, durable %d: neither before nor after: %+v", i, len(rec.images), image.durable, st)
		}
		if every := 6; (i%every > 0 || slowBuild) && i < len(rec.images)-1 { // healing takes its time
			must(t, r.m.e.Close())
			continue
		}
		for _, b := range r.unreadable() {
			_, err := r.m.Damage(b, Damaged{Whole: true})
			must(t, err)
		}
		r.mustHeal()
		must(t, r.m.e.Close())
	}
	if t.Logf("%d images, %d before, %d after", len(rec.images), seen[0], seen[1]); seen[0] == 0 || seen[1] < 2 {
		t.Error("nothing was crashed")
	}
}

// Damage touches one bucket: all others are as healed as they were, before and after opening again.
func TestDamageKeepsOtherBuckets(t *testing.T) {
	s := newScript()
	keys := []Key{keyInBucket(FullRange(), 10, 0), keyInBucket(FullRange(), 20, 1), keyInBucket(FullRange(), 10, 2)}
	for _, key := range keys {
		s.create(key, 10)
		s.append(key, 5, 10)
	}
	m, peer := newDocsMember(t), newDocsMember(t)
	m.follow(t, s, s.last(), interval.Range{First: 3, Last: 4})
	peer.follow(t, s, s.last())
	m.pullBucket(t, peer, 20, 1<<20)

	past, ok := m.PastAt(m.Applied())
	session := m.BeginSession(10)
	report, err := m.Damage(10, Damaged{Documents: keys[:1]})
	must(t, err)
	if report.Documents != 1 || report.Bytes == 0 || report.Whole || report.Unreclaimed != "" {
		t.Errorf("report %+v", report)
	}
	last := s.last()
	check := func() {
		t.Helper()
		st := m.Status()
		if st.Complete || !st.Holes.Equal(interval.Of(1, last)) || st.Documents != 2 {
			t.Errorf("status %+v", st)
		}
		for b, want := range map[uint8]interval.Set{10: nil, 20: interval.Of(1, last), 30: interval.Of(1, 2).Union(interval.Of(5, last))} {
			if got := m.Healed(b); !got.Equal(want) {
				t.Errorf("bucket %d holds %s, want %s", b, got, want)
			}
		}
		if got, _ := m.Summary(); got != rebuild(t, m.Documents) {
			t.Error("the sums are not those of what is left")
		}
		for i, key := range keys {
			if _, ok, err := m.Head(key); err != nil || ok != (i > 0) {
				t.Errorf("document %d: %v, %v", i, ok, err)
			}
		}
	}
	check()
	if _, ok := m.SummaryAt(last - 1); ok {
		t.Error("a damaged member tells of its past")
	}
	if !ok || !errors.Is(m.MarkProven(10, past), ErrProofLost) {
		t.Error("the proof of before is still one")
	}
	session.Answer(interval.Of(1, last), last, 0)
	if _, err := session.Finish(); !errors.Is(err, ErrSessionLost) {
		t.Errorf("the session of before: %v", err)
	}
	must(t, m.e.Close())
	o := m.e.opts
	e, d := openMember(t, o)
	m.Documents, m.e = d, e
	defer func() { _ = e.Close() }()
	check()
	m.pullAll(t, peer)
	m.mustEqual(t, peer)
}

// Keys of other buckets are refused before anything is changed.
func TestDamageRefuses(t *testing.T) {
	m := newDocsMember(t)
	must(t, m.Apply([]Mutation{createAt(1)}, 1))
	key := createAt(1).Key
	var wrong *KeyError
	if _, err := m.Damage(m.Range().Bucket(key.Hash())+1, Damaged{Documents: []Key{key}}); !errors.As(err, &wrong) {
		t.Errorf("another bucket: %v", err)
	}
	if _, err := m.Damage(0, Damaged{Documents: []Key{{Space: "x"}}}); !errors.As(err, &wrong) {
		t.Errorf("no key: %v", err)
	}
	if !m.Complete() {
		t.Error("a refused call made the member sick")
	}
}

// What was never applied here is not lost: the log brings it.
func TestDamageOfAnEmptyMember(t *testing.T) {
	m := newDocsMember(t)
	if _, err := m.Damage(3, Damaged{Whole: true}); err != nil || !m.Complete() {
		t.Errorf("%v, complete %v", err, m.Complete())
	}
	if w := (&Damaged{}); !w.Nothing() || slices.ContainsFunc([]*Damaged{{Whole: true}, {Documents: []Key{{}}}, {stray: [][]byte{nil}}}, (*Damaged).Nothing) {
		t.Error("Nothing is wrong")
	}
}
