package demo

import (
	"context"
	"fmt"
	"io"
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
	bytes     uint64
	entries   uint64
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
	bytes     uint64        // of repair received by the replacement
	entries   uint64        // deltas it imported
	documents int64         // documents it holds
	snapshots uint64        // bytes of Raft snapshots it received: markers
	commands  uint64        // bytes of commands Raft sent it
}

// heal waits until a replacement is healthy, and shows how it gets there.
func (c *cluster) heal(ctx context.Context, name string, started time.Time, out io.Writer, terminal bool) (repaired, error) {
	bars := progress.New(out, terminal)
	defer bars.Close()
	buckets, complete, voters := bars.Bar("  repair: buckets"), bars.Bar("  members complete"), bars.Bar("  members in place")
	var r repaired
	quiet := started // the last look that saw no byte of repair yet
	n := c.node(name)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		h, m := c.assess(name, n)
		now := time.Now()
		if h.bytes == 0 {
			quiet = now
		} else if h.complete < h.members || r.pulling == 0 {
			r.pulling = now.Sub(quiet)
		}
		r.bytes, r.entries, r.documents = h.bytes, h.entries, h.documents
		r.snapshots, r.commands = m.Raft.SnapshotBytesIn, m.Raft.CommandBytesIn
		r.healthy = now.Sub(started)
		buckets.Set(int64(h.buckets), int64(h.members*bucketsPerMember), fmt.Sprintf("%s at %s", size(r.bytes), rate(r.bytes, r.pulling)))
		complete.Set(int64(h.complete), int64(h.members), fmt.Sprintf("%d documents", h.documents))
		voters.Set(int64(h.clean), int64(h.members), fmt.Sprintf("%d vote", h.voters))
		if h.healthy() {
			buckets.Finish()
			complete.Finish()
			voters.Finish()
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("host %s is not whole: %d of %d members open, %d complete, %d voting, %d partitions as the cluster file says: %w",
				name, h.open, h.members, h.complete, h.voters, h.clean, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func (c *cluster) assess(name string, n node) (healing, adamant.Metrics) {
	all := map[string]adamant.Status{}
	for other, node := range c.nodes() {
		all[other] = node.Status()
	}
	m := n.Metrics()
	h := assess(c.config, name, all[name], all)
	h.bytes, h.entries = m.Repair.BytesIn, m.Repair.EntriesIn
	return h, m
}
