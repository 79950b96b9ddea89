package store

import (
	"errors"
	"slices"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// member is a member of the engine beside its model.
type member struct {
	opts  DocOptions
	e     *DocEngine
	d     *Documents
	model *modelMember
	h     *history
	stage bool // advance stages
	open  []openView
}

// fataler is what rapid.T and testing.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func testOptions(fs vfs.FS) DocOptions {
	return DocOptions{Dir: "docs", FS: fs, Cluster: "c", Host: "h1", Incarnation: "i1", CacheBytes: 1 << 20, MemTableBytes: 1 << 20,
		HeadCache: 32, Ring: 10000}
}

func openMember(t fataler, o DocOptions) (*DocEngine, *Documents) {
	t.Helper()
	e, err := OpenDocs(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	d, err := e.Member(7, FullRange())
	if err != nil {
		t.Fatalf("member: %v", err)
	}
	return e, d
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// advance applies up to n commands of the log in one batch, with up to `again` old ones in front, as after a restart.
func (m *member) advance(t fataler, n, again int) {
	first := m.model.applied + 1
	last := min(m.model.applied+uint64(n), uint64(len(m.h.log)))
	batch := m.h.slice(max(1, first-min(first-1, uint64(again))), last)
	if m.stage {
		must(t, m.d.Stage(batch, last))
	} else {
		must(t, m.d.Apply(batch, last))
	}
	for i := first; i <= last; i++ {
		if c := m.h.log[i-1]; c != nil {
			m.model.apply(c)
		}
		m.model.applied = i
		m.model.roots[i] = m.model.summary(m.d.Range())
	}
	m.model.finish()
}

func (m *member) hole(t fataler, n int) {
	first := m.model.applied + 1
	last := min(m.model.applied+uint64(n), uint64(len(m.h.log)))
	if last < first {
		return
	}
	must(t, m.d.RecordHole(first, last))
	m.model.holes = m.model.holes.Union(interval.Of(first, last))
	m.model.applied = last
	m.model.roots[last] = m.model.summary(m.d.Range())
}

// source builds another member that has applied up to an index, perhaps without some of it.
func (h *history) source(upTo, holeFirst, holeLast uint64) *modelMember {
	y := newModelMember()
	for i := uint64(1); i <= upTo; i++ {
		if holeFirst <= i && i <= holeLast {
			y.holes = y.holes.Union(interval.Of(i, i))
		} else if c := h.log[i-1]; c != nil {
			y.apply(c)
		}
		y.applied = i
	}
	return y
}

// pull merges a source's view of one key into model and engine. The engine's side is written with the batch's
// primitives, towards the state that the model says comes out.
func (m *member) pull(t fataler, key Key, y *modelMember) {
	m.model.merge(key, y)
	unlock, err := m.d.lock()
	must(t, err)
	defer unlock()
	b := m.d.begin()
	defer b.close()
	b.learned = true
	p, err := m.d.place(key)
	must(t, err)
	s, err := b.document(p)
	must(t, err)
	must(t, adopt(b, s, m.model.docs[key], m.model.deleted[key]))
	b.settle(s, 0)
	b.sawAhead(m.model.ahead)
	must(t, b.commit(false))
	m.model.finish()
	m.model.roots = map[uint64]merkle.Summary{}
	m.model.roots[m.model.applied] = m.model.summary(m.d.Range())
}

// adopt changes a document of the engine into what it should be.
func adopt(b *docBatch, s *docState, want *modelDoc, deleted uint64) error {
	if want == nil {
		if err := b.remove(s); err != nil {
			return err
		}
		if deleted > 0 {
			return b.putDeleteRecord(s, deleted)
		}
		return nil
	}
	if s.head == nil || s.head.Generation != want.gen {
		if err := b.restart(s, Head{Generation: want.gen, HeadSeq: neutralFloor, Floor: neutralFloor}); err != nil {
			return err
		}
	}
	for _, e := range want.entries {
		if _, err := b.putEntry(s, &e); err != nil {
			return err
		}
	}
	if want.hasBase && want.baseIndex != s.head.BaseIndex {
		if err := b.putBase(s, want.baseSeq, want.baseIndex, want.base); err != nil {
			return err
		}
	}
	h := s.head
	h.LastIndex, h.HeadSeq, h.Chain = want.last, want.headSeq, want.chain
	h.Floor, h.FloorKnown, h.Dropped = want.floor, want.floorKnown, want.dropped
	return b.dropEntries(s, want.floor)
}

// checkRead compares what leaders evaluate against, and documents as they are read, of those that are staged too.
func (m *member) checkRead(t fataler) {
	for _, key := range m.h.keys {
		have, ok, err := m.d.Head(key)
		must(t, err)
		want := m.model.docs[key]
		if ok != (want != nil) || ok && have != want.head() {
			t.Fatalf("head of %s: %+v (%v), want %+v", key, have, ok, want)
		}
		m.view(t, key, m.d.View)
		m.closeView(t, len(m.open)-1)
	}
}

// openView is a view that is open while the member goes on, and what it shows; nil: there is no such document.
type openView struct {
	*View
	want *modelDoc
}

// view opens one.
func (m *member) view(t fataler, key Key, open func(Key) (*View, error)) {
	v, err := open(key)
	want := m.model.docs[key]
	if want == nil {
		if !errors.As(err, new(*NotFoundError)) {
			t.Fatalf("view of %s: %v", key, err)
		}
		m.open = append(m.open, openView{})
		return
	}
	must(t, err)
	m.open = append(m.open, openView{v, want.clone()})
}

func (m *member) closeView(t fataler, i int) {
	v := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	if v.want == nil {
		return
	}
	if err := v.want.checkView(v.View); err != nil {
		t.Fatalf("view of %s: %v", v.Key, err)
	}
	must(t, v.Close())
}

// writtenView is View at the one instant that cannot be hit at will: what is staged has just been written, and is shown still.
func (m *member) writtenView(key Key) (*View, error) {
	d := m.d
	p, err := d.place(key)
	if err != nil {
		return nil, err
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	d.instants.RLock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.stage.batch; b != nil {
		err = b.commit(false)
	}
	snapshot, staged := d.pin(p)
	d.unstage()
	v, viewErr := d.viewAt(p, snapshot, staged)
	if err = errors.Join(err, viewErr); err != nil {
		err = errors.Join(err, snapshot.Close())
		staged.release()
		d.instants.RUnlock()
		d.engine.release()
	}
	return v, err
}

func (m *member) reopen(t fataler) {
	for len(m.open) > 0 {
		m.closeView(t, 0)
	}
	must(t, m.e.Close())
	m.e, m.d = openMember(t, m.opts)
	m.model.roots = map[uint64]merkle.Summary{m.model.applied: m.model.summary(m.d.Range())}
}

// heal pulls everything from a complete member, closes the holes, and goes on to where that member was.
func (m *member) heal(t fataler) {
	y := m.h.source(uint64(len(m.h.log)), 0, 0)
	for _, key := range m.h.keys {
		m.pull(t, key, y)
	}
	unlock, err := m.d.lock()
	must(t, err)
	b := m.d.begin()
	b.setHoles(nil)
	err = b.commit(true)
	b.close()
	unlock()
	must(t, err)
	m.model.holes = nil
	m.model.finish()
	m.advance(t, len(m.h.log), 0)
	for key, want := range y.docs {
		got := m.model.docs[key]
		if got == nil || got.head() != want.head() {
			t.Fatalf("healed member differs from the log at %s: %+v, want %+v", key, got, want)
		}
	}
	if len(m.model.docs) != len(y.docs) || m.model.sick() {
		t.Fatalf("healed member has %d documents, should have %d; sick: %v", len(m.model.docs), len(y.docs), m.model.sick())
	}
}

func TestEngineAgainstModel(t *testing.T) {
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		if runs++; slowBuild && runs > 10 {
			return
		}
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		m := &member{opts: testOptions(vfs.NewMem()), model: newModelMember(), h: newHistory(pick, 4)}
		m.e, m.d = openMember(t, m.opts)
		defer func() {
			for _, v := range m.open {
				if v.want != nil {
					_ = v.Close()
				}
			}
			_ = m.e.Close()
		}()
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(*rapid.T) {
				for range 1 + pick(6) {
					m.h.commit()
				}
			},
			"apply": func(t *rapid.T) { m.advance(t, 1+pick(5), pick(4)) },
			"stage": func(t *rapid.T) {
				m.stage = true
				m.advance(t, 1+pick(5), pick(4))
				m.stage = false
			},
			"hole": func(t *rapid.T) { m.hole(t, 1+pick(3)) },
			"pull": func(t *rapid.T) {
				if len(m.h.log) == 0 {
					t.Skip("nothing to pull")
				}
				upTo := uint64(1 + pick(len(m.h.log)))
				first := uint64(1 + pick(int(upTo)+1))
				y := m.h.source(upTo, first, first+uint64(pick(4)))
				m.pull(t, m.h.keys[pick(len(m.h.keys))], y)
			},
			"damage": func(t *rapid.T) { m.damage(t, m.h.keys[pick(len(m.h.keys))], pick(3) == 0) },
			"heal":   func(t *rapid.T) { m.heal(t) },
			"reopen": func(t *rapid.T) { m.reopen(t) },
			"sync":   func(t *rapid.T) { must(t, m.e.Sync()) },
			"view": func(t *rapid.T) {
				if len(m.open) > 4 {
					m.closeView(t, pick(len(m.open)))
				}
				open := m.d.View
				if pick(3) == 0 {
					open = m.writtenView
				}
				m.view(t, m.h.keys[pick(len(m.h.keys))], open)
			},
			"": func(t *rapid.T) {
				m.checkRead(t)
				if pick(2) > 0 { // otherwise what is staged stays so
					must(t, m.d.Flush())
					must(t, m.model.check(m.d))
				}
			},
		})
	})
}
