package adamant

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// What partitions tell the host, and what becomes of it: an event for the application, a line in the history, a report to
// the other hosts.

func (h *Host) leaderChanged(id uint32, leader raft.ServerID, term uint64) {
	h.events.LeaderChanged(LeaderChange{Partition: id, Leader: partition.HostOf(leader), Epoch: term, Local: leader == h.serverID})
	text := "nobody leads"
	if leader != "" {
		text = partition.HostOf(leader) + " leads"
	}
	h.note(&id, "leader", text)
	h.unrests.Add(1)
	if m := h.member(id); m != nil {
		m.leaders.Add(1)
		if leader != "" {
			h.lookMajority(m) // it is found at once
		}
	}
	h.routeChanged()
	poke(h.reportPoke)
}

func (h *Host) servingChanged(id uint32, epoch uint64, r partition.Refusal) {
	h.unrests.Add(1)
	serving := r == partition.Serves
	change := LeaderChange{Partition: id, Epoch: epoch, Local: true, Leader: h.name, Serving: serving}
	if r == partition.NotLeader {
		l := h.locate(id)
		change.Local, change.Leader = false, l.Leader
		if l.Leader == h.name {
			change.Leader = ""
		}
	}
	if serving {
		if m := h.member(id); m != nil && m.served.Swap(epoch) != epoch { // else only its lease had lapsed
			h.counts.leaderships.Add(1)
		}
		h.note(&id, "leadership", fmt.Sprintf("serving in term %d", epoch))
	} else {
		change.Reason = r.String()
		h.note(&id, "leadership", fmt.Sprintf("not serving in term %d: %s", epoch, r))
	}
	h.events.LeaderChanged(change)
	h.routeChanged()
	poke(h.reportPoke)
}

// storageEvents are what the document engine reports that somebody has to look at.
func (h *Host) storageEvents() store.DocEvents {
	var slowAt atomic.Int64 // Unix seconds of the last notice: a slow disk is reported again and again
	return store.DocEvents{
		Divergence: func(id uint32, key store.Key, seq int64) {
			h.counts.divergences.Add(1)
			d := Divergence{Host: h.name, Time: time.Now(), Documents: []DivergedDocument{{Key: key.String(), Hash: fmt.Sprintf("%016x", key.Hash()),
				Seq: seq, Reason: "the log contradicts what is stored"}}}
			if m := h.member(id); m != nil {
				d.Bucket = m.docs.Range().Bucket(key.Hash())
			}
			h.find(id, d)
		},
		DataCorruption: func(path string, err error) { h.note(nil, "corruption", fmt.Sprintf("%s: %v", path, err)) },
		DiskSlow: func(text string) {
			now := time.Now().Unix()
			if last := slowAt.Load(); now-last >= 60 && slowAt.CompareAndSwap(last, now) {
				h.note(nil, "disk", "slow: "+text)
			}
		},
		LowDiskSpace: func(avail, total uint64) {
			h.note(nil, "disk", fmt.Sprintf("%d of %d bytes left", avail, total))
		},
	}
}

// lost tells the application that leadership ended with writes to a document in flight: it drops its copy and reloads from the
// new leader (design §9).
func (h *Host) lost(id uint32, l partition.Loss) {
	h.counts.catastrophes.Add(1)
	h.note(&id, "catastrophe", fmt.Sprintf("document %s: %s", l.Key, l.Reason))
	h.events.CatastrophicFailure(Catastrophe{Key: l.Key, Partition: id, Epoch: l.Epoch, LastSeq: l.LastSeq, Unknown: l.Unknown, Reason: l.Reason})
}

// noteHealth raises HealthChanged when a member's completeness is not what it was.
func (h *Host) noteHealth(m *member, status store.DocStatus) {
	m.mu.Lock()
	changed := m.complete != status.Complete
	m.complete = status.Complete
	p := m.part
	m.mu.Unlock()
	if !changed {
		return
	}
	h.unrests.Add(1)
	holes := ""
	kind, text := "healed", "complete"
	if !status.Complete {
		holes = status.Holes.String()
		kind, text = "hole", "holes "+holes
	}
	h.note(&m.id, kind, text)
	h.events.HealthChanged(HealthChange{Partition: m.id, Complete: status.Complete, Holes: holes})
	if !status.Complete {
		h.repair.Wake(m.id)
	}
	if p != nil {
		p.Refresh()
	}
	h.routeChanged()
	poke(h.reportPoke)
	poke(h.stewardPoke)
}
