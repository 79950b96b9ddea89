package partition

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// Probe is one host's answer to "do you hold anything of this partition?".
type Probe struct {
	Host     string
	ID       raft.ServerID
	Answered bool
	HasData  bool   // log entries, a marker, documents: anything that a first start would not find
	Running  bool   // its Raft is up and can vote
	Founds   bool   // it is about to found the partition itself
	Version  uint64 // of the cluster file it follows
}

// Birth is the decision of the bootstrap rule.
type Birth struct {
	Bootstrap bool
	Servers   []raft.Server // the first configuration, when Bootstrap
	Reason    string        // otherwise: why not
}

// DecideBirth is the bootstrap rule of design §10, made stricter: a partition is born only when every host of the cluster
// file answered, listed for the partition or not, follows the same version of the file, and has no data of it; and only
// by one host, so that it is born once. The hosts that held a partition before the file moved it are no longer listed for
// it: were they not asked, their documents would be forgotten because they were down at the wrong moment. An operator may
// force it, which skips the hosts that do not answer, but never one that has data.
func DecideBirth(self string, version uint64, desired Desired, probes []Probe, force bool) Birth {
	var silent []string
	for _, p := range probes {
		switch {
		case !p.Answered:
			silent = append(silent, p.Host)
		case p.HasData:
			return Birth{Reason: fmt.Sprintf("host %s has data for it", p.Host)}
		case p.Founds && p.Host != self:
			return Birth{Reason: fmt.Sprintf("host %s is about to found it", p.Host)}
		case p.Version != version:
			return Birth{Reason: fmt.Sprintf("host %s follows version %d of the cluster file, this one %d", p.Host, p.Version, version)}
		}
	}
	if !Founds(self, desired) {
		return Birth{Reason: "another host founds it"}
	}
	if len(silent) > 0 && !force {
		return Birth{Reason: "waiting for an answer of " + strings.Join(silent, ", ")}
	}
	byHost := make(map[string]Probe, len(probes))
	for _, p := range probes {
		byHost[p.Host] = p
	}
	var servers []raft.Server
	var missing []string
	for _, host := range slices.Concat(desired.Voters, desired.Replicas) {
		p, ok := byHost[host]
		if !ok || !p.Answered || !p.Running {
			missing = append(missing, host)
			continue
		}
		suffrage := raft.Voter
		if slices.Contains(desired.Replicas, host) {
			suffrage = raft.Nonvoter
		}
		servers = append(servers, raft.Server{Suffrage: suffrage, ID: p.ID, Address: raft.ServerAddress(p.ID)})
	}
	if len(missing) > 0 && !force {
		return Birth{Reason: "not every listed member runs: waiting for " + strings.Join(missing, ", ")}
	}
	return Birth{Bootstrap: true, Servers: servers}
}

// Founds reports whether self is the one host that may bootstrap the partition: the preferred voter, or the first.
func Founds(self string, d Desired) bool {
	if slices.Contains(d.Voters, d.Prefer) {
		return d.Prefer == self
	}
	return len(d.Voters) > 0 && d.Voters[0] == self
}

// returned reports whether this member may still lack what it voted for, or acknowledged, before it left.
func (p *Partition) returned() bool {
	if !p.o.Returned || p.back.Load() {
		return false
	}
	r := p.raft.Load()
	if r == nil {
		return true
	}
	f := r.GetConfiguration()
	if f.Error() != nil || !slices.ContainsFunc(f.Configuration().Servers, func(s raft.Server) bool { return s.ID == p.o.Self }) {
		return true
	}
	p.back.Store(true)
	return false
}
