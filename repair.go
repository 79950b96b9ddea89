package adamant

import (
	"context"
	"fmt"
	"time"

	"github.com/adamantdb/adamant/antientropy"
	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// openRepair makes the anti-entropy loop; Open runs it.
func (h *Host) openRepair() error {
	loop, err := antientropy.NewLoop(antientropy.Options{
		Caller: repairCaller{h.net}, Members: h.repairMembers, Interval: h.opts.Timing.AntiEntropy,
		Observe: min(h.opts.Timing.AntiEntropy, observeEvery), BytesPerSecond: h.opts.Repair.BytesPerSecond,
		MemoryBytes: h.opts.Repair.MemoryBytes, LargestBytes: min(h.opts.Limits.DocumentBytes+1<<20, 512<<20), Highest: h.highest, Logger: h.log, Events: antientropy.Events{Healed: h.healed},
	})
	if err != nil {
		return err
	}
	h.repair = loop
	return nil
}

// believedLead is how many entries a peer may claim to be ahead of this host's log. A wrong peer can make a member wait for
// that many commands, not for ever.
const believedLead = 1 << 20

// highest is the highest index a peer may claim to have applied.
func (h *Host) highest(id uint32) uint64 {
	if m := h.member(id); m != nil {
		if last, err := m.log.LastIndex(); err == nil {
			return max(last, m.docs.Applied()) + believedLead
		}
	}
	return believedLead
}

// observeEvery is how often the repair loop looks at the members' own state.
const observeEvery = 500 * time.Millisecond

// repairCaller carries repair's requests over the links, behind everything else.
type repairCaller struct{ net mesh.Network }

// Call implements antientropy.Caller.
func (c repairCaller) Call(ctx context.Context, host string, id uint32, payload []byte) ([]byte, error) {
	return c.net.Call(ctx, mesh.Target{Host: host}, mesh.Request{Service: mesh.ServiceRepair, Class: mesh.Bulk, Partition: id, Payload: payload})
}

// serveRepair answers other hosts' repair requests from this host's documents.
func (h *Host) serveRepair(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
	m := h.member(r.Partition)
	if m == nil {
		reply(nil, fmt.Errorf("partition %d: host %s is not a member", r.Partition, h.name))
		return
	}
	h.repairPool.run(func() {
		b, err := antientropy.Serve(h.context, m.docs, r.Payload)
		h.counts.served.Add(1)
		h.counts.servedBytes.Add(uint64(len(b)))
		reply(b, err)
	}, func() { reply(nil, mesh.ErrQueueFull) })
}

// repairMembers lists this host's members for the repair loop.
func (h *Host) repairMembers() []antientropy.Member {
	members := h.allMembers()
	list := make([]antientropy.Member, 0, len(members))
	for _, m := range members {
		if m.running() != nil {
			list = append(list, m)
		}
	}
	return list
}

// ID implements antientropy.Member.
func (m *member) ID() uint32 { return m.id }

// Documents implements antientropy.Member.
func (m *member) Documents() *store.Documents { return m.docs }

// Peers implements antientropy.Member: the partition's members on other hosts, as they reported themselves.
func (m *member) Peers() []antientropy.Peer {
	var list []antientropy.Peer
	for id, p := range m.host.reports.peers(m.id, time.Now()) {
		if p.Ready {
			list = append(list, antientropy.Peer{Host: partition.HostOf(id), Complete: p.Complete, Alive: p.Alive})
		}
	}
	return list
}

// Diverged implements antientropy.Member: two histories of one partition are never merged. The partition goes into safe
// mode here until an operator has looked (design §10).
func (m *member) Diverged(d antientropy.Divergence) {
	m.host.counts.divergences.Add(1)
	reason := fmt.Sprintf("diverged from host %s at index %d, bucket %d", d.Peer, d.Index, d.Bucket)
	for i, doc := range d.Documents {
		if i == 8 {
			reason += fmt.Sprintf(" and %d more", len(d.Documents)-i)
			break
		}
		name := doc.Key.String()
		if doc.Key == (Key{}) {
			name = fmt.Sprintf("hash %016x", doc.Hash)
		}
		reason += fmt.Sprintf("; %s at seq %d: %s", name, doc.Seq, doc.Reason)
	}
	m.host.log.Error("divergence", "partition", m.id, "peer", d.Peer, "bucket", d.Bucket)
	m.host.note(&m.id, "divergence", reason)
	m.host.enterSafeMode(m.id, reason)
}

// healed is told by the repair loop that a member's last hole is closed.
func (h *Host) healed(id uint32) {
	if m := h.member(id); m != nil {
		h.noteHealth(m, m.docs.Status())
		if p := m.running(); p != nil {
			p.Refresh()
		}
	}
}

// repairStatus is the progress of the repairs under way, by partition.
func (h *Host) repairStatus() map[uint32]*RepairStatus {
	out := make(map[uint32]*RepairStatus)
	for _, p := range h.repair.Progress() {
		out[p.Partition] = &RepairStatus{BucketsDone: p.BucketsDone, BucketsTotal: p.BucketsTotal, Documents: p.Documents, Entries: p.Entries,
			Bytes: p.Bytes, BytesPerSecond: p.Rate, Started: p.Started}
	}
	return out
}

func (h *Host) repairMetrics() RepairMetrics {
	s := h.repair.Stats()
	return RepairMetrics{Compares: uint64(s.Compares), Lists: uint64(s.Listings), Pulls: uint64(s.Pulls), Differences: uint64(s.Divergences),
		DocumentsIn: uint64(s.ImportedDocuments), EntriesIn: uint64(s.ImportedEntries), ImportedBytes: uint64(s.ImportedBytes),
		BytesIn: uint64(s.CompareBytes + s.ListingBytes + s.PulledBytes), Served: h.counts.served.Load(), BytesOut: h.counts.servedBytes.Load(), HolesClosed: uint64(s.Healed),
		Errors: uint64(s.Liars + s.Unreachable + s.Refused)}
}
