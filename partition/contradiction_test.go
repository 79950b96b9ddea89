package partition

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// testLog is a log as its terms, and which of its entries a state machine sees; index 1 is the first.
type testLog struct {
	terms []uint64
	seen  []bool
}

func (l *testLog) last() uint64 { return uint64(len(l.terms)) }

// grow adds entries of growing terms, from a term on. The last one is seen.
func (l testLog) grow(r *rand.Rand, n int, term uint64) testLog {
	l.terms, l.seen = append([]uint64(nil), l.terms...), append([]bool(nil), l.seen...)
	for i := range n {
		if r.IntN(4) == 0 {
			term += 1 + r.Uint64N(3)
		}
		l.terms, l.seen = append(l.terms, term), append(l.seen, i == n-1 || r.IntN(3) > 0)
	}
	return l
}

// history is what a marker at index says of it.
func (l *testLog) history(index uint64) (t terms) {
	for i := range index {
		if l.seen[i] {
			t = t.note(i+1, l.terms[i])
		}
	}
	return t
}

// known is what a member knows of it that was opened with a marker, lost what it knew of the oldest ranges, and has the log behind.
func (l *testLog) known(r *rand.Rand) *committed {
	marker := r.Uint64N(l.last() + 1)
	first := marker - min(marker, r.Uint64N(4))
	c := &committed{through: l.last(), terms: l.history(marker), termOf: func(i uint64) (uint64, bool) {
		if i <= first || i > l.last() {
			return 0, false
		}
		return l.terms[i-1], true
	}}
	c.terms = c.terms[r.IntN(len(c.terms)+1):]
	if least, most := c.bounds(c.through); least == most {
		c.newest = most
	}
	return c
}

// TestContradiction: whatever a member has forgotten, what a log that holds all that was committed shows refutes nothing, and one that
// lacks some of it, with entries of later terms in its place, is refuted: by such an entry, and by a marker.
func TestContradiction(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 3))
		committed := testLog{}.grow(r, 1+r.IntN(20), 1)
		c := committed.known(r)
		good := committed.grow(r, 1+r.IntN(10), committed.terms[committed.last()-1])
		for i := uint64(1); i <= good.last(); i++ {
			if own, yes := c.refutes(i, good.terms[i-1]); yes {
				t.Fatalf("seed %d: entry %d of term %d refuted by %d", seed, i, good.terms[i-1], own)
			}
			if own, theirs, at, yes := c.refutesHistory(i, good.terms[i-1], good.history(i)); good.seen[i-1] && yes {
				t.Fatalf("seed %d: marker at %d refuted at %d: %d, not %d", seed, i, at, theirs, own)
			}
		}
		kept := r.Uint64N(committed.last())
		bad := testLog{committed.terms[:kept], committed.seen[:kept]}.grow(r, 1+r.IntN(25), committed.terms[committed.last()-1]+1)
		for i := kept + 1; i <= bad.last(); i++ {
			if _, yes := c.refutes(i, bad.terms[i-1]); yes != (i <= committed.last()) && c.newest > 0 {
				t.Fatalf("seed %d: entry %d of term %d of a log that parts after %d of %d: refuted %t", seed, i, bad.terms[i-1], kept, committed.last(), yes)
			}
			if _, _, _, yes := c.refutesHistory(i, bad.terms[i-1], bad.history(i)); bad.seen[i-1] && !yes && c.newest > 0 && len(bad.history(committed.last())) > 0 {
				t.Fatalf("seed %d: marker at %d of a log that parts after %d of %d is not refuted", seed, i, kept, committed.last())
			}
		}
	}
}

// contradicted is a follower that has applied something, cut off from its group, and what it tells.
type contradicted struct {
	*node
	mu   sync.Mutex
	told []Contradiction
}

func newContradicted(t *testing.T) *contradicted {
	c := &contradicted{}
	g := openGroup(t, 3, func(o *Options) {
		o.Events.Contradicted = func(x Contradiction) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.told = append(c.told, x)
		}
	})
	g.found()
	l := g.serving()
	must(t, l.create("a"))
	for seq := int64(2); seq < 20; seq++ {
		_, err := l.append("a", seq, "{}")
		must(t, err)
	}
	for _, nd := range g.nodes {
		if nd != l {
			c.node = nd
		}
	}
	g.wait("the follower to apply", func() bool { return c.head("a") == 19 })
	g.isolate(c.node)
	return c
}

// send gives the guard a request as if it had come by the network.
func (c *contradicted) send(command any, data []byte) (raft.RPCResponse, error) {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: command, Reader: bytes.NewReader(data)}
	c.part.guard.door.put(inbound{rpc: rpc, answer: func(r raft.RPCResponse) { answer <- r }})
	r := <-answer
	return r, r.Error
}

