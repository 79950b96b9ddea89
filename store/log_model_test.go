package store

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// logModel is a group as a plain map: slow, without ranges, caches or a disk.
type logModel struct {
	entries         map[uint64]*raft.Log
	compacted       uint64
	compactedTerm   uint64
	marker          *Marker
	voteTerm        uint64
	voteCandidate   string
	stagedTerm      *uint64
	stable          map[string]string
	everWrittenInto bool
}

func newLogModel() *logModel {
	return &logModel{entries: map[uint64]*raft.Log{}, stable: map[string]string{}}
}

func (m *logModel) bounds() (first, last uint64) {
	for i := range m.entries {
		if first == 0 || i < first {
			first = i
		}
		last = max(last, i)
	}
	return first, last
}

// term answers what is known of an index: an entry, or the last one compacted.
func (m *logModel) term(index uint64) (uint64, bool) {
	if l := m.entries[index]; l != nil {
		return l.Term, true
	}
	return m.compactedTerm, index == m.compacted && index > 0
}

func (m *logModel) store(logs []*raft.Log) bool {
	_, last := m.bounds()
	last = max(last, m.compacted)
	for i, l := range logs {
		if l.Index != last+1+uint64(i) {
			return false
		}
	}
	for _, l := range logs {
		m.entries[l.Index] = l
		m.everWrittenInto = true
	}
	return true
}

func (m *logModel) deleteRange(low, high uint64) bool {
	var gone []uint64
	for i := range m.entries {
		if i >= low && i <= high {
			gone = append(gone, i)
		}
	}
	if len(gone) == 0 {
		return true
	}
	marker := uint64(0)
	if m.marker != nil {
		marker = m.marker.Index
	}
	// What stays must be a log: from compacted or from the marker on, without a hole, with the marker on it.
	rest := map[uint64]*raft.Log{}
	for i, l := range m.entries {
		if i < low || i > high {
			rest[i] = l
		}
	}
	after := &logModel{entries: rest}
	first, last := after.bounds()
	compacted, compactedTerm := m.compacted, m.compactedTerm
	switch oldFirst, oldLast := m.bounds(); {
	case len(rest) == 0 && marker >= oldLast:
		compacted, compactedTerm = oldLast, m.entries[oldLast].Term
	case len(rest) == 0 && marker >= oldFirst:
		compacted, compactedTerm = marker, m.marker.Term
	case len(rest) == 0:
	case uint64(len(rest)) != last-first+1: // a hole
		return false
	case first > oldFirst:
		compacted, compactedTerm = first-1, m.entries[first-1].Term
		if compacted > marker {
			return false
		}
	case last < marker:
		return false
	}
	m.entries, m.compacted, m.compactedTerm = rest, compacted, compactedTerm
	return true
}

func (m *logModel) saveMarker(k Marker, keep bool) bool {
	if m.marker != nil && (k.Index < m.marker.Index || k.Index == m.marker.Index && k.Term != m.marker.Term) {
		return false
	}
	term, known := m.term(k.Index)
	m.marker, m.everWrittenInto = &k, true
	if !keep || !known || term != k.Term {
		m.entries = map[uint64]*raft.Log{}
		m.compacted, m.compactedTerm = k.Index, k.Term
	}
	return true
}

