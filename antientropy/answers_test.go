package antientropy

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/adamantdb/adamant/store"
)

// withoutAnswers drops what a pull's reply says of documents that drop names, and keeps what it claims to cover.
func withoutAnswers(t *testing.T, b []byte, drop func(i int) bool) []byte {
	plain, err := new(unpacker).decompress(b, maxLimit)
	if err != nil {
		t.Error(err)
		return b
	}
	r, err := decodeReply(plain)
	p, ok := r.(*pullReply)
	if err != nil || !ok {
		return b
	}
	for n := range p.chunks {
		c, err := store.DecodeChunk(p.chunks[n])
		if err != nil {
			t.Error(err)
			return b
		}
		var docs []store.ChunkDoc
		for i := range c.Docs {
			if !drop(i) {
				docs = append(docs, c.Docs[i])
			}
		}
		c.Docs, c.Absent = docs, nil
		p.chunks[n] = c.AppendBinary(nil)
	}
	return encodeReply(p)
}

// TestPeerThatListsWhatItDoesNotHold: a peer whose listing names documents, and which then sends nothing about them at the
// same index, is a liar. What it was asked for does not count as healed.
func TestPeerThatListsWhatItDoesNotHold(t *testing.T) {
	for name, drop := range map[string]func(i int) bool{
		"none of them": func(int) bool { return true },
		"not the last": func(i int) bool { return i > 0 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, "a", "b", "c")
				defer c.close()
				h := c.load(3000, 1, 100, "a", "b", "c")
				for i := range 1000 {
					h.remove(key(2000 + i)) // which a does not say either
				}
				h.busy(500, 1500, 50)
				c.machines["a"].apply(p0, h.last())
				c.machines["b"].apply(p0, h.last())
				c.intercept = func(_, to string, _ uint32, request []byte, serve server) ([]byte, error) {
					b, err := serve(request)
					if to == "a" && err == nil && kind(request[1]) == kindPull {
						b = withoutAnswers(t, b, drop)
					}
					return b, err
				}
				sick := c.machines["c"]
				sick.skip(p0, h.last())
				l := sick.start(Options{ChunkBytes: 8 << 10})
				sick.heal()
				c.sameRoots(p0, "b", "c")
				if s := l.Stats(); s.Liars == 0 || s.Divergences > 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestOwnListingIsBounded: one bucket holds very many documents here, all of which the peer has deleted. Its page of no rows
// is compared with some of them at a time.
func TestOwnListingIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const documents, rows, bucket = 2000, 300, 77
		c := newCluster(t, "a", "b")
		defer c.close()
		h := newHistory(1)
		c.logs[p0] = h
		var keys []store.Key
		for n := 0; len(keys) < documents; n++ {
			if k := key(n); store.FullRange().Bucket(k.Hash()) == bucket {
				keys = append(keys, k)
				h.write(k, 10)
			}
		}
		c.machines["a"].apply(p0, h.last())
		c.machines["b"].apply(p0, h.last())
		for _, k := range keys {
			h.remove(k)
		}
		c.machines["a"].apply(p0, h.last())
		c.machines["b"].skip(p0, h.last())
		m, source := c.machines["b"].member(p0), c.machines["a"].member(p0).docs
		tr := newTransfer(m, "a", []uint8{bucket}, &limits{func(uint32) uint64 { return math.MaxUint64 }, maxLimit, rows})
		ask := func(r request) reply {
			request := encodeRequest(r)
			b, err := Serve(t.Context(), source, request)
			if err != nil {
				t.Fatal(err)
			}
			bind(b, request)
			if b, err = new(unpacker).decompress(b, maxLimit); err != nil {
				t.Fatal(err)
			}
			answer, err := decodeReply(b)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		pages := 0
		for ; len(tr.pages) > 0; pages++ {
			if err := tr.takeListings(ask(tr.listRequest()).(*listReply)); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(tr.items); n < documents/rows || slices.ContainsFunc(tr.items, func(i item) bool { return len(i.hashes) > rows+1 }) {
			t.Errorf("%d items after %d pages", n, pages)
		}
		for len(tr.items) > 0 {
			q := tr.pullRequest(1 << 20)
			if len(q.items) == 0 {
				break
			}
			if err := tr.takeChunks(ask(q).(*pullReply), len(q.items)); err != nil {
				t.Fatal(err)
			}
		}
		finishAll(tr.ended)
		if s := m.docs.Status(); s.Documents > 0 || len(tr.ended) != 1 || tr.ended[0].err != nil || len(tr.failed) > 0 {
			t.Errorf("%d documents left, finished %v, failed %v", s.Documents, tr.ended, tr.failed)
		}
	})
}

// TestWantedDocumentThatIsOldComesFirst: a document that is here, but misses something, is fetched like one that is not.
func TestWantedDocumentThatIsOldComesFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(1000, 1, 100, "a", "b")
		c.load(1000, 2, 1000, "a")
		c.latency["a"] = 10 * time.Millisecond
		sick := c.machines["b"]
		sick.skip(p0, h.last())
		l := sick.start(Options{ChunkBytes: 8 << 10})
		eventually(t, "under way", func() bool { return l.Stats().Pulls > 3 })
		start := time.Now()
		l.Want(p0, key(777))
		eventually(t, "whole", func() bool {
			head, ok, err := sick.member(p0).docs.Head(key(777))
			return ok && err == nil && head.HeadSeq == 3
		})
		if took := time.Since(start); took > 60*time.Millisecond || sick.member(p0).docs.Status().Complete {
			t.Errorf("took %s", took)
		}
		sick.heal()
		c.sameRoots(p0, "a", "b")
		clean(t, l)
	})
}

