package main

import (
	"context"
	"errors"
	"fmt"
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
}

// healReport is what a host's counters say of its repair. They count from its opening.
type healReport struct {
	Total     time.Duration // from the opening until all members were complete
	Pulling   time.Duration // from the last look before anything was pulled
	Discovery uint64        // bytes on the wire until that look
	Repair    adamant.RepairMetrics
	Links     adamant.LinkMetrics
}

// census is what a host finds when it reads what it has.
type census struct{ Documents, Heads, Entries int64 }

// How often, and for how long, a host that comes back is looked at.
const (
	healPoll     = 2 * time.Millisecond
	healPatience = 30 * time.Minute
)

func (s *site) members() []memberState {
	var list []memberState
	for name, h := range s.hosts {
		status := h.Status()
		for i := range status.Partitions {
			p := &status.Partitions[i]
			list = append(list, memberState{Host: name, Partition: p.ID, Complete: p.Complete, Commit: p.Commit, Applied: p.Applied,
				Documents: p.Documents, Bytes: p.Bytes, Root: p.Root})
		}
	}
	return list
}

// heal opens a host and watches its repair: until every member is complete and has applied what the others had.
func (s *site) heal(ctx context.Context, o openOrder, applied indexes) (r healReport, err error) {
	kind, err := adamant.ParseLogKind(o.Log)
	if err != nil {
		return r, err
	}
	name := o.Hosts[0]
	begun := time.Now()
	h, err := adamant.Open(o.options(name, kind))
	if err != nil {
		return r, fmt.Errorf("host %s: %w", name, err)
	}
	if s.hosts == nil {
		s.hosts = map[string]*adamant.Host{}
	}
	s.hosts[name] = h
	still := begun // nothing was pulled yet
	for {
		m := h.Metrics()
		now := time.Now()
		if m.Repair.Pulls == 0 {
			still, r.Discovery = now, m.Repair.BytesIn
		}
		if healed(h.Status(), applied) {
			m = h.Metrics()
			r.Total, r.Pulling = time.Since(begun), time.Since(still)
			r.Repair, r.Links = m.Repair, m.Links
			return r, nil
		}
		if now.Sub(begun) > healPatience {
			return r, fmt.Errorf("host %s is not healed after %v", name, healPatience)
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

// count reads every document and every delta that a host has itself.
func (s *site) count(ctx context.Context, name string) (c census, err error) {
	h := s.hosts[name]
	if h == nil {
		return c, fmt.Errorf("host %s does not run here", name)
	}
	stale := adamant.WithConsistency(adamant.ReadStale)
	for info, err := range h.Inventory(ctx, adamant.Scope{}, stale) {
		if err != nil {
			return c, err
		}
		c.Documents++
		c.Heads += info.Head
		for _, err := range h.Log(ctx, info.Key, stale) {
			if err != nil {
				return c, fmt.Errorf("document %s: %w", info.Key, err)
			}
			c.Entries++
		}
	}
	return c, nil
}

// churn creates each document and deletes it, so often that logs have forgotten what was before.
func (s *site) churn(ctx context.Context, o prepareOrder) error {
	return each(o.Documents, func(i int, p placed) error {
		w := newWriter(s, i, o.Size, o.Seed)
		for range 2 * forgetTrailing / (2 * churners) {
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

// churners is how many documents of each partition are churned at the same time.
const churners = 8
