package demo

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/progress"
)

// healing is how far a replacement has come.
type healing struct {
	members  int // partitions the cluster file gives it
	open     int // members that run
	complete int // members without holes
	buckets  int // healed, of 256 for each member
	// voters are the partitions whose leader counts it as the voter, or replica, that it should be; clean those whose
	// Raft configuration is exactly what the cluster file says, every member complete. Only leaders know, and there may
	// be none at the moment, so once seen counts.
	voters, clean map[uint32]bool

	documents int64 // held
}

const bucketsPerMember = 256

func (h *healing) healthy() bool {
	return h.open == h.members && h.complete == h.members && len(h.voters) == h.members && len(h.clean) == h.members
}

// assess looks at a replacement from the inside, and at its place in each partition through the partition's leader. It is
// a function of statuses alone.
func assess(c *config.Cluster, name string, own adamant.Status, all map[string]adamant.Status) healing {
	h := healing{voters: map[uint32]bool{}, clean: map[uint32]bool{}}
	wanted := map[uint32]*config.Partition{}
	for i := range c.Partitions {
		if p := &c.Partitions[i]; p.HasMember(name) {
			wanted[p.ID] = p
			h.members++
		}
	}
	for i := range own.Partitions {
		p := &own.Partitions[i]
		if wanted[p.ID] == nil {
			continue
		}
		if p.Role != adamant.RoleNone {
			h.open++
		}
		h.documents += p.Documents
		switch {
		case p.Complete && p.Role != adamant.RoleNone:
			h.complete++
			h.buckets += bucketsPerMember
		case p.Repair != nil:
			h.buckets += p.Repair.BucketsDone
		}
	}
	for _, s := range all {
		for i := range s.Partitions {
			p := &s.Partitions[i]
			if want := wanted[p.ID]; want != nil && p.Role == adamant.RoleLeader && p.Serving {
				h.standing(p, want, name, own.Incarnation)
			}
		}
	}
	return h
}

// standing notes whether the incarnation of a host has its place in a partition, and whether the partition has exactly the
// members that the cluster file wants, each complete.
func (h *healing) standing(p *adamant.PartitionStatus, want *config.Partition, name, incarnation string) {
	clean := len(p.Members) == len(want.Members())
	for _, m := range p.Members {
		mine := m.Host == name && m.Incarnation == incarnation
		if mine && m.Voter == want.HasVoter(name) {
			h.voters[p.ID] = true
		}
		if !want.HasMember(m.Host) || m.Voter != want.HasVoter(m.Host) || !m.Complete || !m.Alive || m.Host == name && !mine {
			clean = false
		}
	}
	if clean {
		h.clean[p.ID] = true
	}
}

// remember adds what an earlier look saw.
func (h *healing) remember(earlier *healing) {
	maps.Copy(h.voters, earlier.voters)
	maps.Copy(h.clean, earlier.clean)
}

// repaired is what healing a replacement took.
type repaired struct {
	healthy   time.Duration // from the start of the replacement until everything was as the cluster file says
	pulling   time.Duration // from the first byte of repair until every member was complete
	bytes     uint64        // of the deltas that repair brought
	wire      uint64        // bytes that it received for them, listings and comparisons included
	entries   uint64        // deltas that repair brought
	documents uint64        // documents that repair brought or completed
	held      int64         // documents that the replacement holds
	snapshots uint64        // bytes of Raft snapshots that it received: markers
	commands  uint64        // bytes of commands that Raft sent it
	underLoad bool          // it was healthy before the load ended
}

// note takes over what a look showed. quiet is the last look that saw no byte of repair.
func (r *repaired) note(h *healing, m *adamant.Metrics, started, quiet, now time.Time) {
	if h.complete < h.members || r.pulling == 0 {
		r.pulling = now.Sub(quiet)
	}
	r.healthy = now.Sub(started)
	r.bytes, r.wire = m.Repair.ImportedBytes, m.Repair.BytesIn
	r.entries, r.documents, r.held = m.Repair.EntriesIn, m.Repair.DocumentsIn, h.documents
	r.snapshots, r.commands = m.Raft.SnapshotBytesIn, m.Raft.CommandBytesIn
}

// heal waits until a replacement is healthy, and shows how it gets there. It looks ten times a second.
func (c *cluster) heal(ctx context.Context, name string, started time.Time, bars *progress.Group) (repaired, error) {
	buckets, complete, place := bars.Bar("  repair: buckets"), bars.Bar("  members complete"), bars.Bar("  members in place")
	defer func() {
		buckets.Finish()
		complete.Finish()
		place.Finish()
	}()
	var r repaired
	var earlier healing
	quiet := started
	n := c.node(name)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		h, m := c.assess(name, n)
		h.remember(&earlier)
		earlier = h
		now := time.Now()
		if m.Repair.ImportedBytes == 0 {
			quiet = now
		}
		r.note(&h, &m, started, quiet, now)
		buckets.Set(int64(h.buckets), int64(h.members*bucketsPerMember), fmt.Sprintf("%s at %s", size(r.bytes), rate(r.bytes, r.pulling)))
		complete.Set(int64(h.complete), int64(h.members), quantity(int(h.documents), "document"))
		place.Set(int64(len(h.clean)), int64(h.members), fmt.Sprintf("%d vote", len(h.voters)))
		if h.healthy() {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("host %s is not whole: of %d members %d run, %d are complete, %d vote, %d partitions are as the cluster file says: %w",
				name, h.members, h.open, h.complete, len(h.voters), len(h.clean), context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// assess asks all hosts for their statuses, and one for its counters.
func (c *cluster) assess(name string, n node) (healing, adamant.Metrics) {
	all := map[string]adamant.Status{}
	for other, node := range c.nodes() {
		all[other] = node.Status()
	}
	return assess(c.config, name, all[name], all), n.Metrics()
}
