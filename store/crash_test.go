package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// crashRecorder takes an image of the disk, as a power failure would leave it, before every operation that changes the
// disk. Images keep what was synced, and some or none of what was not.
type crashRecorder struct {
	mem *vfs.MemFS
	rng *rand.Rand

	mu      sync.Mutex
	on      bool
	written int // states that were written, or are being written
	durable int // states that a caller was told to be durable
	images  []crashImage
}

type crashImage struct {
	fs      *vfs.MemFS
	durable int
	written int
}

func newCrashRecorder(seed uint64) *crashRecorder {
	return &crashRecorder{mem: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed, 1))}
}

func (c *crashRecorder) fs() vfs.FS { return errorfs.Wrap(c.mem, errorfs.InjectorFunc(c.operation)) }

func (c *crashRecorder) operation(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		c.take()
	}
	return nil
}

// start begins to take images. Engines that are open may be at work on the disk.
func (c *crashRecorder) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
}

func (c *crashRecorder) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = false
}

func (c *crashRecorder) take() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return
	}
	unsynced := []int{0, 50, 90}[len(c.images)%3]
	image := c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: c.rng})
	c.images = append(c.images, crashImage{fs: image, durable: c.durable, written: c.written})
}

// writing announces that state n is about to be written.
func (c *crashRecorder) writing(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = n
}

// acknowledged says that state n is durable.
func (c *crashRecorder) acknowledged(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.durable = n
}

