package partition

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// harvestBatch is how many of its own log entries a member applies at a time when it harvests.
const harvestBatch = 256

// stateMachine applies committed entries to the documents. It decides nothing but whether a command is fenced.
//
// mu is held while entries are applied: by Raft's state machine goroutine and, for a harvest, by Raft's main goroutine.
// Always: terms, configuration ≤ documents.Applied() once applied; an index at or below Applied() is skipped by the
// documents.
type stateMachine struct {
	docs     Documents
	awaitLog func(index uint64) error // until the log is durable through index: documents must not be ahead of it
	complete func([]outcome)
	onConfig func(raft.Configuration)
	failed   func(error)

	stopped atomic.Bool   // the member stopped: nothing is applied any more
	reached atomic.Uint64 // index of the last entry seen, or a marker's

	// lineage is where a group comes from that was recovered; nil of any other (lineage.go).
	lineage atomic.Pointer[lineage]

	mu            sync.Mutex
	founding      uint64 // the group's id: of the first barrier that took effect; 0 before
	terms         terms
	index, term   uint64 // of the last entry seen
	configuration []byte
	configIndex   uint64
	commands      uint64 // that changed documents, applied since the member was opened
	before        uint64 // of commands, those until sinceMarker
	bytes         int64  // of entries since sinceMarker
	written       uint64 // bytes of entries, applied since the member was opened
	sinceMarker   uint64
	broken        error // a durable step failed: nothing is applied or acknowledged any more
}

// outcome is what became of one command.
type outcome struct {
	evalTerm, proposal uint64
	index              uint64
	barrier            bool
	fenced             bool
}

