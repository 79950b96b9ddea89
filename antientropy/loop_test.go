package antientropy

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/store"
)

const p0 = uint32(0)

// load writes n documents with deltas each, and applies them on the machines.
func (c *cluster) load(n, deltas, size int, names ...string) *history {
	h := c.logs[p0]
	if h == nil {
		h = newHistory(1)
		c.logs[p0] = h
	}
	for range deltas {
		for i := range n {
			h.write(key(i), size)
		}
	}
	for _, name := range names {
		c.machines[name].apply(p0, h.last())
	}
	return h
}

func TestMemberWithHolesHeals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := c.load(200, 3, 50, "a", "b", "c")
		h.busy(300, 250, 60)
		for _, name := range []string{"a", "b"} {
			c.machines[name].apply(p0, h.last())
		}
		sick := c.machines["c"]
		sick.skip(p0, h.last())
		h.busy(100, 250, 60)
		for _, m := range c.machines {
			m.apply(p0, h.last())
		}
		healed := make(chan uint32, 1)
		l := sick.start(Options{Events: Events{Healed: func(p uint32) { healed <- p }}})
		eventually(t, "healed", func() bool { return sick.member(p0).docs.Status().Complete })
		if p := <-healed; p != p0 {
			t.Errorf("healed %d", p)
		}
		c.sameRoots(p0, "a", "b", "c")
		s := l.Stats()
		t.Logf("%+v", s)
		if s.AlreadyHad != 0 || s.Liars != 0 || s.Refused != 0 || s.Unreachable != 0 || s.Divergences != 0 || s.Healed != 1 {
			t.Errorf("%+v", s)
		}
		if n := len(sick.member(p0).divergences()); n > 0 {
			t.Errorf("%d divergences", n)
		}
		if len(l.Progress()) > 0 {
			t.Errorf("progress of a healthy member: %v", l.Progress())
		}
	})
}

func TestWipedMemberHealsFromTwoPeers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := c.load(2000, 3, 100, "a", "b")
		c.latency["a"], c.latency["b"] = time.Millisecond, time.Millisecond
		wiped := c.machines["c"]
		wiped.skip(p0, h.last())
		from := map[string]int{}
		c.intercept = func(_, to string, _ uint32, request []byte, serve server) ([]byte, error) {
			b, err := serve(request)
			if kind(request[1]) == kindPull {
				c.mu.Lock()
				from[to] += len(b)
				c.mu.Unlock()
			}
			return b, err
		}
		l := wiped.start(Options{ChunkBytes: 16 << 10})
		start := time.Now()
		eventually(t, "healed", func() bool { return wiped.member(p0).docs.Status().Complete })
		c.sameRoots(p0, "a", "b", "c")
		s := l.Stats()
		t.Logf("in %s of two peers: %v, %+v", time.Since(start), from, s)
		if from["a"] < 100_000 || from["b"] < 100_000 || s.AlreadyHad != 0 {
			t.Errorf("%v, %+v", from, s)
		}
	})
}

// heal waits until a machine's member is complete.
func (m *machine) heal() {
	m.c.t.Helper()
	eventually(m.c.t, m.name+" healed", func() bool { return m.member(p0).docs.Status().Complete })
}

// clean verifies that a loop saw nothing that must not be.
func clean(t *testing.T, l *Loop) Stats {
	t.Helper()
	s := l.Stats()
	if s.AlreadyHad != 0 || s.Liars != 0 || s.Refused != 0 || s.Unreachable != 0 || s.Divergences != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	return s
}

// TestHealthyMembersExchangeFewBytes is the price of finding nothing: a request and a reply per comparison.
func TestHealthyMembersExchangeFewBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(500, 2, 50, "a", "b")
		h.busy(20, 100, 10)
		c.machines["a"].apply(p0, h.last()) // b is behind: a's question is about b's index
		l := c.machines["a"].start(Options{Interval: time.Second, Quiet: time.Second})
		lb := c.machines["b"].start(Options{Interval: time.Second, Quiet: time.Second})
		eventually(t, "compared", func() bool { return l.Stats().Compares >= 10 && lb.Stats().Compares >= 10 })
		// With the headers of their frames: when a's question is about an index that b has not applied, b answers with its root
		// at its own; otherwise it says yes.
		for name, want := range map[*Loop]int64{l: 125, lb: 100} {
			s := clean(t, name)
			per := s.CompareBytes/s.Compares + 2*frameHeader
			t.Logf("%d bytes per comparison, there and back", per)
			if per > want || s.Listings+s.Pulls > 0 {
				t.Errorf("%d bytes per comparison, want at most %d: %+v", per, want, s)
			}
		}
		c.machines["b"].apply(p0, h.last())
		before := l.Stats()
		eventually(t, "compared", func() bool { return l.Stats().Compares >= before.Compares+10 })
		if s := clean(t, l); (s.CompareBytes-before.CompareBytes)/(s.Compares-before.Compares)+2*frameHeader > 100 {
			t.Errorf("%+v after %+v", s, before)
		}
	})
}

