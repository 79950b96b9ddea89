package partition

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// Desired is what the cluster file wants of a partition, in host names.
type Desired struct {
	Voters, Replicas []string
	Prefer           string
}

// Peer is what the leader knows of a member of its partition, from that member's own reports and what it acknowledged. Members that never
// reported, or not lately, are not Alive.
type Peer struct {
	ID       raft.ServerID // host@incarnation
	Alive    bool
	Ready    bool // it runs its Raft and holds a log or a marker
	Complete bool
	Draining bool   // its host gives leadership away
	Unsteady bool   // its host was gone a short time ago: it is not given leadership for its preference
	Version  uint64 // of the cluster file that its host follows
	Applied  uint64 // or, for nextStep, held in the log by now
	Epoch    uint64 // term of the leader that it follows; 0 unknown
	Founding uint64 // the founding of the group it belongs to (Partition.Founding); 0 unknown
}

// StepKind is one safe change of Raft's configuration.
type StepKind uint8

const (
	StepNone StepKind = iota
	StepAdd           // add ID as non-voter
	StepPromote
	StepDemote
	StepRemove
	StepTransfer // hand leadership to ID
)

// Step is the next move towards the cluster file, or the reason why there is none now.
type Step struct {
	Kind   StepKind
	ID     raft.ServerID
	Reason string
	// Settled goes with StepNone: there will be none before the cluster file, or who takes part, is another. Only Advance says so.
	Settled bool
}

func (s Step) String() string {
	return fmt.Sprintf("%s %s (%s)", [...]string{"none", "add", "promote", "demote", "remove", "transfer"}[s.Kind], s.ID, s.Reason)
}

// View is all that nextStep looks at.
type View struct {
	Self    raft.ServerID
	Servers []raft.Server // Raft's latest configuration
	Desired Desired
	Peers   map[raft.ServerID]Peer // by id; self included
	Applied uint64                 // the leader's
	// Founding is the leader's: what belongs to another founding of the partition is never taken in.
	Founding uint64
	// MaxLag is how many entries a member may be behind the leader and still count as caught up.
	MaxLag uint64
	// Reach is how many entries a member may be behind the leader and still get all of them from its log, however much is
	// committed until the next step is: the trail behind a marker, less what may be in flight.
	Reach uint64
}

// HostOf returns the host name of a server id.
func HostOf(id raft.ServerID) string {
	host, _, _ := strings.Cut(string(id), "@")
	return host
}

// nextStep moves Raft's configuration one safe step towards the cluster file (design §10): add as non-voter, heal,
// promote, and only then remove. The voter set changes by one, between majorities of complete voters (lemma I3 of
// design §5): when that cannot be had, it waits.
func nextStep(v View) Step {
	if s := v.add(); s.Kind != StepNone {
		return s
	}
	if s := v.promote(); s.Kind != StepNone {
		return s
	}
	if s := v.remove(); s.Kind != StepNone {
		return s
	}
	return v.prefer()
}

// add takes in the newest incarnation of every desired host that reported itself ready: it was seeded with this group's
// marker.
func (v View) add() Step {
	for _, host := range slices.Concat(v.Desired.Voters, v.Desired.Replicas) {
		for _, p := range v.sortedPeers() {
			if HostOf(p.ID) == host && p.Alive && p.Ready && p.Founding == v.Founding && !v.has(p.ID) {
				return Step{Kind: StepAdd, ID: p.ID, Reason: "listed in the cluster file"}
			}
		}
	}
	return Step{}
}

// promote gives the vote to a complete, caught-up non-voter that the file lists as voter.
func (v View) promote() Step {
	for _, s := range v.Servers {
		if s.Suffrage == raft.Voter || !slices.Contains(v.Desired.Voters, HostOf(s.ID)) {
			continue
		}
		p := v.Peers[s.ID]
		if !p.Alive || !p.Complete || !v.caughtUp(p) {
			continue
		}
		if !v.majorityComplete(append(v.voters(), s.ID)) {
			continue
		}
		return Step{Kind: StepPromote, ID: s.ID, Reason: "complete and caught up"}
	}
	return Step{}
}

// remove takes out what the file does not list, dead incarnations first, once every desired voter that can be had votes.
func (v View) remove() Step {
	var out []raft.Server
	for _, s := range v.Servers {
		if v.surplus(s) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b raft.Server) int { // non-voters first, then dead ones, self last
		return v.removalOrder(a) - v.removalOrder(b)
	})
	for _, s := range out {
		isVoter := s.Suffrage == raft.Voter
		demote := isVoter && slices.Contains(v.Desired.Replicas, HostOf(s.ID)) && !v.superseded(s.ID)
		if isVoter {
			rest := slices.DeleteFunc(v.voters(), func(id raft.ServerID) bool { return id == s.ID })
			if v.awaited(v.Peers[s.ID].Alive) || !v.majorityComplete(rest) {
				continue
			}
		}
		if s.ID == v.Self {
			return v.transfer(func(id raft.ServerID) bool { return id != v.Self && slices.Contains(v.Desired.Voters, HostOf(id)) }, "this leader is leaving the partition")
		}
		if demote {
			return Step{Kind: StepDemote, ID: s.ID, Reason: "listed as replica"}
		}
		return Step{Kind: StepRemove, ID: s.ID, Reason: "not listed, or an older incarnation"}
	}
	return Step{}
}

