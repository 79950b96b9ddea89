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
	HasData  bool // log entries, a marker, documents: anything that a first start would not find
	Running  bool // its Raft is up and can vote
}

// Birth is the decision of the bootstrap rule.
type Birth struct {
	Bootstrap bool
	Servers   []raft.Server // the first configuration, when Bootstrap
	Reason    string        // otherwise: why not
}

// DecideBirth is the bootstrap rule of design §10: a partition is born only when every listed member answered, no host
// that answered has data for it, and only by one host, so that it is born once. An operator may force it, which skips the
// first condition for members that are gone for good but never the second.
func DecideBirth(self string, desired Desired, probes []Probe, force bool) Birth {
	for _, p := range probes {
		if p.Answered && p.HasData {
			return Birth{Reason: fmt.Sprintf("host %s has data for it", p.Host)}
		}
	}
	if !Founds(self, desired) {
		return Birth{Reason: "another host founds it"}
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
		return Birth{Reason: "not every listed member is reachable: waiting for " + strings.Join(missing, ", ")}
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