// TestOneMissingDocumentCostsOneDocument is §13.6: whatever the partition holds, repair moves what is missing, and little
// to find it.
func TestOneMissingDocumentCostsOneDocument(t *testing.T) {
	for _, documents := range []int{100, 2000} {
		bubble(t, func(t *testing.T) {
			c := newCluster(t, "a", "b", "c")
			defer c.close()
			h := c.load(documents, 2, 50, "a", "b", "c")
			h.write(key(50), 3000) // one delta of one document
			c.machines["c"].skip(p0, h.last())
			for _, m := range c.machines {
				m.apply(p0, h.last())
			}
			l := c.machines["c"].start(Options{})
			c.machines["c"].heal()
			c.sameRoots(p0, "a", "b", "c")
			s := clean(t, l)
			t.Logf("%d documents: %d bytes compared, %d listed, %d pulled", documents, s.CompareBytes, s.ListingBytes, s.PulledBytes)
			if s.ImportedEntries != 1 || s.Pulls != 1 || s.PulledBytes > 3600 || s.ListingBytes > 300 || s.CompareBytes > 4800 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestDiscoveryCostsWhatDiffers: to find d documents that are missing, or old, among very many takes 4.5 KB and 48 bytes for
// each of them, on the wire: requests and replies of comparisons and listings.
func TestDiscoveryCostsWhatDiffers(t *testing.T) {
	documents := 131_072
	if slowBuild {
		documents = 20_000
	}
	bubble(t, func(t *testing.T) {
		c := newLargeCluster(t, 64<<20, "a", "c")
		defer c.close()
		h := c.load(documents, 1, 30, "a", "c")
		sick := c.machines["c"]
		for n, d := range []int{1, 10, 1000} {
			before := h.last()
			for i := range d {
				if i%2 == 0 {
					h.write(key(documents+1000*n+i), 30) // missing
				} else {
					h.write(key(i*113+n), 30) // stale
				}
			}
			sick.skip(p0, h.last())
			for _, m := range c.machines {
				m.apply(p0, h.last())
			}
			l := sick.start(Options{})
			sick.heal()
			sick.stop()
			c.sameRoots(p0, "a", "c")
			s := clean(t, l)
			found := s.CompareBytes + s.ListingBytes
			t.Logf("found %d of %d documents with %d bytes: %d compared, %d listed in %d requests; pulled %d bytes", h.last()-before, documents, found,
				s.CompareBytes, s.ListingBytes, s.Listings, s.PulledBytes)
			if most := int64(4500 + 48*d); found > most || s.ImportedEntries != int64(d) {
				t.Errorf("%d bytes to find %d, want at most %d: %+v", found, d, most, s)
			}
		}
	})
}

// TestRestartInTheMiddleResumes: what was pulled before a restart is not pulled again.
func TestRestartInTheMiddleResumes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := c.load(1000, 2, 200, "a", "b")
		c.latency["a"], c.latency["b"] = 5*time.Millisecond, 5*time.Millisecond
		wiped := c.machines["c"]
		wiped.skip(p0, h.last())
		l := wiped.start(Options{ChunkBytes: 8 << 10})
		half := func() bool {
			list := l.Progress()
			return len(list) == 1 && list[0].BucketsDone >= 128
		}
		eventually(t, "half of it", half)
		before := l.Progress()[0]
		if before.BucketsDone > 200 || before.Bytes == 0 || before.Documents == 0 || before.Rate <= 0 || before.BucketsTotal != 256 || before.Started.IsZero() {
			t.Errorf("%+v", before)
		}
		if all := c.machines["a"].member(p0).docs.Status().Bytes; before.BytesTotal != all || before.Imported < all/3 || before.Imported > all*4/5 {
			t.Errorf("%d bytes of %d, in truth %d", before.Imported, before.BytesTotal, all)
		}
		if len(before.Sources) == 0 || before.LastError != "" || before.Remaining <= 0 || before.Remaining > 3*time.Since(before.Started) {
			t.Errorf("after %s: %+v", time.Since(before.Started), before)
		}
		wiped.restart()
		h.busy(50, 1000, 50) // the world goes on
		for _, name := range []string{"a", "b", "c"} {
			c.machines[name].apply(p0, h.last())
		}
		first := l.Stats()
		l = wiped.start(Options{ChunkBytes: 8 << 10})
		wiped.heal()
		c.sameRoots(p0, "a", "b", "c")
		second := clean(t, l)
		t.Logf("pulled %d bytes for %d buckets, then %d bytes", first.PulledBytes, before.BucketsDone, second.PulledBytes)
		whole := first.PulledBytes + second.PulledBytes
		if second.PulledBytes > whole*6/10 || whole > 1000*2*330 {
			t.Errorf("%d bytes before, %d after", first.PulledBytes, second.PulledBytes)
		}
	})
}

func TestSourceDiesMidway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := c.load(1000, 2, 100, "a", "b")
		c.latency["a"], c.latency["b"] = 5*time.Millisecond, 5*time.Millisecond
		wiped := c.machines["c"]
		wiped.skip(p0, h.last())
		l := wiped.start(Options{ChunkBytes: 8 << 10})
		eventually(t, "some of it", func() bool { return l.Stats().Pulls > 10 })
		c.kill("a")
		wiped.heal()
		c.sameRoots(p0, "b", "c")
		if s := l.Stats(); s.Unreachable == 0 || s.Unreachable > 20 || s.AlreadyHad > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAllPeersDieAndComeBack: nothing to be done, then everything.
func TestAllPeersDieAndComeBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(300, 1, 100, "a")
		c.kill("a")
		sick := c.machines["b"]
		sick.skip(p0, h.last())
		l := sick.start(Options{})
		time.Sleep(time.Hour)
		if s := l.Stats(); s.Unreachable < 50 || s.Unreachable > 200 {
			t.Errorf("%d tries in an hour", s.Unreachable)
		}
		c.mu.Lock()
		delete(c.dead, "a")
		c.mu.Unlock()
		l.Wake(p0)
		sick.heal()
		c.sameRoots(p0, "a", "b")
	})
}

