package adamant

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/partition"
)

// handOversAtOnce is how many leaderships a host gives away at the same time. Each that is under way takes no writes: more of
// them would only wait for each other's fsyncs and elections.
const handOversAtOnce = 4

// handOver moves every leadership of this host to a complete, live voter elsewhere and returns how many are left
// (design §9). A few partitions move at a time; the others go on serving.
func (h *Host) handOver(ctx context.Context) (left int) {
	for _, m := range h.allMembers() {
		if p := m.running(); p != nil {
			p.Drain()
		}
	}
	h.sendReports(true) // the others are to know before they give this host anything
	var wg sync.WaitGroup
	var mu sync.Mutex
	room := make(chan struct{}, handOversAtOnce)
	for _, m := range h.allMembers() {
		p := m.running()
		if p == nil || !h.leads(p) {
			continue
		}
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			for _, to := range h.successors(m, p) {
				if ctx.Err() != nil || !h.leads(p) {
					break
				}
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

// successors are the live, complete voters elsewhere, those that have applied most first.
func (h *Host) successors(m *member, p *partition.Partition) (list []raft.ServerID) {
	peers := h.reports.peers(m.id, time.Now())
	for _, s := range p.Status().Servers {
		peer, ok := peers[s.ID]
		if s.Suffrage != raft.Voter || !ok || !peer.Alive || !peer.Complete || peer.Draining {
			continue
		}
		list = append(list, s.ID)
	}
	slices.SortStableFunc(list, func(a, b raft.ServerID) int { return cmp.Compare(peers[b].Applied, peers[a].Applied) })
	return list
}
