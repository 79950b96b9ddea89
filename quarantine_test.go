package adamant

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant/partition"
)

func testReport(host, peer string, bucket uint8, keys ...string) Divergence {
	d := Divergence{Host: host, Peer: peer, Bucket: bucket, Time: time.Unix(int64(bucket), 0).UTC()}
	for _, k := range keys {
		d.Documents = append(d.Documents, DivergedDocument{Key: k, Hash: fmt.Sprintf("%016x", len(k)), Seq: 1, Reason: "different"})
	}
	return d
}

// facts is what counts of a state: reports are a set.
func facts(q quarantine) string {
	var list []string
	for _, r := range q.Reports {
		names := []string{}
		for _, d := range r.Documents {
			names = append(names, d.Key)
		}
		slices.Sort(names)
		list = append(list, fmt.Sprint(r.Host, r.Peer, r.Bucket, names, pick(r.Lost != nil, " lost", "")))
	}
	slices.Sort(list)
	return fmt.Sprint(q.Epoch, q.Keep, list)
}

// TestQuarantineConverges: whatever five members notice and whatever operators choose, in whatever order they hear of each other,
// they end in one state, and none follows two ends of one epoch.
func TestQuarantineConverges(t *testing.T) {
	names := []string{"h1", "h2", "h3", "h4", "h5"}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		members := make([]quarantine, len(names))
		hear := func(to, from int) {
			before := members[to]
			next, changed := before.merge(members[from])
			if before.lost() && !next.on() && !slices.ContainsFunc(members[from].Reports, func(r Divergence) bool { return r.Lost != nil }) {
				t.Fatalf("seed %d: %s knew of two histories and followed %s", seed, facts(before), facts(next))
			}
			if !changed && facts(next) != facts(before) {
				t.Fatalf("seed %d: %s became %s, which is said to be no change", seed, facts(before), facts(next))
			}
			if next.Epoch < before.Epoch || next.Epoch == before.Epoch && !next.on() && next.Keep != before.Keep {
				t.Fatalf("seed %d: %s followed by %s", seed, facts(before), facts(next))
			}
			members[to] = next
		}
		for step := range 40 {
			i, j := r.IntN(len(names)), r.IntN(len(names))
			switch q := members[i]; r.IntN(8) {
			case 0:
				d := testReport(names[i], names[j], uint8(r.IntN(3)), fmt.Sprintf("game/%d", r.IntN(3)))
				d.Time = time.Unix(int64(step), 0)
				if r.IntN(8) == 0 {
					d.Documents, d.Bucket, d.Lost = nil, 0, &LostCommits{Committed: 2, Found: 1}
				}
				members[i], _ = q.with(d)
			case 1:
				if q.on() {
					members[i] = q.ended(pick(r.IntN(2) == 0 && !q.lost(), names[i], ""))
				}
			default:
				hear(i, j)
			}
		}
		for range 4 {
			for i := range names {
				for j := range names {
					hear(i, j)
				}
			}
		}
		for i := range names {
			if facts(members[i]) != facts(members[0]) {
				t.Fatalf("seed %d: %s and %s", seed, facts(members[0]), facts(members[i]))
			}
		}
	}
}

// TestTwoEndsAreNone: two operators choose different hosts at once. Neither choice may make anybody discard what only the other
// one has kept.
func TestTwoEndsAreNone(t *testing.T) {
	q, _ := quarantine{}.with(testReport("h1", "h2", 3, "game/a"))
	one, two := q.ended("h1"), q.ended("h2")
	a, changedA := one.merge(two)
	b, changedB := two.merge(one)
	if !changedA || !changedB || !a.on() || a.Epoch != 3 || facts(a) != facts(b) || len(a.Reports) != 1 {
		t.Errorf("%s, %s", facts(a), facts(b))
	}
	// Each knew of something else when it chose. The next choice is about both.
	q, _ = quarantine{}.with(testReport("h3", "h2", 4, "game/b"))
	two = q.ended("h2")
	a, _ = one.merge(two)
	b, _ = two.merge(one)
	if !a.on() || len(a.Reports) != 2 || facts(a) != facts(b) {
		t.Errorf("%s, %s", facts(a), facts(b))
	}
}

