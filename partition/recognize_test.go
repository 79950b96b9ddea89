package partition

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// TestRecognizesItsOwnGroupOnly: a member that has applied nothing takes a group's id from a leader when its own log holds an
// entry that founds that very group, and in no other case.
func TestRecognizesItsOwnGroupOnly(t *testing.T) {
	nd := newNode(t, "h1@1")
	barrier := command{EvalTerm: 2, Barrier: true, Founding: 77}
	if err := nd.log.StoreLogs([]*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{})},
		{Index: 2, Term: 2, Type: raft.LogCommand, Data: barrier.encode()},
	}); err != nil {
		t.Fatal(err)
	}
	nd.open(nil)
	for _, step := range []struct {
		founding uint64
		known    bool
		after    uint64
	}{{0, false, 0}, {78, false, 0}, {77, true, 77}, {78, false, 77}} {
		known, err := nd.part.Recognize(step.founding)
		if err != nil || known != step.known || nd.part.Founding() != step.after {
			t.Fatalf("founding %d: known %v, %v; the member's is %d", step.founding, known, err, nd.part.Founding())
		}
	}
	if foreign, err := nd.part.Foreign(78); err != nil || !foreign {
		t.Errorf("another group's founding: foreign %v, %v", foreign, err)
	}
}

// TestForeignWritesAreKnown: of a member that has applied nothing the log tells whether it holds what another group may have acknowledged.
func TestForeignWritesAreKnown(t *testing.T) {
	barrier := command{EvalTerm: 2, Barrier: true, Founding: 77}
	write := command{EvalTerm: 2, Proposal: 1, Mutation: store.Mutation{Kind: store.Create, Key: store.Key{Space: "game", Key: "doc"},
		Deltas: []store.Delta{{SeqBegin: 1, SeqEnd: 1, Redo: []byte("{}"), Undo: []byte("{}")}}}}
	first := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{})}
	founds := &raft.Log{Index: 2, Term: 2, Type: raft.LogCommand, Data: barrier.encode()}
	writes := &raft.Log{Index: 3, Term: 2, Type: raft.LogCommand, Data: write.encode()}
	for name, c := range map[string]struct {
		log     []*raft.Log
		foreign map[uint64]bool // by the other's founding
	}{
		"nothing":                         {nil, map[uint64]bool{0: false, 77: false, 78: false}},
		"an attempt to found":             {[]*raft.Log{first, founds}, map[uint64]bool{0: false, 77: false, 78: false}},
		"what may have been acknowledged": {[]*raft.Log{first, founds, writes}, map[uint64]bool{0: true, 77: false, 78: true}},
	} {
		nd := newNode(t, "h1@1")
		if len(c.log) > 0 {
			if err := nd.log.StoreLogs(c.log); err != nil {
				t.Fatal(err)
			}
		}
		nd.open(nil)
		for founding, want := range c.foreign {
			if foreign, err := nd.part.Foreign(founding); err != nil || foreign != want {
				t.Errorf("%s, beside founding %d: foreign %v, %v", name, founding, foreign, err)
			}
		}
	}
}
