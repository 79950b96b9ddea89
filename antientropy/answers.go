package antientropy

import (
	"cmp"
	"math"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// item is a set of documents of a bucket that are to be pulled.
type item struct {
	bucket uint8
	hashes []uint64 // ascending; those before the cursor are done
	cursor store.Cursor
	asked  uint64 // the last hash that the request in flight describes

	// What the peer has promised: the hashes under which it listed documents, ascending, and what it knew when it did.
	listed []uint64
	known  knowledge

	// Of the request in flight: the hashes under which this member described a document, and where it had no room to go on.
	had  map[uint64]bool
	upto map[store.Key]int64

	idle int // replies in a row that ended within one document and brought no entry that was not here
}

// knowledge is what a peer said of the log together with a listing or a chunk.
type knowledge struct {
	coverage       interval.Set
	applied, ahead uint64
}

func (k *knowledge) equal(o *knowledge) bool {
	return k.applied == o.applied && k.ahead == o.ahead && k.coverage.Equal(o.coverage)
}

// ask takes note of what a request describes.
func (i *item) ask(list []store.Want) {
	i.asked, i.had, i.upto = list[len(list)-1].Hash, map[uint64]bool{}, map[store.Key]int64{}
	for n := range list {
		for k := range list[n].Have {
			h := &list[n].Have[k]
			if h.Generation > 0 {
				i.had[list[n].Hash] = true
			}
			if h.Upto < math.MaxInt64 {
				i.upto[h.Key] = h.Upto
			}
		}
	}
}

// unanswered finds a hash that a chunk had to say something about and did not: the asker has a document there, or the peer
// listed one and has not learned or applied anything since, so that it must still be there. Without this a peer that
// lists what it does not hold would heal a bucket with nothing.
func (i *item) unanswered(c *store.Chunk) (hash uint64, found bool) {
	answered := map[uint64]bool{}
	for n := range c.Docs {
		answered[c.Docs[n].Key.Hash()] = true
	}
	for n := range c.Absent {
		answered[c.Absent[n].Key.Hash()] = true
	}
	same := i.known.equal(&knowledge{c.Coverage, c.Applied, c.Ahead})
	for _, hash := range i.hashes {
		if hash > i.asked || !c.Done && hash > c.Next.Hash {
			return 0, false
		}
		if hash < i.cursor.Hash || hash == i.cursor.Hash && i.cursor.Key != (store.Key{}) || answered[hash] {
			continue // the chunk before may have told all there is of the cursor's hash
		}
		if _, listed := slices.BinarySearch(i.listed, hash); same && listed || i.had[hash] {
			return hash, true
		}
	}
	return 0, false
}

// mostIdle bounds item.idle. Few come honestly: of a base that changes again and again, and of entries that were applied here
// while the reply was on its way.
const mostIdle = 16

// stops verifies that a chunk which is not the last ends right behind something that it tells of what was asked for: a
// document or a part of it, or an absence. Else a peer could have a session go on for ever by telling it nothing.
func (i *item) stops(c *store.Chunk) error {
	if c.Done {
		return nil
	}
	next := &c.Next
	if _, asked := slices.BinarySearch(i.hashes, next.Hash); !asked || next.Hash > i.asked || next.Key.Hash() != next.Hash {
		return lies("a chunk of bucket %d that ends at %016x, which it was not asked for", i.bucket, next.Hash)
	}
	if n := len(c.Absent); n > 0 && c.Absent[n-1].Key == next.Key && next.After == math.MaxInt64 {
		return nil
	}
	if n := len(c.Docs); n > 0 && c.Docs[n-1].Key == next.Key && i.stopsIn(&c.Docs[n-1], next) {
		return nil
	}
	return lies("a chunk of bucket %d that ends at seq %d of %s without a word about it", i.bucket, next.After, next.Key)
}

// stopsIn reports whether a chunk may end there: behind the document, its base or an entry that were sent, or where this
// member had no room to say what it holds.
func (i *item) stopsIn(doc *store.ChunkDoc, next *store.Cursor) bool {
	upto, short := i.upto[next.Key]
	n := len(doc.Entries)
	return next.After == math.MaxInt64 || short && next.After == upto || n > 0 && next.After == doc.Entries[n-1].End || n == 0 && doc.HasBase
}

// advance moves on behind a chunk that stops where it may, and that brought so many new entries; false when there is no
// getting anywhere with this peer.
func (i *item) advance(c *store.Chunk, entries int) bool {
	if c.Done {
		i.idle = 0
		return true
	}
	upto, short := i.upto[c.Next.Key]
	if c.Next.Key != i.cursor.Key || entries > 0 || short && c.Next.After == upto {
		i.idle = 0
	} else {
		i.idle++
	}
	before := i.cursor
	i.cursor = c.Next
	return follows(&c.Next, &before) && i.idle <= mostIdle
}

// follows reports whether a cursor is behind another one. One that is not would let a session go on for ever; a peer may
// send it that crashed and came back with an older generation of a document.
func follows(next, before *store.Cursor) bool {
	return cmp.Or(cmp.Compare(next.Hash, before.Hash), cmp.Compare(next.Key.String(), before.Key.String()),
		cmp.Compare(next.Generation, before.Generation), cmp.Compare(next.After, before.After),
		cmp.Compare(next.BaseIndex, before.BaseIndex)) > 0
}
