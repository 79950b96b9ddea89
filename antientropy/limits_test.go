package antientropy

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/adamantdb/adamant/store"
)

// exaggerate makes a peer's answers to one kind of request claim that it knows an index.
func exaggerate(t *testing.T, k kind, applied, ahead uint64) func(b []byte) []byte {
	return func(b []byte) []byte {
		if kind(b[1]) != k {
			return b
		}
		plain, err := new(unpacker).decompress(b, maxLimit)
		if err != nil {
			t.Error(err)
		}
		r, err := decodeReply(plain)
		if err != nil {
			t.Error(err)
		}
		switch r := r.(type) {
		case *listReply:
			for i := range r.listings {
				l := r.listings[i]
				l.Applied, l.Ahead = max(l.Applied, applied), max(l.Ahead, ahead)
			}
		case *pullReply:
			for i := range r.chunks {
				c, err := store.DecodeChunk(r.chunks[i])
				if err != nil {
					t.Error(err)
				}
				c.Applied, c.Ahead = max(c.Applied, applied), max(c.Ahead, ahead)
				r.chunks[i] = c.AppendBinary(nil)
			}
		}
		return encodeReply(r)
	}
}

// TestSourceThatClaimsTooMuch: a peer that is wrong about its own index must not make a member wait for it. The member
// heals from another one.
func TestSourceThatClaimsTooMuch(t *testing.T) {
	const wrong = 1 << 63
	for name, lie := range map[string]func(b []byte) []byte{
		"a listing, applied": exaggerate(t, kindList, wrong, 0),
		"a listing, ahead":   exaggerate(t, kindList, 0, wrong),
		"a chunk, applied":   exaggerate(t, kindPull, wrong, 0),
		"a chunk, ahead":     exaggerate(t, kindPull, 0, wrong),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, "a", "b", "c")
				defer c.close()
				h := c.load(300, 2, 100, "a", "b")
				c.intercept = func(_, to string, _ uint32, request []byte, serve server) ([]byte, error) {
					b, err := serve(request)
					if to == "a" && err == nil {
						b = lie(b)
					}
					return b, err
				}
				sick := c.machines["c"]
				sick.skip(p0, h.last())
				l := sick.start(Options{ChunkBytes: 8 << 10, Highest: func(uint32) uint64 { return h.last() + 100 }})
				l.Want(p0, key(1)) // single documents come from where they come
				sick.heal()
				c.sameRoots(p0, "b", "c")
				if s, got := sick.member(p0).docs.Status(), l.Stats(); s.Ahead > h.last() || got.Refused == 0 || got.Liars > 0 {
					t.Errorf("ahead %d, %+v", s.Ahead, got)
				}
			})
		})
	}
}

// TestClaimIsBelievedWhenTheLogArrives: a peer that is right while this host is behind is only asked again.
func TestClaimIsBelievedWhenTheLogArrives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(50, 2, 100, "a")
		sick := c.machines["b"]
		sick.skip(p0, h.last()/2)
		var log atomic.Uint64
		log.Store(h.last() - 1)
		l := sick.start(Options{Highest: func(uint32) uint64 { return log.Load() }})
		eventually(t, "refused", func() bool { return l.Stats().Refused > 2 })
		if s := sick.member(p0).docs.Status(); s.Ahead > s.Applied || s.Documents > 0 || l.Stats().Liars > 0 {
			t.Errorf("%+v", s)
		}
		log.Store(h.last())
		eventually(t, "no holes", func() bool { return sick.member(p0).docs.Status().Holes.Empty() })
		sick.apply(p0, h.last())
		c.sameRoots(p0, "a", "b")
		if !sick.member(p0).docs.Complete() {
			t.Errorf("%+v", sick.member(p0).docs.Status())
		}
	})
}

// TestLargestBytes: what a peer says to be larger than this host takes is not asked for.
func TestLargestBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(50, 1, 100, "a")
		h.write(key(7), 100_000)
		c.machines["a"].apply(p0, h.last())
		sick := c.machines["b"]
		sick.skip(p0, h.last())
		l := sick.start(Options{ChunkBytes: 8 << 10, LargestBytes: 90_000})
		eventually(t, "the others", func() bool { p := l.Progress(); return len(p) == 1 && p[0].BucketsDone == 255 })
		time.Sleep(time.Minute)
		if p := l.Progress(); len(p) != 1 || p[0].BucketsDone != 255 || l.Stats().MostInFlight > 50_000 {
			t.Errorf("%+v, %+v", p, l.Stats())
		}
		sick.stop()
		sick.start(Options{ChunkBytes: 8 << 10, LargestBytes: 150_000})
		sick.heal()
		c.sameRoots(p0, "a", "b")
	})
}

