package partition

import (
	"testing"

	"github.com/hashicorp/raft"
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
	for founding, want := range map[uint64]bool{0: true, 77: false, 78: true} {
		if foreign, err := nd.part.Foreign(founding); err != nil || foreign != want {
			t.Errorf("founding %d before anything was applied: foreign %v, %v", founding, foreign, err)
		}
	}
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
	empty := newNode(t, "h2@1")
	empty.open(nil)
	if foreign, err := empty.part.Foreign(78); err != nil || foreign {
		t.Errorf("a member that holds nothing: foreign %v, %v", foreign, err)
	}
}