// expect checks what a request is answered with, and that it has changed nothing.
func (c *contradicted) expect(t *testing.T, what string, refused bool, command any, data []byte) {
	t.Helper()
	last := c.part.fsm.committedTerms(c.log)
	c.mu.Lock()
	before := len(c.told)
	c.mu.Unlock()
	time.Sleep(toldAgain) // it tells at most so often
	if _, err := c.send(command, data); errors.Is(err, ErrLostCommits) != refused {
		t.Errorf("%s: %v", what, err)
	}
	c.mu.Lock()
	told := len(c.told) - before
	c.mu.Unlock()
	if told > 1 || (told == 1) != refused {
		t.Errorf("%s: told %d times", what, told)
	}
	if m, ok, _ := c.log.Marker(); ok {
		t.Errorf("%s: a marker at %d was taken over", what, m.Index)
	}
	for i := uint64(1); i <= last.through; i++ {
		if least, most := last.bounds(i); func() bool { term, ok := termOf(c.log)(i); return !ok || term < least || term > most }() {
			t.Fatalf("%s: entry %d is not what it was", what, i)
		}
	}
}

// TestContradictedFollower: a leader of a later term whose entries, marker or note lack what a follower has applied is refused before
// Raft cuts the follower's log, and told of. One that repeats what is there, and one of an earlier term, prove nothing.
func TestContradictedFollower(t *testing.T) { synctest.Test(t, testContradictedFollower) }

func testContradictedFollower(t *testing.T) {
	c := newContradicted(t)
	at := c.part.fsm.committedTerms(c.log).through
	own, _ := termOf(c.log)(at)
	now := func() uint64 { return c.part.Term() }
	header := headerOf("h9@1")
	entry := func(index, term uint64) *raft.Log { return &raft.Log{Index: index, Term: term, Type: raft.LogNoop} }
	entries := func(term, prev, prevTerm uint64, list ...*raft.Log) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{RPCHeader: header, Term: term, PrevLogEntry: prev, PrevLogTerm: prevTerm, Entries: list}
	}
	repeated := new(raft.Log)
	must(t, c.log.GetLog(at, repeated))
	c.expect(t, "an entry once more", false, entries(now()+1, at-1, own, repeated), nil)
	c.expect(t, "an earlier leader's entry", false, entries(now()-1, at-1, own, entry(at, own-1)), nil)
	c.expect(t, "another entry", true, entries(now()+1, at-1, own, entry(at, now()+1)), nil)
	c.expect(t, "another entry among many", true, entries(now()+1, at-2, own, entry(at-1, own), entry(at, now()+1), entry(at+1, now()+1)), nil)
	c.expect(t, "another entry before", true, entries(now()+1, at, now()+1, entry(at+1, now()+1)), nil)
	c.expect(t, "an end of its own", false, entries(now()+1, at+9, now()+1, entry(at+10, now()+1)), nil)

	marker := func(term, index, markerTerm uint64, history terms) (*raft.InstallSnapshotRequest, []byte) {
		data := payload{founding: c.part.Founding(), terms: history}.encode()
		servers := raft.EncodeConfiguration(c.part.fsm.committed())
		return &raft.InstallSnapshotRequest{RPCHeader: header, SnapshotVersion: raft.SnapshotVersionMax, Term: term, LastLogIndex: index, LastLogTerm: markerTerm,
			Configuration: servers, ConfigurationIndex: 1, Size: int64(len(data))}, data
	}
	req, data := marker(now()+1, at+50, now()+1, terms{{own, 1, at - 3}, {now() + 1, at - 1, at + 50}})
	c.expect(t, "a marker", true, req, data)
	req, data = marker(now()+1, at-1, own+1, terms{{own, 1, at - 3}, {own + 1, at - 1, at - 1}})
	c.expect(t, "an early marker", true, req, data)
	req, data = marker(now()+1, at+50, now()+1, terms{{own, 1, at - 1}, {now() + 1, at + 1, at + 50}})
	c.expect(t, "a marker without what was applied last", true, req, data)

	time.Sleep(toldAgain)
	c.mu.Lock()
	before := len(c.told)
	c.mu.Unlock()
	c.part.Noted("h9@1", Note{Term: now() + 1, Index: at - 1, IndexTerm: now() + 1})
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.told) != before+1 || c.told[before].Leader != "h9@1" || c.told[before].Index != at-1 || c.told[before].Applied != at {
		t.Errorf("a note: %+v", c.told[before:])
	}
}

// TestOneHistoryIsRecovered: of members with two histories no group is made, whatever their logs end with.
func TestOneHistoryIsRecovered(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b MemberSurvey
		fine bool
	}{
		{"the same", surveyed("h1@1", 10, nil, 2, 10), surveyed("h2@1", 8, nil, 2, 10), true},
		{"an end that was not applied", surveyed("h1@1", 6, nil, 2, 6, 5, 9), surveyed("h2@1", 5, nil, 2, 6, 4, 8), true},
		{"another history, shorter", surveyed("h1@1", 20, nil, 2, 20), surveyed("h2@1", 9, nil, 2, 8, 3, 9), false},
		{"another history, longer", surveyed("h1@1", 20, nil, 2, 20), surveyed("h2@1", 40, nil, 2, 8, 3, 40), false},
	} {
		if _, err := PlanRecovery([]MemberSurvey{c.a, c.b}, 0, 0, 1000); (err == nil) != c.fine {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
