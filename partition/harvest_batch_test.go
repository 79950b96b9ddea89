package partition

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// TestHarvestEndsAtACommand: the power fails between two batches of a harvest, the first of which would end with an entry of Raft's own. The
// marker of the same healthy leader contradicts nothing then.
func TestHarvestEndsAtACommand(t *testing.T) {
	nd := newNode(t, "h1@1")
	barrier := (&command{EvalTerm: 1, Barrier: true, Founding: 7}).encode()
	var history terms
	var log []*raft.Log
	for i := uint64(1); i <= 400; i++ {
		e := &raft.Log{Index: i, Term: 1, Type: raft.LogCommand, Data: barrier}
		if i >= harvestBatch {
			e.Term = 2
		}
		if i == harvestBatch {
			e.Type, e.Data = raft.LogNoop, nil
		} else {
			history = history.note(i, e.Term)
		}
		log = append(log, e)
	}
	must(t, nd.log.StoreLogs(log))
	var batches []uint64
	docs := &batchedDocs{engineDocs: nd.docs, ended: func(last uint64) {
		batches = append(batches, last)
		c := (&stateMachine{docs: nd.docs}).committedTerms(nd.log)
		if own, theirs, at, yes := c.refutesHistory(400, 2, history); yes {
			t.Errorf("applied up to %d, entry %d: term %d here, %d there: a contradiction, though both logs are one", last, at, own, theirs)
		}
	}}
	fsm := &stateMachine{docs: docs, awaitLog: func(uint64) error { return nil }, complete: func([]outcome) {}}
	fsm.mu.Lock()
	must(t, fsm.replay(400, nd.log))
	fsm.mu.Unlock()
	if len(batches) != 2 || batches[0] != harvestBatch+1 || batches[1] != 400 {
		t.Errorf("batches up to %v", batches)
	}
}

// batchedDocs tells when a batch was staged, and is durable.
type batchedDocs struct {
	engineDocs
	ended func(last uint64)
}

func (d *batchedDocs) Stage(batch []store.Mutation, last uint64) error {
	if err := d.engineDocs.Stage(batch, last); err != nil {
		return err
	}
	if err := d.Flush(); err != nil {
		return err
	}
	d.ended(last)
	return nil
}