// Apply implements raft.FSM; Raft calls ApplyBatch instead.
func (s *stateMachine) Apply(l *raft.Log) any { return s.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. The responses are nil: proposers are told through complete, by term and number,
// because a future of Raft may never be answered.
func (s *stateMachine) ApplyBatch(logs []*raft.Log) []any {
	var out []outcome
	err := s.awaitLog(logs[len(logs)-1].Index)
	if err == nil {
		s.mu.Lock()
		out, err = s.apply(logs)
		s.mu.Unlock()
	}
	if err != nil {
		s.failed(err)
	} else {
		s.complete(out)
	}
	return make([]any, len(logs))
}

// apply writes the effects of logs in one batch of the document engine. The caller holds mu.
func (s *stateMachine) apply(logs []*raft.Log) ([]outcome, error) {
	if s.broken == nil && s.stopped.Load() {
		s.broken = errStopped
	}
	if s.broken != nil {
		return nil, s.broken
	}
	e := effectsOf(logs)
	for _, l := range logs {
		switch l.Type {
		case raft.LogCommand:
			if err := s.take(l, e); err != nil {
				s.broken = fmt.Errorf("entry %d: %w", l.Index, err)
				return nil, s.broken
			}
		case raft.LogConfiguration:
			s.configured(l)
		}
		s.terms = s.terms.note(l.Index, l.Term)
		s.bytes += int64(len(l.Data))
		s.written += uint64(len(l.Data))
	}
	last := logs[len(logs)-1]
	if err := s.docs.Stage(e.mutations, last.Index); err != nil {
		s.broken = fmt.Errorf("apply entries %d to %d: %w", logs[0].Index, last.Index, err)
		return nil, s.broken
	}
	s.commands += uint64(len(e.mutations))
	if last.Index > s.index {
		s.index, s.term = last.Index, last.Term
		s.reach(last.Index)
	}
	return e.outcomes, nil
}

// effects is what entries come to.
type effects struct {
	mutations []store.Mutation
	outcomes  []outcome
	deltas    []store.Delta // room for those of mutations
}

// effectsOf has room for what the entries come to, if each command has one delta.
func effectsOf(logs []*raft.Log) *effects {
	n := 0
	for _, l := range logs {
		if s, err := openCommands(l.Data); l.Type == raft.LogCommand && err == nil {
			n += s.left
		}
	}
	return &effects{make([]store.Mutation, 0, n), make([]outcome, 0, n), make([]store.Delta, n)}
}

// take adds what an entry of commands comes to. The caller holds mu.
func (s *stateMachine) take(l *raft.Log, e *effects) error {
	entry, err := openCommands(l.Data)
	if err != nil {
		return err
	}
	for {
		var c command
		if more, err := entry.next(&c, &e.deltas); err != nil || !more {
			return err
		}
		o := outcome{evalTerm: c.EvalTerm, proposal: c.Proposal, index: l.Index, barrier: c.Barrier, fenced: c.EvalTerm != l.Term}
		e.outcomes = append(e.outcomes, o)
		if s.founding == 0 && c.founds(l.Term) {
			s.founding = c.Founding
		}
		if !o.fenced && !c.Barrier {
			c.Mutation.Index, c.Mutation.Term = l.Index, l.Term
			e.mutations = append(e.mutations, c.Mutation)
		}
	}
}

func (s *stateMachine) configured(l *raft.Log) {
	if l.Index <= s.configIndex {
		return
	}
	s.configuration, s.configIndex = append([]byte(nil), l.Data...), l.Index
	s.onConfig(raft.DecodeConfiguration(l.Data))
}

// Snapshot implements raft.FSM: the payload of a marker.
func (s *stateMachine) Snapshot() (raft.FSMSnapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	return &snapshot{payload: s.payload().encode(), durable: s.durable}, nil
}

// durable returns once the document engine holds everything up to index durably.
func (s *stateMachine) durable(index uint64) error {
	if err := s.docs.Flush(); err != nil {
		return fmt.Errorf("marker at %d: %w", index, err)
	}
	if applied := s.docs.Applied(); applied < index {
		return fmt.Errorf("marker at %d: applied only %d", index, applied)
	}
	return s.docs.Sync()
}

// Restore implements raft.FSM: it takes over a marker's history of terms. The hole was recorded before the marker was
// stored (install), or when the partition was opened; an older marker changes nothing.
func (s *stateMachine) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(io.LimitReader(r, maxMarkerBytes+1))
	if err != nil {
		return fmt.Errorf("read marker: %w", err)
	}
	p, err := decodePayload(b)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adopt(p)
	return nil
}

// adopt takes over what a marker says beyond what is known. The caller holds mu and has compared the foundings.
func (s *stateMachine) adopt(p payload) {
	if s.founding == 0 {
		s.founding = p.founding
	}
	if s.founding == p.founding {
		s.descend(p)
	}
	t := p.terms
	if len(t) == 0 || len(s.terms) > 0 && t[len(t)-1].Last <= s.terms[len(s.terms)-1].Last {
		return
	}
	s.terms = t
}

// foundingOr returns the group's id, or a new one when it has none yet.
func (s *stateMachine) foundingOr(fresh func() uint64) uint64 {
	if id := s.foundingID(); id != 0 {
		return id
	}
	return fresh() | 1 // never 0
}

func (s *stateMachine) foundingID() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.founding
}

// recognize takes an id of the group unless one is known.
func (s *stateMachine) recognize(founding uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.founding == 0 {
		s.founding = founding
	}
	return s.founding == founding
}

