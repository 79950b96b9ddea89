package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// comingOf is what is known of a mutation before it is applied.
func comingOf(m *Mutation) Coming {
	return Coming{Kind: m.Kind, Space: []byte(m.Key.Space), Key: []byte(m.Key.Key), Generation: m.Generation, Floor: m.Floor}
}

// awaitReads waits until nothing is being read ahead.
func (e *DocEngine) awaitReads() {
	a := &e.ahead
	for i := range a.readers {
		for s := &a.readers[i]; ; {
			a.mu.Lock()
			if !s.runs {
				a.mu.Unlock()
				break
			}
			if s.waiting == nil {
				s.waiting = make(chan struct{})
			}
			done := s.waiting
			a.mu.Unlock()
			<-done
		}
	}
}

// readsOf is a file system that calls a function for every read of a table that a function of this package asks for.
func readsOf(function string, seen func()) vfs.FS {
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		read := op.Kind == errorfs.OpFileRead || op.Kind == errorfs.OpFileReadAt
		if read && strings.HasSuffix(op.Path, ".sst") && calledBy(func(f string) bool { return strings.HasSuffix(f, "store."+function) }) {
			seen()
		}
		return nil
	}))
}

// TestApplyReadsNothing: a member without holes applies commands to documents that it has not touched for long, which is what a
// follower does with all it has after a restart, without reading its disk, if it heard of them before.
func TestApplyReadsNothing(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprint("told=", told), func(t *testing.T) { testApplyReadsNothing(t, told) })
	}
}

func testApplyReadsNothing(t *testing.T, told bool) {
	var reads atomic.Int32
	o := testOptions(readsOf("(*Documents).Stage", func() { reads.Add(1) }))
	o.HeadCache, o.CacheBytes, o.MemTableBytes = 1<<12, 16<<20, 16<<20
	e, d := openMember(t, o)
	const documents, size = 200, 20 << 10
	s := newScript()
	rng := rand.NewChaCha8([32]byte{})
	write := func(key Key, create bool) {
		if create {
			s.create(key, size)
		} else {
			s.append(key, 1, size)
		}
		_, _ = rng.Read(s.log[s.last()-1].Deltas[0].Redo) // heads do not share blocks
		m := &s.log[s.last()-1]
		prior := m.Prior
		if create {
			prior = SeedChain(key)
		}
		m.Chain = prior.Next(m.Deltas[0].AppendBinary(nil))
		s.heads[key].Chain = m.Chain
	}
	name := func(i int) Key { return Key{Space: "space", Key: fmt.Sprint("doc", i)} }
	for i := range documents {
		write(name(i), true)
		if i < 30 {
			write(name(i), false)
		}
	}
	must(t, d.Apply(s.log, s.last()))
	must(t, e.db.Flush())
	must(t, e.Close())
	e, d = openMember(t, o)
	defer func() { must(t, e.Close()) }()
	if !d.Complete() {
		t.Fatal("not a healthy member")
	}
	before := s.last()
	for i := range documents {
		switch {
		case i < 10:
			s.compact(name(i), 1, []byte(`{}`))
		case i < 20:
			s.delete(name(i))
		default:
			s.append(name(i), 1, 10)
		}
		s.create(name(documents+i), 10)
	}
	coming := s.log[before:]
	if told {
		for i := range coming {
			d.ReadAhead(comingOf(&coming[i]))
		}
		e.awaitReads()
	}
	for i := range coming {
		must(t, d.Stage(coming[i:i+1], coming[i].Index))
	}
	late, read := e.Metrics().LateReads, reads.Load()
	if told && (late > 0 || read > 0) {
		t.Errorf("%d commands read the disk %d times, and %d were late", len(coming), read, late)
	}
	if !told && (late < 2*documents || read == 0) {
		t.Errorf("%d commands read the disk %d times, and only %d were late", len(coming), read, late)
	}
}