// nothingMore answers a pull of one item with the first document and none of its deltas, and then with a cursor that is a
// little further each time; again tells the document's head again, too.
func nothingMore(t *testing.T, docs *store.Documents, request []byte, again bool) []byte {
	r, err := decodeRequest(request)
	if err != nil {
		t.Error(err)
		return nil
	}
	item := r.(*pullRequest).items[0]
	q, err := store.DecodeExportQuery(item.query)
	if err != nil {
		t.Error(err)
		return nil
	}
	from, whole := q.From, *q
	whole.From, whole.Budget = store.Cursor{Hash: from.Hash}, 1<<20
	c, err := docs.Export(item.bucket, &whole)
	if err != nil {
		t.Error(err)
		return nil
	}
	if len(c.Docs) > 0 {
		doc := c.Docs[0]
		doc.Entries = nil
		c.Absent = slices.DeleteFunc(c.Absent, func(a store.ChunkAbsent) bool { return a.Key.Hash() >= doc.Key.Hash() })
		c.Docs, c.Done = []store.ChunkDoc{doc}, false
		c.Next = store.Cursor{Hash: doc.Key.Hash(), Key: doc.Key, Generation: doc.Head.Generation, After: doc.Head.Floor, BaseIndex: doc.Head.BaseIndex}
		if from.Key != (store.Key{}) {
			c.Next.After = from.After + 1
		}
	}
	if from.Key != (store.Key{}) && !again {
		c.Docs, c.Absent, c.Done, c.Next = nil, nil, false, from
		c.Next.After++
	}
	return encodeReply(&pullReply{chunks: [][]byte{c.AppendBinary(nil)}})
}

// TestPeerThatNeverGetsDone: a peer whose answers say nothing, each with a cursor a little further, does not keep a bucket
// when there is another peer that has everything; neither does it keep readers' documents.
func TestPeerThatNeverGetsDone(t *testing.T) {
	for name, again := range map[string]bool{"nothing": false, "the same head": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, "a", "b", "c")
				defer c.close()
				h := c.load(3000, 1, 100, "a", "b", "c")
				h.busy(500, 1500, 50)
				c.machines["a"].apply(p0, h.last())
				c.machines["b"].apply(p0, h.last())
				c.latency["a"], c.latency["b"] = 50*time.Millisecond, 50*time.Millisecond
				c.intercept = func(_, to string, _ uint32, request []byte, serve server) ([]byte, error) {
					if to != "a" || kind(request[1]) != kindPull {
						return serve(request)
					}
					return nothingMore(t, c.machines["a"].member(p0).docs, request, again), nil
				}
				sick := c.machines["c"]
				sick.skip(p0, h.last())
				l := sick.start(Options{})
				sick.heal()
				c.sameRoots(p0, "b", "c")
				if s := l.Stats(); s.Liars == 0 || s.Divergences > 0 {
					t.Errorf("%+v", s)
				}
				before := l.Stats()
				k := key(777)
				o := fetch{Partition: p0, Peer: "a", Bucket: store.FullRange().Bucket(k.Hash()), Hash: k.Hash(), Limit: 1 << 20}
				if e := l.fetch(t.Context(), sick.member(p0), nil, o); e.Failure != liar {
					t.Errorf("a fetch ends with %v after %d requests", e.Failure, l.Stats().Pulls-before.Pulls)
				}
			})
		})
	}
}

