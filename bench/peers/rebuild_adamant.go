package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/adamantdb/adamant"
)

// adamantRebuilder is adamant as it is: a member with an empty disk is brought what it lacks by repair, however long logs are.
type adamantRebuilder struct {
	adamantSystem
	home []int // by document
}

func (a *adamantRebuilder) open(ctx context.Context, all AddressBook) (err error) {
	if err := a.adamantSystem.open(ctx, all); err != nil {
		return err
	}
	a.home, err = a.homes()
	return err
}

// put creates the document with the first entry, and appends the others.
func (a *adamantRebuilder) put(ctx context.Context, document, first int, values [][]byte) error {
	if first == 1 {
		if err := a.create(ctx, Placed{Number: document, Home: a.home[document]}, values[0]); err != nil {
			return err
		}
		values = values[1:]
	}
	if len(values) == 0 {
		return nil
	}
	d := &a.docs[document]
	var deltas []adamant.Delta
	last := *d
	for _, value := range values {
		deltas = append(deltas, last.delta(value))
		last.head++
	}
	unsure := false // an append that took effect is acknowledged again
	_, err := retry(ctx, func() (verdict, error) {
		_, err := a.hosts[d.host].Append(ctx, d.key, deltas)
		return a.judge(d, err, &unsure), err
	})
	if err != nil {
		return fmt.Errorf("append to %s: %w", d.key, err)
	}
	d.head = last.head
	return nil
}

// forget has nothing to do but to wait.
func (a *adamantRebuilder) forget(ctx context.Context) error {
	return until(ctx, "all hosts hold the same", a.agreed)
}

// agreed says whether the members of each partition are complete and as far as each other.
func (a *adamantRebuilder) agreed() bool {
	applied := a.applied()
	for _, h := range a.hosts {
		if !holds(h.Status(), applied) {
			return false
		}
	}
	return true
}

// applied is the newest index that any host has applied or knows to be committed, by partition.
func (a *adamantRebuilder) applied() map[uint32]uint64 {
	all := map[uint32]uint64{}
	for _, h := range a.hosts {
		for _, p := range h.Status().Partitions {
			all[p.ID] = max(all[p.ID], p.Applied, p.Commit)
		}
	}
	return all
}

// holds says whether every member is there, complete, and has applied as much as is wanted.
func holds(s adamant.Status, wanted map[uint32]uint64) bool {
	n := 0
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if least, ok := wanted[p.ID]; ok && p.Complete && p.Applied >= least {
			n++
		}
	}
	return n == len(wanted)
}

func (a *adamantRebuilder) lose(ctx context.Context, host int) error {
	name := hostName(host)
	if err := a.hosts[name].Kill(); err != nil {
		return err
	}
	delete(a.hosts, name)
	if err := os.RemoveAll(filepath.Join(a.dir, name)); err != nil {
		return err
	}
	for other, h := range a.hosts {
		err := until(ctx, "the others lead", func() bool {
			return !slices.ContainsFunc(h.Routing(), func(l adamant.Route) bool { return l.Leader == name || l.Leader == "" })
		})
		if err != nil {
			return fmt.Errorf("host %s: %w", other, err)
		}
		if err := h.WaitReady(ctx); err != nil {
			return fmt.Errorf("host %s: %w", other, err)
		}
	}
	return nil
}

func (a *adamantRebuilder) replace(ctx context.Context, host int) error {
	wanted := a.applied()
	name := hostName(host)
	if err := a.openHost(name); err != nil {
		return err
	}
	h := a.hosts[name]
	if err := until(ctx, "all members are complete", func() bool { return holds(h.Status(), wanted) }); err != nil {
		return err
	}
	var entries uint64
	for _, d := range a.docs {
		entries += uint64(d.head)
	}
	if repaired := h.Metrics().Repair.EntriesIn; repaired < entries {
		return fmt.Errorf("repair brought %d of %d entries: the log brought the rest", repaired, entries)
	}
	return nil
}

func (a *adamantRebuilder) walk(ctx context.Context, host int, found func(key string, value ...[]byte)) error {
	h, stale := a.hosts[hostName(host)], adamant.WithConsistency(adamant.ReadStale)
	for info, err := range h.Inventory(ctx, adamant.Scope{}, stale) {
		if err != nil {
			return err
		}
		name := info.Key.String()
		for e, err := range h.Log(ctx, info.Key, stale) {
			if err != nil {
				return fmt.Errorf("document %s: %w", name, err)
			}
			if e.Delta.SeqBegin != e.Delta.SeqEnd {
				return fmt.Errorf("document %s: an entry of %d to %d, which nobody wrote", name, e.Delta.SeqBegin, e.Delta.SeqEnd)
			}
			found(entryKey(name, e.Delta.SeqEnd), e.Delta.Redo, e.Delta.Undo)
		}
	}
	return nil
}
