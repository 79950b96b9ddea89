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
		changed := false
		for range 1 + len(c.Partitions)/3 {
			p := &c.Partitions[a.r.IntN(len(c.Partitions))]
			next := p.Voters[a.r.IntN(len(p.Voters))]
			changed, p.Prefer = changed || p.Prefer != next, next
		}
		if !changed {
			return ""
		}
		return "other preferred leaders"
	})
}

// badFile gives a host a cluster file that it must refuse: what is in force stays. It counts once the host has judged the file.
func (a *agent) badFile() error {
	a.editing.Lock()
	defer a.editing.Unlock()
	list, back := a.take(1) // a host that starts with a bad file may refuse to
	defer back()
	for _, h := range list {
		good := a.net.view(a.cluster.Load(), h.name)
		before, ok := a.inForce(h)
		if !ok || before.version != good.Version { // what it reads now could not be told from what it reads next
			a.note("%s gets no bad cluster file: it has version %d", h.name, before.version)
			continue
		}
		mark := fmt.Sprintf("bad-%d", a.r.Uint32())
		what, text := badText(good, h.name, mark, a.r.IntN(badTexts))
		a.note("%s gets a bad cluster file: %s", h.name, what)
		if err := h.configure(text); err != nil {
			return err
		}
		after := before
		for end := time.Now().Add(judgePatience); ok && after.rejected == before.rejected && time.Now().Before(end); after, ok = a.inForce(h) {
			pause(a.ctx, 100*time.Millisecond)
		}
		if ok {
			a.judgeBadFile(h, good, mark, what, after)
		}
		if ok && after.rejected != before.rejected {
			a.did("bad-file")
		} else {
			a.did("bad-file, not judged")
		}
		if err := h.configure(good.Marshal()); err != nil {
			return err
		}
	}
	return nil
}

// judgePatience is for how long a host may not come to read its cluster file: it looks every two seconds.
const judgePatience = 10 * time.Second

// judgeBadFile compares the configuration in force with what it has to be.
func (a *agent) judgeBadFile(h *host, good *config.Cluster, mark, what string, now inForce) {
	if now.version != good.Version {
		a.fail("%s has taken a bad cluster file (%s): version %d in place of %d", h.name, what, now.version, good.Version)
	}
	for name, zone := range now.zones {
		if zone != good.Hosts[name].Zone {
			a.fail("%s has taken a bad cluster file (%s): the zone of %s is %q (%s)", h.name, what, name, zone, mark)
		}
	}
}

// badTexts is how many kinds of bad files there are.
const badTexts = 4

// badText makes one of them, none of which is what is in force, or was ever seen before: the zone of a host says so.
func badText(good *config.Cluster, host, mark string, kind int) (what string, text []byte) {
	bad := good.Clone()
	bad.Version += 1000
	entry := bad.Hosts[host]
	entry.Zone = mark
	bad.Hosts[host] = entry
	switch kind {
	case 0:
		text := bad.Marshal()
		return "half of one", text[:len(text)*2/3] // somebody is still writing it
	case 1:
		bad.Name = "another"
		return "another cluster's", bad.Marshal()
	case 2:
		bad.Partitions[0].Voters = []string{"h1", "h1", "nobody"}
		return "an invalid one", bad.Marshal()
	default:
		bad.Version = good.Version
		return "another of the same version", bad.Marshal()
	}
}

// inForce is what a host says of its configuration.
type inForce struct {
	version, rejected uint64
	zones             map[string]string
}

func (a *agent) inForce(h *host) (f inForce, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, _, err := h.client.Status(ctx)
	if err != nil {
		return f, false
	}
	r, err := h.client.Routing(ctx)
	if err != nil {
		return f, false
	}
	f = inForce{version: s.ConfigVersion, rejected: s.ConfigRejected, zones: map[string]string{}}
	for name, entry := range r.Hosts {
		f.zones[name] = entry.Zone
	}
	return f, true
}
