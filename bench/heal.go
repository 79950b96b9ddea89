package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/adamantdb/adamant"
)

// indexes are Raft indexes by partition.
type indexes map[uint32]uint64

// memberState is what a host says of one of its members.
type memberState struct {
	Host      string
	Partition uint32
	Complete  bool
	Commit    uint64
	Applied   uint64
	Documents int64
	Bytes     int64 // of deltas and snapshots
	Root      string
	SafeMode  string // why the partition is in safe mode there, "" when it is not
	Moving    bool   // it leads, and the members are not yet those of the cluster file
}

// healReport is what a host's counters say of its repair. They count from its opening.
type healReport struct {
	Complete bool          // else it has imported as much as was waited for
	Total    time.Duration // from the opening until then
	Pulling  time.Duration // from the last look before anything was asked for
	Repair   adamant.RepairMetrics
	Peak     held // memory at the most, beyond that of the opened host
}

// How often, and for how long, a host that comes back is looked at. Its status, which costs more than its counters, is
// asked for when they say that a hole was closed, and otherwise seldom.
const (
	healPoll     = 2 * time.Millisecond
	statusPoll   = 250 * time.Millisecond
	healPatience = 2 * time.Hour
)

func (s *site) members() []memberState {
	var list []memberState
	for name, h := range s.hosts {
		status := h.Status()
		for i := range status.Partitions {
			p := &status.Partitions[i]
			list = append(list, memberState{Host: name, Partition: p.ID, Complete: p.Complete, Commit: p.Commit, Applied: p.Applied,
				Documents: p.Documents, Bytes: p.Bytes, Root: p.Root, SafeMode: p.SafeMode,
				Moving: p.Role == adamant.RoleLeader && slices.ContainsFunc(p.Members, func(m adamant.MemberStatus) bool { return m.State != "" })})
		}
	}
	return list
}

// reopen opens a host that does not run.
func (s *site) reopen(o openOrder) (*adamant.Host, error) {
	kind, err := adamant.ParseLogKind(o.Log)
	if err != nil {
		return nil, err
	}
	name := o.Hosts[0]
	h, err := adamant.Open(o.options(name, kind))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	if s.hosts == nil {
		s.hosts = map[string]*adamant.Host{}
	}
	s.hosts[name] = h
	return h, nil
}

// heal opens a host and watches its repair: until every member is complete and has applied what the others had, or until
// it has imported so many bytes, 0 for no such bound.
func (s *site) heal(ctx context.Context, o openOrder, applied indexes, until int64) (r healReport, err error) {
	begun := time.Now()
	h, err := s.reopen(o)
	if err != nil {
		return r, err
	}
	runtime.GC() // what it took to open is no part of what repair takes
	peak := watchMemory()
	defer func() { r.Peak = peak() }()
	still := time.Now() // nothing was asked for yet
	var asked time.Time
	var closed uint64
	for {
		r.Repair = h.Metrics().Repair
		now := time.Now()
		if r.Repair.Pulls == 0 {
			still = now
		}
		r.Total, r.Pulling = now.Sub(begun), now.Sub(still)
		if until > 0 && r.Repair.ImportedBytes >= uint64(until) {
			return r, nil
		}
		if r.Repair.HolesClosed != closed || now.Sub(asked) > statusPoll {
			asked, closed = now, r.Repair.HolesClosed
			if r.Complete = healed(h.Status(), applied); r.Complete {
				return r, nil
			}
		}
		if r.Total > healPatience {
			return r, fmt.Errorf("host %s is not healed after %v", o.Hosts[0], healPatience)
		}
		if err := pause(ctx, healPoll); err != nil {
			return r, err
		}
	}
}

// healed says whether every member that is wanted is there, complete, and has applied as much as is wanted.
func healed(s adamant.Status, wanted indexes) bool {
	n := 0
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if least, ok := wanted[p.ID]; ok && p.Complete && p.Applied >= least {
			n++
		}
	}
	return n == len(wanted)
}

// repairs are the counters of each host's repair since it was opened.
func (s *site) repairs() map[string]adamant.RepairMetrics {
	all := map[string]adamant.RepairMetrics{}
	for name, h := range s.hosts {
		all[name] = h.Metrics().Repair
	}
	return all
}

// churn creates each document and deletes it, so often that logs have forgotten what was before.
func (s *site) churn(ctx context.Context, o prepareOrder) error {
	return each(o.Documents, func(i int, p placed) error {
		w := newWriter(s, i, o.Size, o.Seed)
		for range forgetTrailing { // two entries each
			d := &document{key: documentKey(p.Number), host: p.Host}
			if err := w.create(ctx, d); err != nil {
				return err
			}
			err := w.retry(ctx, d, func(h *adamant.Host, _ bool) error {
				err := h.Delete(ctx, d.key)
				if errors.As(err, new(*adamant.NotFoundError)) {
					return nil
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Documents that are churned are numbered from churnFirst. There is one for each partition: commands that come together would share
// entries, and it is entries that logs forget.
const churnFirst = 1 << 40
