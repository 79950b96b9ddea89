package store

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// sum adds up a page, as far as rows tell: one lane, and the count.
func (l *Listing) sum() (lane, count uint64) {
	lane, count = l.Rest.Sum.A, l.Rest.Count
	for i := range l.Rows {
		if !l.Rows[i].Deleted() {
			lane, count = lane+l.Rows[i].Leaf, count+1
		}
	}
	return lane, count
}

func pageOf(t testing.TB, d *Documents, bucket uint8, q ListQuery) *Listing {
	t.Helper()
	l, err := d.List(bucket, q)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListingHoldsWhatChangedAndASumOfTheRest(t *testing.T) {
	m, s := newDocsMember(t), newScript()
	var keys []Key
	for i := range 6 {
		keys = append(keys, keyInBucket(FullRange(), 9, i))
		s.create(keys[i], 10)
	}
	s.append(keys[1], 2, 5)
	m.follow(t, s, s.last())
	all := pageOf(t, m.Documents, 9, ListQuery{})
	if len(all.Rows) != 6 || all.Rest != (merkle.Bucket{}) || !all.Last() || all.Applied != 7 || !all.Coverage.Equal(interval.Of(1, 7)) {
		t.Fatalf("whole bucket: %+v", all)
	}
	if !slices.IsSortedFunc(all.Rows, compareRows) {
		t.Error("rows are not sorted")
	}
	part := pageOf(t, m.Documents, 9, ListQuery{Since: 5})
	if len(part.Rows) != 2 || part.Rest.Count != 4 {
		t.Fatalf("changed after 5: %+v", part)
	}
	also := []uint64{min(keys[0].Hash(), keys[2].Hash()), max(keys[0].Hash(), keys[2].Hash())}
	with := pageOf(t, m.Documents, 9, ListQuery{Since: 5, Also: also})
	if len(with.Rows) != 4 || with.Rest.Count != 2 {
		t.Fatalf("with two others: %+v", with)
	}
	summary, _ := m.Summary()
	for _, l := range []*Listing{all, part, with} {
		if lane, count := l.sum(); lane != summary[9].Sum.A || count != summary[9].Count {
			t.Errorf("rows and rest do not add up: %+v", l)
		}
	}
	if other := pageOf(t, m.Documents, 10, ListQuery{}); len(other.Rows) != 0 || other.Rest.Count != 0 || other.Applied != 7 {
		t.Errorf("an empty bucket: %+v", other)
	}
}

// A document with a gap is listed whatever Since says: its leaf does not tell what is missing.
func TestListingShowsGapsAndDeleteRecords(t *testing.T) {
	m, s := newDocsMember(t), newScript()
	a, b := keyInBucket(FullRange(), 9, 0), keyInBucket(FullRange(), 9, 1)
	s.create(a, 10)
	s.create(b, 10)
	s.append(a, 1, 5) // skipped
	s.append(a, 1, 5)
	s.delete(b)
	m.follow(t, s, s.last(), interval.Range{First: 3, Last: 3})
	l := pageOf(t, m.Documents, 9, ListQuery{Since: 4})
	want := []Row{
		{Hash: a.Hash(), LastIndex: 4, Generation: 1, Gap: true},
		{Hash: b.Hash(), LastIndex: 5},
	}
	slices.SortFunc(want, compareRows)
	for i := range l.Rows {
		l.Rows[i].Leaf = 0
	}
	if !reflect.DeepEqual(l.Rows, want) || l.Rest.Count != 0 {
		t.Errorf("got %+v, want %+v", l.Rows, want)
	}
	if l := pageOf(t, m.Documents, 9, ListQuery{Since: 5}); len(l.Rows) != 1 || !l.Rows[0].Gap {
		t.Errorf("after the delete: %+v", l.Rows)
	}
}

// A bucket may hold any number of keys: pages are bounded, join without gaps, and add up to the bucket's sum.
func TestListingPages(t *testing.T) {
	e := newDocsMember(t)
	narrow := Range{First: 0, Last: 1<<63 - 1}
	d, err := e.e.Member(8, narrow)
	if err != nil {
		t.Fatal(err)
	}
	s := newScript()
	const documents = 300
	for i := range documents {
		s.create(keyInBucket(narrow, 200, i), 3)
	}
	if err := d.Apply(s.log, s.last()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		limit int
		since uint64
	}{{1, 0}, {7, 0}, {7, 200}, {documents, 0}, {1000, 100}} {
		t.Run(fmt.Sprintf("limit %d since %d", test.limit, test.since), func(t *testing.T) {
			seen, lane, count := 0, uint64(0), uint64(0)
			for from, pages := uint64(0), 0; ; pages++ {
				l := pageOf(t, d, 200, ListQuery{Since: test.since, From: from, Limit: test.limit})
				if len(l.Rows) > test.limit || l.From != from || l.To < from {
					t.Fatalf("page %+v", l)
				}
				a, n := l.sum()
				seen, lane, count = seen+len(l.Rows), lane+a, count+n
				if again := pageOf(t, d, 200, ListQuery{Since: test.since, From: from, To: l.To}); !reflect.DeepEqual(again, l) {
					t.Fatalf("the same page again: %+v, not %+v", again, l)
				}
				if l.Last() {
					break
				}
				from = l.To + 1
			}
			summary, _ := d.Summary()
			if seen != documents-int(test.since) || lane != summary[200].Sum.A || count != summary[200].Count {
				t.Errorf("%d rows, %d documents; the bucket has %d", seen, count, summary[200].Count)
			}
		})
	}
}

// Whatever is applied meanwhile, a listing's rows are those of its own applied index.
func TestListingIsOfOneInstant(t *testing.T) {
	m, s := newDocsMember(t), newScript()
	a, b := keyInBucket(FullRange(), 9, 0), keyInBucket(FullRange(), 9, 1)
	s.create(a, 10)
	s.create(b, 10)
	for range 2000 {
		s.append(a, 1, 5)
		s.append(b, 1, 5)
	}
	applied := make(chan struct{})
	go func() {
		defer close(applied)
		for i := range s.log {
			if err := m.Apply(s.log[i:i+1], uint64(i+1)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for running := true; running; {
		select {
		case <-applied:
			running = false
		default:
		}
		l := pageOf(t, m.Documents, 9, ListQuery{Since: 1})
		for deadline := time.Now().Add(time.Minute); m.Applied() < l.Applied && time.Now().Before(deadline); {
			runtime.Gosched() // the engine shows a batch just before the member does
		}
		then, ok := m.SummaryAt(l.Applied)
		if lane, count := l.sum(); !ok || lane != then[9].Sum.A || count != then[9].Count {
			t.Fatalf("listing at %d does not add up to the summary there (%v)", l.Applied, ok)
		}
		for i := range l.Rows {
			if l.Rows[i].LastIndex > l.Applied {
				t.Fatalf("row of %d at %d", l.Rows[i].LastIndex, l.Applied)
			}
		}
	}
}

// Nothing that is applied after the snapshot shows, in what is read nor in what it stands for.
func TestListingAndExportReadTheirSnapshotOnly(t *testing.T) {
	m, s := newDocsMember(t), newScript()
	key, other := keyInBucket(FullRange(), 9, 0), keyInBucket(FullRange(), 9, 1)
	s.create(key, 10)
	s.append(key, 3, 10)
	s.compact(key, 2, []byte("base"))
	s.append(key, 1, 10)
	s.create(other, 1)
	m.follow(t, s, 3)
	m.markAll(t, interval.Of(2, 2))
	snapshot, known, done, err := m.snapshot(9)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	read := func() (*Listing, *Chunk) {
		l, err := m.listFrom(snapshot, known, 9, ListQuery{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.exportFrom(snapshot, known, 9, &ExportQuery{Wants: []Want{{Hash: key.Hash()}}, Budget: 1 << 20}, new(chunkScratch))
		if err != nil {
			t.Fatal(err)
		}
		return l, c
	}
	list, chunk := read()
	m.follow(t, s, 5)
	if err := m.RecordHole(6, 9); err != nil {
		t.Fatal(err)
	}
	m.markAll(t, interval.Of(7, 7))
	listAgain, chunkAgain := read()
	if !reflect.DeepEqual(listAgain, list) || list.Applied != 3 || !list.Coverage.Equal(interval.Of(1, 3)) {
		t.Errorf("listed %+v, and later %+v", list, listAgain)
	}
	if !reflect.DeepEqual(chunkAgain, chunk) || chunk.Applied != 3 || len(chunk.Docs[0].Entries) != 2 {
		t.Errorf("exported %+v, and later %+v", chunk, chunkAgain)
	}
	if now := pageOf(t, m.Documents, 9, ListQuery{}); now.Applied != 9 || !now.Coverage.Equal(interval.Set{{First: 1, Last: 5}, {First: 7, Last: 7}}) {
		t.Errorf("now %+v", now)
	}
}

func TestCompare(t *testing.T) {
	row := func(hash, last, gen, leaf uint64) Row {
		return Row{Hash: hash, LastIndex: last, Generation: gen, Leaf: leaf}
	}
	gap := func(r Row) Row { r.Gap = true; return r }
	tests := []struct {
		name         string
		mine, theirs []Row
		covered      interval.Set // by me
		want, absent []uint64
	}{
		{name: "equal", mine: []Row{row(1, 5, 5, 7)}, theirs: []Row{row(1, 5, 5, 7)}},
		{name: "equal but for the last index", mine: []Row{row(1, 5, 5, 7)}, theirs: []Row{row(1, 6, 5, 7)}},
		{name: "different", mine: []Row{row(1, 5, 5, 7)}, theirs: []Row{row(1, 6, 5, 8)}, want: []uint64{1}},
		{name: "a gap in both", mine: []Row{gap(row(1, 5, 5, 7))}, theirs: []Row{gap(row(1, 5, 5, 7))}, want: []uint64{1}},
		{name: "only there", theirs: []Row{row(1, 5, 5, 7)}, want: []uint64{1}},
		{name: "only there, deleted here", theirs: []Row{row(1, 5, 5, 7)}, covered: interval.Of(5, 5)},
		{name: "only here", mine: []Row{row(1, 5, 5, 7)}, absent: []uint64{1}},
		{name: "delete record there", mine: []Row{row(1, 5, 5, 7)}, theirs: []Row{row(1, 6, 0, 0)}, want: []uint64{1}},
		{name: "delete record there, nothing here", theirs: []Row{row(1, 6, 0, 0)}, covered: interval.Of(1, 9), want: []uint64{1}},
		{name: "delete record here", mine: []Row{row(1, 6, 0, 0)}, theirs: []Row{row(1, 5, 5, 7)}, want: []uint64{1}},
		{name: "delete record here, nothing there", mine: []Row{row(1, 6, 0, 0)}},
		{name: "equal delete records", mine: []Row{row(1, 6, 0, 0)}, theirs: []Row{row(1, 6, 0, 0)}},
		{name: "two keys of one hash, equal", mine: []Row{row(1, 5, 5, 7), row(1, 6, 6, 8)}, theirs: []Row{row(1, 5, 5, 7), row(1, 6, 6, 8)}},
		{name: "two keys of one hash, one missing", mine: []Row{row(1, 5, 5, 7)}, theirs: []Row{row(1, 5, 5, 7), row(1, 6, 6, 8)}, want: []uint64{1}},
		{name: "two keys of one hash, one gone", mine: []Row{row(1, 5, 5, 7), row(1, 6, 6, 8)}, theirs: []Row{row(1, 6, 6, 8)}, want: []uint64{1}},
		{name: "two keys of one hash, a gap", mine: []Row{row(1, 5, 5, 7), gap(row(1, 6, 6, 8))}, theirs: []Row{row(1, 5, 5, 7), gap(row(1, 6, 6, 8))}, want: []uint64{1}},
		{name: "several", mine: []Row{row(1, 5, 5, 7), row(3, 6, 6, 8), row(4, 1, 1, 1)}, theirs: []Row{row(2, 6, 6, 8), row(3, 6, 6, 8), row(math.MaxUint64, 1, 1, 1)},
			want: []uint64{2, math.MaxUint64}, absent: []uint64{1, 4}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Compare(&Listing{Rows: test.mine, Coverage: test.covered}, &Listing{Rows: test.theirs})
			if err != nil || !slices.Equal(p.Want, test.want) || !slices.Equal(p.Absent, test.absent) || p.FullNeeded {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
	if p, err := Compare(&Listing{}, &Listing{Rest: merkle.Bucket{Count: 1}}); err != nil || !p.FullNeeded {
		t.Errorf("different rest: %+v, %v", p, err)
	}
	for _, other := range []*Listing{{Bucket: 1}, {Since: 1}, {From: 1}, {To: 1}} {
		if _, err := Compare(&Listing{}, other); err == nil {
			t.Errorf("compares %+v with another page", other)
		}
	}
}

// Two documents under one hash stay two, in every step.
func TestTwoKeysOfOneHash(t *testing.T) {
	a, b := collidingKeys(t)
	bucket := FullRange().Bucket(a.Hash())
	x, y, s := newDocsMember(t), newDocsMember(t), newScript()
	s.create(a, 10)
	s.create(b, 20)
	s.append(a, 3, 5)
	s.append(b, 1, 5)
	s.delete(b)
	y.follow(t, s, 4)
	x.follow(t, s, 1)
	for _, m := range []*docsMember{x, y} { // x skips the rest, y goes on
		if err := m.e.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.RecordHole(2, 4); err != nil {
		t.Fatal(err)
	}
	for _, budget := range []int{1, 1 << 20} {
		x.pullBucket(t, y, bucket, budget)
	}
	if l := pageOf(t, x.Documents, bucket, ListQuery{Limit: 1}); len(l.Rows) != 2 || !l.Last() {
		t.Errorf("a page of one row must hold both: %+v", l)
	}
	sx, _ := x.Summary()
	sy, _ := y.Summary()
	if sx[bucket] != sy[bucket] || sx[bucket].Count != 2 {
		t.Fatalf("bucket %+v, should be %+v", sx[bucket], sy[bucket])
	}
	y.follow(t, s, 5)
	x.pullBucket(t, y, bucket, 1<<20)
	if _, ok, err := x.Head(b); ok || err != nil {
		t.Errorf("%s is still there: %v", b, err)
	}
	if h, ok, err := x.Head(a); !ok || err != nil || h.HeadSeq != 4 {
		t.Errorf("%s: %+v, %v, %v", a, h, ok, err)
	}
}