// TestLateCommandWaitsForTheRead: who applies a command whose head is being read does not read it once more.
func TestLateCommandWaitsForTheRead(t *testing.T) {
	var armed atomic.Bool
	var twice atomic.Int32
	reading, proceed := make(chan struct{}), make(chan struct{})
	o := testOptions(readsOf("readHead", func() {
		switch {
		case calledBy(func(f string) bool { return strings.HasSuffix(f, "store.(*Documents).Stage") }):
			twice.Add(1)
		case armed.CompareAndSwap(true, false):
			close(reading)
			<-proceed
		}
	}))
	o.CacheBytes = 1 // what opening the member reads is not kept
	e, d := openMember(t, o)
	create := createAt(1)
	must(t, d.Apply([]Mutation{create}, 1))
	h, _, err := d.Head(create.Key)
	must(t, err)
	must(t, e.db.Flush())
	must(t, e.Close())
	e, d = openMember(t, o)
	defer func() { must(t, e.Close()) }()
	next := appendAt(2, create.Key, h, 1)
	armed.Store(true)
	d.ReadAhead(comingOf(&next))
	<-reading
	staged := make(chan error, 1)
	go func() { staged <- d.Stage([]Mutation{next}, 2) }()
	waits := func() bool {
		e.ahead.mu.Lock()
		defer e.ahead.mu.Unlock()
		return e.ahead.readers[0].waiting != nil
	}
	for !waits() {
		select {
		case err := <-staged:
			t.Fatalf("did not wait: %v", err)
		default:
		}
	}
	close(proceed)
	must(t, <-staged)
	if n, late := twice.Load(), e.Metrics().LateReads; n > 0 || late != 1 {
		t.Errorf("read the disk %d times, %d late", n, late)
	}
	if h, _, err := d.Head(create.Key); err != nil || h.HeadSeq != 2 {
		t.Errorf("head %d, %v", h.HeadSeq, err)
	}
}

// TestReadDuringACommit: what is read while a batch is on its way to the disk is kept in memory unless the batch changes it.
func TestReadDuringACommit(t *testing.T) {
	var observe atomic.Pointer[func()]
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".log") && op.Kind == errorfs.OpFileWrite {
			if f := observe.Swap(nil); f != nil {
				(*f)()
			}
		}
		return nil
	}))
	o := testOptions(fs)
	o.HeadCache = 1 << 10
	e, d := openMember(t, o)
	defer func() { must(t, e.Close()) }()
	changed, other, absent, removed := createAt(1), createAt(2), createAt(3).Key, createAt(4)
	must(t, d.Apply([]Mutation{changed, other, removed}, 4))
	place := func(k Key) place { p, err := d.place(k); must(t, err); return p }
	created, first := createAt(6), d.epoch.Load()
	all := []Key{changed.Key, other.Key, absent, removed.Key, created.Key}
	past, _, err := d.Head(changed.Key)
	must(t, err)
	for _, commit := range []func(h Head) error{
		func(h Head) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			b := d.begin()
			defer b.close()
			_, err := b.apply([]Mutation{appendAt(5, changed.Key, h, 1), created}, 6)
			must(t, err)
			return b.commit(true)
		},
		func(Head) error {
			_, err := d.Damage(place(removed.Key).bucket, Damaged{Documents: []Key{removed.Key}})
			return err
		},
	} {
		h, _, err := d.Head(changed.Key)
		must(t, err)
		e.Shed(7, func(Key) bool { return true })
		there := d.Applied() > 4
		if _, ok, err := d.Head(created.Key); err != nil || ok != there {
			t.Fatal(ok, err)
		}
		f := func() {
			if _, ok, known, err := d.HeadInMemory(created.Key); known && !ok || err != nil {
				t.Errorf("absence is told while the document is being created: %v", err)
			}
			if d.epoch.Load()%2 == 0 {
				t.Error("nothing is being committed")
			}
			for _, k := range all {
				if _, _, err := d.Head(k); err != nil {
					t.Error(err)
				}
			}
			d.cacheHead(place(changed.Key), h, true, d.epoch.Load()) // the engine may still have given this one
			if d.epoch.Load() > first+2 && d.cacheHead(place(changed.Key), past, true, first) {
				t.Error("what was read before the last batch is taken for what is there during this one")
			}
		}
		observe.Store(&f)
		must(t, commit(h))
		if observe.Load() != nil {
			t.Fatal("nothing was observed")
		}
		for _, k := range []Key{other.Key, absent} {
			if _, _, known, err := d.HeadInMemory(k); err != nil || !known {
				t.Errorf("%s is not in memory: %v", k, err)
			}
		}
		mustCacheTruth(t, e, d, all)
		if len(d.parked.list) > 0 {
			t.Errorf("%d heads are left", len(d.parked.list))
		}
	}
}

// mustCacheTruth compares the cache with the engine, which nobody writes to meanwhile.
func mustCacheTruth(t *testing.T, e *DocEngine, d *Documents, keys []Key) {
	t.Helper()
	for _, key := range keys {
		p, err := d.place(key)
		must(t, err)
		cached, there, known := e.heads.get(d.partition, p)
		if !known {
			continue
		}
		if h, ok, err := readHead(e.db, d.partition, p); err != nil || ok != there || h != cached {
			t.Fatalf("%s: %v %+v is cached, and stored %v %+v: %v", key, there, cached, ok, h, err)
		}
	}
}

