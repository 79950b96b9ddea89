package adamant

import (
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// What partitions tell the host, and what becomes of it: an event for the application, a line in the history, a report to
// the other hosts.

func (h *Host) leaderChanged(id uint32, leader raft.ServerID, term uint64) {
	h.events.LeaderChanged(LeaderChange{Partition: id, Leader: partition.HostOf(leader), Epoch: term, Local: leader == h.serverID})
	h.routeChanged()
	poke(h.reportPoke)
}

func (h *Host) servingChanged(id uint32, epoch uint64, r partition.Refusal) {
	if epoch == 0 && r == partition.NotLeader {
		poke(h.reportPoke)
		return // a follower is not serving: no news
	}
	serving := r == partition.Serves
	change := LeaderChange{Partition: id, Epoch: epoch, Local: true, Leader: h.name, Serving: serving}
	if serving {
		h.counts.leaderships.Add(1)
		h.note(&id, "leadership", fmt.Sprintf("serving in term %d", epoch))
	} else {
		change.Reason = r.String()
		h.note(&id, "leadership", fmt.Sprintf("not serving in term %d: %s", epoch, r))
	}
	h.events.LeaderChanged(change)
	h.routeChanged()
	poke(h.reportPoke)
}

// lost tells the application that a document's writes in flight have an unknown outcome: it drops its copy and reloads
// from the new leader (design §9).
func (h *Host) lost(id uint32, l partition.Loss) {
	h.counts.catastrophes.Add(1)
	h.note(&id, "catastrophe", fmt.Sprintf("document %s: %s", l.Key, l.Reason))
	h.events.CatastrophicFailure(Catastrophe{Key: l.Key, Partition: id, Epoch: l.Epoch, LastSeq: l.LastSeq, Unknown: true, Reason: l.Reason})
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
	holes := ""
	kind, text := "healed", "complete"
	if !status.Complete {
		holes = status.Holes.String()
		kind, text = "hole", "holes "+holes
	}
	h.note(&m.id, kind, text)
	h.events.HealthChanged(HealthChange{Partition: m.id, Complete: status.Complete, Holes: holes})
	if p != nil {
		p.Refresh()
	}
	poke(h.reportPoke)
	poke(h.stewardPoke)
}
