package adamant

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// Locate says where the partition of a key is led, as far as this host knows. It asks nobody.
func (h *Host) Locate(key Key) Location {
	c := h.cluster()
	hash := key.Hash()
	i := c.Locate(hash)
	first, last := c.HashRange(i)
	l := h.locate(c.Partitions[i].ID)
	l.Bucket = store.Range{First: first, Last: last}.Bucket(hash)
	return l
}

func (h *Host) locate(id uint32) Location {
	l := Location{Partition: id, Local: h.member(id) != nil}
	if d, ok := h.desired(id); ok {
		l.Members = slices.Concat(d.Voters, d.Replicas)
	}
	leader, epoch, _ := h.leaderOf(id, time.Now())
	l.Epoch = epoch
	if leader != "" {
		l.Leader = partition.HostOf(leader)
		entry := h.cluster().Hosts[l.Leader]
		l.Addr, l.HTTP = entry.Addr, entry.HTTP
	}
	return l
}

func (h *Host) notLeader(id uint32, epoch uint64) error {
	l := h.locate(id)
	if l.Leader == h.name { // it was, a moment ago, or is about to be
		l.Leader, l.Addr, l.HTTP = "", "", ""
	}
	return &NotLeaderError{Partition: id, Leader: l.Leader, Addr: l.Addr, HTTP: l.HTTP, Epoch: max(l.Epoch, epoch)}
}

// WaitReady blocks until every partition of the cluster file has a leader that serves, as far as this host knows, and
// every member the file gives this host runs.
func (h *Host) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond) // a member's own leadership is seen by looking
	defer tick.Stop()
	for {
		if err := h.usable(); err != nil {
			return err
		}
		waiting := h.notReady()
		if waiting == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return &UnavailableError{Partition: waiting.id, Reason: waiting.reason, Err: ctx.Err()}
		case <-tick.C:
		}
	}
}

type unready struct {
	id     uint32
	reason string
}

// notReady names the first partition that is not ready, nil when all are.
func (h *Host) notReady() *unready {
	now := time.Now()
	for _, p := range h.cluster().Partitions {
		m := h.member(p.ID)
		if m != nil && m.failed() != nil {
			return &unready{p.ID, "the member does not open: " + m.failed().Error()}
		}
		if slices.Contains(p.Voters, h.name) && (m == nil || m.running() == nil) {
			return &unready{p.ID, "the member does not run yet"}
		}
		if m != nil && m.running() != nil && m.running().Brief().Serving == partition.Serves {
			continue
		}
		if _, _, serving := h.reports.leader(p.ID, now); !serving {
			return &unready{p.ID, "no leader serves yet" + m.waitsFor()}
		}
	}
	return nil
}

// Lease returns this host's leadership of a partition: the epoch as a fencing token, and a context that ends with the lease
// (design §9).
func (h *Host) Lease(id uint32) (Leadership, error) {
	p, err := h.serving(id)
	if err != nil {
		return Leadership{}, err
	}
	epoch, ctx, err := p.Epoch()
	if err != nil {
		return Leadership{}, h.translate(id, err)
	}
	return Leadership{Epoch: epoch, Context: ctx}, nil
}

// Transfer hands this host's leadership of a partition to another host, which must be a voter of it. Writes in flight
// finish first.
func (h *Host) Transfer(ctx context.Context, id uint32, host string) error {
	p, err := h.serving(id)
	if err != nil {
		return err
	}
	if host == h.name {
		return &UnavailableError{Partition: id, Reason: "host " + host + " leads it already, or is not to be handed its own leadership"}
	}
	for _, s := range p.Status().Servers {
		if partition.HostOf(s.ID) == host && s.Suffrage == raft.Voter && h.reports.alive(s.ID, time.Now()) {
			return h.translate(id, p.Transfer(ctx, s.ID))
		}
	}
	return &UnavailableError{Partition: id, Reason: "host " + host + " is not a live voter of it"}
}

// Drain hands every leadership of this host to other hosts and takes no new ones on purpose until it is closed: the first
// half of a rolling restart. It returns when none is left or the context ends.
func (h *Host) Drain(ctx context.Context) error {
	if err := h.usable(); err != nil {
		return err
	}
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	h.routeChanged()
	if left := h.handOver(ctx); left > 0 {
		return fmt.Errorf("drain: %w", &UnavailableError{Partition: h.firstLed(), Reason: fmt.Sprintf("%d partitions are still led here, no other complete voter took them", left), Err: ctx.Err()})
	}
	return nil
}

// firstLed is the first partition that this host leads.
func (h *Host) firstLed() uint32 {
	for _, m := range h.allMembers() {
		if p := m.running(); p != nil && h.leads(p) {
			return m.id
		}
	}
	return 0
}
