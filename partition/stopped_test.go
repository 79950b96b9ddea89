package partition

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestStoppedMemberAnswersAtOnce: a member that has stopped refuses what it is asked, also after its host has passed on a leader's note, and
// what was under way when it stopped.
func TestStoppedMemberAnswersAtOnce(t *testing.T) { synctest.Test(t, testStoppedMemberAnswersAtOnce) }

func testStoppedMemberAnswersAtOnce(t *testing.T) {
	g := newGroup(t, 1, nil)
	l := g.serving()
	must(t, l.create("a"))
	ask := func(what string) {
		t.Helper()
		answer := make(chan raft.RPCResponse, 1)
		rpc := raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ID: []byte("b"), Addr: []byte("b")}, Term: 1 << 40}}
		taken := l.part.guard.receive(rpc, func(r raft.RPCResponse) { answer <- r })
		select {
		case r := <-answer:
			if !errors.Is(r.Error, errStopped) {
				t.Errorf("%s: answered %v", what, r.Error)
			}
		case <-time.After(time.Hour):
			t.Errorf("%s: no answer within an hour (taken: %v)", what, taken)
		}
	}
	l.part.fail(errors.New("a failed read"))
	ask("after the failure")
	l.part.Noted("b", Note{Term: 1 << 40, Index: 1 << 20, IndexTerm: 1 << 40})
	time.Sleep(time.Second)
	ask("after a note")
}

// TestStopsWhileAsking: Raft may never answer what it was asked when the member stops.
func TestStopsWhileAsking(t *testing.T) { synctest.Test(t, testStopsWhileAsking) }

func testStopsWhileAsking(t *testing.T) {
	g := &guard{consumer: make(chan raft.RPC, 1), stop: make(chan struct{}), died: make(chan struct{})}
	over := make(chan bool)
	go func() { _, ok := g.ask(raft.RPC{Command: &raft.AppendEntriesRequest{}}); over <- ok }()
	synctest.Wait()
	g.die()
	select {
	case ok := <-over:
		if ok {
			t.Error("answered")
		}
	case <-time.After(time.Hour):
		t.Error("it waits for ever")
	}
}

// TestEntriesWithAGap: entries that do not follow one another are refused, and harm nobody.
func TestEntriesWithAGap(t *testing.T) { synctest.Test(t, testEntriesWithAGap) }

func testEntriesWithAGap(t *testing.T) {
	g := newGroup(t, 3, nil)
	l := g.serving()
	must(t, l.create("a"))
	f := g.other(l)
	g.wait("it to follow", func() bool { return f.head("a") == 1 })
	last, err := f.log.LastIndex()
	must(t, err)
	var prev raft.Log
	must(t, f.log.GetLog(last, &prev))
	term := l.part.Term()
	for _, indexes := range [][]uint64{{last + 2}, {last + 1, last + 3}, {last + 1, last + 1}} {
		req := &raft.AppendEntriesRequest{RPCHeader: l.part.guard.header(), Term: term, PrevLogEntry: prev.Index, PrevLogTerm: prev.Term}
		for _, i := range indexes {
			req.Entries = append(req.Entries, &raft.Log{Index: i, Term: term, Type: raft.LogNoop})
		}
		if err := l.trans.AppendEntries(f.id, raft.ServerAddress(f.id), req, new(raft.AppendEntriesResponse)); err == nil {
			t.Errorf("entries %v behind %d were taken", indexes, last)
		}
	}
	if err := f.part.Failure(); err != nil {
		t.Errorf("the member stopped: %v", err)
	}
	_, err = l.append("a", 2, `{"x":2}`)
	must(t, err)
	g.wait("it to go on", func() bool { return f.head("a") == 2 })
}
