package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// memLog is a log in memory with the semantics store.LogGroup demands.
type memLog struct {
	mu            sync.Mutex
	logs          map[uint64]*raft.Log
	first, last   uint64
	cIndex, cTerm uint64
	kv            map[string][]byte
	nums          map[string]uint64
	marker        *store.Marker
	rests         int // calls of Rest
}

func newMemLog() *memLog {
	return &memLog{logs: map[uint64]*raft.Log{}, kv: map[string][]byte{}, nums: map[string]uint64{}}
}

func (l *memLog) FirstIndex() (uint64, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.first, nil }
func (l *memLog) LastIndex() (uint64, error)  { l.mu.Lock(); defer l.mu.Unlock(); return l.last, nil }
func (l *memLog) IsMonotonic() bool           { return true }

func (l *memLog) Rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rests++
}

func (l *memLog) GetLog(i uint64, out *raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.logs[i]; e != nil {
		*out = *e
		return nil
	}
	if i > 0 && i == l.cIndex {
		*out = raft.Log{Index: i, Term: l.cTerm, Type: raft.LogNoop}
		return nil
	}
	return raft.ErrLogNotFound
}

func (l *memLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l *memLog) StoreLogs(es []*raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range es {
		c := *e
		if l.last > 0 && e.Index != l.last+1 && e.Index > l.last {
			return fmt.Errorf("gap at %d after %d", e.Index, l.last)
		}
		l.logs[e.Index] = &c
		if l.first == 0 {
			l.first = e.Index
		}
		l.last = max(l.last, e.Index)
	}
	return nil
}

func (l *memLog) Stage(es []*raft.Log, done func(error)) error {
	if err := l.StoreLogs(es); err != nil {
		return err
	}
	done(nil)
	return nil
}

func (l *memLog) DeleteRange(a, b uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a == 0 || l.last == 0 {
		return nil
	}
	if a <= l.first && l.logs[b] != nil {
		l.cIndex, l.cTerm = b, l.logs[b].Term
	}
	for i := a; i <= b; i++ {
		delete(l.logs, i)
	}
	l.first, l.last = 0, 0
	for i := range l.logs {
		if l.first == 0 || i < l.first {
			l.first = i
		}
		l.last = max(l.last, i)
	}
	return nil
}

func (l *memLog) Set(k, v []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kv[string(k)] = append([]byte(nil), v...)
	return nil
}

func (l *memLog) Get(k []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v, ok := l.kv[string(k)]; ok {
		return v, nil
	}
	return nil, errors.New("not found")
}

func (l *memLog) SetUint64(k []byte, v uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nums[string(k)] = v
	return nil
}

func (l *memLog) GetUint64(k []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v, ok := l.nums[string(k)]; ok {
		return v, nil
	}
	return 0, errors.New("not found")
}

func (l *memLog) SaveMarker(m store.Marker, keep bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marker = &m
	e := l.logs[m.Index]
	if !keep || e != nil && e.Term != m.Term {
		l.logs = map[uint64]*raft.Log{}
		l.first, l.last, l.cIndex, l.cTerm = 0, 0, m.Index, m.Term
	}
	return nil
}

func (l *memLog) Marker() (store.Marker, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.marker == nil {
		return store.Marker{}, false, nil
	}
	return *l.marker, true, nil
}

func (l *memLog) Compacted() (uint64, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cIndex, l.cTerm
}

// engineDocs are real documents on a file system in memory.
type engineDocs struct {
	*store.Documents
	engine *store.DocEngine
}

func (d engineDocs) Sync() error { return d.engine.Sync() }

// node is one member of a test group, over Raft's in-memory transport.
type node struct {
	t      *testing.T
	id     raft.ServerID
	log    *memLog
	engine *store.DocEngine
	docs   engineDocs
	trans  *raft.InmemTransport
	part   *Partition
	mu     sync.Mutex
	losses []Loss
}

type group struct {
	t     *testing.T
	nodes []*node
}