func (v View) removalOrder(s raft.Server) int {
	switch {
	case s.ID == v.Self:
		return 3
	case s.Suffrage != raft.Voter:
		return 0
	case !v.Peers[s.ID].Alive:
		return 1
	}
	return 2
}

// surplus reports whether a server stands in the configuration against the file: its host is not listed, it is a voter
// on a host listed as replica, or a newer incarnation of its host is there.
func (v View) surplus(s raft.Server) bool {
	host := HostOf(s.ID)
	if v.superseded(s.ID) {
		return true
	}
	if slices.Contains(v.Desired.Voters, host) {
		return false
	}
	return s.Suffrage == raft.Voter || !slices.Contains(v.Desired.Replicas, host)
}

// superseded reports whether another incarnation of the same host is alive: the disk behind id is gone.
func (v View) superseded(id raft.ServerID) bool {
	for other, p := range v.Peers {
		if other != id && HostOf(other) == HostOf(id) && p.Alive && !v.Peers[id].Alive {
			return true
		}
	}
	return false
}

// awaited reports whether a desired voter does not vote yet: redundancy is first restored and then trimmed. For the sake
// of a live surplus voter every one counts, for a dead one only those that are on their way.
func (v View) awaited(surplusAlive bool) bool {
	for _, host := range v.Desired.Voters {
		votes, alive := false, false
		for _, s := range v.Servers {
			votes = votes || HostOf(s.ID) == host && s.Suffrage == raft.Voter && !v.superseded(s.ID)
		}
		for id, p := range v.Peers {
			alive = alive || HostOf(id) == host && p.Alive
		}
		if !votes && (alive || surplusAlive) {
			return true
		}
	}
	return false
}

// settled reports whether the configuration is what the cluster file wants and is led by whom it prefers, and consists of the
// newest incarnations that are heard of.
func (v View) settled() bool {
	if len(v.Servers) != len(v.Desired.Voters)+len(v.Desired.Replicas) || v.Desired.Prefer != "" && HostOf(v.Self) != v.Desired.Prefer {
		return false
	}
	for _, s := range v.Servers {
		listed := v.Desired.Replicas
		if s.Suffrage == raft.Voter {
			listed = v.Desired.Voters
		}
		if _, known := v.Peers[s.ID]; !known || !slices.Contains(listed, HostOf(s.ID)) {
			return false
		}
	}
	return true
}

// prefer hands leadership to the preferred host once the configuration matches the file. A file that is not the newest one prefers nobody:
// who follows the newest one would hand back what it is given, again and again until this host has read that, too.
func (v View) prefer() Step {
	if v.Desired.Prefer == "" || HostOf(v.Self) == v.Desired.Prefer || v.outdated() {
		return Step{}
	}
	return v.transfer(func(id raft.ServerID) bool { return HostOf(id) == v.Desired.Prefer && !v.Peers[id].Unsteady }, "preferred leader")
}

// outdated reports whether another member's host follows a newer cluster file than this one.
func (v View) outdated() bool {
	for _, p := range v.Peers {
		if p.Alive && p.Version > v.Peers[v.Self].Version {
			return true
		}
	}
	return false
}

// transfer picks the most caught-up live, complete voter that `fits`.
func (v View) transfer(fits func(raft.ServerID) bool, reason string) Step {
	best, found := Peer{}, false
	for _, id := range v.voters() {
		p := v.Peers[id]
		if id == v.Self || !fits(id) || !p.Alive || !p.Complete || p.Draining || !v.caughtUp(p) {
			continue
		}
		if !found || p.Applied > best.Applied {
			best, found = p, true
		}
	}
	if !found {
		return Step{}
	}
	return Step{Kind: StepTransfer, ID: best.ID, Reason: reason}
}

func (v View) caughtUp(p Peer) bool { return p.Applied+v.MaxLag >= v.Applied }

func (v View) has(id raft.ServerID) bool {
	return slices.ContainsFunc(v.Servers, func(s raft.Server) bool { return s.ID == id })
}

func (v View) voters() []raft.ServerID {
	var ids []raft.ServerID
	for _, s := range v.Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// majorityComplete reports whether a majority holds, or is going to hold, everything that is committed. A member that has
// no holes may have to be sent a marker instead of what it has not got yet; so it counts only within reach of the leader's
// log. Otherwise the last member but the leader that holds an entry could be voted out.
func (v View) majorityComplete(voters []raft.ServerID) bool {
	n := 0
	for _, id := range voters {
		if p := v.Peers[id]; p.Alive && p.Complete && p.Applied+max(v.MaxLag, v.Reach) >= v.Applied {
			n++
		}
	}
	return len(voters) > 0 && n >= len(voters)/2+1
}

func (v View) sortedPeers() []Peer {
	peers := make([]Peer, 0, len(v.Peers))
	for _, p := range v.Peers {
		peers = append(peers, p)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return peers
}