func (m *logModel) check(t *rapid.T, g LogGroup) {
	first, last := m.bounds()
	haveFirst, err1 := g.FirstIndex()
	haveLast, err2 := g.LastIndex()
	if err1 != nil || err2 != nil || haveFirst != first || haveLast != last {
		t.Fatalf("log is [%d, %d] (%v, %v), want [%d, %d]", haveFirst, haveLast, err1, err2, first, last)
	}
	if i, term := g.Compacted(); i != m.compacted || term != m.compactedTerm {
		t.Fatalf("compacted is %d of term %d, want %d of term %d", i, term, m.compacted, m.compactedTerm)
	}
	for i := min(first, m.compacted) - min(first, m.compacted, 3); i <= max(last, m.compacted)+2; i++ {
		var l raft.Log
		err := g.GetLog(i, &l)
		want, known := m.term(i)
		switch e := m.entries[i]; {
		case !known && err != raft.ErrLogNotFound:
			t.Fatalf("entry %d: %v, want ErrLogNotFound", i, err)
		case known && (err != nil || l.Index != i || l.Term != want || e != nil && !sameLog(&l, e)):
			t.Fatalf("entry %d is %+v (%v), want %+v of term %d", i, l, err, e, want)
		}
	}
	k, ok, err := g.Marker()
	if err != nil || ok != (m.marker != nil) || ok && !sameMarker(k, *m.marker) {
		t.Fatalf("marker is %+v (%v, %v), want %+v", k, ok, err, m.marker)
	}
	for key, want := range m.stable {
		if v, err := g.Get([]byte(key)); err != nil || string(v) != want {
			t.Fatalf("%q is %q (%v), want %q", key, v, err, want)
		}
	}
	term, err := g.GetUint64([]byte(logKeyVoteTerm))
	who, _ := g.Get([]byte(logKeyVoteCandidate))
	if term != m.voteTerm || string(who) != m.voteCandidate || (err != nil) != (m.voteTerm == 0) {
		t.Fatalf("vote is for %q in term %d (%v), want %q in term %d", who, term, err, m.voteCandidate, m.voteTerm)
	}
}

// logMachine drives two groups of an engine and their models.
type logMachine struct {
	kind    logKind
	opts    LogOptions
	engine  LogEngine
	models  map[uint32]*logModel
	landing sync.WaitGroup // entries that are staged
}

