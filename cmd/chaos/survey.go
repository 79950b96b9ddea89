//go:build unix

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
)

// survey looks at the statuses of all hosts until nothing is missing.
type survey struct {
	f      *field
	target map[uint32]uint64 // what was committed when all were first reached: members must have applied that
}

// statuses asks all hosts at the same time; those that do not answer are nil.
func (f *field) statuses(ctx context.Context) map[string]*adamant.Status {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	all := map[string]*adamant.Status{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, h := range f.hosts {
		asking.Go(func() {
			s, _, err := h.client.Status(ctx)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[h.name] = &s
		})
	}
	asking.Wait()
	return all
}

// lacks says what is not yet as the cluster file wants it, the first that comes; "" for nothing.
func (s *survey) lacks(ctx context.Context) string {
	all := s.f.statuses(ctx)
	for _, h := range s.f.hosts {
		if all[h.name] == nil {
			return h.name + " does not answer"
		}
	}
	if s.target == nil {
		s.target = map[uint32]uint64{}
		for _, st := range all {
			for _, p := range st.Partitions {
				s.target[p.ID] = max(s.target[p.ID], p.Commit)
			}
		}
	}
	c := s.f.cluster.Load()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if text := s.lacksAt(c, all[name], all); text != "" {
			return name + ": " + text
		}
	}
	return ""
}

func (s *survey) lacksAt(c *config.Cluster, st *adamant.Status, all map[string]*adamant.Status) string {
	if st.ConfigVersion != c.Version {
		return fmt.Sprintf("has version %d of the cluster file, not %d: %s", st.ConfigVersion, c.Version, st.ConfigError)
	}
	if ok, why := st.Ready(); !ok {
		return why
	}
	holds := map[uint32]bool{}
	for i := range st.Partitions {
		p := &st.Partitions[i]
		holds[p.ID] = true
		at := c.Find(p.ID)
		if at < 0 || !c.Partitions[at].HasMember(st.Host) {
			return fmt.Sprintf("still has partition %d", p.ID)
		}
		if text := s.lacksMember(&c.Partitions[at], st.Host, p, all); text != "" {
			return fmt.Sprintf("partition %d: %s", p.ID, text)
		}
	}
	for i := range c.Partitions {
		if p := &c.Partitions[i]; p.HasMember(st.Host) && !holds[p.ID] {
			return fmt.Sprintf("has no partition %d", p.ID)
		}
	}
	return ""
}

func (s *survey) lacksMember(want *config.Partition, host string, p *adamant.PartitionStatus, all map[string]*adamant.Status) string {
	switch {
	case p.SafeMode != "":
		return "safe mode: " + p.SafeMode
	case !p.Complete:
		return "holes " + p.Holes
	case p.Applied < s.target[p.ID]:
		return fmt.Sprintf("has applied %d of %d", p.Applied, s.target[p.ID])
	case want.HasVoter(host) != (p.Role == adamant.RoleLeader || p.Role == adamant.RoleFollower):
		return "is " + string(p.Role)
	case p.Role == adamant.RoleLeader && !p.Serving:
		return "does not serve: " + p.NotServing
	case p.Role != adamant.RoleLeader:
		return ""
	}
	var members []string
	for _, m := range p.Members {
		members = append(members, m.Host)
		switch other := all[m.Host]; {
		case m.State != "" || !m.Desired || m.Voter != want.HasVoter(m.Host):
			return fmt.Sprintf("%s is %q, voter %t, desired %t", m.Host, m.State, m.Voter, m.Desired)
		case other == nil || other.Incarnation != m.Incarnation:
			return m.Host + " is a member of an earlier life"
		}
	}
	wanted := want.Members()
	slices.Sort(members)
	slices.Sort(wanted)
	if !slices.Equal(members, wanted) {
		return fmt.Sprintf("members %s, not %s", strings.Join(members, " "), strings.Join(wanted, " "))
	}
	return ""
}

// watch looks all the time for what must never be seen.
func (f *field) watch(ctx context.Context) {
	told := map[string]bool{} // members that are wrong stay so
	for ctx.Err() == nil {
		full := map[string]bool{} // before they are asked: an answer may come when there is room again
		for _, h := range f.hosts {
			full[h.name] = h.diskFull.Load()
		}
		for name, s := range f.statuses(ctx) {
			if s.Failed != "" && !full[name] && !f.host(name).diskFull.Load() {
				f.fail("%s failed: %s", name, s.Failed)
			}
			for _, p := range s.Partitions {
				if member := fmt.Sprint(name, p.ID, p.SafeMode); told[member] {
					continue
				} else if p.SafeMode != "" {
					told[member] = true
				}
				if len(p.Divergences) > 0 {
					f.divergent.Add(1)
					f.fail("%s: partition %d diverges: %+v", name, p.ID, p.Divergences)
				}
				if p.SafeMode != "" && s.Failed == "" && !strings.HasPrefix(p.SafeMode, "majority lost") {
					f.fail("%s: partition %d is in safe mode: %s", name, p.ID, p.SafeMode)
				}
			}
		}
		pause(ctx, time.Second)
	}
}
