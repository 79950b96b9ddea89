package demo

import (
	"context"
	"fmt"
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
	voters   int // members that vote, as the partition's leader has it
	clean    int // partitions whose Raft configuration is exactly what the cluster file says
	buckets  int // healed, of 256 for each member

	documents int64 // held
}

const bucketsPerMember = 256

func (h *healing) healthy() bool {
	return h.open == h.members && h.complete == h.members && h.voters == h.members && h.clean == h.members
}

// assess looks at a replacement from the inside, and at its place in each partition through the partition's leader. It is
// a function of statuses alone.
func assess(c *config.Cluster, name string, own adamant.Status, all map[string]adamant.Status) healing {
	var h healing
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
				voter, clean := standing(p, want, name, own.Incarnation)
				h.voters += voter
				h.clean += clean
			}
		}
	}
	return h
}

// standing reports, as numbers to add up, whether the incarnation of a host votes in a partition, and whether the
// partition has exactly the members that the cluster file wants, each complete.
func standing(p *adamant.PartitionStatus, want *config.Partition, name, incarnation string) (voter, clean int) {
	clean = 1
	if len(p.Members) != len(want.Members()) {
		clean = 0
	}
	for _, m := range p.Members {
		if m.Host == name && m.Incarnation == incarnation && m.Voter == want.HasVoter(name) {
			voter = 1
		}
		if !want.HasMember(m.Host) || m.Voter != want.HasVoter(m.Host) || !m.Complete || !m.Alive || m.Host == name && m.Incarnation != incarnation {
			clean = 0
		}
	}
	return voter, clean
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
	quiet := started
	n := c.node(name)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		h, m := c.assess(name, n)
		now := time.Now()
		if m.Repair.ImportedBytes == 0 {
			quiet = now
		}
		r.note(&h, &m, started, quiet, now)
		buckets.Set(int64(h.buckets), int64(h.members*bucketsPerMember), fmt.Sprintf("%s at %s", size(r.bytes), rate(r.bytes, r.pulling)))
		complete.Set(int64(h.complete), int64(h.members), quantity(int(h.documents), "document"))
		place.Set(int64(h.clean), int64(h.members), fmt.Sprintf("%d vote", h.voters))
		if h.healthy() {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("host %s is not whole: of %d members %d run, %d are complete, %d vote, %d partitions are as the cluster file says: %w",
				name, h.members, h.open, h.complete, h.voters, h.clean, context.Cause(ctx))
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