// TestLyingSource: a source whose replies are damaged, in any way, is put aside; nothing of it is believed.
func TestLyingSource(t *testing.T) {
	lies := map[string]func(b []byte) []byte{
		"a bit flips": func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"truncated":   func(b []byte) []byte { return b[:len(b)-1] },
		"another reply": func([]byte) []byte {
			return encodeReply(&compareReply{outcome: sameRoot, index: 7})
		},
		"contents changed, checksum right": func(b []byte) []byte {
			plain, err := new(unpacker).decompress(b, 1<<20)
			if err != nil {
				return b
			}
			r, err := decodeReply(plain)
			if p, ok := r.(*pullReply); err == nil && ok {
				p.chunks[0][len(p.chunks[0])/2] ^= 1
				return encodeReply(p)
			}
			return b
		},
		"nothing": func([]byte) []byte { return nil },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, "a", "b", "c")
				defer c.close()
				h := c.load(300, 2, 100, "a", "b")
				c.intercept = func(_, to string, _ uint32, request []byte, serve server) ([]byte, error) {
					b, err := serve(request)
					if to == "a" && kind(request[1]) == kindPull {
						b = lie(b)
					}
					return b, err
				}
				wiped := c.machines["c"]
				wiped.skip(p0, h.last())
				l := wiped.start(Options{ChunkBytes: 8 << 10})
				wiped.heal()
				c.sameRoots(p0, "b", "c")
				if s := l.Stats(); s.Liars == 0 || s.Liars > 2 || s.Divergences > 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestPoisonBucket: one bucket that no peer serves holds up its hole, and nothing else.
func TestPoisonBucket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := c.load(1000, 1, 100, "a", "b")
		wiped := c.machines["c"]
		wiped.skip(p0, h.last())
		poison := wiped.member(p0).docs.Range().Bucket(key(0).Hash())
		var cured atomic.Bool
		c.intercept = func(_, _ string, _ uint32, request []byte, serve server) ([]byte, error) {
			r, err := decodeRequest(request)
			p, ok := r.(*pullRequest)
			if err != nil || !ok || cured.Load() {
				return serve(request)
			}
			// What Serve does when it cannot read a bucket: it answers what comes before, if anything.
			switch n := slices.IndexFunc(p.items, func(i pullItem) bool { return i.bucket == poison }); n {
			case -1:
				return serve(request)
			case 0:
				return encodeReply(&refusal{code: 1, bucket: poison, text: "bad block"}), nil
			default:
				return serve(encodeRequest(&pullRequest{limit: p.limit, items: p.items[:n]}))
			}
		}
		l := wiped.start(Options{})
		eventually(t, "the others", func() bool { p := l.Progress(); return len(p) == 1 && p[0].BucketsDone == 255 })
		time.Sleep(10 * time.Minute)
		if s := l.Stats(); s.Refused < 5 || s.Refused > 40 || s.Healed != 0 {
			t.Errorf("%+v", s)
		}
		cured.Store(true)
		wiped.heal()
		c.sameRoots(p0, "a", "b", "c")
	})
}

