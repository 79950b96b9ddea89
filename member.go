package adamant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// member is this host's copy of one partition: its documents, its log and, while it runs, its Raft member.
//
// mu guards part; steps serializes the steward's work on the member, so that a slow step of one partition does not hold up
// the others.
type member struct {
	host  *Host
	id    uint32
	docs  *store.Documents
	log   store.LogGroup
	steps sync.Mutex
	// founds is true while this host is about to found the partition, restless while the member is on its way somewhere.
	founds, restless atomic.Bool
	// rest is Host.unrests, and one, as it was before a step that found nothing to do here until something happens; 0: never.
	rest atomic.Uint64
	// leaders counts the changes of who leads; led is leaders, and one, as of which somebody is known to.
	leaders, led atomic.Uint64
	// served is the term in which this member served last.
	served    atomic.Uint64
	isolation isolation
	recovery  recovery
	flushed   atomic.Uint64 // what was applied when the truncation last looked at the member, successfully
	watched   bool          // only the loop that ticks knows: it is on its list
	pace      logPace       // only the truncation knows

	mu        sync.Mutex
	part      *partition.Partition
	transport *mesh.RaftTransport
	failure   error  // opening failed: shown in the status; revive may try again
	complete  bool   // as last reported to Events.HealthChanged
	unborn    string // why the partition is not founded yet; "" when it is
	majority  majority

	revivals revivals // only under steps
}

// memberDocuments gives a partition its documents and the engine's sync in one, and repair to know that writes come.
type memberDocuments struct {
	*store.Documents
	engine *store.DocEngine
	wrote  func(now time.Time)
}

// Stage applies commands; an empty batch only says how far that went.
func (d memberDocuments) Stage(batch []store.Mutation, last uint64) error {
	if len(batch) > 0 {
		d.wrote(time.Now())
	}
	return d.Documents.Stage(batch, last)
}

// Sync makes everything written to the engine durable; members of a host share one fsync.
func (d memberDocuments) Sync() error { return d.engine.Sync() }

func (m *member) running() *partition.Partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.part
}

func (m *member) hasData() (bool, error) { return partition.HasData(m.log, m.docs) }

// open starts the Raft member.
func (m *member) open() error {
	h := m.host
	reason, err := m.loadIsolation()
	if err != nil {
		return err
	}
	if err := m.loadRecovery(); err != nil {
		return err
	}
	returned, err := h.hasLeft(m.id)
	if err != nil {
		return err
	}
	transport := mesh.NewRaftTransport(h.net, m.id, h.serverID, mesh.RaftOptions{Clock: h.opts.Clock, AppendBytes: h.opts.Limits.RequestBytes})
	p, err := partition.Open(partition.Options{
		ID: m.id, Self: h.serverID, Log: m.log, Documents: memberDocuments{m.docs, h.docs, h.repairPace.write}, Transport: transport,
		Clock: h.opts.Clock, Timing: h.opts.Timing.partition(), Liveness: h.live, Campaigns: h.campaigns, Keeper: h.keeper, Budget: h.inFlight, Limits: h.opts.Limits.partition(len(h.cluster().Partitions)), SafeMode: reason, Logger: h.log,
		Returned: returned, Trailing: h.opts.Limits.TrailingLogs, Threshold: h.opts.Limits.MarkerEvery,
		Events: partition.Events{
			Leader:       func(leader raft.ServerID, term uint64) { h.leaderChanged(m.id, leader, term) },
			Serving:      func(epoch uint64, r partition.Refusal) { h.servingChanged(m.id, epoch, r) },
			Lost:         func(l partition.Loss) { h.lost(m.id, l) },
			Hole:         func() { h.noteHealth(m, m.docs.Status()) },
			Contradicted: func(c partition.Contradiction) { h.find(m.id, lostFrom(h.name, &c, time.Now())) },
			Failed:       func(err error) { h.memberFailed(m, err) },
			Stuck:        func() { h.stuck(m, time.Now()) },
			Roused:       func() { h.roused.add(m) },
		},
	})
	if err != nil {
		return errors.Join(fmt.Errorf("open partition %d: %w", m.id, err), transport.Close())
	}
	if err := h.mux.Add(transport); err != nil {
		return errors.Join(err, transport.Close(), p.Close())
	}
	m.mu.Lock()
	m.part, m.transport = p, transport
	m.mu.Unlock()
	if p.Awake() {
		h.roused.add(m) // it was before it could be seen to run
	}
	m.showAgain(p)
	h.noteHealth(m, m.docs.Status())
	h.repair.Wake(m.id)
	if h.isDraining() {
		p.Drain()
	}
	if err := h.failed(); err != nil { // it may have failed before the member was seen to run
		p.Fail(err)
	}
	return nil
}

