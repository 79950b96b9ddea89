package partition

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// unreadable is a log of which one entry can not be read.
type unreadable struct {
	*memLog
	at *atomic.Uint64
}

func (u unreadable) GetLog(i uint64, out *raft.Log) error {
	if i > 0 && u.at.Load() == i {
		return errors.New("input/output error")
	}
	return u.memLog.GetLog(i, out)
}

// TestUnreadableEntryCutsNothingOff: a follower that can not read an entry it has acknowledged, when that is sent once more, stops. Its
// log keeps the entry, and so does the group: Raft, which gets an empty one in its place, would take it for another leader's.
func TestUnreadableEntryCutsNothingOff(t *testing.T) {
	synctest.Test(t, testUnreadableEntryCutsNothingOff)
}

func testUnreadableEntryCutsNothingOff(t *testing.T) {
	at := map[raft.ServerID]*atomic.Uint64{}
	timing := Timing{Heartbeat: 60 * time.Millisecond, Commit: time.Hour} // the commit index of the last entry is not told
	g := newGroup(t, 3, func(o *Options) {
		at[o.Self] = new(atomic.Uint64)
		o.Log, o.Timing = unreadable{o.Log.(*memLog), at[o.Self]}, timing
	})
	l := g.serving()
	must(t, l.create("a"))
	f := g.other(l)
	c := g.nodes[0]
	for _, nd := range g.nodes {
		if nd != l && nd != f {
			c = nd
		}
	}
	_, err := l.append("a", 2, `{"x":2}`)
	must(t, err)
	lastOf := func(nd *node) uint64 { i, _ := nd.log.LastIndex(); return i }
	g.wait("all to hold it", func() bool { return lastOf(f) == lastOf(l) && lastOf(c) == lastOf(l) })
	g.isolate(c)
	_, err = l.append("a", 3, `{"x":3}`) // l and f hold it
	must(t, err)
	last := lastOf(l)
	var e, prev raft.Log
	must(t, l.log.GetLog(last, &e))
	must(t, l.log.GetLog(last-1, &prev))
	at[f.id].Store(last)
	req := &raft.AppendEntriesRequest{RPCHeader: l.part.guard.header(), Term: l.part.Term(), PrevLogEntry: prev.Index, PrevLogTerm: prev.Term,
		Entries: []*raft.Log{&e}} // as if the answer had been lost
	err = l.trans.AppendEntries(f.id, raft.ServerAddress(f.id), req, new(raft.AppendEntriesResponse))
	if f.part.Failure() == nil {
		t.Errorf("the member goes on with a log that it can not read (answer: %v)", err)
	}
	if held := lastOf(f); held < last {
		t.Errorf("its log ends at %d; it has acknowledged %d", held, last)
	}

	g.isolate(l)
	must(t, f.part.Close())
	must(t, c.part.Close())
	for _, nd := range []*node{f, c} {
		_, nd.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(nd.id), 200*time.Millisecond)
	}
	f.trans.Connect(raft.ServerAddress(c.id), c.trans)
	c.trans.Connect(raft.ServerAddress(f.id), f.trans)
	f.open(func(o *Options) { o.Timing = timing })
	c.open(func(o *Options) { o.Timing = timing })
	if n := g.serving(f, c); n.head("a") != 3 {
		t.Errorf("%s serves with seq %d of 3", n.id, n.head("a"))
	}
}

// TestStoppedMemberKeepsItsLog: whatever Raft decides after the member has stopped, its log stays as it is.
func TestStoppedMemberKeepsItsLog(t *testing.T) {
	m := newMemLog()
	w := &watchedLog{LogGroup: m, now: time.Now, failed: func(error) {}}
	entry := func(i uint64) *raft.Log { return &raft.Log{Index: i, Term: 1, Type: raft.LogCommand} }
	must(t, w.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogNoop}))
	must(t, w.StoreLog(entry(2)))
	must(t, w.SetUint64([]byte("CurrentTerm"), 1))
	w.abandon(errors.New("the disk is gone"))
	for name, err := range map[string]error{
		"store commands":  w.StoreLog(entry(3)),
		"store a barrier": w.StoreLog(&raft.Log{Index: 3, Term: 1, Type: raft.LogNoop}),
		"cut a suffix":    w.DeleteRange(2, 2),
		"vote":            w.Set([]byte("LastVoteCand"), []byte("x")),
		"take a marker":   w.SaveMarker(store.Marker{Index: 2, Term: 1}, false),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	must(t, w.SetUint64([]byte("CurrentTerm"), 2)) // Raft would panic
	if last, err := m.LastIndex(); err != nil || last != 2 {
		t.Errorf("the log ends at %d (%v)", last, err)
	}
	if term, err := m.GetUint64([]byte("CurrentTerm")); err != nil || term != 1 {
		t.Errorf("the term is %d (%v)", term, err)
	}
}

// arriving is a log to which an entry comes right before or after one of the calls of who looks for it.
type arriving struct {
	*memLog
	step func()
}

func (a arriving) GetLog(i uint64, out *raft.Log) error {
	a.step()
	defer a.step()
	return a.memLog.GetLog(i, out)
}

func (a arriving) FirstIndex() (uint64, error) {
	a.step()
	defer a.step()
	return a.memLog.FirstIndex()
}

func (a arriving) LastIndex() (uint64, error) {
	a.step()
	defer a.step()
	return a.memLog.LastIndex()
}

// TestNoteMeetsItsEntry: who looks for an entry while it is being stored, at whichever moment, does not take it for lost.
func TestNoteMeetsItsEntry(t *testing.T) {
	for at := 1; at <= 12; at++ {
		m, steps := newMemLog(), 0
		must(t, m.StoreLog(&raft.Log{Index: 1, Term: 1}))
		log := arriving{m, func() {
			if steps++; steps == at {
				must(t, m.StoreLog(&raft.Log{Index: 2, Term: 1}))
			}
		}}
		w := &watchedLog{LogGroup: log, now: time.Now, failed: func(err error) { t.Errorf("stored at step %d, the member stopped: %v", at, err) }}
		var e raft.Log
		if err := w.GetLog(2, &e); err != nil && !errors.Is(err, raft.ErrLogNotFound) || err == nil && e.Term != 1 {
			t.Errorf("stored at step %d: read %+v, %v", at, e, err)
		}
	}
}

// TestLostEntryStopsTheMember: one that the log claims to have, and never finds, is lost.
func TestLostEntryStopsTheMember(t *testing.T) {
	m, stopped := newMemLog(), false
	for i := range uint64(3) {
		must(t, m.StoreLog(&raft.Log{Index: i + 1, Term: 1}))
	}
	delete(m.logs, 2)
	w := &watchedLog{LogGroup: m, now: time.Now, failed: func(error) { stopped = true }}
	var e raft.Log
	if err := w.GetLog(2, &e); err != nil || !stopped {
		t.Errorf("read %+v, %v; stopped: %v", e, err, stopped)
	}
	if err := w.GetLog(4, &e); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("what was never there: %v", err)
	}
}
