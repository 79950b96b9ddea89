package store

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

func TestViewIsOneInstant(t *testing.T) {
	r := newRuleRun(t)
	list := r.mutations(10)
	r.apply(list[:4]...)
	p, err := r.d.place(r.key)
	must(t, err)
	must(t, r.d.acquire()) // View.Close gives it back
	r.d.instants.RLock()
	snapshot := r.e.db.NewSnapshot()
	r.apply(list[4:9]...)
	v, err := r.d.viewAt(p, snapshot, overlay{})
	must(t, err)
	open, err := r.d.View(r.key)
	must(t, err)
	r.apply(r.compactAt(10, 9, 8, 9, list[8].Chain), r.deleteAt(11))
	for _, c := range []struct {
		v *View
		n int64
	}{{v, 4}, {open, 9}} {
		if c.v.Head.HeadSeq != c.n || c.v.Head.HasBase {
			t.Errorf("head %+v, want seq %d", c.v.Head, c.n)
		}
		var seqs []int64
		for range 2 { // iterating again sees the same
			seqs = seqs[:0]
			for e, err := range c.v.Entries(-1) {
				must(t, err)
				seqs = append(seqs, e.SeqEnd)
			}
		}
		if int64(len(seqs)) != c.n || seqs[c.n-1] != c.n {
			t.Errorf("entries %v, want 1 to %d", seqs, c.n)
		}
		must(t, c.v.Close())
	}
	_, err = r.d.View(r.key)
	var missing *NotFoundError
	if !errors.As(err, &missing) || missing.Key != r.key {
		t.Errorf("%v", err)
	}
	if _, err := r.d.View(Key{Space: "x"}); Code(err) != CodeKey {
		t.Errorf("%v", err)
	}
}

func TestViewBoundaries(t *testing.T) {
	r := newRuleRun(t)
	create := createAt(1) // [0,2], [3,5], [6,8]
	create.Key, create.HeadSeq = r.key, 2
	create.Deltas = []Delta{{SeqBegin: 0, SeqEnd: 2}}
	create.Chain = SeedChain(r.key).Next(create.Deltas[0].AppendBinary(nil))
	r.apply(create)
	for i := uint64(2); i <= 3; i++ {
		h, _, err := r.d.Head(r.key)
		must(t, err)
		r.apply(appendAt(i, r.key, h, 3))
	}
	if h := r.head(); h.Floor != -1 || h.Span != 9 || h.Gap() {
		t.Errorf("%+v", h)
	}
	v, err := r.d.View(r.key)
	must(t, err)
	defer func() { must(t, v.Close()) }()
	collect := func(seq func(func(Entry, error) bool)) []int64 {
		var list []int64
		for e, err := range seq {
			must(t, err)
			list = append(list, e.SeqEnd)
		}
		return list
	}
	for _, c := range []struct {
		after int64
		want  []int64
	}{
		{math.MinInt64, []int64{2, 5, 8}}, {-1, []int64{2, 5, 8}}, {0, []int64{2, 5, 8}}, {1, []int64{2, 5, 8}}, {2, []int64{5, 8}}, {4, []int64{5, 8}},
		{7, []int64{8}}, {8, nil}, {math.MaxInt64 - 1, nil}, {math.MaxInt64, nil},
	} {
		if got := collect(v.Entries(c.after)); !slices.Equal(got, c.want) {
			t.Errorf("after %d: %v, want %v", c.after, got, c.want)
		}
		got := collect(v.EntriesReverse(c.after))
		slices.Reverse(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("down to %d: %v, want %v", c.after, got, c.want)
		}
	}
	for seq, want := range map[int64]bool{-1: false, 0: false, 2: true, 3: false, 5: true, 9: false, math.MaxInt64: false} {
		if _, ok, err := v.EntryAt(seq); ok != want || err != nil {
			t.Errorf("at %d: %v, %v", seq, ok, err)
		}
	}
	for _, c := range []struct {
		seq  int64
		n    int
		want []int64
	}{{8, 2, []int64{8, 5}}, {7, 5, []int64{5, 2}}, {1, 3, nil}, {8, 0, nil}, {math.MaxInt64, 1, []int64{8}}} {
		if got, err := v.NewestEnds(c.seq, c.n); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("newest %d at %d: %v, %v", c.n, c.seq, got, err)
		}
	}
	for e := range v.Entries(-1) { // an abandoned iteration leaks nothing: Close would fail
		_ = e
		break
	}
}