// TestMemoryIsBounded: many documents, each larger than a chunk, some alone larger than what a usual pull may take.
func TestMemoryIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := newHistory(1)
		c.logs[p0] = h
		documents := 400
		if slowBuild {
			documents = 100
		}
		for i := range documents {
			h.write(key(i), 1000)
			h.write(key(i), 20_000)
			if i%50 == 0 {
				h.compact(key(i), 200_000, 1)
			}
			h.write(key(i), 20_000)
		}
		c.machines["a"].apply(p0, h.last())
		c.machines["b"].apply(p0, h.last())
		c.latency["a"], c.latency["b"] = time.Millisecond, time.Millisecond
		wiped := c.machines["c"]
		wiped.skip(p0, h.last())
		const bound = 800_000
		l := wiped.start(Options{ChunkBytes: 64 << 10, MemoryBytes: bound, PerPeer: 4})
		wiped.heal()
		c.sameRoots(p0, "a", "b", "c")
		s := clean(t, l)
		t.Logf("%d bytes pulled with at most %d held", s.PulledBytes, s.MostInFlight)
		// A third of the bound is for what is made of the replies.
		if s.MostInFlight > 2*bound/3 || s.MostInFlight < bound/4 {
			t.Errorf("%d bytes held", s.MostInFlight)
		}
	})
}

func TestBytesPerSecond(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(200, 1, 5000, "a")
		sick := c.machines["b"]
		sick.skip(p0, h.last())
		start := time.Now()
		l := sick.start(Options{ChunkBytes: 16 << 10, BytesPerSecond: 50_000})
		sick.heal()
		took, s := time.Since(start), clean(t, l)
		rate := float64(s.PulledBytes) / took.Seconds()
		t.Logf("%d bytes in %s: %.0f a second", s.PulledBytes, took, rate)
		if rate > 55_000 || rate < 45_000 {
			t.Errorf("%.0f bytes a second", rate)
		}
	})
}

// TestHealthyMembersNeverDiffer is §13.5: members that apply one log, each at its own pace, compare all the time.
func TestHealthyMembersNeverDiffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := c.load(100, 1, 20, "a", "b", "c")
		var loops []*Loop
		for _, m := range c.machines {
			loops = append(loops, m.start(Options{Interval: 10 * time.Millisecond, Observe: 20 * time.Millisecond}))
		}
		for name := range c.machines {
			c.latency[name] = time.Millisecond
		}
		for range 1500 {
			h.busy(5, 150, 20)
			for _, m := range c.machines {
				if lag := uint64(h.r.IntN(60)); h.r.IntN(2) == 0 && h.last() > lag {
					m.apply(p0, h.last()-lag)
				}
			}
			time.Sleep(time.Millisecond)
		}
		for _, l := range loops {
			s := clean(t, l)
			t.Logf("%+v", s)
			if s.Compares < 80 || s.Listings+s.Pulls+s.BucketsDifferent > 0 {
				t.Errorf("%+v", s)
			}
		}
		for _, m := range c.machines {
			m.apply(p0, h.last())
			if d := m.member(p0).divergences(); len(d) > 0 {
				t.Errorf("%s: %v", m.name, d)
			}
		}
		c.sameRoots(p0, "a", "b", "c")
	})
}

