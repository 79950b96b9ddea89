package antientropy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/store"
)

// history is one partition's log: it makes commands as a leader would and keeps them.
type history struct {
	mu    sync.Mutex
	r     *rand.Rand
	log   []store.Mutation // position i holds index i+1
	heads map[store.Key]*historyHead
	keys  []store.Key // in order of creation; deleted ones too
}

type historyHead struct {
	generation uint64
	seq        int64
	chain      store.Chain
}

func newHistory(seed uint64) *history {
	return &history{r: rand.New(rand.NewPCG(seed, 7)), heads: map[store.Key]*historyHead{}}
}

func key(n int) store.Key { return store.Key{Space: "games", Key: fmt.Sprintf("doc-%05d", n)} }

func (h *history) last() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return uint64(len(h.log))
}

// payload is hard to compress.
func (h *history) payload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.r.Uint32())
	}
	return b
}

func (h *history) delta(seq int64, size int) store.Delta {
	return store.Delta{SeqBegin: seq, SeqEnd: seq, Redo: h.payload(size), Undo: []byte("{}"), Who: "w"}
}

// write creates the document, or appends to it.
func (h *history) write(k store.Key, size int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	index := uint64(len(h.log) + 1)
	d := h.heads[k]
	m := store.Mutation{Kind: store.Append, Key: k, Index: index, Term: 1}
	if d == nil {
		d = &historyHead{generation: index, chain: store.SeedChain(k)}
		h.heads[k] = d
		h.keys = append(h.keys, k)
		m.Kind = store.Create
	} else {
		m.Generation, m.Prior = d.generation, d.chain
	}
	d.seq++
	delta := h.delta(d.seq, size)
	d.chain = d.chain.Next(delta.AppendBinary(nil))
	m.Deltas, m.Chain, m.HeadSeq = []store.Delta{delta}, d.chain, d.seq
	h.log = append(h.log, m)
}

func (h *history) remove(k store.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.heads[k]
	delete(h.heads, k)
	h.log = append(h.log, store.Mutation{Kind: store.Delete, Key: k, Index: uint64(len(h.log) + 1), Term: 1, Generation: d.generation})
}

// compact keeps keep deltas.
func (h *history) compact(k store.Key, size int, keep int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.heads[k]
	h.log = append(h.log, store.Mutation{Kind: store.Compact, Key: k, Index: uint64(len(h.log) + 1), Term: 1, Generation: d.generation,
		Chain: d.chain, HeadSeq: d.seq, BaseSeq: d.seq, Base: h.payload(size), Floor: max(0, d.seq-keep), Dropped: true})
}

// busy writes n commands of all kinds to some documents.
func (h *history) busy(n, documents, size int) {
	for range n {
		h.mu.Lock()
		k, dice := key(h.r.IntN(documents)), h.r.IntN(20)
		d := h.heads[k]
		h.mu.Unlock()
		switch {
		case d != nil && dice == 0:
			h.remove(k)
		case d != nil && dice == 1 && d.seq > 3:
			h.compact(k, size, 2)
		default:
			h.write(k, size)
		}
	}
}

func (h *history) slice(first, last uint64) []store.Mutation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log[first-1 : last]
}

// machine is one host: an engine with members, and a loop.
type machine struct {
	c       *cluster
	name    string
	fs      vfs.FS
	dir     string // "": docs
	engine  *store.DocEngine
	members map[uint32]*testMember
	loop    *Loop
	server  Server
	cancel  context.CancelFunc
	done    chan struct{}
}

type testMember struct {
	m    *machine
	id   uint32
	docs *store.Documents

	mu       sync.Mutex
	diverged []Divergence
}

func (m *testMember) ID() uint32                  { return m.id }
func (m *testMember) Documents() *store.Documents { return m.docs }

func (m *testMember) Diverged(d Divergence) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.diverged = append(m.diverged, d)
}

func (m *testMember) divergences() []Divergence {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Divergence(nil), m.diverged...)
}

func (m *testMember) Peers() []Peer { return m.m.c.peers(m.m.name, m.id) }