// skip moves the member to a marker it was sent: harvest what its own log proves committed, sync, record the hole
// (design §5.1 and 5.2). Nothing here depends on the marker being stored: a crash leaves a hole that is true.
func (s *stateMachine) skip(m store.Marker, log store.LogGroup) error {
	p, err := decodePayload(m.Payload)
	if err != nil {
		return fmt.Errorf("marker at %d: %w", m.Index, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.founding != 0 && p.founding != 0 && s.founding != p.founding {
		return fmt.Errorf("marker at %d: %w: founded as %016x, this member's as %016x", m.Index, ErrForeignGroup, p.founding, s.founding)
	}
	if err := s.flush(); err != nil {
		return err
	}
	if m.Index > s.docs.Applied() {
		if err := s.harvest(p.terms, m.Index, log); err != nil {
			return err
		}
		if err := s.flush(); err != nil {
			return err
		}
		if applied := s.docs.Applied(); applied < m.Index {
			if err := s.docs.RecordHole(applied+1, m.Index); err != nil {
				s.broken = fmt.Errorf("record the hole (%d, %d]: %w", applied, m.Index, err)
				return s.broken
			}
		} else if err := s.docs.Sync(); err != nil {
			s.broken = err
			return err
		}
	}
	if m.ConfigurationIndex > s.configIndex {
		s.configuration, s.configIndex = m.Configuration, m.ConfigurationIndex
		s.onConfig(raft.DecodeConfiguration(m.Configuration))
	}
	if m.Index > s.index {
		s.index, s.term = m.Index, m.Term
		s.reach(m.Index)
	}
	s.adopt(p)
	return nil
}

// flush makes Applied tell of everything that was applied. The caller holds mu.
func (s *stateMachine) flush() error {
	if err := s.docs.Flush(); err != nil {
		s.broken = err
		return err
	}
	return nil
}

func (s *stateMachine) harvest(t terms, marker uint64, log store.LogGroup) error {
	last, err := log.LastIndex()
	if err != nil {
		return fmt.Errorf("harvest: %w", err)
	}
	k := harvestPoint(t, marker, last, s.docs.Applied(), termOf(log))
	if err := s.awaitLog(k); err != nil {
		return fmt.Errorf("harvest: %w", err)
	}
	return s.replay(k, log)
}

// replay applies what the log holds beyond what is applied, up to k. The caller holds mu.
func (s *stateMachine) replay(k uint64, log store.LogGroup) error {
	for next := s.docs.Applied() + 1; next <= k; {
		var logs []*raft.Log
		ends := false // with a command: what is applied last always is one (committed.refutesHistory)
		for ; next <= k && (len(logs) < harvestBatch || !ends); next++ {
			l := new(raft.Log)
			if err := log.GetLog(next, l); err != nil {
				return fmt.Errorf("harvest entry %d: %w", next, err)
			}
			logs, ends = append(logs, l), l.Type == raft.LogCommand
		}
		if _, err := s.apply(logs); err != nil {
			return err
		}
	}
	return nil
}

// termOf answers the terms of a log's own entries.
func termOf(log store.LogGroup) func(uint64) (uint64, bool) {
	return func(index uint64) (uint64, bool) {
		var l raft.Log
		if err := log.GetLog(index, &l); err != nil {
			return 0, false
		}
		return l.Term, true
	}
}

// since returns how many commands were applied since the marker, which is the last one, and the size of the entries; what was
// applied before the member was opened is not counted.
func (s *stateMachine) since(marker uint64) (commands uint64, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if marker > s.sinceMarker {
		s.bytes, s.before, s.sinceMarker = 0, s.commands, marker
	}
	return s.commands - s.before, s.bytes
}

// applied counts the commands on documents since the member was opened.
func (s *stateMachine) applied() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands
}

// logBytes counts the bytes of entries since the member was opened.
func (s *stateMachine) logBytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// marker returns what a joining member starts from: everything up to the last applied entry (design §10).
func (s *stateMachine) marker() (store.Marker, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return store.Marker{}, s.broken
	}
	if s.index == 0 || s.configIndex == 0 {
		return store.Marker{}, fmt.Errorf("nothing applied yet")
	}
	return store.Marker{Index: s.index, Term: s.term, Configuration: s.configuration, ConfigurationIndex: s.configIndex,
		Payload: s.payload().encode()}, nil
}

// committed is the newest configuration that was applied.
func (s *stateMachine) committed() raft.Configuration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.configIndex == 0 {
		return raft.Configuration{}
	}
	return raft.DecodeConfiguration(s.configuration)
}
