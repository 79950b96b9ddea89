package partition

import (
	"testing"

	"github.com/hashicorp/raft"
)

// TestToldIsWhatIsShown: Raft commits what a request tells, up to the end of the log that is here. A request that shows less of the leader's
// log than it tells, because somebody cut it, must not commit what the leader never had.
func TestToldIsWhatIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		prev, entries, tells, want uint64
	}{
		"nothing":          {0, 0, 0, 0},
		"all":              {10, 5, 15, 15},
		"less":             {10, 5, 12, 12},
		"cut":              {10, 5, 20, 15},
		"no entries":       {10, 0, 20, 10},
		"no entries, none": {0, 0, 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			req := &raft.AppendEntriesRequest{PrevLogEntry: c.prev, LeaderCommitIndex: c.tells, Entries: entries(c.prev+1, c.entries)}
			got := shown(raft.RPC{Command: req}).Command.(*raft.AppendEntriesRequest)
			if got.LeaderCommitIndex != c.want || len(got.Entries) != len(req.Entries) || got.PrevLogEntry != c.prev {
				t.Errorf("%+v", got)
			}
			if req.LeaderCommitIndex != c.tells {
				t.Error("the sender's request was changed")
			}
		})
	}
	if vote := new(raft.RequestVoteRequest); shown(raft.RPC{Command: vote}).Command != vote {
		t.Error("a vote is another one")
	}
}

// TestMembersTakeWhatIsShown: the same at a member. It has entries of an earlier leader that the present one lacks.
func TestMembersTakeWhatIsShown(t *testing.T) {
	simulated(func(t *testing.T) {
		g := newGroup(t, 3, nil)
		l := g.serving()
		must(t, l.create("a"))
		g.applied("a", 1)
		f := g.other(l)
		last, err := f.log.LastIndex()
		must(t, err)
		var entry raft.Log
		must(t, f.log.GetLog(last, &entry))
		g.isolate(f)
		stale := (&command{EvalTerm: entry.Term, Barrier: true, Founding: f.part.Founding()}).encode()
		must(t, f.log.StoreLog(&raft.Log{Index: last + 1, Term: entry.Term, Type: raft.LogCommand, Data: stale}))
		must(t, f.part.Close())
		f.open(nil)
		answered := make(chan raft.RPCResponse, 1)
		req := &raft.AppendEntriesRequest{RPCHeader: headerOf(l.id), Term: entry.Term + 1, PrevLogEntry: last, PrevLogTerm: entry.Term, LeaderCommitIndex: last + 1}
		f.part.guard.deliver(inbound{rpc: raft.RPC{Command: req}, answer: func(r raft.RPCResponse) { answered <- r }})
		if r := <-answered; r.Error != nil || !r.Response.(*raft.AppendEntriesResponse).Success {
			t.Fatalf("%+v", r)
		}
		if c := f.part.raft.Load().CommitIndex(); c != last {
			t.Errorf("committed up to %d, shown up to %d", c, last)
		}
	})(t)
}