// TestEndIsOfWhatItWasAbout: a member that noticed something which an operator did not know of, or which came after the choice although
// the member had not heard of that, begins anew in place of discarding its version.
func TestEndIsOfWhatItWasAbout(t *testing.T) {
	r := testReport("h1", "h2", 0, "game/1")
	known, _ := quarantine{}.with(r)
	end := known.ended("h1")
	if next, _ := known.merge(end); next.on() || next.Keep != "h1" {
		t.Errorf("who knew the same does not follow: %s", facts(next))
	}
	late := r
	late.Time = r.Time.Add(time.Hour)
	lost := Divergence{Host: "h2", Peer: "h3", Index: 9, Time: r.Time, Lost: &LostCommits{Committed: 2, Found: 1, Term: 3, Applied: 9}}
	for name, d := range map[string]Divergence{"another bucket": testReport("h4", "h2", 9, "game/9"), "the same, later": late, "two histories": lost} {
		q, _ := quarantine{}.with(d)
		next, _ := q.merge(end)
		if !next.on() || next.Epoch != 3 || !slices.ContainsFunc(next.Reports, func(r Divergence) bool { return r.sameAs(&d) }) {
			t.Errorf("%s: what nobody has decided on is over: %s", name, facts(next))
		}
		if all, _ := end.merge(next); facts(all) != facts(next) {
			t.Errorf("%s: who followed the end does not hear of it: %s", name, facts(all))
		}
		// Without a choice nothing is discarded; but who has another history may be healed from.
		next, _ = q.merge(known.ended(""))
		if next.on() != (d.Lost != nil) {
			t.Errorf("%s, ended without a choice: %s", name, facts(next))
		}
		other, _ := quarantine{}.with(r)
		other.Epoch = 5
		if next, _ = q.merge(other); next.Epoch != 5 || len(next.Reports) == 1 && !r.sameAs(&d) {
			t.Errorf("%s: forgotten in a later quarantine: %s", name, facts(next))
		}
	}
	both, _ := known.with(lost)
	if next, _ := both.merge(both.ended("")); next.on() {
		t.Errorf("two histories, of which the operator knew: %s", facts(next))
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	var q quarantine
	var keys []string
	for i := range 100 {
		keys = append(keys, fmt.Sprintf("game/%03d", i))
	}
	for host := range 9 {
		for bucket := range 20 {
			q, _ = q.with(testReport(fmt.Sprint(host), "p", uint8(bucket), keys...))
		}
	}
	all := 0
	for _, r := range q.Reports {
		all += len(r.Documents)
	}
	if len(q.Reports) != mostDivergences || all != mostDivergedInAll || len(q.Reports[0].Documents) != mostDivergedDocuments {
		t.Errorf("%d reports with %d documents", len(q.Reports), all)
	}
	if err := q.check(); err != nil {
		t.Error(err)
	}
	if again, news := q.with(testReport("0", "p", 0, keys...)); news || !reflect.DeepEqual(again, q) {
		t.Error("what is known is news")
	}
	if s := q.reason(); len(s) > 2000 || !strings.Contains(s, "game/000") || !strings.Contains(s, "63 reports more") {
		t.Error(s)
	}
}

// TestDiscards: a bucket goes whole unless its documents are all known by name.
func TestDiscards(t *testing.T) {
	three := func(Key) uint8 { return 3 }
	for _, tc := range []struct {
		reports []Divergence
		whole   bool
		keys    int
	}{
		{[]Divergence{testReport("h1", "h2", 3, "game/a", "game/b"), testReport("h2", "h1", 3, "game/b")}, false, 2},
		{[]Divergence{testReport("h1", "h2", 3)}, true, 0},
		{[]Divergence{testReport("h1", "h2", 3, "game/a"), testReport("h2", "h1", 3)}, true, 1},
		{[]Divergence{testReport("h1", "h2", 3, "game/a", "")}, true, 1},
		{[]Divergence{testReport("h1", "h2", 3, make([]string, mostDivergedDocuments)...)}, true, 0},
		{[]Divergence{testReport("h1", "h2", 4, "game/a")}, true, 0}, // not of this bucket
	} {
		q := quarantine{Epoch: 2, Reports: tc.reports}
		d := q.discards(three)
		if got := d[tc.reports[0].Bucket]; len(d) != 1 || got.whole != tc.whole || len(got.keys) != tc.keys {
			t.Errorf("%+v: %+v", tc.reports, d)
		}
	}
}

// TestReportWithoutRoomDiscardsItsBucket: when there was no room for all documents of a report, what is not named would stay as
// it is. That holds on a host that was told of the report, too.
func TestReportWithoutRoomDiscardsItsBucket(t *testing.T) {
	const each = mostDivergedDocuments - 1
	var q quarantine
	for bucket := range mostDivergedInAll/each + 1 {
		d := Divergence{Host: "a", Peer: "b", Bucket: uint8(bucket)}
		for n := range each {
			d.Documents = append(d.Documents, DivergedDocument{Key: fmt.Sprintf("space/doc-%d-%d", bucket, n), Hash: fmt.Sprintf("%016x", bucket<<8|n), Seq: -1, Reason: "r"})
		}
		q, _ = q.with(d)
	}
	var other quarantine
	other, _ = other.with(Divergence{Host: "a", Peer: "b", Bucket: mostDivergedInAll / each, Documents: q.Reports[mostDivergedInAll/each].Documents})
	told, changed := other.merge(q)
	if again, news := told.merge(q); !changed || news || !reflect.DeepEqual(again, told) {
		t.Error("told of it twice, it is news twice, or never")
	}
	bucketOf := func(k Key) uint8 {
		var b, n int
		_, _ = fmt.Sscanf(k.Key, "doc-%d-%d", &b, &n)
		return uint8(b)
	}
	for _, state := range []quarantine{q, told} {
		list := state.discards(bucketOf)
		for bucket, d := range list {
			if d.whole != (len(d.keys) < each) {
				t.Errorf("bucket %d: %d of %d documents are discarded, whole %t", bucket, len(d.keys), each, d.whole)
			}
		}
		if len(list) != mostDivergedInAll/each+1 {
			t.Errorf("%d buckets", len(list))
		}
	}
}

func FuzzDecodeQuarantine(f *testing.F) {
	q, _ := quarantine{}.with(testReport("h1", "h2", 3, "game/a"))
	b, err := json.Marshal(q)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"epoch":2,"keep":"h1","restore":"h2"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeQuarantine(b)
		if err != nil {
			return
		}
		next, _ := q.merge(quarantine{Epoch: 1})
		next, _ = next.with(testReport("h1", "h2", 3, "game/a"))
		if err := next.check(); err != nil {
			t.Error(err)
		}
		_ = next.reason()
		_ = next.discards(func(Key) uint8 { return 0 })
	})
}

