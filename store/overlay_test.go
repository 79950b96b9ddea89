package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestReadDoesNotQueueBehindTheWriter: who reads a document that was written just now waits neither for commands that are being
// applied, nor for an engine that keeps a member's batch waiting. mu stands for both: it is held while a batch is built and committed.
func TestReadDoesNotQueueBehindTheWriter(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	m := createAt(1)
	must(t, d.Stage([]Mutation{m}, 1))
	d.mu.Lock() // a batch is being written
	read := make(chan error, 1)
	go func() {
		v, err := d.View(m.Key)
		if err == nil {
			err = v.Close()
		}
		read <- err
	}()
	select {
	case err := <-read:
		d.mu.Unlock()
		must(t, err)
	case <-time.After(3 * time.Second): // only a reader that queues is waited for
		d.mu.Unlock()
		<-read
		t.Error("the reader waited for the writer")
	}
	must(t, e.Close())
}

// TestReadWritesNothing: a read of one document does not make the reader write what was staged of all others, which then is a batch
// for each read in place of one for half a second.
func TestReadWritesNothing(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	defer func() { must(t, e.Close()) }()
	for i := uint64(1); i <= 100; i++ {
		must(t, d.Stage([]Mutation{createAt(i)}, i))
	}
	staged := e.staged.Load()
	v, err := d.View(createAt(1).Key)
	must(t, err)
	must(t, v.Close())
	if now := e.staged.Load(); now != staged {
		t.Errorf("a read of one document wrote %d bytes that were staged of a hundred", staged-now)
	}
}

// TestViewsOfEveryInstant: a document is the same before what was staged of it is written, while it is written, and afterwards.
func TestViewsOfEveryInstant(t *testing.T) {
	for seed := uint64(1); seed <= 40; seed++ {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := &member{opts: testOptions(vfs.NewMem()), model: newModelMember(), h: newHistory(rng.IntN, 3), stage: true}
		m.e, m.d = openMember(t, m.opts)
		if seed%2 == 0 {
			m.e.pinned.Add(stageTotal) // as if by other views: these copy what is theirs
		}
		for range 12 {
			for range 1 + rng.IntN(12) {
				m.h.commit()
			}
			if seed%3 == 0 && rng.IntN(4) == 0 {
				m.hole(t, 2)
			}
			m.advance(t, len(m.h.log), 0)
			for _, key := range m.h.keys {
				m.view(t, key, m.d.View)
			}
			m.view(t, m.h.keys[rng.IntN(len(m.h.keys))], m.writtenView)
			for _, key := range m.h.keys {
				m.view(t, key, m.d.View)
			}
			for len(m.open) > 0 {
				m.closeView(t, 0)
			}
		}
		must(t, m.e.Close())
	}
}

// TestViewKeepsWhatWasStaged: the memory of a batch is not used for another one while a view reads it, and is afterwards.
func TestViewKeepsWhatWasStaged(t *testing.T) {
	r := &ruleRun{t: t, key: Key{Space: "space", Key: "doc"}}
	r.e, r.d = openMember(t, testOptions(vfs.NewMem())) // not closed when views are not counted: that would wait for them
	list := r.mutations(5)
	must(t, r.d.Stage(list, 5))
	v, err := r.d.View(r.key)
	must(t, err)
	second, err := r.d.View(r.key)
	must(t, err)
	batch := v.staged.batch
	if n := batch.users.Load(); n != 3 {
		t.Fatalf("two views and the stage count as %d", n)
	}
	must(t, r.d.Flush())
	for i := uint64(6); i < 50; i++ { // in the memory of the first batch, if it were given away
		must(t, r.d.Stage([]Mutation{createAt(i)}, i))
		must(t, r.d.Flush())
	}
	must(t, second.Close())
	must(t, second.Close()) // counts once
	ends := int64(0)
	for e, err := range v.Entries(-1) {
		must(t, err)
		if ends++; e.SeqEnd != ends || e.Index != uint64(ends) {
			t.Errorf("entry %+v, want seq %d", e, ends)
		}
	}
	if ends != 5 || batch.users.Load() != 1 || len(batch.order) == 0 {
		t.Errorf("%d entries, %d users, %d documents", ends, batch.users.Load(), len(batch.order))
	}
	must(t, v.Close())
	if batch.users.Load() != 0 || len(batch.order) > 0 {
		t.Error("the batch was not given back")
	}
	must(t, r.e.Close())
}

// TestOpenViewsKeepLittle: views of small documents that stay open do not keep whatever was staged beside these: the batches that they
// read are counted until the last view is closed, and beyond the bound of what is staged a view copies what is its document's.
func TestOpenViewsKeepLittle(t *testing.T) {
	for name, each := range map[string]bool{"a view of each batch": false, "a view of each command": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { openViewsKeepLittle(t, each) }) // nothing is written because time passes
		})
	}
}