// TestDivergenceIsNamed: two complete members applied different commands at one index.
func TestDivergenceIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(100, 2, 20, "a", "b")
		h.busy(1, 100, 10)
		good := h.slice(1, h.last())
		bad := good[len(good)-1]
		h.log = append([]store.Mutation(nil), good[:len(good)-1]...)
		d := h.delta(0, 5)
		h.log = append(h.log, store.Mutation{Kind: store.Create, Key: key(7777), Index: bad.Index, Term: 1, Deltas: []store.Delta{d},
			Chain: store.SeedChain(key(7777)).Next(d.AppendBinary(nil))})
		c.machines["b"].apply(p0, bad.Index)
		h.log = good
		c.machines["a"].apply(p0, bad.Index)
		l := c.machines["a"].start(Options{Interval: time.Second})
		m := c.machines["a"].member(p0)
		eventually(t, "reported", func() bool { return len(m.divergences()) == 2 })
		time.Sleep(time.Minute)
		list := m.divergences()
		keys := map[store.Key]bool{}
		for _, d := range list {
			if d.Partition != p0 || d.Peer != "b" || d.Index != bad.Index || len(d.Documents) != 1 {
				t.Errorf("%+v", d)
				continue
			}
			keys[d.Documents[0].Key] = true
		}
		if len(list) != 2 || !keys[bad.Key] || !keys[key(7777)] {
			t.Errorf("%+v", list)
		}
		if s := l.Stats(); s.Divergences != 2 || s.BucketsDifferent < 2 || s.Pulls > 2 || s.ImportedEntries > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestRepairThatMeetsADivergence leaves the document alone, reports it, and heals the other buckets.
func TestRepairThatMeetsADivergence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(100, 2, 20, "a")
		good := h.slice(1, h.last())
		other := append([]store.Mutation(nil), good...)
		d := other[0].Deltas[0] // the first document's first delta has other bytes at b
		d.Redo = []byte("forged")
		other[0].Deltas = []store.Delta{d}
		other[0].Chain = store.SeedChain(other[0].Key).Next(d.AppendBinary(nil))
		h.log = other
		c.machines["b"].apply(p0, 1)
		h.log = good
		c.machines["b"].skip(p0, h.last())
		l := c.machines["b"].start(Options{})
		m := c.machines["b"].member(p0)
		eventually(t, "reported", func() bool { return len(m.divergences()) > 0 })
		eventually(t, "the others", func() bool { p := l.Progress(); return len(p) == 1 && p[0].BucketsDone == 255 })
		v := m.divergences()[0]
		if len(v.Documents) != 1 || v.Documents[0].Key != other[0].Key || v.Peer != "a" || v.Documents[0].Reason == "" {
			t.Errorf("%+v", v)
		}
		if s := m.docs.Status(); s.Complete {
			t.Error("complete")
		}
	})
}

// TestUnionHeals: no member is complete, every index is on a majority.
func TestUnionHeals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c", "d", "e")
		defer c.close()
		h := c.load(100, 1, 30, "a", "b", "c", "d", "e")
		step := func(skips ...string) {
			h.busy(60, 150, 30)
			for _, name := range skips {
				c.machines[name].skip(p0, h.last())
			}
			for _, m := range c.machines {
				m.apply(p0, h.last())
			}
		}
		step("a", "b")
		step("c", "d")
		step("e", "a")
		step("b", "c")
		step("d", "e")
		h.busy(30, 150, 30)
		for _, m := range c.machines {
			m.apply(p0, h.last())
		}
		for _, m := range c.machines {
			m.start(Options{})
		}
		for _, m := range c.machines {
			m.heal()
		}
		c.sameRoots(p0, "a", "b", "c", "d", "e")
		for _, m := range c.machines {
			if s := m.loop.Stats(); s.Divergences > 0 || s.Liars > 0 {
				t.Errorf("%s: %+v", m.name, s)
			}
		}
	})
}