// TestNobodyHealsFromAnotherHistory: while members have two histories no document is taken from anybody, whoever is complete. The reason that
// is shown says so first, and a program that does not know of losses keeps the report apart from what it knows.
func TestNobodyHealsFromAnotherHistory(t *testing.T) {
	q, _ := (quarantine{}).with(testReport("h1", "h3", 0, "game/1"))
	m, h := &member{}, &Host{}
	m.isolation.state.Store(&q)
	if !h.mayHealFrom(m, "h2") {
		t.Error("a divergence of documents keeps others from healing")
	}
	d := lostFrom("h1", &partition.Contradiction{Leader: "h3@1", Office: 5, Index: 9, Theirs: 5, Own: 2, Applied: 36}, time.Unix(1, 0))
	q, news := q.with(d)
	if _, again := q.with(d); !news || again || len(q.Reports) != 2 || q.check() != nil {
		t.Fatalf("%t, %t, %+v", news, again, q)
	}
	m.isolation.state.Store(&q)
	if h.mayHealFrom(m, "h2") {
		t.Error("a member heals from who may be of another history")
	}
	if r := q.reason(); !strings.HasPrefix(r, "committed entries are lost: host h1") || !strings.Contains(r, "index 9") {
		t.Error(r)
	}
	if discards := q.discards(func(Key) uint8 { return 0 }); len(discards) != 1 || discards[0].whole {
		t.Errorf("discarded: %+v", discards)
	}
}

// TestLossHasRoom: the proof of two histories counts even when there are as many reports as are kept.
func TestLossHasRoom(t *testing.T) {
	var full, few quarantine
	for i := range mostDivergences {
		full, _ = full.with(testReport("h1", "h2", uint8(i), "space/a"))
	}
	lost := Divergence{Host: "h2", Peer: "h3", Index: 9, Time: time.Now(), Lost: &LostCommits{Committed: 2, Found: 1, Term: 3, Applied: 9}}
	if next, news := full.with(lost); !news || !next.lost() {
		t.Errorf("noticed: news %v, lost %v", news, next.lost())
	}
	few, _ = few.with(lost)
	if next, _ := full.merge(few); !next.lost() {
		t.Error("heard of: a member that has 64 reports does not know that there are two histories")
	}
	a, _ := full.merge(few)
	b, _ := few.merge(full)
	if a.lost() != b.lost() {
		t.Errorf("two members that heard of each other: one knows of two histories, %v, the other does not, %v", b.lost(), a.lost())
	}
}