// cluster is machines, the logs of partitions, and the ways between machines.
type cluster struct {
	t    testing.TB
	logs map[uint32]*history

	mu       sync.Mutex
	machines map[string]*machine
	dead     map[string]bool
	// intercept may change or refuse what a peer answers, which is bound to the request afterwards. It runs without mu.
	intercept func(from, to string, partition uint32, request []byte, serve server) ([]byte, error)
	latency   map[string]time.Duration
	bytesTo   map[string]int64 // requests and replies of calls that a machine made
	memory    int64            // of an engine: its cache, and what it holds before it flushes
}

// server is the way to a peer's Serve.
type server func(request []byte) ([]byte, error)

var errDown = errors.New("link down")

func newCluster(t testing.TB, names ...string) *cluster { return newLargeCluster(t, 1<<20, names...) }

func newLargeCluster(t testing.TB, memory int64, names ...string) *cluster {
	c := &cluster{t: t, logs: map[uint32]*history{}, machines: map[string]*machine{}, dead: map[string]bool{}, latency: map[string]time.Duration{},
		bytesTo: map[string]int64{}, memory: memory}
	for _, name := range names {
		c.add(name)
	}
	return c
}

func (c *cluster) add(name string) *machine {
	return c.addOn(name, vfs.NewMem(), "")
}

func (c *cluster) addOn(name string, fs vfs.FS, dir string) *machine {
	m := &machine{c: c, name: name, fs: fs, dir: dir}
	m.open()
	c.mu.Lock()
	c.machines[name] = m
	c.mu.Unlock()
	return m
}

func (m *machine) open() {
	e, err := store.OpenDocs(store.DocOptions{Dir: cmp.Or(m.dir, "docs"), FS: m.fs, Cluster: "c", Host: m.name, Incarnation: "i", CacheBytes: m.c.memory,
		MemTableBytes: m.c.memory, HeadCache: 4096, Ring: 2048})
	if err != nil {
		m.c.t.Fatal(err)
	}
	m.engine, m.members = e, map[uint32]*testMember{}
}

// member opens a partition's member.
func (m *machine) member(id uint32) *testMember {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if p := m.members[id]; p != nil {
		return p
	}
	d, err := m.engine.Member(id, store.FullRange())
	if err != nil {
		m.c.t.Fatal(err)
	}
	m.members[id] = &testMember{m: m, id: id, docs: d}
	return m.members[id]
}

// apply lets a member apply its log up to an index, in batches.
func (m *machine) apply(id uint32, upTo uint64) {
	d := m.member(id).docs
	for d.Applied() < upTo {
		first := d.Applied() + 1
		last := min(upTo, first+255)
		if err := d.Apply(m.c.logs[id].slice(first, last), last); err != nil {
			m.c.t.Error(err)
			return
		}
	}
}

// skip records a hole from what is applied to an index: what a marker does.
func (m *machine) skip(id uint32, to uint64) {
	d := m.member(id).docs
	if err := d.RecordHole(d.Applied()+1, to); err != nil {
		m.c.t.Fatal(err)
	}
}