// simulated is a test on simulated time. Nothing here has to wait for a disk or a network, so that what a machine takes for
// a step, or how long it stands still, does not count.
func simulated(test func(t *testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

var quick = Timing{Heartbeat: 60 * time.Millisecond, Commit: 10 * time.Millisecond}

// newGroup starts n members and founds the group. Tests reach into members by number.
func newGroup(t *testing.T, n int, change func(*Options)) *group {
	g := openGroup(t, n, change)
	g.found()
	return g
}

func openGroup(t *testing.T, n int, change func(*Options)) *group {
	g := &group{t: t}
	for i := range n {
		g.nodes = append(g.nodes, newNode(t, raft.ServerID(fmt.Sprintf("h%d@1", i+1))))
	}
	for _, nd := range g.nodes {
		nd.open(change)
	}
	g.connect()
	return g
}

func (g *group) found() {
	var servers []raft.Server
	for _, nd := range g.nodes {
		servers = append(servers, raft.Server{ID: nd.id, Address: raft.ServerAddress(nd.id)})
	}
	if err := g.nodes[0].part.Bootstrap(servers); err != nil {
		g.t.Fatal(err)
	}
}

func newNode(t *testing.T, id raft.ServerID) *node {
	engine, err := store.OpenDocs(store.DocOptions{Dir: string(id), FS: vfs.NewMem(), Cluster: "test", Host: HostOf(id), Incarnation: "1"})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := engine.Member(0, store.Range{First: 0, Last: ^uint64(0)})
	if err != nil {
		t.Fatal(err)
	}
	nd := &node{t: t, id: id, log: newMemLog(), engine: engine, docs: engineDocs{docs, engine}}
	_, nd.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(id), 200*time.Millisecond)
	t.Cleanup(func() {
		if nd.part != nil {
			nd.part.Close()
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return nd
}

func (nd *node) open(change func(*Options)) {
	o := Options{ID: 0, Self: nd.id, Log: nd.log, Documents: nd.docs, Transport: nd.trans, Timing: quick,
		Events: Events{Lost: func(l Loss) { nd.mu.Lock(); nd.losses = append(nd.losses, l); nd.mu.Unlock() }}}
	if change != nil {
		change(&o)
	}
	p, err := Open(o)
	if err != nil {
		nd.t.Fatal(err)
	}
	nd.part = p
}

func (g *group) connect() {
	for _, a := range g.nodes {
		for _, b := range g.nodes {
			if a != b {
				a.trans.Connect(raft.ServerAddress(b.id), b.trans)
			}
		}
	}
}

// isolate cuts a member off in both directions.
func (g *group) isolate(x *node) {
	x.trans.DisconnectAll()
	for _, o := range g.nodes {
		if o != x {
			o.trans.Disconnect(raft.ServerAddress(x.id))
		}
	}
}

// serving waits until one of the given members serves, and returns it.
func (g *group) serving(among ...*node) *node {
	g.t.Helper()
	if len(among) == 0 {
		among = g.nodes
	}
	var found *node
	g.wait("a serving leader", func() bool {
		for _, nd := range among {
			if nd.part.Status().Serving == Serves {
				found = nd
				return true
			}
		}
		return false
	})
	return found
}

func (g *group) wait(what string, done func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, nd := range g.nodes {
				g.t.Logf("%s: %+v", nd.id, nd.part.Status())
			}
			g.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func key(s string) store.Key { return store.Key{Space: "space", Key: s} }

func delta(seq int64, redo string) store.Delta {
	return store.Delta{SeqBegin: seq, SeqEnd: seq, Redo: []byte(redo), Undo: []byte("{}"), Who: "test"}
}

func (nd *node) create(k string) error {
	_, err := nd.part.Do(context.Background(), Operation{Kind: store.Create, Key: key(k), Deltas: []store.Delta{delta(1, `{}`)}})
	return err
}

func (nd *node) append(k string, seq int64, redo string) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return nd.part.Do(ctx, Operation{Kind: store.Append, Key: key(k), Deltas: []store.Delta{delta(seq, redo)}})
}

func (nd *node) head(k string) int64 {
	h, ok, err := nd.docs.Head(key(k))
	if err != nil {
		nd.t.Fatal(err)
	}
	if !ok {
		return -1
	}
	return h.HeadSeq
}