// wholeClone is a copy of a disk on which everything is durable: what a crash has left.
func wholeClone(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// crashAgain crashes an opening of what a crash has left, before each operation on the disk, and has each image opened; then
// again is true.
func crashAgain(fs *vfs.MemFS, seed uint64, open func(fs vfs.FS, again bool)) (images int) {
	rec := newCrashRecorder(seed)
	rec.mem = wholeClone(fs)
	rec.start()
	open(rec.fs(), false)
	for _, image := range rec.images {
		open(image.fs, true)
	}
	return len(rec.images)
}

// crashRun is a member whose every state is remembered.
type crashRun struct {
	t      *testing.T
	rec    *crashRecorder
	m      *member
	states []*modelMember
}

func crashSeeds() uint64 {
	if slowBuild {
		return 1
	}
	return 3
}

func newCrashRun(t *testing.T, seed uint64) *crashRun {
	rec := newCrashRecorder(seed)
	pick := rand.New(rand.NewPCG(seed, 2)).IntN
	r := &crashRun{t: t, rec: rec, m: &member{opts: testOptions(rec.fs()), model: newModelMember(), h: newHistory(pick, 3)}}
	r.m.e, r.m.d = openMember(t, r.m.opts)
	must(t, r.m.e.Sync())
	r.states = []*modelMember{r.m.model.clone()}
	rec.start()
	return r
}

// step does something that leads from one state to the next; durable says that it may not return before that is safe.
func (r *crashRun) step(durable bool, do func()) {
	n := len(r.states)
	r.rec.writing(n)
	do()
	r.states = append(r.states, r.m.model.clone())
	if durable {
		r.rec.acknowledged(n)
	}
	r.rec.take()
}

func (r *crashRun) sync() {
	must(r.t, r.m.d.Flush())
	must(r.t, r.m.e.Sync())
	r.rec.acknowledged(len(r.states) - 1)
	r.rec.take()
}

// verify opens every image: it must hold exactly one of the states between the last acknowledged and the last written.
func (r *crashRun) verify() {
	r.t.Helper()
	must(r.t, r.m.e.Close())
	older, again := 0, 0
	for i, image := range r.rec.images {
		o := r.m.opts
		left := wholeClone(image.fs)
		o.FS = image.fs
		e, d := openMember(r.t, o)
		found := -1
		var why error
		for n := min(image.written, len(r.states)-1); n >= image.durable && found < 0; n-- {
			if err := r.states[n].check(d); err == nil {
				found = n
			} else if why == nil {
				why = err
			}
		}
		if found < 0 {
			r.t.Fatalf("image %d of %d: none of the states %d to %d: %v", i, len(r.rec.images), image.durable, image.written, why)
		}
		if found < image.written {
			older++
		}
		must(r.t, e.Close())
		if i%30 > 0 {
			continue
		}
		again += crashAgain(left, uint64(i), func(fs vfs.FS, again bool) {
			r.t.Helper()
			o.FS = fs
			e, d := openMember(r.t, o)
			if err := r.states[found].check(d); err != nil {
				r.t.Fatalf("image %d, in state %d, of which the opening crashed: %v", i, found, err)
			}
			must(r.t, e.Close())
		})
	}
	if older == 0 || len(r.rec.images) < 10 {
		r.t.Fatalf("%d images, %d of an older state: nothing was crashed", len(r.rec.images), older)
	}
	r.t.Logf("%d images, %d lost a tail; %d crashes of openings", len(r.rec.images), older, again)
}

func TestCrashDuringApplyAndSync(t *testing.T) {
	for seed := range crashSeeds() {
		r := newCrashRun(t, seed)
		for i := range 40 {
			r.m.h.commit()
			r.m.h.commit()
			r.m.stage = i%7 > 2
			r.step(false, func() { r.m.advance(t, 1+i%3, 0) })
			if i%5 == 4 {
				r.sync()
			}
		}
		r.verify()
	}
}

// Flushes and compactions happen in between, so that images catch tables and manifests half-way.
func TestCrashDuringFlush(t *testing.T) {
	r := newCrashRun(t, 9)
	for i := range 30 {
		r.m.h.commit()
		r.step(false, func() { r.m.advance(t, 1, 0) })
		if i%10 == 9 {
			must(t, r.m.e.db.Flush())
			r.rec.acknowledged(len(r.states) - 1) // a flush syncs what it writes
		}
	}
	r.verify()
}

func TestCrashDuringRecordHole(t *testing.T) {
	for seed := range crashSeeds() {
		r := newCrashRun(t, 20+seed)
		for range 12 {
			for range 4 {
				r.m.h.commit()
			}
			r.step(false, func() { r.m.advance(t, 2, 0) })
			r.step(true, func() { r.m.hole(t, 2) })
		}
		r.verify()
	}
}

// What was pulled, its progress, and the smaller set of holes: each step is ordered behind the one before.
func TestCrashDuringHealing(t *testing.T) {
	for seed := range crashSeeds() {
		r := newCrashRun(t, 40+seed)
		for range 25 {
			r.m.h.commit()
		}
		r.step(false, func() { r.m.advance(t, 8, 0) })
		r.step(true, func() { r.m.hole(t, 10) })
		y := r.m.h.source(25, 0, 0)
		for _, key := range r.m.h.keys {
			r.step(false, func() { r.m.pull(t, key, y) })
		}
		r.sync()
		r.step(true, func() {
			d := r.m.d
			d.mu.Lock()
			defer d.mu.Unlock()
			b := d.begin()
			defer b.close()
			b.setHoles(d.meta.holes.Minus(interval.Of(1, 18)))
			must(t, b.commit(true))
			r.m.model.holes = nil
			r.m.model.finish()
		})
		r.step(false, func() { r.m.advance(t, 25, 0) })
		r.verify()
	}
}

// Two members share one log: what survives is a prefix of the writes of both together.
func TestCrashKeepsAPrefixAcrossMembers(t *testing.T) {
	rec := newCrashRecorder(5)
	e, err := OpenDocs(testOptions(rec.fs()))
	must(t, err)
	members := map[uint32]*Documents{}
	for p := range uint32(3) {
		members[p], err = e.Member(p, FullRange())
		must(t, err)
	}
	must(t, e.Sync())
	rec.start()
	const writes = 60
	for i := 1; i <= writes; i++ {
		rec.writing(i)
		must(t, members[uint32(i)%3].Apply([]Mutation{createAt(uint64(i))}, uint64(i)))
		rec.take()
		if i%13 == 0 {
			must(t, e.Sync())
			rec.acknowledged(i)
		}
	}
	must(t, e.Close())
	for n, image := range rec.images {
		e, err := OpenDocs(testOptions(image.fs))
		must(t, err)
		var applied [3]uint64
		last := uint64(0)
		for p := range uint32(3) {
			d, err := e.Member(p, FullRange())
			must(t, err)
			applied[p] = d.Applied()
			last = max(last, applied[p])
			if got, want := d.Status().Documents, int64(applied[p]+uint64(3-p)%3)/3; got != want {
				t.Fatalf("image %d: member %d at %d has %d documents, want %d", n, p, applied[p], got, want)
			}
		}
		for p := range uint64(3) {
			want := last - (last+3-p)%3 // the last write to this member up to `last`
			if last >= 3 && applied[p] != want {
				t.Fatalf("image %d: applied %v is no prefix of the writes", n, applied)
			}
		}
		if last < uint64(image.durable) || last > uint64(image.written) {
			t.Fatalf("image %d: last write %d, acknowledged %d, written %d", n, last, image.durable, image.written)
		}
		must(t, e.Close())
	}
	if len(rec.images) < writes {
		t.Fatalf("%d images", len(rec.images))
	}
}

// createAt is a create of a document of its own, at an index.
func createAt(index uint64) Mutation {
	key := Key{Space: "space", Key: fmt.Sprint("doc", index)}
	d := Delta{SeqBegin: 1, SeqEnd: 1, Redo: []byte(`{"n":1}`)}
	return Mutation{Kind: Create, Key: key, Index: index, Term: 1, Deltas: []Delta{d}, HeadSeq: 1,
		Chain: SeedChain(key).Next(d.AppendBinary(nil))}
}

// appendAt appends one delta behind a head, as a leader would.
func appendAt(index uint64, key Key, h Head, span int64) Mutation {
	d := Delta{SeqBegin: h.HeadSeq + 1, SeqEnd: h.HeadSeq + span, Redo: []byte(`{"n":2}`), Undo: []byte(`{"n":1}`)}
	return Mutation{Kind: Append, Key: key, Index: index, Term: 1, Generation: h.Generation, Deltas: []Delta{d}, HeadSeq: d.SeqEnd,
		Prior: h.Chain, Chain: h.Chain.Next(d.AppendBinary(nil))}
}

func TestCrashDuringDrop(t *testing.T) {
	rec := newCrashRecorder(6)
	e, err := OpenDocs(testOptions(rec.fs()))
	must(t, err)
	kept, err := e.Member(1, FullRange())
	must(t, err)
	dropped, err := e.Member(2, FullRange())
	must(t, err)
	for i := uint64(1); i <= 20; i++ {
		must(t, kept.Apply([]Mutation{createAt(i)}, i))
		must(t, dropped.Apply([]Mutation{createAt(i)}, i))
	}
	must(t, e.db.Flush())
	must(t, e.Sync())
	rec.start()
	rec.writing(1)
	must(t, e.Drop(2))
	rec.acknowledged(1)
	rec.take()
	must(t, e.Close())
	seen := map[int]int{}
	for n, image := range rec.images {
		e, err := OpenDocs(testOptions(image.fs))
		must(t, err)
		list, err := e.Members()
		must(t, err)
		seen[len(list)]++
		if len(list) == 2 && image.durable == 1 {
			t.Fatalf("image %d: the member is back after Drop returned", n)
		}
		d, err := e.Member(1, FullRange())
		must(t, err)
		if d.Applied() != 20 || d.Status().Documents != 20 {
			t.Fatalf("image %d: the other member has %+v", n, d.Status())
		}
		d, err = e.Member(2, FullRange())
		must(t, err)
		if s := d.Status(); s.Documents != int64(s.Applied) || s.Applied != 0 && s.Applied != 20 {
			t.Fatalf("image %d: half a member: %+v", n, s)
		}
		must(t, e.Close())
	}
	if seen[1] == 0 || seen[2] == 0 {
		t.Fatalf("images with one and two members: %v", seen)
	}
}

// TestCrashDuringSetMeta stores records of the host and removes them, in turn.
func TestCrashDuringSetMeta(t *testing.T) {
	rec := newCrashRecorder(7)
	e, err := OpenDocs(testOptions(rec.fs()))
	must(t, err)
	must(t, e.SetMeta("version", []byte{0}))
	rec.start()
	value := func(i int) []byte {
		if i%2 > 0 {
			return nil
		}
		return []byte{byte(i)}
	}
	for i := 1; i <= 20; i++ {
		rec.writing(i)
		must(t, e.SetMeta("version", value(i)))
		rec.acknowledged(i)
		rec.take()
	}
	must(t, e.Close())
	for n, image := range rec.images {
		e, err := OpenDocs(testOptions(image.fs))
		must(t, err)
		v, _, err := e.Meta("version")
		must(t, err)
		found := slices.ContainsFunc([]int{image.durable, image.written}, func(i int) bool { return bytes.Equal(v, value(i)) })
		if !found {
			t.Fatalf("image %d: value %v, acknowledged %d, written %d", n, v, image.durable, image.written)
		}
		must(t, e.Close())
	}
}

// A directory whose creation was cut short is either empty, and is stamped by the next opening, or ours.
func TestCrashDuringCreation(t *testing.T) {
	rec := newCrashRecorder(8)
	rec.start()
	e, err := OpenDocs(testOptions(rec.fs()))
	must(t, err)
	rec.acknowledged(1)
	rec.take()
	must(t, e.Close())
	for n, image := range rec.images {
		o := testOptions(image.fs)
		if image.durable == 1 {
			o.Host = "another"
			if _, err := OpenDocs(o); err == nil {
				t.Fatalf("image %d: the stamp is not durable", n)
			}
			o.Host = "h1"
		}
		e, err := OpenDocs(o)
		if err != nil {
			t.Fatalf("image %d: %v", n, err)
		}
		must(t, e.Close())
	}
}