// TestLargeReplyIsProvenFirst: whatever a small reply claims to be, or unpacks to, memory is allocated only for one whose
// checksum is right.
func TestLargeReplyIsProvenFirst(t *testing.T) {
	zeros := make([]byte, 64<<20)
	honest := encodeReply(&pullReply{chunks: [][]byte{zeros}})
	bomb := compress(newEncoder(), honest)
	honest[len(honest)-1]++
	damaged := compress(newEncoder(), honest)
	packed := func(size uint64, frame []byte) []byte {
		return append(binary.AppendUvarint([]byte{messageVersion, byte(kindPull), compressed}, size), frame...)
	}
	small := newEncoder().EncodeAll([]byte("no more than this"), nil)
	wide, err := zstd.NewWriter(nil, zstd.WithWindowSize(512<<20))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"damaged":         damaged,
		"claims too much": packed(maxLimit, small),
		"claims too little, still large": packed(32<<20, func() []byte {
			_, n := binary.Uvarint(bomb[replyHeader:])
			return bomb[replyHeader+n:]
		}()),
		"looks far back": packed(uint64(len(zeros)), wide.EncodeAll(zeros, nil)),
		"no frame":       packed(maxLimit, nil),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := new(unpacker).decompress(b, maxLimit)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrMessage) || len(b) > 100_000 || used > 8<<20 {
			t.Errorf("%s: %v; %d bytes allocated for a reply of %d", name, err, used, len(b))
		}
	}
	plain, err := new(unpacker).decompress(bomb, maxLimit)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := decodeReply(plain); err != nil || len(r.(*pullReply).chunks[0]) != len(zeros) {
		t.Errorf("what is right: %v", err)
	}
}

// TestMemoryOfOneCrowdedBucket: somebody has chosen keys that all fall into one bucket. Its listing takes several pages and
// its documents many chunks, and no more of them is in memory than of any others.
func TestMemoryOfOneCrowdedBucket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const bound, chunk = 100_000, 8 << 10
		documents, least := 2*listRows+500, int64(3) // pages
		if slowBuild {
			documents, least = 400, 1
		}
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := newHistory(1)
		c.logs[p0] = h
		for n, found := 0, 0; found < documents; n++ {
			if k := key(n); store.FullRange().Bucket(k.Hash()) == 77 {
				h.write(k, 40)
				found++
			}
		}
		c.machines["a"].apply(p0, h.last())
		c.machines["b"].apply(p0, h.last())
		wiped := c.machines["c"]
		wiped.skip(p0, h.last())
		var pages, largest atomic.Int64
		c.intercept = func(_, _ string, _ uint32, request []byte, serve server) ([]byte, error) {
			b, err := serve(request)
			switch kind(request[1]) {
			case kindList:
				pages.Add(1)
			case kindPull:
				if plain, err := new(unpacker).decompress(b, maxLimit); err == nil {
					largest.Store(max(largest.Load(), int64(len(plain))))
				}
			}
			return b, err
		}
		l := wiped.start(Options{ChunkBytes: chunk, MemoryBytes: bound, PerPeer: 4})
		wiped.heal()
		c.sameRoots(p0, "a", "b", "c")
		s := clean(t, l)
		t.Logf("%d bytes in %d chunks, the largest %d; at most %d held", s.PulledBytes, s.Pulls, largest.Load(), s.MostInFlight)
		if pages.Load() < least || s.Pulls < int64(documents)*40/chunk || largest.Load() > 2*chunk {
			t.Errorf("%d pages, %d chunks, the largest of %d bytes", pages.Load(), s.Pulls, largest.Load())
		}
		// Besides chunks there is one page of the listing, and 8 bytes for each document that is still to be pulled.
		if most := int64(max(2*bound/3, 40*listRows)); s.MostInFlight > most {
			t.Errorf("%d bytes held", s.MostInFlight)
		}
	})
}