// TestWantedDocumentComesFirst: what a reader missed is here long before the rest.
func TestWantedDocumentComesFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(1000, 2, 1000, "a")
		c.latency["a"] = 10 * time.Millisecond
		sick := c.machines["b"]
		sick.skip(p0, h.last())
		l := sick.start(Options{ChunkBytes: 8 << 10})
		eventually(t, "under way", func() bool { return l.Stats().Pulls > 3 })
		wanted := key(777)
		l.Want(p0, wanted)
		l.Want(p0, wanted)
		l.Want(p0, key(100_000)) // does not exist
		l.Want(9, wanted)        // no such partition
		start := time.Now()
		eventually(t, "there", func() bool {
			_, ok, err := sick.member(p0).docs.Head(wanted)
			return ok && err == nil
		})
		if took := time.Since(start); took > 60*time.Millisecond || sick.member(p0).docs.Status().Complete {
			t.Errorf("took %s", took)
		}
		sick.heal()
		c.sameRoots(p0, "a", "b")
		if s := clean(t, l); s.Fetches < 1 || s.Fetches > 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestRunEndsInTheMiddle: nothing is left running, whatever was under way. The bubble would notice.
func TestRunEndsInTheMiddle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(500, 1, 300, "a")
		c.latency["a"] = 20 * time.Millisecond
		sick := c.machines["b"]
		sick.skip(p0, h.last())
		for n := range 10 {
			l := sick.start(Options{ChunkBytes: 4 << 10})
			time.Sleep(time.Duration(n*13) * time.Millisecond)
			sick.stop()
			if s := l.Stats(); s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		}
		sick.start(Options{})
		sick.heal()
		c.sameRoots(p0, "a", "b")
	})
}

// TestMembersComeAndGo while they are repaired.
func TestMembersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(500, 1, 300, "a")
		c.latency["a"] = 5 * time.Millisecond
		sick := c.machines["b"]
		sick.skip(p0, h.last())
		l := sick.start(Options{ChunkBytes: 4 << 10})
		eventually(t, "under way", func() bool { return l.Stats().Pulls > 3 })
		c.mu.Lock()
		delete(sick.members, p0)
		c.mu.Unlock()
		if err := sick.engine.Drop(p0); err != nil {
			t.Fatal(err)
		}
		l.Wake(p0)
		time.Sleep(time.Minute)
		if len(l.Progress()) > 0 {
			t.Error("progress of a member that is gone")
		}
		sick.member(p0)
		sick.skip(p0, h.last())
		l.Wake(p0)
		sick.heal()
		c.sameRoots(p0, "a", "b")
	})
}

// TestDeadline: what is missing is pulled as slowly as the deadline allows.
func TestDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.close()
		h := c.load(160, 1, 50_000, "a") // 8 MB
		sick := c.machines["b"]
		sick.skip(p0, h.last())
		start := time.Now()
		l := sick.start(Options{ChunkBytes: 64 << 10, Deadline: 4 * time.Second})
		sick.heal()
		c.sameRoots(p0, "a", "b")
		if took := time.Since(start); took < 3200*time.Millisecond || took > 4400*time.Millisecond {
			t.Errorf("took %s: %+v", took, clean(t, l))
		}
	})
}

// TestFinishedBucketsSurviveACrash: what a bucket was healed of is durable soon, and not only with the next bucket or the end of the
// repair.
func TestFinishedBucketsSurviveACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.close()
		disk := vfs.NewCrashableMem()
		wiped := c.addOn("c", disk, "")
		h := c.load(2000, 3, 100, "a")
		wiped.skip(p0, h.last())
		held, pulls := make(chan struct{}), 0
		c.intercept = func(_, _ string, _ uint32, request []byte, serve server) ([]byte, error) {
			c.mu.Lock()
			stop := false
			if kind(request[1]) == kindPull {
				pulls++
				stop = pulls > 5
			}
			c.mu.Unlock()
			if stop {
				<-held
				return nil, errDown
			}
			return serve(request)
		}
		wiped.start(Options{ChunkBytes: 16 << 10, Timeout: time.Hour})
		docs := wiped.member(p0).docs
		eventually(t, "held up", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return pulls > 6 })
		synctest.Wait()
		crashed := &machine{c: c, name: "c", fs: disk.CrashClone(vfs.CrashCloneCfg{})}
		crashed.open()
		after, finished := crashed.member(p0).docs, 0
		for bucket := range merkle.Buckets {
			if healed := docs.Healed(uint8(bucket)); !healed.Empty() {
				finished++
				if got := after.Healed(uint8(bucket)); !got.Equal(healed) {
					t.Errorf("bucket %d: %s survives of %s", bucket, got, healed)
				}
			}
		}
		if finished == 0 || finished == merkle.Buckets {
			t.Errorf("%d buckets finished", finished)
		}
		close(held)
		wiped.stop()
		if err := crashed.engine.Close(); err != nil {
			t.Error(err)
		}
	})
}
