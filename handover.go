package adamant

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/partition"
)

// handOver moves every leadership of this host to a complete, live voter elsewhere and returns how many are left
// (design §9). Partitions move in parallel.
func (h *Host) handOver(ctx context.Context) (left int) {
	for _, m := range h.allMembers() {
		if p := m.running(); p != nil {
			p.Drain()
		}
	}
	h.sendReports() // the others are to know before they give this host anything
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, m := range h.allMembers() {
		p := m.running()
		if p == nil || !h.leads(p) {
			continue
		}
		wg.Go(func() {
			if to := h.successor(m, p); to != "" {
				if err := p.Transfer(ctx, to); err != nil {
					h.log.Debug("hand-over", "partition", m.id, "to", to, "error", err)
				}
			}
			if h.leads(p) {
				mu.Lock()
				left++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return left
}

func (h *Host) isDraining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining
}

func (h *Host) leads(p *partition.Partition) bool {
	leader, _ := p.Leader()
	return leader == h.serverID
}

// successor picks the live, complete voter elsewhere that has applied most; "" when there is none.
func (h *Host) successor(m *member, p *partition.Partition) (best raft.ServerID) {
	peers := h.reports.peers(m.id, time.Now())
	for _, s := range p.Status().Servers {
		peer, ok := peers[s.ID]
		if s.Suffrage != raft.Voter || !ok || !peer.Alive || !peer.Complete || peer.Draining {
			continue
		}
		if best == "" || peer.Applied > peers[best].Applied {
			best = s.ID
		}
	}
	return best
}
