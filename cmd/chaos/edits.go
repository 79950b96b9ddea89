//go:build unix

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/adamantdb/adamant/config"
)

// edit puts a changed cluster file in force, at one host after the other, some of them late.
func (a *agent) edit(name string, change func(*config.Cluster) string) error {
	a.editing.Lock()
	defer a.editing.Unlock()
	before := a.cluster.Load()
	c := before.Clone()
	c.Version++
	text := change(c)
	if text == "" {
		return nil
	}
	if err := before.CheckSuccessor(c); err != nil {
		return fmt.Errorf("bad edit: %w", err)
	}
	a.note("version %d: %s", c.Version, text)
	list := slices.Clone(a.hosts)
	a.r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	early := 1 + a.r.IntN(len(list))
	if err := a.publish(c, list[:early]); err != nil {
		return err
	}
	if early < len(list) {
		pause(a.ctx, a.millis(0, 1500))
	}
	a.did(name)
	return a.publish(c, list[early:])
}

// move lets another host vote in place of one.
func (a *agent) move() error {
	return a.edit("move", func(c *config.Cluster) string {
		for _, i := range a.r.Perm(len(c.Partitions)) {
			p := &c.Partitions[i]
			free := a.without(p)
			if len(free) == 0 {
				continue
			}
			at, to := a.r.IntN(len(p.Voters)), free[a.r.IntN(len(free))]
			from := p.Voters[at]
			p.Voters[at] = to
			if p.Prefer == from {
				p.Prefer = to
			}
			return fmt.Sprintf("partition %d moves from %s to %s", p.ID, from, to)
		}
		return ""
	})
}

// without lists the hosts that have no part in a partition.
func (a *agent) without(p *config.Partition) (list []string) {
	for _, h := range a.hosts {
		if !p.HasMember(h.name) {
			list = append(list, h.name)
		}
	}
	return list
}

// replica adds a read replica where there is none, and takes it away where there is one.
func (a *agent) replica() error {
	return a.edit("replica", func(c *config.Cluster) string {
		for _, i := range a.r.Perm(len(c.Partitions)) {
			p := &c.Partitions[i]
			if len(p.Replicas) > 0 {
				gone := p.Replicas[0]
				p.Replicas = nil
				return fmt.Sprintf("partition %d has no replica at %s any more", p.ID, gone)
			}
			if free := a.without(p); len(free) > 0 {
				p.Replicas = []string{free[a.r.IntN(len(free))]}
				return fmt.Sprintf("partition %d has a replica at %s", p.ID, p.Replicas[0])
			}
		}
		return ""
	})
}

// prefer changes who should lead a third of the partitions.
func (a *agent) prefer() error {
	return a.edit("prefer", func(c *config.Cluster) string {
		for range 1 + len(c.Partitions)/3 {
			p := &c.Partitions[a.r.IntN(len(c.Partitions))]
			p.Prefer = p.Voters[a.r.IntN(len(p.Voters))]
		}
		return "other preferred leaders"
	})
}

// badFile gives a host a cluster file that it must refuse: what is in force stays.
func (a *agent) badFile() error {
	a.editing.Lock()
	defer a.editing.Unlock()
	list, back := a.take(1) // a host that starts with a bad file may refuse to
	defer back()
	for _, h := range list {
		good := a.net.view(a.cluster.Load(), h.name)
		bad := good.Clone()
		bad.Version += 1000
		text := bad.Marshal()
		switch a.r.IntN(4) {
		case 0:
			text = text[:len(text)*2/3] // somebody is still writing it
		case 1:
			bad.Name = "another"
			text = bad.Marshal()
		case 2:
			bad.Partitions[0].Voters = []string{"h1", "h1", "nobody"}
			text = bad.Marshal()
		case 3:
			bad.Version = good.Version
			bad.Partitions[0].Prefer = bad.Partitions[0].Voters[a.r.IntN(len(bad.Partitions[0].Voters))]
			text = bad.Marshal()
		}
		a.note("%s gets a bad cluster file", h.name)
		if err := h.configure(text); err != nil {
			return err
		}
		pause(a.ctx, a.millis(500, 1500))
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		s, _, err := h.client.Status(ctx)
		cancel()
		if err == nil && s.ConfigVersion > good.Version {
			a.fail("%s has taken a bad cluster file: version %d", h.name, s.ConfigVersion)
		}
		a.did("bad-file")
		if err := h.configure(good.Marshal()); err != nil {
			return err
		}
	}
	return nil
}
