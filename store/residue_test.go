package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2"
)

// TestNothingIsLeftOfDeletedDocuments: documents are created, compacted, deleted and created again while members miss parts of
// it. When all are healed, everything is compacted, and each member is wiped and rebuilt from another one in turn. No document
// comes back, and an engine holds no key that is not of a living document: no delete record, no entry below a floor, no
// base or entry of an older generation.
func TestNothingIsLeftOfDeletedDocuments(t *testing.T) {
	s := newScript()
	members := []*docsMember{newDocsMember(t), newDocsMember(t), newDocsMember(t)}
	key := func(n int) Key { return Key{Space: "space", Key: fmt.Sprint("doc-", n)} }
	const documents = 120
	for n := range documents {
		s.create(key(n), 30)
		s.append(key(n), 5, 30)
	}
	missed := s.last()
	for n := range documents {
		switch {
		case n%3 == 0:
			s.delete(key(n))
		case n%3 == 1:
			s.compact(key(n), 2, []byte(`{"a":1}`))
		}
	}
	for n := 0; n < documents; n += 6 { // half of those that were deleted
		s.create(key(n), 40)
	}
	between := s.last()
	for n := 1; n < documents; n += 12 {
		s.delete(key(n))
	}
	s.append(key(2), 3, 30)
	members[0].follow(t, s, s.last())
	members[1].follow(t, s, s.last(), interval.Range{First: missed + 1, Last: between})
	members[2].follow(t, s, s.last(), interval.Range{First: between + 1, Last: s.last() - 1})
	members[1].pullAll(t, members[0])
	members[2].pullAll(t, members[1])
	if n := members[1].Status().DeleteRecords + members[2].Status().DeleteRecords; n > 0 {
		t.Errorf("%d delete records of members that lack nothing", n)
	}

	for key := range s.heads {
		s.compact(key, 1, []byte(`{"b":2}`))
	}
	for _, m := range members {
		m.follow(t, s, s.last())
	}
	for wiped := range members {
		for _, m := range members {
			m.mustHoldOnly(t, s)
		}
		m := newDocsMember(t)
		m.follow(t, s, s.last(), interval.Range{First: 1, Last: s.last() - 1})
		m.pullAll(t, members[(wiped+1)%len(members)])
		members[wiped] = m
	}
	for _, m := range members {
		m.mustHoldOnly(t, s)
		m.mustEqual(t, members[0])
	}
}

// mustHoldOnly compacts the engine and compares all keys of the partition's documents with what the script's heads call for.
func (m *docsMember) mustHoldOnly(t *testing.T, s *script) {
	t.Helper()
	if err := m.e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := m.e.db.Compact(t.Context(), []byte{0}, []byte{0xff, 0xff}, false); err != nil {
		t.Fatal(err)
	}
	lower, upper := prefixRange(appendPartition(nil, 7))
	it, err := m.e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := it.Close(); err != nil {
			t.Error(err)
		}
	}()
	heads, bases := 0, 0
	for it.First(); it.Valid(); it.Next() {
		if it.Key()[len(lower)] == sectionMeta {
			continue
		}
		k, err := decodeRecordKey(it.Key())
		if err != nil {
			t.Fatal(err)
		}
		h := s.heads[k.key]
		switch {
		case h == nil:
			t.Errorf("a record of kind %v is left of %s", k.kind, k.key)
		case k.kind == kindHead:
			heads++
		case k.kind == kindBase && slices.Equal(it.Key(), appendGeneration(nil, 7, k.place(), kindBase, h.Generation)):
			bases++
		case k.kind == kindEntry && slices.Equal(it.Key(), appendEntry(nil, 7, k.place(), h.Generation, seqOf(it.Key()))) && seqOf(it.Key()) > h.Floor:
		default:
			t.Errorf("a record of kind %v, key %x, is left of %s at floor %d", k.kind, it.Key(), k.key, h.Floor)
		}
	}
	if heads != len(s.heads) || bases != len(s.heads) {
		t.Errorf("%d heads and %d bases of %d documents", heads, bases, len(s.heads))
	}
}
