package adamant

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/partition"
)

// Status describes the host and its members now. It asks nobody.
func (h *Host) Status() Status {
	c := h.cluster()
	s := Status{Host: h.name, Incarnation: h.incarnation, Cluster: c.Name, Started: h.started, ConfigVersion: c.Version, History: h.history.list()}
	if !h.opts.single() {
		s.Addr = c.Hosts[h.name].Addr
	}
	if h.watcher != nil {
		w := h.watcher.Status()
		s.ConfigRejected, s.ConfigError = uint64(w.Rejected), w.Problem
	}
	if err := h.failed(); err != nil {
		s.Failed, s.SafeMode = err.Error(), "a durable step failed"
	}
	s.Draining = h.isDraining()
	s.Peers = h.peerStatus()
	s.Scrub = h.scrubTotals()
	repairs := h.repairStatus()
	for _, m := range h.allMembers() {
		s.Partitions = append(s.Partitions, h.partitionStatus(m, repairs[m.id]))
	}
	return s
}

func (h *Host) peerStatus() []PeerStatus {
	hosts := h.cluster().Hosts
	var list []PeerStatus
	for _, p := range h.net.Peers() {
		list = append(list, PeerStatus{Host: p.Host, Incarnation: p.Incarnation, Addr: hosts[p.Host].Addr, Zone: hosts[p.Host].Zone,
			Alive: p.Alive, LinkUp: p.LinkUp, RoundTrip: p.RoundTrip})
	}
	return list
}

func (h *Host) partitionStatus(m *member, repair *RepairStatus) PartitionStatus {
	docs := m.docs.Status()
	summary, index := m.docs.Summary()
	r := m.docs.Range()
	s := PartitionStatus{ID: m.id, First: fmt.Sprintf("%016x", r.First), Last: fmt.Sprintf("%016x", r.Last), Role: RoleNone,
		Applied: docs.Applied, Ahead: docs.Ahead, Complete: docs.Complete, Coverage: interval.Set(m.docs.Coverage()).String(), Holes: docs.Holes.String(),
		Documents: docs.Documents, Bytes: docs.Bytes, Root: rootText(summary.Root()), RootIndex: index, Repair: repair, Scrub: h.scrubStatus(m.id)}
	q := m.isolation.load()
	if s.Restoring = q.Restore; q.on() {
		s.Divergences = q.Reports
	}
	p := m.running()
	if p == nil {
		if err := m.failed(); err != nil {
			s.NotServing = err.Error()
		}
		return s
	}
	if why := m.waitsFor(); why != "" {
		s.NotServing = "not founded" + why
	}
	st := p.Status()
	s.Role, s.Leader, s.Term = role(st), partition.HostOf(st.Leader), st.Term
	s.Serving = st.Serving == partition.Serves
	if st.State == raft.Leader && !s.Serving && s.NotServing == "" {
		s.NotServing = st.Serving.String()
	}
	if st.Failure != nil {
		s.NotServing = st.Failure.Error()
	}
	s.LastIndex, s.Commit, s.SafeMode = st.LastIndex, st.Commit, st.SafeMode
	if s.SafeMode == "" {
		s.SafeMode = m.outnumbered()
	}
	if s.Commit > st.Applied {
		s.Lag = s.Commit - st.Applied
	}
	s.Members = h.memberStatus(m, st)
	return s
}

func rootText(root merkle.Sum) string {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(root.A>>(56-8*i)), byte(root.B>>(56-8*i))
	}
	return hex.EncodeToString(b[:])
}

func role(s partition.Status) Role {
	switch {
	case s.State == raft.Leader:
		return RoleLeader
	case s.State == raft.Candidate && s.Leader == "": // one that was beaten waits, and follows meanwhile
		return RoleCandidate
	case s.State == raft.Shutdown:
		return RoleNone
	}
	for _, server := range s.Servers {
		if server.ID == s.Self && server.Suffrage == raft.Voter {
			return RoleFollower
		}
	}
	return RoleNonVoter
}

// livesAnew reports whether another incarnation of the server's host is alive: its disk is gone for good.
func livesAnew(peers map[raft.ServerID]partition.Peer, id raft.ServerID) bool {
	for other, p := range peers {
		if other != id && p.Alive && partition.HostOf(other) == partition.HostOf(id) {
			return true
		}
	}
	return false
}

// memberStatus lists the servers of Raft's configuration, and the hosts the cluster file lists that are not in it yet.
func (h *Host) memberStatus(m *member, st partition.Status) []MemberStatus {
	desired, _ := h.desired(m.id)
	peers := h.peersOf(m)
	var list []MemberStatus
	seen := map[string]bool{}
	for _, server := range st.Servers {
		peer := peers[server.ID]
		host := partition.HostOf(server.ID)
		ms := MemberStatus{Host: host, Incarnation: string(server.ID[len(host)+1:]), Voter: server.Suffrage == raft.Voter, Desired: lists(desired, host),
			Prefer: desired.Prefer == host, Alive: peer.Alive, Complete: peer.Complete, Applied: peer.Applied}
		switch {
		case !ms.Desired, !peer.Alive && livesAnew(peers, server.ID):
			ms.State = "leaving"
		case peer.Alive && !peer.Complete:
			ms.State = "healing"
		case !ms.Voter && slices.Contains(desired.Voters, host):
			ms.State = "joining"
		}
		seen[host] = true
		list = append(list, ms)
	}
	for _, host := range slices.Concat(desired.Voters, desired.Replicas) {
		if !seen[host] {
			list = append(list, MemberStatus{Host: host, Desired: true, Prefer: desired.Prefer == host, State: "joining"})
		}
	}
	return list
}