func openViewsKeepLittle(t *testing.T, each bool) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	index := uint64(0)
	stage := func(redo []byte) Key {
		index++
		m := createAt(index)
		m.Deltas[0].Redo = redo
		m.Chain = SeedChain(m.Key).Next(m.Deltas[0].AppendBinary(nil))
		must(t, d.Stage([]Mutation{m}, index))
		return m.Key
	}
	var views []*View
	view := func(key Key) {
		v, err := d.View(key)
		must(t, err)
		views = append(views, v)
	}
	big := make([]byte, 256<<10)
	for range 12 {
		key := stage([]byte(`{}`))
		for range 7 { // just short of what makes the member write
			stage(big)
			if each {
				view(key) // of memory that the batch moves out of when it grows
			}
		}
		view(key)
		must(t, d.Flush())
	}
	pinned, arrays := 0, map[*byte]bool{}
	for _, v := range views {
		if first := unsafe.SliceData(v.staged.records); !arrays[first] {
			arrays[first] = true
			pinned += cap(v.staged.records)
		}
	}
	if pinned > stageTotal*5/4 || e.pinned.Load() > stageTotal*5/4 || e.pinned.Load() < stageTotal/2 {
		t.Errorf("%d views of documents of 2 bytes keep %d KiB of records, counted as %d KiB of batches; %d KiB may be staged", len(views), pinned>>10,
			e.pinned.Load()>>10, stageTotal>>10)
	}
	for _, v := range views {
		n := 0
		for entry, err := range v.Entries(-1) {
			must(t, err)
			if n++; string(entry.Redo) != `{}` || entry.Index != v.Head.LastIndex {
				t.Fatalf("%s: entry of index %d, %.20s", v.Key, entry.Index, entry.Redo)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d entries", v.Key, n)
		}
		must(t, v.Close())
	}
	if n := e.pinned.Load(); n != 0 {
		t.Errorf("%d bytes are counted that nobody reads", n)
	}
	must(t, e.Close())
}

// TestStagedDoesNotHideAFailedRead: what is staged is not shown in place of what lies before it and can not be read.
func TestStagedDoesNotHideAFailedRead(t *testing.T) {
	f := &faults{}
	o := testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(f.operation)))
	e, d := openMember(t, o)
	key, h := createAt(1).Key, Head{}
	noise := make([]byte, 200<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	for i := uint64(1); i <= 4; i++ { // in blocks of their own
		m, before := createAt(1), SeedChain(key)
		if i > 1 {
			m, before = appendAt(i, key, h, 1), h.Chain
		}
		m.Deltas[0].Redo = noise[i*40<<10:][:36<<10]
		m.Chain = before.Next(m.Deltas[0].AppendBinary(nil))
		must(t, d.Apply([]Mutation{m}, i))
		h, _, _ = d.Head(key)
	}
	must(t, e.db.Flush())
	must(t, e.Close())
	e, d = openMember(t, o)
	defer func() { _ = e.Close() }()
	must(t, d.Stage([]Mutation{appendAt(5, key, h, 1)}, 5))
	v, err := d.View(key)
	must(t, err)
	defer func() { must(t, v.Close()) }()
	broken := errors.New("broken")
	f.set(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt {
			return broken
		}
		return nil
	})
	for reverse, seq := range map[bool]func(func(Entry, error) bool){false: v.Entries(-1), true: v.EntriesReverse(-1)} {
		var read []int64
		var failed error
		for e, err := range seq {
			if failed != nil {
				t.Error("goes on after an error")
			}
			if failed = err; err == nil {
				read = append(read, e.SeqEnd)
			}
		}
		if failed == nil || !reverse && slices.Contains(read, 5) {
			t.Errorf("reverse %v: %v, then %v", reverse, read, failed)
		}
	}
	if ends, err := v.NewestEnds(5, 3); err == nil {
		t.Errorf("newest ends %v", ends)
	}
	if e, ok, err := v.EntryAt(5); err != nil || !ok || e.SeqEnd != 5 {
		t.Errorf("what is staged can not be read: %v, %v", ok, err)
	}
	f.set(nil)
}

// viewRun is a writer with a plan, and readers beside it that know what each step of it leaves.
type viewRun struct {
	d     *Documents
	keys  []Key
	steps []viewStep
	docs  map[Key][]viewVersion // in order; a document begins with none

	begun, done atomic.Int64 // steps of the writer
}

type viewStep struct {
	kind  int // of those below
	batch []Mutation
	last  uint64
	first uint64 // of a hole
}

const (
	viewStage = iota
	viewApply
	viewFlush
	viewHole
)

// viewVersion is a document from a step on; doc is nil while there is none.
type viewVersion struct {
	step int64
	head Head
	doc  *modelDoc
}

