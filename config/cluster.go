package config

import (
	"bytes"
	"cmp"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// Cluster is the content of a cluster file. Values are shared between goroutines and therefore never modified once
// they were handed out; Clone makes a copy to change.
type Cluster struct {
	Name     string // never changes during a cluster's life
	Version  uint64 // grows with every change of the file
	Insecure bool   // permits plain links to addresses beyond loopback
	TLS      *TLS   // nil: plain links
	// GossipKey encrypts membership traffic: 16, 24 or 32 bytes (AES-128, -192, -256), base64 in the file. Nil: plain.
	GossipKey  []byte
	Hosts      map[string]Host
	Partitions []Partition // in the order of their ranges
}

// TLS names the PEM files of mutual TLS. Relative paths are relative to the directory of the cluster file, and {host} in a path
// stands for the name of the host that opens it, so that one cluster file does for all hosts.
type TLS struct {
	Cert, Key, CA string
}

// DefaultTLS is what generated files name.
func DefaultTLS() TLS {
	return TLS{Cert: "tls/" + HostInPath + ".crt", Key: "tls/" + HostInPath + ".key", CA: "tls/ca.pem"}
}

// HostInPath stands for a host's name in the paths of TLS.
const HostInPath = "{host}"

// Resolve returns the paths of one host's files, with relative ones taken to be in dir.
func (t TLS) Resolve(dir, host string) TLS {
	in := func(path string) string {
		path = strings.ReplaceAll(path, HostInPath, host)
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	return TLS{Cert: in(t.Cert), Key: in(t.Key), CA: in(t.CA)}
}

// Host is one process of the cluster.
type Host struct {
	Addr string // host:port that the other hosts dial
	Zone string // failure domain; "" makes the host a domain of its own
	// HTTP is the host:port at which clients reach the host's HTTP endpoint; "" when there is none, or nobody is to be sent
	// there. It only tells others where to go: the endpoint listens where the host was told to.
	HTTP string
}

// Local reports whether the host's address does not leave its machine. One that is malformed does.
func (h Host) Local() bool {
	a, err := parseAddr(h.Addr)
	return h.Addr == "" || err == nil && a.loopback
}

// Partition is one Raft group and the range of hashes whose documents it holds.
type Partition struct {
	ID       uint32
	From     uint64   // first hash; the range ends before the next partition's From
	Voters   []string // 1, 3, 5 or 7 host names
	Replicas []string // non-voting members for reads
	Prefer   string   // the voter that should lead; "" when none is preferred
}

// Members returns the voters followed by the replicas, as a new slice.
func (p *Partition) Members() []string {
	return slices.Concat(p.Voters, p.Replicas)
}

// HasVoter reports whether the host is a voter of the partition.
func (p *Partition) HasVoter(host string) bool { return slices.Contains(p.Voters, host) }

// HasMember reports whether the host is a voter or a replica of the partition.
func (p *Partition) HasMember(host string) bool {
	return slices.Contains(p.Voters, host) || slices.Contains(p.Replicas, host)
}

// HashRange returns the closed range of hashes that the i-th partition of the list owns.
func (c *Cluster) HashRange(i int) (first, last uint64) {
	first = c.Partitions[i].From
	if i+1 < len(c.Partitions) {
		return first, c.Partitions[i+1].From - 1
	}
	return first, ^uint64(0)
}

// Locate returns the position in Partitions of the one that owns a hash. A valid cluster always has one.
func (c *Cluster) Locate(hash uint64) int {
	return sort.Search(len(c.Partitions), func(i int) bool { return c.Partitions[i].From > hash }) - 1
}

// Find returns the position in Partitions of the one with an id, or −1.
func (c *Cluster) Find(id uint32) int {
	return slices.IndexFunc(c.Partitions, func(p Partition) bool { return p.ID == id })
}

// HostNames returns the names of all hosts in reading order: h2 before h10.
func (c *Cluster) HostNames() []string { return sortedNames(c.Hosts) }

// Clone returns a copy that shares nothing with c.
func (c *Cluster) Clone() *Cluster {
	d := *c
	if c.TLS != nil {
		t := *c.TLS
		d.TLS = &t
	}
	d.GossipKey = slices.Clone(c.GossipKey)
	d.Hosts = make(map[string]Host, len(c.Hosts))
	for name, h := range c.Hosts {
		d.Hosts[name] = h
	}
	d.Partitions = slices.Clone(c.Partitions)
	for i := range d.Partitions {
		p := &d.Partitions[i]
		p.Voters, p.Replicas = slices.Clone(p.Voters), slices.Clone(p.Replicas)
	}
	return &d
}

// Equal reports whether two clusters would be written as the same file.
func (c *Cluster) Equal(d *Cluster) bool { return bytes.Equal(c.Marshal(), d.Marshal()) }

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, compareNames)
	return names
}

// compareNames orders names as people number them: runs of digits count by value, so h2 comes before h10. Names that
// differ in leading zeros only are ordered by bytes, so the order is total.
func compareNames(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		dx, dy := digits(x), digits(y)
		if dx == 0 || dy == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		nx, ny := trimZeros(x[:dx]), trimZeros(y[:dy])
		if c := cmp.Or(cmp.Compare(len(nx), len(ny)), cmp.Compare(nx, ny)); c != 0 {
			return c
		}
		x, y = x[dx:], y[dy:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}

func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

func trimZeros(s string) string {
	for len(s) > 1 && s[0] == '0' {
		s = s[1:]
	}
	return s
}