// pastRun is a member that is written to in all ways there are, and a peer that has everything.
type pastRun struct {
	t    *testing.T
	r    *rand.Rand
	s    *script
	keys []Key
	x, y *docsMember
}

func newPastRun(t *testing.T, seed uint64) *pastRun {
	p := &pastRun{t: t, r: rand.New(rand.NewPCG(seed, 1)), s: newScript(), x: newDocsMember(t), y: newDocsMember(t)}
	p.x.e.bulk.limits = smallBulk
	for i := range 6 {
		p.keys = append(p.keys, keyInBucket(FullRange(), uint8(i/2), i))
	}
	return p
}

// write does one of all that changes heads.
func (p *pastRun) write(key Key) {
	first := p.s.last() + 1
	for range 1 + p.r.IntN(3) {
		switch n := p.r.IntN(8); {
		case p.s.heads[key] == nil:
			p.s.create(key, 30)
		case n == 0:
			p.s.delete(key)
		case n == 1:
			p.s.compact(key, 1, []byte(`{}`))
		default:
			p.s.append(key, 1+p.r.IntN(2), 30)
		}
	}
	last := p.s.last()
	p.y.follow(p.t, p.s, last)
	at, err := p.x.place(key)
	must(p.t, err)
	switch p.r.IntN(6) {
	case 0: // lost, and pulled
		must(p.t, p.x.RecordHole(first, last))
		p.x.pullBucket(p.t, p.y, at.bucket, 1<<20)
	case 1:
		p.x.follow(p.t, p.s, last)
		_, err := p.x.Damage(at.bucket, Damaged{Documents: []Key{key}, Whole: p.r.IntN(2) == 0})
		must(p.t, err)
		p.x.pullBucket(p.t, p.y, at.bucket, 1<<20)
	case 2:
		p.x.follow(p.t, p.s, last)
		must(p.t, p.x.e.Drop(7))
		p.x.Documents, err = p.x.e.Member(7, FullRange())
		must(p.t, err)
		must(p.t, p.x.RecordHole(1, last))
		p.x.pullAll(p.t, p.y)
	case 3:
		must(p.t, p.x.Stage(p.s.log[first-1:last], last))
		must(p.t, p.x.Flush())
	default:
		p.x.follow(p.t, p.s, last)
	}
}

// TestSlowReadersBesideWriters: whatever changes a document while somebody has read its head and not put it into the cache yet, the
// cache never tells of the past.
func TestSlowReadersBesideWriters(t *testing.T) {
	p := newPastRun(t, 3)
	rounds, past := 400, 0
	if testing.Short() {
		rounds = 100
	}
	for range rounds {
		key := p.keys[p.r.IntN(len(p.keys))]
		d := p.x.Documents
		at, err := d.place(key)
		must(t, err)
		before := d.epoch.Load()
		h, ok, err := readHead(p.x.e.db, 7, at)
		must(t, err)
		p.write(key)
		if p.r.IntN(2) == 0 {
			p.x.e.Shed(7, func(Key) bool { return true })
		}
		d.cacheHead(at, h, ok, before)
		if now, there, err := readHead(p.x.e.db, 7, at); err != nil || there != ok || now != h {
			past++
		}
		mustCacheTruth(t, p.x.e, p.x.Documents, p.keys)
	}
	if past < rounds/2 {
		t.Errorf("only %d of %d heads changed meanwhile", past, rounds)
	}
}

// TestReadAheadBesideWriters: the same with as many readers as can be, in no order; run with -race.
func TestReadAheadBesideWriters(t *testing.T) {
	p := newPastRun(t, 5)
	var member atomic.Pointer[Documents] // it is another one after Drop
	member.Store(p.x.Documents)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		r := rand.New(rand.NewPCG(7, uint64(i)))
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				key := p.keys[r.IntN(len(p.keys))]
				d := member.Load()
				d.ReadAhead(Coming{Kind: Kind(1 + r.IntN(5)), Space: []byte(key.Space), Key: []byte(key.Key), Generation: r.Uint64N(9), Floor: r.Int64N(9)})
				if i == 0 {
					_, _, _ = d.Head(key)
				}
				p.x.e.Shed(7, func(k Key) bool { return k == key })
			}
		})
	}
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	for range rounds {
		p.write(p.keys[p.r.IntN(len(p.keys))])
		member.Store(p.x.Documents)
		mustCacheTruth(t, p.x.e, p.x.Documents, p.keys)
	}
	close(done)
	readers.Wait()
}
