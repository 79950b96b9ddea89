package config

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Difference is what changes between two versions of a cluster file.
type Difference struct {
	From, To                               uint64 // versions
	HostsAdded, HostsRemoved, HostsChanged []string
	PartitionsAdded, PartitionsRemoved     []uint32
	Partitions                             []PartitionChange // those in both files that differ, in the new order
	Settings                               []string          // keys of the file's head that differ, such as tls
	// Moves counts the members that have to be copied to a host that did not hold them, in partitions of both files.
	Moves int
	// Leads counts the partitions of both files whose preferred leader changes.
	Leads int
}

// PartitionChange is what changes in one partition.
type PartitionChange struct {
	ID             uint32
	Added, Removed []Member // hosts that become or cease to be members
	Promoted       []string // replicas that become voters
	Demoted        []string // voters that become replicas
	PreferBefore   string
	PreferAfter    string
	FromBefore     uint64
	FromAfter      uint64
}

// Member is a host's role in a partition.
type Member struct {
	Host  string
	Voter bool
}

// Diff compares two clusters.
func Diff(before, after *Cluster) Difference {
	d := Difference{From: before.Version, To: after.Version, Settings: changedSettings(before, after)}
	for _, name := range after.HostNames() {
		if h, known := before.Hosts[name]; !known {
			d.HostsAdded = append(d.HostsAdded, name)
		} else if h != after.Hosts[name] {
			d.HostsChanged = append(d.HostsChanged, name)
		}
	}
	for _, name := range before.HostNames() {
		if _, known := after.Hosts[name]; !known {
			d.HostsRemoved = append(d.HostsRemoved, name)
		}
	}
	old := make(map[uint32]*Partition, len(before.Partitions))
	for i := range before.Partitions {
		old[before.Partitions[i].ID] = &before.Partitions[i]
	}
	for i := range after.Partitions {
		q := &after.Partitions[i]
		p, known := old[q.ID]
		if !known {
			d.PartitionsAdded = append(d.PartitionsAdded, q.ID)
			continue
		}
		delete(old, q.ID)
		change := diffPartition(p, q)
		if change.empty() {
			continue
		}
		d.Moves += len(change.Added)
		if change.PreferBefore != change.PreferAfter {
			d.Leads++
		}
		d.Partitions = append(d.Partitions, change)
	}
	d.PartitionsRemoved = slices.Sorted(maps.Keys(old))
	return d
}

func changedSettings(a, b *Cluster) []string {
	var keys []string
	for _, s := range []struct {
		key  string
		same bool
	}{
		{"cluster", a.Name == b.Name},
		{"insecure", a.Insecure == b.Insecure},
		{"tls", (a.TLS == nil) == (b.TLS == nil) && (a.TLS == nil || *a.TLS == *b.TLS)},
		{"gossipKey", string(a.GossipKey) == string(b.GossipKey)},
	} {
		if !s.same {
			keys = append(keys, s.key)
		}
	}
	return keys
}

func diffPartition(p, q *Partition) PartitionChange {
	c := PartitionChange{ID: q.ID, PreferBefore: p.Prefer, PreferAfter: q.Prefer, FromBefore: p.From, FromAfter: q.From}
	for _, name := range q.Members() {
		switch {
		case !p.HasMember(name):
			c.Added = append(c.Added, Member{name, q.HasVoter(name)})
		case q.HasVoter(name) && !p.HasVoter(name):
			c.Promoted = append(c.Promoted, name)
		case !q.HasVoter(name) && p.HasVoter(name):
			c.Demoted = append(c.Demoted, name)
		}
	}
	for _, name := range p.Members() {
		if !q.HasMember(name) {
			c.Removed = append(c.Removed, Member{name, p.HasVoter(name)})
		}
	}
	return c
}

func (c PartitionChange) empty() bool {
	return len(c.Added)+len(c.Removed)+len(c.Promoted)+len(c.Demoted) == 0 &&
		c.PreferBefore == c.PreferAfter && c.FromBefore == c.FromAfter
}

// Empty reports whether nothing but the version may differ.
func (d Difference) Empty() bool {
	return len(d.HostsAdded)+len(d.HostsRemoved)+len(d.HostsChanged)+len(d.PartitionsAdded)+len(d.PartitionsRemoved)+
		len(d.Partitions)+len(d.Settings) == 0
}

// String returns what Write writes.
func (d Difference) String() string {
	var b strings.Builder
	_ = d.Write(&b) // a strings.Builder does not fail
	return b.String()
}

// Write writes the difference for people: a summary, then a line per partition that changes.
func (d Difference) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d → %d: %s, %s changed, %s\n", d.From, d.To,
		plural(d.Moves, "move"), plural(len(d.Partitions), "partition"), plural(d.Leads, "new preferred leader"))
	for _, list := range []struct {
		what  string
		names []string
	}{
		{"hosts added", d.HostsAdded}, {"hosts removed", d.HostsRemoved}, {"hosts changed", d.HostsChanged}, {"settings changed", d.Settings},
	} {
		if len(list.names) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", list.what, strings.Join(list.names, ", "))
		}
	}
	for _, list := range []struct {
		what string
		ids  []uint32
	}{{"partitions added", d.PartitionsAdded}, {"partitions removed", d.PartitionsRemoved}} {
		if len(list.ids) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", list.what, strings.Trim(fmt.Sprint(list.ids), "[]"))
		}
	}
	for _, c := range d.Partitions {
		b.WriteString(c.String())
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String describes the change in one line.
func (c PartitionChange) String() string {
	var parts []string
	n := max(len(c.Added), len(c.Removed))
	for i := range n {
		switch {
		case i >= len(c.Added):
			parts = append(parts, "− "+c.Removed[i].String())
		case i >= len(c.Removed):
			parts = append(parts, "+ "+c.Added[i].String())
		default:
			parts = append(parts, c.Removed[i].String()+" → "+c.Added[i].String())
		}
	}
	for _, name := range c.Promoted {
		parts = append(parts, name+" becomes a voter")
	}
	for _, name := range c.Demoted {
		parts = append(parts, name+" becomes a replica")
	}
	if c.PreferBefore != c.PreferAfter {
		parts = append(parts, fmt.Sprintf("prefers %s, not %s", orNone(c.PreferAfter), orNone(c.PreferBefore)))
	}
	if c.FromBefore != c.FromAfter {
		parts = append(parts, fmt.Sprintf("from %016x, not %016x", c.FromAfter, c.FromBefore))
	}
	return fmt.Sprintf("partition %d: %s", c.ID, strings.Join(parts, "; "))
}

func (m Member) String() string {
	if m.Voter {
		return m.Host
	}
	return m.Host + " (replica)"
}

func orNone(name string) string {
	if name == "" {
		return "none"
	}
	return name
}
