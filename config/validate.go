package config

import "slices"

// Validate returns nil or an *InvalidError with every problem of the cluster. It does no I/O.
func (c *Cluster) Validate() error {
	var out problems
	v := validator{Cluster: c, out: &out, lineOf: func(string) int { return 0 }}
	v.all()
	return out.err("")
}

// validator checks the rules that a well-formed file can still break.
type validator struct {
	*Cluster
	out    *problems
	broken map[string]bool // paths already reported, whose values mean nothing
	lineOf func(path string) int
}

func (v *validator) report(path, format string, args ...any) {
	v.out.add(path, v.lineOf(path), format, args...)
}

func (v *validator) all() {
	v.name("cluster", v.Name)
	if v.Version == 0 && !v.broken["version"] {
		v.report("version", "must be at least 1")
	}
	v.secrets()
	v.hosts()
	v.partitions()
}

// name checks the name of a cluster, host or zone: they appear in server ids (host@incarnation), metrics and paths.
func (v *validator) name(path, name string) {
	if v.broken[path] {
		return
	}
	if name == "" || len(name) > MaxName {
		v.report(path, "name must have 1 to %d characters, not %d", MaxName, len(name))
		return
	}
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && c != '.' && c != '_' && c != '-' {
			v.report(path, "name %s may consist of letters, digits, '.', '_' and '-' only", quote(name))
			return
		}
	}
}

func (v *validator) secrets() {
	if t := v.TLS; t != nil && !v.broken["tls"] {
		for _, f := range []struct{ path, value string }{{"tls.cert", t.Cert}, {"tls.key", t.Key}, {"tls.ca", t.CA}} {
			if f.value == "" && !v.broken[f.path] {
				v.report(f.path, "must name a PEM file: TLS between hosts is mutual")
			}
		}
		if v.Insecure {
			v.report("insecure", "contradicts tls: with it links are never plain")
		}
	}
	if n := len(v.GossipKey); v.GossipKey != nil && n != 16 && n != 24 && n != 32 {
		v.report("gossipKey", "must hold 16, 24 or 32 bytes, not %d", n)
	}
}

func (v *validator) hosts() {
	if v.broken["hosts"] {
		return
	}
	if len(v.Hosts) == 0 {
		v.report("hosts", "must have at least one host")
	}
	if len(v.Hosts) > MaxHosts {
		v.report("hosts", "has more than %d hosts", MaxHosts)
		return
	}
	byAddr := map[string]string{}
	for _, name := range v.HostNames() {
		path, h := member("hosts", name), v.Hosts[name]
		v.name(path, name)
		if zone := member(path, "zone"); h.Zone != "" {
			v.name(zone, h.Zone)
		}
		v.addr(member(path, "addr"), name, h.Addr, byAddr)
	}
	for _, name := range v.HostNames() {
		v.http(member(member("hosts", name), "http"), name, v.Hosts[name].HTTP, byAddr)
	}
}

// http checks where a host's HTTP endpoint is said to be: at a place of its own.
func (v *validator) http(path, name, addr string, byAddr map[string]string) {
	if addr == "" || v.broken[path] || v.broken[member("hosts", name)] {
		return
	}
	a, err := parseAddr(addr)
	if err != nil {
		v.report(path, "%s", err)
		return
	}
	if other, taken := byAddr[a.canonical]; taken {
		v.report(path, "%s is also an address of %s", quote(addr), quote(other))
		return
	}
	byAddr[a.canonical] = name
}

// addr checks a host's address and remembers it, in canonical form, in byAddr.
func (v *validator) addr(path, name, addr string, byAddr map[string]string) {
	if v.broken[path] || v.broken[member("hosts", name)] {
		return
	}
	if addr == "" && len(v.Hosts) == 1 {
		return // nobody dials an only host
	}
	a, err := parseAddr(addr)
	if err != nil {
		v.report(path, "%s", err)
		return
	}
	if other, taken := byAddr[a.canonical]; taken {
		v.report(path, "%s is also the address of %s", quote(addr), quote(other))
		return
	}
	byAddr[a.canonical] = name
	if !a.loopback && v.TLS == nil && !v.Insecure && !v.broken["tls"] && !v.broken["insecure"] {
		v.report(path, "a plain link to %s, beyond loopback, needs tls or \"insecure\": true", quote(addr))
	}
}

func (v *validator) partitions() {
	const list = "partitions"
	if v.broken[list] {
		return
	}
	if len(v.Partitions) == 0 {
		v.report(list, "must have at least one partition")
	}
	if len(v.Partitions) > MaxPartitions {
		v.report(list, "has more than %d partitions", MaxPartitions)
		return
	}
	byID := map[uint32]int{}
	for i := range v.Partitions {
		p, path := &v.Partitions[i], element(list, i)
		if v.broken[path] {
			continue
		}
		if id := member(path, "id"); !v.broken[id] {
			if first, taken := byID[p.ID]; taken {
				v.report(id, "%d is also the id of %s", p.ID, element(list, first))
			} else {
				byID[p.ID] = i
			}
		}
		v.members(path, p)
	}
	v.ranges(list)
}

// ranges checks that the ranges start at 0 and that each ends before the next begins. Each is compared with the one
// before it, so that one mistake is one problem; a range whose start is unknown does not hide its neighbours' order.
func (v *validator) ranges(list string) {
	last := -1
	for i := range v.Partitions {
		path := member(element(list, i), "from")
		if v.broken[path] || v.broken[element(list, i)] {
			continue
		}
		from := v.Partitions[i].From
		switch {
		case i == 0 && from != 0:
			v.report(path, "the first partition must start at %016x, not %016x", 0, from)
		case last >= 0 && from <= v.Partitions[last].From:
			v.report(path, "%016x must be above the start of %s, %016x", from, element(list, last), v.Partitions[last].From)
		}
		last = i
	}
}

func (v *validator) members(path string, p *Partition) {
	voters, replicas, prefer := member(path, "voters"), member(path, "replicas"), member(path, "prefer")
	if n := len(p.Voters); !v.broken[voters] && (n%2 == 0 || n > MaxVoters) {
		v.report(voters, "must be 1, 3, 5 or 7 hosts, not %d", n)
	}
	if len(p.Replicas) > MaxReplicas {
		v.report(replicas, "has more than %d hosts", MaxReplicas)
		return
	}
	if len(p.Voters) > MaxVoters {
		return // the checks below compare each name with each
	}
	v.names(voters, p.Voters)
	v.names(replicas, p.Replicas)
	for i, name := range p.Replicas {
		if name != "" && p.HasVoter(name) && slices.Index(p.Replicas, name) == i {
			v.report(element(replicas, i), "%s is also a voter", quote(name))
		}
	}
	if p.Prefer != "" && !v.broken[prefer] && !v.broken[voters] && !p.HasVoter(p.Prefer) {
		v.report(prefer, "%s is not a voter of the partition", quote(p.Prefer))
	}
}

// names checks a list of members: each a known host, none twice.
func (v *validator) names(path string, names []string) {
	for i, name := range names {
		at := element(path, i)
		if v.broken[at] {
			continue
		}
		if first := slices.Index(names, name); first < i {
			v.report(at, "%s is listed twice, first at %s", quote(name), element(path, first))
		} else if _, known := v.Hosts[name]; !known && !v.broken["hosts"] {
			v.report(at, "unknown host %s", quote(name))
		}
	}
}
