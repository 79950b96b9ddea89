package partition

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// Status is what a member knows of itself and its group.
type Status struct {
	ID        uint32
	Self      raft.ServerID
	State     raft.RaftState
	Leader    raft.ServerID // "" when unknown
	Term      uint64
	Commit    uint64
	LastIndex uint64
	Applied   uint64 // Raft's: no-ops included
	Serving   Refusal
	Epoch     uint64 // term of the leadership here, 0 when it does not lead
	SafeMode  string
	Failure   error
	Contact   time.Time // when a leader was last accepted
	Marker    uint64    // index of the stored marker
	Servers   []raft.Server
	Documents store.DocStatus
	InFlight  int
	Founding  uint64
	Commands  uint64 // commands on documents that Raft brought since the member was opened
}

// Status reports the member's state; it takes no part in what it reports.
func (p *Partition) Status() Status {
	r := p.raft.Load()
	s := Status{ID: p.o.ID, Self: p.o.Self, State: r.State(), Term: r.CurrentTerm(), Commit: r.CommitIndex(), LastIndex: r.LastIndex(),
		Applied: r.AppliedIndex(), Contact: p.guard.lastContact(), Documents: p.o.Documents.Status(), InFlight: len(p.slots),
		Founding: p.Founding(), Commands: p.fsm.applied()}
	if f := r.GetConfiguration(); f.Error() == nil {
		s.Servers = f.Configuration().Servers
	}
	if m, ok, err := p.o.Log.Marker(); err == nil && ok {
		s.Marker = m.Index
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	st, _ := p.standing(p.o.Clock())
	s.Serving, s.SafeMode, s.Failure = st.serving(), p.safeMode, p.failure
	s.Leader = p.knownLeader(r)
	if p.lead != nil {
		s.Epoch = p.lead.term
	}
	return s
}

// Counts are counters of a member since it was opened.
type Counts struct {
	Commands     uint64 // commands on documents that Raft brought
	LogBytes     uint64 // of the entries that were applied
	Markers      uint64 // markers taken over in place of entries
	AlreadyThere uint64 // operations acknowledged because they had taken effect before
	LostWith     uint64 // leaderships that ended with writes in flight
	Candidacies  uint64 // attempts to be elected
}

// Counts returns them.
func (p *Partition) Counts() Counts {
	return Counts{Commands: p.fsm.applied(), LogBytes: p.fsm.logBytes(), Markers: p.markers.Load(), AlreadyThere: p.alreadyThere.Load(), LostWith: p.lostWith.Load(),
		Candidacies: p.candidacies.Load()}
}

// Leads reports whether Raft leads here.
func (p *Partition) Leads() bool { return p.raft.Load().State() == raft.Leader }

// Leader returns who leads, as Raft here knows it; "" when unknown.
func (p *Partition) Leader() (raft.ServerID, uint64) {
	r := p.raft.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.knownLeader(r), r.CurrentTerm()
}

// SetSafeMode puts the member in safe mode, or with an empty reason takes it out: stale reads only, writes are refused
// (design §10). The caller keeps the reason durably.
func (p *Partition) SetSafeMode(reason string) {
	p.mu.Lock()
	p.safeMode = reason
	p.mu.Unlock()
	p.wake()
}

// Refresh makes the member look again whether it may serve; repair calls it when it closed the holes.
func (p *Partition) Refresh() { p.wake() }

// Brief is the part of the status that reports to other hosts carry.
type Brief struct {
	Term     uint64
	Leader   raft.ServerID
	Serving  Refusal
	SafeMode bool
	Founding uint64
}

// Brief returns it without touching the log.
func (p *Partition) Brief() Brief {
	leader, term := p.Leader()
	founding := p.Founding()
	p.mu.Lock()
	defer p.mu.Unlock()
	st, _ := p.standing(p.o.Clock())
	return Brief{Term: term, Leader: leader, Serving: st.serving(), SafeMode: p.safeMode != "", Founding: founding}
}