// stop closes the Raft member; the data stays.
func (m *member) stop() error {
	m.mu.Lock()
	p, transport := m.part, m.transport
	m.part, m.transport = nil, nil
	m.mu.Unlock()
	if p == nil {
		return nil
	}
	err := errors.Join(transport.Close(), p.Close()) // in this order: calls under way end at once
	m.host.counts.retire(transport.Stats())
	return err
}

// step brings the member one step closer to what the cluster file wants of it. The steward calls it again and again; it
// returns quickly when there is nothing to do.
// It is told what the cluster file wants as of, at the earliest, a count of Host.unrests.
func (m *member) step(ctx context.Context, desired partition.Desired, listed bool, unrests uint64) (err error) {
	if !m.steps.TryLock() {
		return nil // the last step is still under way
	}
	defer m.steps.Unlock()
	moved, settled := true, false
	defer func() {
		m.restless.Store(moved || err != nil)
		rest := uint64(0)
		if settled && !moved && err == nil {
			rest = unrests + 1
		}
		m.rest.Store(rest)
	}()
	data, err := m.hasData()
	m.mu.Lock()
	p, failure := m.part, m.failure
	if data {
		m.unborn = ""
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if failure == nil && p != nil {
		failure = p.Failure()
	}
	if failure != nil {
		return m.revive(failure)
	}
	if p != nil {
		if err := m.recovered(p); err != nil {
			return err
		}
	}
	switch {
	case p == nil && !listed && !data:
		return m.neverMind()
	case p == nil:
		if !data {
			if joined, err := m.join(ctx); err != nil || joined {
				return err
			}
		}
		return m.start()
	case !data && listed:
		return m.born(ctx, p, desired)
	case m.foundedTwice(p):
		return nil
	case !listed:
		return m.leave(ctx, p, desired)
	case p.Founding() == 0 && !p.Leads():
		return m.recognize(ctx, p)
	}
	moved, settled, err = m.lead(ctx, p, desired)
	settled = settled && data && m.recovery.lost.Load() == nil
	return err
}

// neverMind handles a member that the cluster file listed for a while and that holds no data. One that never took part in
// anything is forgotten at once; one that has voted has to leave like any other.
func (m *member) neverMind() error {
	term, err := m.log.GetUint64([]byte("CurrentTerm"))
	if err == nil && term > 0 {
		return m.start()
	}
	if err != nil && err.Error() != "not found" {
		return fmt.Errorf("partition %d: read the term: %w", m.id, err)
	}
	return m.host.drop(m)
}

func (m *member) start() error {
	err := m.open()
	if err != nil {
		m.mu.Lock()
		m.failure = err
		m.mu.Unlock()
		m.host.log.Error("partition does not open", "partition", m.id, "error", err)
	}
	return err
}

// lead takes the next membership step, if this member leads, and reports whether there was one, and else whether there is none
// before something happens.
func (m *member) lead(ctx context.Context, p *partition.Partition, desired partition.Desired) (moved, settled bool, err error) {
	if !p.Leads() {
		return false, true, nil
	}
	peers := m.host.peersOf(m)
	mayTransfer := m.host.transferring.TryLock()
	step, err := p.Advance(ctx, desired, peers, mayTransfer)
	if mayTransfer {
		m.host.transferring.Unlock()
	}
	if step.Kind != partition.StepNone {
		m.host.log.Info("membership step", "partition", m.id, "step", step.String(), "error", err)
		text := step.String()
		if err != nil {
			text += ": " + err.Error()
		}
		m.host.note(&m.id, "membership", text)
	}
	return step.Kind != partition.StepNone, step.Settled, err
}

// join asks the partition's leader, if one is known, for a marker to start from. It returns true when the member was
// seeded and started.
func (m *member) join(ctx context.Context) (bool, error) {
	leader, _, serving := m.host.reports.leader(m.id, time.Now())
	if !serving || leader == m.host.serverID {
		return false, nil
	}
	var reply joinReply
	err := m.host.callHost(ctx, partition.HostOf(leader), callJoin, m.id, joinRequest{ID: string(m.host.serverID)}, &reply)
	if err != nil || reply.Member || reply.Marker == nil {
		return false, err
	}
	if err := m.stop(); err != nil {
		return false, err
	}
	if err := partition.Seed(m.log, *reply.Marker); err != nil {
		return false, err
	}
	m.host.log.Info("joining from a marker", "partition", m.id, "index", reply.Marker.Index, "leader", leader)
	return true, m.open()
}

// born handles a member that runs but holds nothing yet: it joins a group that exists, or founds it by the bootstrap rule.
func (m *member) born(ctx context.Context, p *partition.Partition, desired partition.Desired) error {
	if joined, err := m.join(ctx); joined {
		return err
	}
	m.founds.Store(true) // until the end other founders wait: two versions of the file may name two
	defer m.founds.Store(false)
	probes, err := m.host.probe(ctx, m.id, desired)
	if err != nil {
		return err
	}
	birth := partition.DecideBirth(m.host.name, m.host.cluster().Version, desired, probes, m.host.opts.ForceBootstrap)
	m.mu.Lock()
	m.unborn = birth.Reason
	m.mu.Unlock()
	if !birth.Bootstrap {
		return nil
	}
	m.host.log.Info("partition is born", "partition", m.id, "servers", len(birth.Servers))
	return p.Bootstrap(birth.Servers)
}

// foundedTwice looks for members of another founding of the partition. Which of them is right nobody here can know, so both
// sides stop writing until an operator has removed one.
func (m *member) foundedTwice(p *partition.Partition) bool {
	own := p.Founding()
	if own == 0 {
		return false
	}
	host, other := m.host.reports.foreign(m.id, own, p.Supersedes)
	if host == "" {
		return false
	}
	m.host.enterSafeMode(m.id, fmt.Sprintf("the partition was founded twice: %016x here, %016x on host %s", own, other, host))
	return true
}

// leave handles a member whose host the cluster file no longer lists. While Raft's configuration still holds it, it goes
// on serving: the leader, perhaps this very member, takes it out. Once a serving leader says it is out, its data goes.
func (m *member) leave(ctx context.Context, p *partition.Partition, desired partition.Desired) error {
	leader, _ := p.Leader()
	if leader == m.host.serverID {
		_, _, err := m.lead(ctx, p, desired)
		return err
	}
	if leader == "" {
		leader, _, _ = m.host.reports.leader(m.id, time.Now())
	}
	if leader == "" {
		return nil
	}
	var reply joinReply
	if err := m.host.callHost(ctx, partition.HostOf(leader), callJoin, m.id, joinRequest{ID: string(m.host.serverID)}, &reply); err != nil {
		return err
	}
	if reply.Member || reply.Listed {
		return nil
	}
	// What this member holds must be the leader's too: it is, once the same group has gone as far.
	if err := m.docs.Flush(); err != nil {
		return err
	}
	foreign, err := p.Foreign(reply.Founding)
	if err != nil {
		return err
	}
	if applied := m.docs.Applied(); foreign || applied > 0 && p.Founding() == 0 || reply.Applied < applied {
		return fmt.Errorf("partition %d: host %s does not list this member, but it is of founding %016x at index %d, this member of %016x at %d: its data stays",
			m.id, partition.HostOf(leader), reply.Founding, reply.Applied, p.Founding(), applied)
	}
	m.host.log.Info("member removed, dropping its data", "partition", m.id, "leader", leader)
	if err := m.host.noteLeft(m.id); err != nil {
		return err
	}
	return m.host.drop(m)
}

// recognize handles a member that holds a log of which it has applied nothing, and does not know which group it is of: a leader
// that serves tells.
func (m *member) recognize(ctx context.Context, p *partition.Partition) error {
	leader, _, serving := m.host.reports.leader(m.id, time.Now())
	if !serving || leader == m.host.serverID {
		return nil
	}
	var reply joinReply
	if err := m.host.callHost(ctx, partition.HostOf(leader), callJoin, m.id, joinRequest{ID: string(m.host.serverID)}, &reply); err != nil {
		return err
	}
	known, err := p.Recognize(reply.Founding)
	if known {
		m.host.log.Info("member recognizes its group", "partition", m.id, "leader", leader, "founding", fmt.Sprintf("%016x", reply.Founding))
		poke(m.host.reportPoke)
	}
	return err
}

// waitsFor says why a partition is not founded yet, for an error's text.
func (m *member) waitsFor() string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unborn == "" {
		return ""
	}
	return ": " + m.unborn
}

func leftKey(id uint32) string { return fmt.Sprintf("left/%d", id) }

// noteLeft records durably, before a partition's data goes, that this host was a member of it: what it voted for and
// acknowledged under its server id is about to be forgotten (partition.Options.Returned). The record stays for good.
func (h *Host) noteLeft(id uint32) error { return h.docs.SetMeta(leftKey(id), []byte{1}) }

func (h *Host) hasLeft(id uint32) (bool, error) {
	_, left, err := h.docs.Meta(leftKey(id))
	return left, err
}