func (h *logMachine) reopen(t *rapid.T) {
	if h.engine != nil {
		if err := h.engine.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e, err := h.kind.open(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	h.engine = e
	for _, m := range h.models {
		m.stagedTerm = nil
	}
}

func (h *logMachine) pick(t *rapid.T) (*logModel, LogGroup) {
	p := rapid.SampledFrom([]uint32{1, 2}).Draw(t, "partition")
	g, err := h.engine.Group(p)
	if err != nil {
		t.Fatal(err)
	}
	return h.models[p], g
}

func agreeLog(t *rapid.T, legal bool, err error) {
	if legal != (err == nil) {
		t.Fatalf("the model says legal = %v, the engine %v", legal, err)
	}
}

func (h *logMachine) actions() map[string]func(*rapid.T) {
	near := func(t *rapid.T, m *logModel, name string) uint64 {
		first, last := m.bounds()
		low, high := int(min(first, m.compacted)), int(max(last, m.compacted))
		return uint64(max(0, rapid.IntRange(low-3, high+4).Draw(t, name)))
	}
	return map[string]func(*rapid.T){
		"store": func(t *rapid.T) {
			m, g := h.pick(t)
			_, last := m.bounds()
			from := max(last, m.compacted) + 1
			if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
				from = near(t, m, "from")
			}
			n, term := rapid.IntRange(1, 12).Draw(t, "n"), rapid.Uint64Range(1, 4).Draw(t, "term")
			logs := logEntries(from, from+uint64(n)-1, term)
			logs[0].Data = bytes.Repeat([]byte{byte(n)}, rapid.IntRange(0, 900).Draw(t, "size"))
			if rapid.Bool().Draw(t, "wait") {
				agreeLog(t, m.store(logs), g.StoreLogs(logs))
				return
			}
			h.landing.Add(1)
			err := g.Stage(logs, func(err error) {
				if h.landing.Done(); err != nil {
					panic(err)
				}
			})
			if err != nil {
				h.landing.Done()
			}
			agreeLog(t, m.store(logs), err)
		},
		"delete": func(t *rapid.T) {
			m, g := h.pick(t)
			first, last := m.bounds()
			low, high := near(t, m, "low"), near(t, m, "high")
			switch rapid.IntRange(0, 3).Draw(t, "end") {
			case 0:
				low = first
			case 1:
				high = last
			}
			agreeLog(t, m.deleteRange(low, high), g.DeleteRange(low, high))
		},
		"marker": func(t *rapid.T) {
			m, g := h.pick(t)
			index := max(1, near(t, m, "index"))
			term, known := m.term(index)
			if !known || rapid.IntRange(0, 4).Draw(t, "foreign") == 0 {
				term = rapid.Uint64Range(1, 4).Draw(t, "term")
			}
			k, keep := logTestMarker(index, term), rapid.IntRange(0, 3).Draw(t, "keep") > 0
			agreeLog(t, m.saveMarker(k, keep), g.SaveMarker(k, keep))
		},
		"vote": func(t *rapid.T) {
			m, g := h.pick(t)
			if rapid.Bool().Draw(t, "term first") {
				term := rapid.Uint64Range(1, 9).Draw(t, "term")
				agreeLog(t, true, g.SetUint64([]byte(logKeyVoteTerm), term))
				m.stagedTerm = &term
			}
			if rapid.Bool().Draw(t, "candidate") && (m.stagedTerm != nil || m.voteTerm > 0) {
				who := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "who")
				agreeLog(t, true, g.Set([]byte(logKeyVoteCandidate), []byte(who)))
				if m.stagedTerm != nil {
					m.voteTerm, m.stagedTerm = *m.stagedTerm, nil
				}
				m.voteCandidate, m.everWrittenInto = who, true
			}
		},
		"set": func(t *rapid.T) {
			m, g := h.pick(t)
			key, value := rapid.SampledFrom([]string{"CurrentTerm", "k"}).Draw(t, "key"), rapid.StringN(0, 5, 10).Draw(t, "value")
			agreeLog(t, true, g.Set([]byte(key), []byte(value)))
			m.stable[key], m.everWrittenInto = value, true
		},
		"drop": func(t *rapid.T) {
			p := rapid.SampledFrom([]uint32{1, 2}).Draw(t, "partition")
			if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
				return
			}
			agreeLog(t, true, h.engine.Drop(p))
			h.models[p] = newLogModel()
		},
		"reopen": func(t *rapid.T) { h.reopen(t) },
		"": func(t *rapid.T) {
			var want []uint32
			for _, p := range []uint32{1, 2} {
				g, err := h.engine.Group(p)
				if err != nil {
					t.Fatal(err)
				}
				h.models[p].check(t, g)
				if h.models[p].everWrittenInto {
					want = append(want, p)
				}
			}
			h.landing.Wait()
			if list, err := h.engine.Groups(); err != nil || fmt.Sprint(list) != fmt.Sprint(want) {
				t.Fatalf("groups are %v (%v), want %v", list, err, want)
			}
		},
	}
}

// TestLogModel compares both implementations with the model under random operations, legal or not, and reopening.
func TestLogModel(t *testing.T) {
	unsynced := logKind{"bolt", func(o LogOptions) (LogEngine, error) {
		b, err := openBoltLog(o, boltHooks{noSync: true})
		if err != nil {
			return nil, err
		}
		return b.engine, nil
	}}
	forLogKinds(t, func(t *testing.T, k logKind) {
		rapid.Check(t, func(t *rapid.T) {
			dir, err := os.MkdirTemp("", "logmodel")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.RemoveAll(dir) }()
			h := &logMachine{kind: k, opts: logOptions(dir), models: map[uint32]*logModel{1: newLogModel(), 2: newLogModel()}}
			if k.name == "bolt" {
				h.kind = unsynced
			} else {
				h.opts.FS = vfs.NewMem()
			}
			h.opts.EntryCacheBytes = 2 << 10
			h.opts.MemTableBytes = 256 << 10
			h.reopen(t)
			defer func() { _ = h.engine.Close() }()
			t.Repeat(h.actions())
		})
	})
}