// A document whose name is the beginning of another's: each sees its own entries.
func TestNamesThatBeginAlike(t *testing.T) {
	r := newRuleRun(t)
	index := uint64(0)
	keys := []Key{{Space: "space", Key: "a"}, {Space: "space", Key: "aa"}, {Space: "space", Key: "a."}, {Space: "spac", Key: "e"}, {Space: "space", Key: "a-"}}
	for i, key := range keys {
		index++
		m := createAt(index)
		m.Key, m.Chain = key, SeedChain(key).Next(m.Deltas[0].AppendBinary(nil))
		r.apply(m)
		for range i {
			h, _, err := r.d.Head(key)
			must(t, err)
			index++
			r.apply(appendAt(index, key, h, 1))
		}
	}
	for i, key := range keys {
		r.key = key
		if n := len(r.seqs()); n != i+1 {
			t.Errorf("%s has %d entries, want %d", key, n, i+1)
		}
	}
	r.key = keys[0]
	r.apply(Mutation{Kind: Delete, Key: r.key, Index: index + 1})
	for i, key := range keys[1:] {
		r.key = key
		if n := len(r.seqs()); n != i+2 {
			t.Errorf("%s has %d entries after another was deleted", key, n)
		}
	}
}

func TestMisplacedEntryIsCorruption(t *testing.T) {
	r := newRuleRun(t)
	r.apply(r.mutations(3)...)
	p, err := r.d.place(r.key)
	must(t, err)
	value, _, err := get(r.e.db, appendEntry(nil, 7, p, 1, 2))
	must(t, err)
	must(t, r.e.db.Set(appendEntry(nil, 7, p, 1, 3), value, pebble.NoSync))
	v, err := r.d.View(r.key)
	must(t, err)
	defer func() { must(t, v.Close()) }()
	if _, _, err := v.EntryAt(3); Code(err) != CodeCorruption {
		t.Errorf("%v", err)
	}
	n := 0
	for _, err := range v.Entries(-1) {
		if n++; n == 3 && Code(err) != CodeCorruption || n < 3 && err != nil {
			t.Errorf("entry %d: %v", n, err)
		}
	}
	if n != 3 {
		t.Errorf("%d entries", n)
	}
}

func TestInventory(t *testing.T) {
	r := newRuleRun(t)
	var batch []Mutation
	for i := uint64(1); i <= 300; i++ {
		m := createAt(i)
		if i%3 == 0 {
			m.Key.Space = "other"
			m.Chain = SeedChain(m.Key).Next(m.Deltas[0].AppendBinary(nil))
		}
		batch = append(batch, m)
	}
	must(t, r.d.Apply(batch, 300))
	for space, want := range map[string]int{"": 300, "space": 200, "other": 100, "oth": 0, "none": 0} {
		n, last := 0, uint64(0)
		for info, err := range r.d.Inventory(space) {
			must(t, err)
			if hash := info.Key.Hash(); hash < last {
				t.Fatalf("%s is out of order", info.Key)
			} else {
				last = hash
			}
			if space != "" && info.Key.Space != space || info.Head.HeadSeq != 1 {
				t.Errorf("%s in the inventory of %q", info.Key, space)
			}
			n++
		}
		if n != want {
			t.Errorf("%q: %d documents, want %d", space, n, want)
		}
	}
	n := 0
	for range r.d.Inventory("") {
		if n++; n == 5 {
			break
		}
	}
	if m := r.e.Metrics(); m.Members != 1 || m.OpenViews != 0 || m.LogBytesIn == 0 || m.HeadHits+m.HeadMisses == 0 {
		t.Errorf("%+v", m)
	}
	must(t, r.e.Sync())
	if m := r.e.Metrics(); m.Syncs != 1 {
		t.Errorf("%d syncs", m.Syncs)
	}
}