// TestWhereChunksStop: a chunk that is not the last ends behind something that it tells, and what it tells gets somewhere.
func TestWhereChunksStop(t *testing.T) {
	k, other := key(1), key(2)
	hash := k.Hash()
	head := store.ChunkDoc{Key: k, Head: store.Head{Generation: 3, Floor: -1, HeadSeq: 100}}
	withBase, withEntry := head, head
	withBase.HasBase = true
	withEntry.Entries = []store.ChunkEntry{{Mark: store.Mark{Begin: 5, End: 7}}}
	absent := []store.ChunkAbsent{{Key: k}}
	at := func(after int64) store.Cursor { return store.Cursor{Hash: hash, Key: k, Generation: 3, After: after} }
	for name, tc := range map[string]struct {
		c  store.Chunk
		ok bool
	}{
		"the last":                {store.Chunk{Done: true}, true},
		"nothing":                 {store.Chunk{Next: at(7)}, false},
		"no cursor":               {store.Chunk{Docs: []store.ChunkDoc{head}}, false},
		"a whole document":        {store.Chunk{Docs: []store.ChunkDoc{head}, Next: at(math.MaxInt64)}, true},
		"a head":                  {store.Chunk{Docs: []store.ChunkDoc{head}, Next: at(7)}, false},
		"where the asker ended":   {store.Chunk{Docs: []store.ChunkDoc{head}, Next: at(50)}, true},
		"a base":                  {store.Chunk{Docs: []store.ChunkDoc{withBase}, Next: at(-1)}, true},
		"an entry":                {store.Chunk{Docs: []store.ChunkDoc{withEntry}, Next: at(7)}, true},
		"past an entry":           {store.Chunk{Docs: []store.ChunkDoc{withEntry}, Next: at(8)}, false},
		"an absence":              {store.Chunk{Absent: absent, Next: at(math.MaxInt64)}, true},
		"within an absence":       {store.Chunk{Absent: absent, Next: at(7)}, false},
		"another document":        {store.Chunk{Docs: []store.ChunkDoc{head}, Next: store.Cursor{Hash: other.Hash(), Key: other, After: math.MaxInt64}}, false},
		"not what was asked for":  {store.Chunk{Docs: []store.ChunkDoc{{Key: other}}, Next: store.Cursor{Hash: other.Hash(), Key: other, After: math.MaxInt64}}, false},
		"another document's hash": {store.Chunk{Docs: []store.ChunkDoc{{Key: other}}, Next: store.Cursor{Hash: hash, Key: other, After: math.MaxInt64}}, false},
	} {
		i := item{hashes: []uint64{hash}}
		i.ask([]store.Want{{Hash: hash, Have: []store.Have{{Key: k, Generation: 3, Upto: 50}}}})
		if err := i.stops(&tc.c); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSameEntriesForEver: a peer that sends what is here already, a little more each time, is left after some replies. What
// this member itself has to skip, and anything new, is no such reply.
func TestSameEntriesForEver(t *testing.T) {
	k := key(1)
	replies := func(entries func(n int) int, upto bool) int {
		i := item{hashes: []uint64{k.Hash()}}
		for n := range 100 {
			have := store.Have{Key: k, Generation: 3, Upto: math.MaxInt64}
			if upto {
				have.Upto = int64(n)
			}
			i.ask([]store.Want{{Hash: k.Hash(), Have: []store.Have{have}}})
			if !i.advance(&store.Chunk{Next: store.Cursor{Hash: k.Hash(), Key: k, Generation: 3, After: int64(n)}}, entries(n)) {
				return n
			}
		}
		return 100
	}
	none := func(int) int { return 0 }
	if n := replies(none, false); n > mostIdle+1 {
		t.Errorf("left after %d replies", n)
	}
	if n := replies(none, true); n < 100 {
		t.Errorf("left after %d replies that skip what is here", n)
	}
	if n := replies(func(n int) int { return n / 10 % 2 }, false); n < 100 {
		t.Errorf("left after %d replies with news", n)
	}
}