// start runs a loop with options to which the machine adds its own part.
func (m *machine) start(o Options) *Loop {
	o.Caller = caller{m}
	o.Members = func() []Member {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		var list []Member
		for _, p := range m.members {
			list = append(list, p)
		}
		return list
	}
	if o.Random == nil {
		r := rand.New(rand.NewPCG(1, 1))
		o.Random = r.Float64
	}
	o.Logger = slog.New(slog.NewTextHandler(testWriter{m.c.t, m.name}, &slog.HandlerOptions{Level: slog.LevelError}))
	l, err := NewLoop(o)
	if err != nil {
		m.c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.loop, m.cancel, m.done = l, cancel, make(chan struct{})
	done := m.done
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	return l
}

func (m *machine) stop() {
	if m.cancel != nil {
		m.cancel()
		<-m.done
		m.cancel = nil
	}
}

// restart closes the engine and opens it again, with what is on its disk.
func (m *machine) restart() {
	m.stop()
	ids := []uint32{}
	for id := range m.members {
		ids = append(ids, id)
	}
	if err := m.engine.Close(); err != nil {
		m.c.t.Fatal(err)
	}
	m.open()
	for _, id := range ids {
		m.member(id)
	}
}

func (c *cluster) close() {
	for _, m := range c.machines {
		m.stop()
	}
	for _, m := range c.machines {
		if err := m.engine.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

func (c *cluster) peers(not string, partition uint32) []Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Peer
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		m := c.machines[name]
		if m == nil || name == not || m.members[partition] == nil {
			continue
		}
		list = append(list, Peer{Host: name, Complete: m.members[partition].docs.Status().Complete, Alive: !c.dead[name]})
	}
	return list
}

func (c *cluster) kill(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead[name] = true
}

// caller is the way from one machine to all others.
type caller struct{ from *machine }

// Recycle makes whoever still looks at a reply find something else, unless a test may keep replies itself.
func (l caller) Recycle(reply []byte) {
	c := l.from.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.intercept == nil {
		for i := range reply {
			reply[i] = 0xa5
		}
	}
}

func (l caller) Call(ctx context.Context, host string, partition uint32, payload []byte) ([]byte, error) {
	c := l.from.c
	c.mu.Lock()
	to, down, wait, intercept := c.machines[host], c.dead[host], c.latency[host], c.intercept
	c.bytesTo[l.from.name] += int64(len(payload))
	c.mu.Unlock()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if to == nil || down {
		return nil, errDown
	}
	serve := func(payload []byte) ([]byte, error) {
		c.mu.Lock()
		p := to.members[partition]
		c.mu.Unlock()
		if p == nil {
			return nil, &refusal{text: "no such partition"}
		}
		b, err := to.server.Serve(ctx, p.docs, append([]byte(nil), payload...))
		bind(b, payload)
		return b, err
	}
	var b []byte
	var err error
	if intercept != nil {
		b, err = intercept(l.from.name, host, partition, payload, serve)
	} else {
		b, err = serve(payload)
	}
	bind(b, payload)
	c.mu.Lock()
	c.bytesTo[l.from.name] += int64(len(b))
	c.mu.Unlock()
	return b, err
}

// Code makes a refusal what a mesh's remote error is.
func (r *refusal) Code() int { return r.code }

type testWriter struct {
	t    testing.TB
	name string
}

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s: %s", w.name, b)
	return len(b), nil
}

var _ io.Writer = testWriter{}

// bubble runs a test with a clock that jumps.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// eventually waits until a condition holds, for at most a minute of the test's clock.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for range 60_000 {
		if f() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}

// sameRoots verifies that members are complete and equal.
func (c *cluster) sameRoots(partition uint32, names ...string) {
	c.t.Helper()
	first := c.machines[names[0]].member(partition).docs.Status()
	for _, name := range names {
		s := c.machines[name].member(partition).docs.Status()
		if !s.Complete || s.Applied != first.Applied || s.Root != first.Root || s.Documents != first.Documents {
			c.t.Errorf("%s: complete %v, applied %d, %d documents, root %x; %s: applied %d, %d documents, root %x", name, s.Complete, s.Applied,
				s.Documents, s.Root, names[0], first.Applied, first.Documents, first.Root)
		}
		if s.DeleteRecords > 0 {
			c.t.Errorf("%s keeps %d delete records", name, s.DeleteRecords)
		}
	}
}

// fuzzDocuments is a small complete member.
func fuzzDocuments(f testing.TB) *store.Documents {
	d := fuzzMember(f)
	h := newHistory(1)
	h.busy(300, 100, 20)
	if err := d.Apply(h.slice(1, 300), 300); err != nil {
		f.Fatal(err)
	}
	return d
}

// fuzzSick is the same with a hole.
func fuzzSick(f testing.TB) *store.Documents {
	d := fuzzMember(f)
	h := newHistory(1)
	h.busy(300, 100, 20)
	if err := d.Apply(h.slice(1, 100), 100); err != nil {
		f.Fatal(err)
	}
	if err := d.RecordHole(101, 300); err != nil {
		f.Fatal(err)
	}
	return d
}

func fuzzMember(f testing.TB) *store.Documents {
	e, err := store.OpenDocs(store.DocOptions{Dir: "docs", FS: vfs.NewMem(), Cluster: "c", Host: "h", Incarnation: "i", CacheBytes: 1 << 20,
		MemTableBytes: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = e.Close() }) // the process ends
	d, err := e.Member(1, store.FullRange())
	if err != nil {
		f.Fatal(err)
	}
	return d
}
