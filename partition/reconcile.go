package partition

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// settleFor is how long a leader serves before it hands over to the preferred one: leadership does not hop while hosts
// come and go.
const settleFor = 2 * time.Second

// changeTimeout bounds one step of the configuration.
const changeTimeout = 5 * time.Second

// Advance moves Raft's configuration one step towards the cluster file, if this member leads and a safe step exists
// (nextStep). It returns the step taken, StepNone otherwise. Only a leader whose barrier is applied moves anything. With
// mayTransfer false it hands leadership to nobody for the sake of preference: a host does that with one partition at a time.
func (p *Partition) Advance(ctx context.Context, desired Desired, peers map[raft.ServerID]Peer, mayTransfer bool) (Step, error) {
	p.mu.Lock()
	s, _ := p.standing(p.o.Clock())
	r := s.serving()
	settled := p.lead != nil && !p.lead.since.IsZero() && p.o.Clock().Sub(p.lead.since) >= settleFor
	p.mu.Unlock()
	if r == Incomplete && s.barrier {
		return p.yield(ctx, desired, peers)
	}
	if r != Serves {
		return Step{Reason: r.String()}, nil
	}
	f := p.raft.Load().GetConfiguration()
	if err := f.Error(); err != nil {
		return Step{}, err
	}
	v := p.view(desired, peers, f.Configuration().Servers)
	step := nextStep(v)
	if step.Kind == StepNone {
		step.Settled = v.settled()
		return step, nil
	}
	if step.Kind == StepTransfer && !(settled && mayTransfer) {
		return Step{Reason: "leadership stays for now"}, nil
	}
	return step, p.take(ctx, step, f.Index())
}

// yield hands leadership from a member with holes to a complete, caught-up voter (design §9, sick members). When there is
// none it keeps leading without serving, until repair made it complete.
func (p *Partition) yield(ctx context.Context, desired Desired, peers map[raft.ServerID]Peer) (Step, error) {
	f := p.raft.Load().GetConfiguration()
	if err := f.Error(); err != nil {
		return Step{}, err
	}
	step := p.view(desired, peers, f.Configuration().Servers).transfer(func(raft.ServerID) bool { return true }, "this leader has holes")
	return step, p.take(ctx, step, 0)
}

// view is what nextStep decides by. Reports are half a second old, in which a busy partition's members seem to fall far behind; what
// they have acknowledged since is known here. It counts for members only that this leader can not have sent a marker since they
// reported: else one that has got a hole meanwhile, and acknowledged what is behind it, would count as complete.
func (p *Partition) view(desired Desired, peers map[raft.ServerID]Peer, servers []raft.Server) View {
	peers = maps.Clone(peers)
	r := p.raft.Load()
	term := r.CurrentTerm()
	first, err := p.o.Log.FirstIndex()
	for id, peer := range peers {
		inLog := err == nil && first > 0 && first <= peer.Applied
		if match, ok := p.guard.match(id, term); ok && peer.Epoch == term && inLog {
			peer.Applied = max(peer.Applied, match)
			peers[id] = peer
		}
	}
	v := View{Self: p.o.Self, Servers: servers, Desired: desired, Peers: peers,
		Applied: p.o.Documents.Applied(), Founding: p.Founding(), MaxLag: uint64(p.o.Limits.InFlight)}
	if trail := r.ReloadableConfig().TrailingLogs; trail > v.MaxLag && first > 0 && first < v.Applied {
		v.Reach = min(trail-v.MaxLag-1, v.Applied-first)
	}
	return v
}

// keepTrail has what stays behind markers not become shorter while a step is taken that counts upon it (View.Reach).
func (p *Partition) keepTrail() {
	p.trail.Store(&keptTrail{p.raft.Load().ReloadableConfig().TrailingLogs, p.o.Clock().Add(changeTimeout)})
}

// keptTrail is how many entries stay behind markers at least, until then.
type keptTrail struct {
	entries uint64
	until   time.Time
}

func (p *Partition) take(ctx context.Context, step Step, prevIndex uint64) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	r := p.raft.Load()
	var f raft.Future
	switch step.Kind {
	case StepNone:
		return nil
	case StepTransfer:
		return p.Transfer(ctx, step.ID)
	}
	p.keepTrail()
	p.forgetLease()
	p.awake.wake()
	switch step.Kind {
	case StepAdd:
		f = r.AddNonvoter(step.ID, raft.ServerAddress(step.ID), prevIndex, changeTimeout)
	case StepPromote:
		f = r.AddVoter(step.ID, raft.ServerAddress(step.ID), prevIndex, changeTimeout)
	case StepDemote:
		f = r.DemoteVoter(step.ID, prevIndex, changeTimeout)
	case StepRemove:
		f = r.RemoveServer(step.ID, prevIndex, changeTimeout)
	}
	err := p.await(ctx, f)
	p.awake.wake() // an entry that Raft made by itself
	return err
}

// Founding is the random id the group got from its first leader; 0 while this member does not know it. Two groups of one
// partition, which only a mistake of an operator can found, differ in it.
func (p *Partition) Founding() uint64 { return p.fsm.foundingID() }

// Holds reports whether a server is in Raft's configuration, be it the latest or the one that is known to be committed: a
// removal that is not committed may yet be undone, and until then the member counts.
func (p *Partition) Holds(id raft.ServerID) (bool, error) {
	servers, err := p.Configured()
	if err != nil {
		return false, err
	}
	servers = slices.Concat(servers, p.fsm.committed().Servers)
	return slices.ContainsFunc(servers, func(s raft.Server) bool { return s.ID == id }), nil
}

// Configured lists the servers of the configuration that Raft goes by, committed or not. It waits for nothing. Nobody changes the list.
func (p *Partition) Configured() ([]raft.Server, error) {
	f := p.raft.Load().GetConfiguration()
	return f.Configuration().Servers, f.Error()
}

// JoinMarker returns the marker a joining member starts from. Only a serving leader gives one: everything up to it is
// committed and applied.
func (p *Partition) JoinMarker() (store.Marker, error) {
	if err := p.mayServe(Serves); err != nil {
		return store.Marker{}, err
	}
	return p.fsm.marker()
}
