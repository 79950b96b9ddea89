package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRecordBatchIsWhatWasWritten: whatever order Pebble is given, it ends up with what the writes left one after the other.
func TestRecordBatchIsWhatWasWritten(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), FormatMajorVersion: pebble.FormatNewest})
		must(t, err)
		var b recordBatch
		want := map[string]string{}
		key := func() string { // of 4 to 16 bytes; few, so that many are written again
			return "part" + "\x01\x07\x00\x00\x03abcdefg"[:rng.IntN(13)]
		}
		for n := range 200 {
			k := key()
			switch kind := rng.IntN(40); {
			case kind == 0 && seed%2 == 1:
				upTo := k + "\xff"
				b.DeleteRange([]byte(k), []byte(upTo))
				for other := range want {
					if other >= k && other < upTo {
						delete(want, other)
					}
				}
			case kind < 10:
				b.Delete([]byte(k))
				delete(want, k)
			default:
				want[k] = fmt.Sprint(n)
				b.Set([]byte(k), []byte(want[k]))
			}
		}
		out := db.NewBatch()
		must(t, b.fill(out))
		if size := b.size(); out.Len() > size+size/2 {
			t.Errorf("%d bytes were taken for %d", out.Len(), size)
		}
		must(t, db.Apply(out, nil))
		it, err := db.NewIter(nil)
		must(t, err)
		n := 0
		for ok := it.First(); ok; ok = it.Next() {
			if n++; want[string(it.Key())] != string(it.Value()) {
				t.Errorf("seed %d: %q is %q, want %q", seed, it.Key(), it.Value(), want[string(it.Key())])
			}
		}
		if n != len(want) {
			t.Errorf("seed %d: %d records, want %d", seed, n, len(want))
		}
		must(t, it.Close())
		must(t, db.Close())
		if b.reset(); b.size() != 0 || b.ranges {
			t.Error("not empty after reset")
		}
	}
}

// TestTwinsAreDifferentDocuments: two documents of one hash share nothing but the place where a batch looks for them.
func TestTwinsAreDifferentDocuments(t *testing.T) {
	r := newRuleRun(t)
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	b := r.d.begin()
	defer b.close()
	one, other := place{key: Key{"space", "one"}, hash: 5}, place{key: Key{"space", "other"}, hash: 5}
	first := b.add(one)
	first.head = &Head{HeadSeq: 1}
	b.used = append(b.used[:0], first)
	r.d.showStaged(b)
	second := b.add(other)
	if b.known(one) != first || b.known(other) != second || b.known(place{key: Key{"space", "third"}, hash: 5}) != nil {
		t.Error("documents are taken for each other")
	}
	if h, ok := r.d.stagedHead(one); !ok || h.head.HeadSeq != 1 {
		t.Error("a staged head is not shown")
	}
	if _, ok := r.d.stagedHead(other); ok {
		t.Error("a head is shown that was not staged")
	}
	second.head = &Head{HeadSeq: 2}
	b.used = append(b.used[:0], second)
	r.d.showStaged(b)
	if h, ok := r.d.stagedHead(other); !ok || h.head.HeadSeq != 2 {
		t.Error("the second head is not shown")
	}
	if h, ok := r.d.stagedHead(one); !ok || h.head.HeadSeq != 1 {
		t.Error("the first head is not shown any more")
	}
	clear(r.d.stage.heads)
}
