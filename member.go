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

	mu        sync.Mutex
	part      *partition.Partition
	transport *mesh.RaftTransport
	failure   error  // opening failed: shown in the status, not tried again
	complete  bool   // as last reported to Events.HealthChanged
	unborn    string // why the partition is not founded yet; "" when it is
}

// memberDocuments gives a partition its documents and the engine's sync in one.
type memberDocuments struct {
	*store.Documents
	engine *store.DocEngine
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
	reason, err := h.safeModeReason(m.id)
	if err != nil {
		return err
	}
	transport := mesh.NewRaftTransport(h.net, m.id, h.serverID, mesh.RaftOptions{})
	p, err := partition.Open(partition.Options{
		ID: m.id, Self: h.serverID, Log: m.log, Documents: memberDocuments{m.docs, h.docs}, Transport: transport,
		Timing: h.opts.Timing.partition(), Liveness: h.live, Campaigns: h.campaigns, Limits: h.opts.Limits.partition(len(h.cluster().Partitions)), SafeMode: reason, Logger: h.log,
		Trailing: h.opts.Limits.TrailingLogs, Threshold: h.opts.Limits.MarkerEvery,
		Events: partition.Events{
			Leader:  func(leader raft.ServerID, term uint64) { h.leaderChanged(m.id, leader, term) },
			Serving: func(epoch uint64, r partition.Refusal) { h.servingChanged(m.id, epoch, r) },
			Lost:    func(l partition.Loss) { h.lost(m.id, l) },
			Hole:    func() { h.noteHealth(m, m.docs.Status()) },
			Failed:  func(err error) { h.memberFailed(m, err) },
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
	h.noteHealth(m, m.docs.Status())
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
func (m *member) step(ctx context.Context, desired partition.Desired, listed bool) (err error) {
	if !m.steps.TryLock() {
		return nil // the last step is still under way
	}
	defer m.steps.Unlock()
	moved := true
	defer func() { m.restless.Store(moved || err != nil) }()
	data, err := m.hasData()
	m.mu.Lock()
	p, failure := m.part, m.failure
	if data {
		m.unborn = ""
	}
	m.mu.Unlock()
	if err != nil || failure != nil {
		return err
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
	}
	moved, err = m.lead(ctx, p, desired)
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

// lead takes the next membership step, if this member leads, and reports whether there was one.
func (m *member) lead(ctx context.Context, p *partition.Partition, desired partition.Desired) (moved bool, err error) {
	if !p.Leads() {
		return false, nil
	}
	peers := m.host.peersOf(m)
	mayTransfer := m.host.transferring.TryLock()
	step, err := p.Advance(ctx, desired, peers, mayTransfer)
	if mayTransfer {
		m.host.transferring.Unlock()
	}
	if step.Kind != partition.StepNone {
		m.host.log.Info("membership step", "partition", m.id, "step", step.String(), "error", err)
	}
	return step.Kind != partition.StepNone, err
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
	host, other := m.host.reports.foreign(m.id, own)
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
		_, err := m.lead(ctx, p, desired)
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
	if applied := m.docs.Applied(); applied > 0 && (reply.Founding != p.Founding() || p.Founding() == 0 || reply.Applied < applied) {
		return fmt.Errorf("partition %d: host %s does not list this member, but it is of founding %016x at index %d, this member of %016x at %d: its data stays",
			m.id, partition.HostOf(leader), reply.Founding, reply.Applied, p.Founding(), applied)
	}
	m.host.log.Info("member removed, dropping its data", "partition", m.id, "leader", leader)
	return m.host.drop(m)
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