// planViews makes up a log, and what is done with it.
func planViews(seed uint64, steps int) *viewRun {
	rng := rand.New(rand.NewPCG(seed, 1))
	h := newHistory(rng.IntN, 5)
	r := &viewRun{keys: h.keys, docs: map[Key][]viewVersion{}}
	model := newModelMember()
	sick := seed%3 == 0 // a member with holes, which has to put entries between others
	for n := 1; n <= steps; n++ {
		first := model.applied + 1
		k := rng.IntN(20)
		for range 1 + rng.IntN(6) {
			h.commit()
		}
		s := viewStep{first: first, last: uint64(len(h.log)), kind: viewStage}
		switch {
		case k == 0 && sick:
			s.kind = viewHole
			model.holes = model.holes.Union(interval.Of(first, s.last))
		case k <= 1:
			s.kind = viewFlush // the commands come with the next step
			s.last = model.applied
		case k == 2:
			s.kind = viewApply
		}
		if s.kind <= viewApply {
			s.batch = h.slice(first, s.last)
			for i := range s.batch {
				model.apply(&s.batch[i])
			}
		}
		model.applied = s.last
		model.finish()
		r.steps = append(r.steps, s)
		r.note(int64(n), model)
	}
	return r
}

// note keeps the versions that a step has brought.
func (r *viewRun) note(step int64, model *modelMember) {
	for _, key := range r.keys {
		v := viewVersion{step: step}
		if doc := model.docs[key]; doc != nil {
			v.head = doc.head()
			v.doc = doc
		}
		list := r.docs[key]
		if n := len(list); n == 0 && v.doc == nil || n > 0 && list[n-1].head == v.head {
			continue
		}
		if v.doc != nil {
			v.doc = v.doc.clone()
		}
		r.docs[key] = append(list, v)
	}
}

// write does what was planned.
func (r *viewRun) write() error {
	for i, s := range r.steps {
		r.begun.Store(int64(i + 1))
		var err error
		switch s.kind {
		case viewStage:
			err = r.d.Stage(s.batch, s.last)
		case viewApply:
			err = r.d.Apply(s.batch, s.last)
		case viewFlush:
			err = r.d.Flush()
		case viewHole:
			err = r.d.RecordHole(s.first, s.last)
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		r.done.Store(int64(i + 1))
		if i%8 == 0 {
			runtime.Gosched()
		}
	}
	return nil
}

// read opens a view and returns it with the version that it has to be of.
func (r *viewRun) read(key Key) (openView, error) {
	from := r.done.Load()
	v, err := r.d.View(key)
	upTo := r.begun.Load()
	if err != nil && !errors.As(err, new(*NotFoundError)) {
		return openView{}, err
	}
	versions := r.docs[key]
	allowed := []viewVersion{{}} // the last one at from, and what came since
	for i := range versions {
		if versions[i].step <= from {
			allowed = allowed[:0]
		}
		if versions[i].step <= upTo {
			allowed = append(allowed, versions[i])
		}
	}
	for i := range allowed {
		if a := &allowed[i]; err != nil && a.doc == nil {
			return openView{}, nil
		} else if err == nil && a.doc != nil && a.head == v.Head {
			return openView{v, a.doc}, nil
		}
	}
	if err != nil {
		return openView{}, fmt.Errorf("%s is not there from step %d to %d", key, from, upTo)
	}
	return openView{}, errors.Join(fmt.Errorf("%s has the head %+v from step %d to %d", key, v.Head, from, upTo), v.Close())
}

// readUntil reads documents at random, each view at once and once more after a while, until the writer is through.
func (r *viewRun) readUntil(rng *rand.Rand, end <-chan struct{}) (views int, err error) {
	var open []openView
	shut := func(v openView) error {
		if v.want == nil {
			return nil
		}
		return errors.Join(v.want.checkView(v.View), v.Close())
	}
	for ended := false; !ended && err == nil; views++ {
		select {
		case <-end:
			ended = true // and once more
		default:
		}
		var v openView
		if v, err = r.read(r.keys[rng.IntN(len(r.keys))]); err != nil {
			break
		}
		if v.want != nil {
			err = v.want.checkView(v.View)
		}
		if open = append(open, v); len(open) > 3 && err == nil {
			err = shut(open[0])
			open = open[1:]
		}
	}
	for _, v := range open {
		err = errors.Join(err, shut(v))
	}
	return views, err
}

// TestViewsBesideTheWriter: a view that is opened while commands are staged, applied and written shows what all acknowledged ones
// have left of its document, perhaps with those on their way, and goes on showing that.
func TestViewsBesideTheWriter(t *testing.T) {
	steps, views := 400, 0
	if slowBuild {
		steps = 150
	}
	for seed := uint64(1); seed <= 6; seed++ {
		r := planViews(seed, steps)
		e, d := openMember(t, testOptions(vfs.NewMem()))
		if seed%2 == 0 {
			e.pinned.Add(stageTotal)
		}
		r.d = d
		end := make(chan struct{})
		var readers sync.WaitGroup
		var counts [2]int
		for i := range counts {
			readers.Go(func() {
				n, err := r.readUntil(rand.New(rand.NewPCG(seed, uint64(i))), end)
				if counts[i] = n; err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			})
		}
		err := r.write()
		close(end)
		readers.Wait()
		views += counts[0] + counts[1]
		if err = errors.Join(err, e.Close()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	t.Logf("%d views", views)
}
