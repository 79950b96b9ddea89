package adamant

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/adamantdb/adamant/antientropy"
	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// openRepair makes the anti-entropy loop; Open runs it.
func (h *Host) openRepair() error {
	loop, err := antientropy.NewLoop(antientropy.Options{
		Caller: repairCaller{h}, Members: h.repairMembers, Interval: h.opts.Timing.AntiEntropy, Quiet: quietTimes * h.opts.Timing.AntiEntropy,
		Observe: min(h.opts.Timing.AntiEntropy, observeEvery), BytesPerSecond: h.opts.Repair.BytesPerSecond,
		Compression: h.opts.Repair.Compression, Deadline: h.opts.Repair.Deadline,
		Pace: h.repairPace.work, MemoryBytes: h.opts.Repair.MemoryBytes, LargestBytes: min(h.opts.Limits.DocumentBytes+1<<20, 512<<20), Highest: h.highest, Logger: h.log,
		Events: antientropy.Events{Healed: h.healed, Damaged: func(id uint32, bucket uint8) { h.scrub.Suspect(id, bucket) }},
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

// quietTimes is how many times as long as Timing.AntiEntropy the pause is while nothing changes: five minutes by default.
const quietTimes = 300

// observeEvery is how often the repair loop looks at the members' own state.
const observeEvery = 500 * time.Millisecond

// repairCaller carries repair's requests over the links, behind everything else.
type repairCaller struct{ h *Host }

// Call implements antientropy.Caller. A member that has discarded its version asks nobody that may hold another one than the
// kept: whatever was decided before is refused here, so that nothing of the kind is under way.
func (c repairCaller) Call(ctx context.Context, host string, id uint32, payload []byte) ([]byte, error) {
	if m := c.h.member(id); m != nil && !c.h.mayHealFrom(m, host) {
		return nil, &UnavailableError{Partition: id, Reason: "what host " + host + " holds is not what an operator chose to keep"}
	}
	if m := c.h.member(id); m != nil && c.h.foreign(m, host) {
		return nil, &UnavailableError{Partition: id, Reason: "host " + host + " is of another founding, from before the partition was recovered"}
	}
	return c.h.net.Call(ctx, mesh.Target{Host: host}, mesh.Request{Service: mesh.ServiceRepair, Class: mesh.Bulk, Partition: id, Payload: payload})
}

// Recycle implements antientropy.Recycler.
func (repairCaller) Recycle(reply []byte) { mesh.Recycle(reply) }

// serveRepair answers other hosts' repair requests from this host's documents.
func (h *Host) serveRepair(from mesh.Identity, r mesh.Request, reply func([]byte, error)) {
	m := h.member(r.Partition)
	if m == nil {
		reply(nil, fmt.Errorf("partition %d: host %s is not a member", r.Partition, h.name))
		return
	}
	if h.foreign(m, from.Host) {
		reply(nil, fmt.Errorf("partition %d: host %s is of another founding", r.Partition, from.Host))
		return
	}
	h.repairPool.run(func() {
		b, err := h.repairPace.serve(h.context, func() ([]byte, error) { return h.repairServer.Serve(h.context, m.docs, r.Payload) })
		h.suspect(err)
		h.counts.served.Add(1)
		h.counts.servedBytes.Add(uint64(len(b)))
		reply(b, err)
	}, func() { reply(nil, mesh.ErrQueueFull) })
}

// repairMembers lists this host's members for the repair loop. A host whose storage failed heals nothing more: a member that
// was about to take over a marker would close the hole below it, and be found with documents beyond its log when it is opened.
func (h *Host) repairMembers() []antientropy.Member {
	if h.failed() != nil {
		return nil
	}
	members := h.allMembers()
	list := make([]antientropy.Member, 0, len(members))
	for _, m := range members {
		p := m.running()
		if p == nil {
			continue
		}
		if !m.docs.Complete() { // else there is no hole that could be healed too early
			if early, err := p.Installing(); err != nil || early { // a log that can not be read stops the member elsewhere
				continue
			}
		}
		list = append(list, m)
	}
	return list
}

// ID implements antientropy.Member.
func (m *member) ID() uint32 { return m.id }

// Documents implements antientropy.Member.
func (m *member) Documents() *store.Documents { return m.docs }

// Peers implements antientropy.Member: the partition's members on other hosts, as they reported themselves.
func (m *member) Peers() []antientropy.Peer {
	var room [8]partition.Peer // asked for all members once a second: as little as possible for the garbage collector
	peers := room[:0]
	m.host.reports.eachPeer(m.id, time.Now(), func(p partition.Peer) { peers = append(peers, p) })
	list := make([]antientropy.Peer, 0, len(peers))
	for _, p := range peers {
		if host := partition.HostOf(p.ID); p.Ready && m.host.mayHealFrom(m, host) && !m.host.foreign(m, host) {
			list = append(list, antientropy.Peer{Host: host, Complete: p.Complete, Alive: p.Alive})
		}
	}
	return list
}

// Votes implements antientropy.Voter: as the cluster file has it, whatever is on its way to that.
func (m *member) Votes() bool {
	desired, _ := m.host.desired(m.id)
	return slices.Contains(desired.Voters, m.host.name)
}

// Diverged implements antientropy.Member: two histories of one partition are never merged. The partition goes into safe mode,
// on all its members, until an operator has chosen (design §10).
func (m *member) Diverged(d antientropy.Divergence) {
	m.host.counts.divergences.Add(1)
	m.host.find(m.id, divergenceFrom(m.host.name, &d, time.Now()))
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
			Bytes: p.Bytes, BytesPerSecond: p.Rate, Started: p.Started, Sources: p.Sources, LastError: p.LastError,
			Imported: p.Imported, BytesTotal: p.BytesTotal, Remaining: p.Remaining}
	}
	return out
}

func (h *Host) repairMetrics() RepairMetrics {
	s, scrub := h.repair.Stats(), h.scrub.Stats()
	return RepairMetrics{ScrubbedBuckets: uint64(scrub.Buckets), ScrubbedBytes: uint64(scrub.Bytes), DamageFound: uint64(scrub.Found),
		DamageHealed: uint64(scrub.Healed), DamageWaiting: uint64(scrub.Kept),
		Compares: uint64(s.Compares), Lists: uint64(s.Listings), Pulls: uint64(s.Pulls), Differences: uint64(s.Divergences), BucketsDifferent: uint64(s.BucketsDifferent),
		DocumentsIn: uint64(s.ImportedDocuments), EntriesIn: uint64(s.ImportedEntries), ImportedBytes: uint64(s.ImportedBytes),
		CompareBytes: uint64(s.CompareBytes), ListBytes: uint64(s.ListingBytes), PullBytes: uint64(s.PulledBytes),
		AlreadyHad: uint64(s.AlreadyHad), MostInFlight: uint64(s.MostInFlight),
		BytesIn: uint64(s.CompareBytes + s.ListingBytes + s.PulledBytes), Served: h.counts.served.Load(), BytesOut: h.counts.servedBytes.Load(), HolesClosed: uint64(s.Healed),
		Errors: uint64(s.Liars + s.Unreachable + s.Refused)}
}
