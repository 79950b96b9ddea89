package adamant

import (
	"sync"
	"sync/atomic"

	"github.com/adamantdb/adamant/mesh"
)

// counts are the counters a host keeps itself.
type counts struct {
	leaderships   atomic.Uint64
	catastrophes  atomic.Uint64
	divergences   atomic.Uint64
	configChanges atomic.Uint64
	served        atomic.Uint64 // repair requests of other hosts
	servedBytes   atomic.Uint64 // in the replies to them

	strangers      atomic.Uint64 // requests of hosts that this one does not serve
	forwarded      atomic.Uint64 // operations sent to their leaders
	forwardsServed atomic.Uint64 // operations of other hosts' callers

	mu   sync.Mutex  // guards gone
	gone RaftMetrics // of transports that were closed
}

// retire adds the figures of a transport that is being closed.
func (c *counts) retire(s mesh.RaftStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone.add(s)
}

func (m *RaftMetrics) add(s mesh.RaftStats) {
	m.AppendEntriesBytesIn += s.AppendEntriesBytesIn
	m.AppendEntriesBytesOut += s.AppendEntriesBytesOut
	m.CommandBytesIn += s.CommandBytesIn
	m.SnapshotBytesIn += s.SnapshotBytesIn
	m.SnapshotBytesOut += s.SnapshotBytesOut
}

// Metrics returns the host's counters since it was opened.
func (h *Host) Metrics() Metrics {
	m := Metrics{Operations: h.meter.snapshot(), Leaderships: h.counts.leaderships.Load(),
		Catastrophes: h.counts.catastrophes.Load(), Divergences: h.counts.divergences.Load(), ConfigChanges: h.counts.configChanges.Load(),
		Forwarded: h.counts.forwarded.Load(), ForwardServed: h.counts.forwardsServed.Load()}
	logs := h.logs.Stats()
	m.Log = EngineMetrics{Syncs: logs.Syncs, Written: logs.WrittenBytes, Tables: logs.TableBytes, Entries: logs.Entries, DiskBytes: logs.DiskBytes,
		CacheHits: logs.Reads - logs.ReadsDisk, CacheMiss: logs.ReadsDisk}
	m.Documents = h.documentMetrics()
	if s, ok := h.net.(interface{ Stats() mesh.Stats }); ok {
		n := s.Stats()
		m.Links = LinkMetrics{BytesIn: n.BytesIn, BytesOut: n.BytesOut, FramesIn: n.FramesIn, FramesOut: n.FramesOut,
			GossipIn: n.GossipIn, GossipOut: n.GossipOut,
			Connects: n.Dials + n.Accepted, Refused: n.Refused + n.BadFrames + n.BadHandshakes + n.GossipRefused + h.counts.strangers.Load(), QueueFull: n.QueueFull}
	}
	h.counts.mu.Lock()
	m.Raft = h.counts.gone
	h.counts.mu.Unlock()
	for _, member := range h.allMembers() {
		if s, ok := member.raftStats(); ok {
			m.Raft.add(s)
		}
		if p := member.running(); p != nil {
			c := p.Counts()
			m.MarkersTaken += c.Markers
			m.AlreadyThere += c.AlreadyThere
			m.LostWith += c.LostWith
			m.Candidacies += c.Candidacies
		}
	}
	m.Repair = h.repairMetrics()
	return m
}

func (h *Host) documentMetrics() EngineMetrics {
	d := h.docs.Metrics()
	m := EngineMetrics{Syncs: d.Syncs, Written: d.LogBytes, Tables: d.TableBytes, LateReads: d.LateReads, DiskBytes: d.DiskBytes, CacheHits: uint64(d.CacheHits), CacheMiss: uint64(d.CacheMisses)}
	for _, member := range h.allMembers() {
		if p := member.running(); p != nil {
			m.Entries += p.Counts().Commands
		}
	}
	return m
}

// raftStats are those of the member's running transport.
func (m *member) raftStats() (mesh.RaftStats, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.transport == nil {
		return mesh.RaftStats{}, false
	}
	return m.transport.Stats(), true
}
