package adamant

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/partition"
)

// RecoveryPlan says what becomes of each partition that lost its majority. It is a file that is carried to every host that
// takes part; its digest is what an operator confirms.
type RecoveryPlan struct {
	Format     int                 `json:"format"`
	Cluster    string              `json:"cluster"`
	Made       time.Time           `json:"made"`
	Lost       []string            `json:"lost"`  // hosts that are given up
	Hosts      []string            `json:"hosts"` // hosts that were surveyed
	Addrs      map[string]string   `json:"addrs,omitempty"`
	Partitions []PartitionRecovery `json:"partitions"`
	Known      []KnownIndex        `json:"known,omitempty"`
	Notes      []string            `json:"notes,omitempty"` // members that are left out, and partitions that are left alone
}

// KnownIndex is how far a partition's log is known to have been applied, by the host that reported the most.
type KnownIndex struct {
	Partition uint32    `json:"partition"`
	Index     uint64    `json:"index"`
	Host      string    `json:"host"`
	At        time.Time `json:"at"`
}

// PlanOptions are for PlanRecovery.
type PlanOptions struct {
	// Lost names the hosts that are gone for good. Every voter of a partition that is to be recovered is on one that was surveyed,
	// or on one of these.
	Lost []string
	// Partitions restricts the plan; nil: all that lost their majority.
	Partitions []uint32
	// Force plans although a host that is given up answers, or was heard of by a survivor just before that was stopped.
	Force bool
}

// RecoveryError refuses a survey, a plan or its application; nothing was changed.
type RecoveryError struct{ Reason string }

func (e *RecoveryError) Error() string { return "recovery refused: " + e.Reason }

// Code returns CodeInvalid.
func (e *RecoveryError) Code() int { return CodeInvalid }

func refuse(format string, args ...any) error { return &RecoveryError{fmt.Sprintf(format, args...)} }

const planFormat = 1

// Digest identifies the plan: SHA-256 of its JSON, the first 16 hex digits.
func (p *RecoveryPlan) Digest() string {
	b, err := json.Marshal(p)
	if err != nil {
		return "" // nothing in it fails to marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// PlanRecovery plans for every partition that has lost its majority with the hosts given up. It refuses (*RecoveryError) what it
// can not know to be safe: a host that is given up and was alive when a survivor was stopped, or still answers at its address;
// voters that were neither surveyed nor given up; surveys of different foundings; a member in the safe mode of a divergence.
func PlanRecovery(surveys []HostSurvey, o PlanOptions) (*RecoveryPlan, error) {
	p := &RecoveryPlan{Format: planFormat, Made: time.Now().UTC().Round(0), Lost: slices.Sorted(slices.Values(o.Lost)), Addrs: map[string]string{}}
	if err := p.take(surveys); err != nil {
		return nil, err
	}
	if !o.Force {
		if err := p.checkLost(surveys); err != nil {
			return nil, err
		}
	}
	members := map[uint32][]MemberSurvey{}
	for i := range surveys {
		for _, m := range surveys[i].Partitions {
			if len(o.Partitions) == 0 || slices.Contains(o.Partitions, m.Partition) {
				members[m.Partition] = append(members[m.Partition], m)
			}
		}
	}
	for _, id := range sortedIDs(members) {
		if err := p.planPartition(id, members[id], surveys); err != nil {
			return nil, err
		}
	}
	if len(p.Partitions) == 0 {
		return nil, refuse("no partition has lost its majority with %s given up: start the hosts that are left. %s", strings.Join(p.Lost, ", "), strings.Join(p.Notes, "; "))
	}
	return p, nil
}

func sortedIDs(m map[uint32][]MemberSurvey) []uint32 {
	var ids []uint32
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// take checks that the surveys belong together.
func (p *RecoveryPlan) take(surveys []HostSurvey) error {
	for i := range surveys {
		s := &surveys[i]
		switch {
		case s.Format != surveyFormat:
			return refuse("survey of host %s: format %d, this program knows %d", s.Host, s.Format, surveyFormat)
		case p.Cluster != "" && s.Cluster != p.Cluster:
			return refuse("host %s is of cluster %s, host %s of %s", s.Host, s.Cluster, p.Hosts[0], p.Cluster)
		case slices.Contains(p.Hosts, s.Host):
			return refuse("two surveys of host %s", s.Host)
		case slices.Contains(p.Lost, s.Host):
			return refuse("host %s was surveyed: it is not lost", s.Host)
		case s.Begun != "":
			return refuse("a recovery by the plan %s was begun on host %s: finish that one first", s.Begun, s.Host)
		}
		p.Cluster, p.Hosts = s.Cluster, append(p.Hosts, s.Host)
		for host, addr := range s.Addrs {
			p.Addrs[host] = addr
		}
	}
	if len(surveys) == 0 {
		return refuse("no survey")
	}
	slices.Sort(p.Hosts)
	return nil
}

// checkLost looks for signs of life of the hosts that are given up.
func (p *RecoveryPlan) checkLost(surveys []HostSurvey) error {
	for i := range surveys {
		for _, heard := range surveys[i].Heard {
			if heard.Alive && slices.Contains(p.Lost, heard.Host) {
				return refuse("host %s is given up, but it reported to host %s at %s, just before that was stopped", heard.Host, surveys[i].Host, heard.At.Format(time.DateTime))
			}
		}
	}
	return p.checkSilence()
}

// silenceTimeout is how long a host that is given up has to answer.
const silenceTimeout = 2 * time.Second

// checkSilence knocks at the hosts that are given up: one that answers is not lost.
func (p *RecoveryPlan) checkSilence() error {
	for _, host := range p.Lost {
		addr := p.Addrs[host]
		if addr == "" {
			continue
		}
		c, err := net.DialTimeout("tcp", addr, silenceTimeout)
		if err != nil {
			continue
		}
		_ = c.Close()
		return refuse("host %s is given up, but something answers at %s", host, addr)
	}
	return nil
}

func (p *RecoveryPlan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// planPartition adds a partition to the plan, unless it can do without.
func (p *RecoveryPlan) planPartition(id uint32, members []MemberSurvey, surveys []HostSurvey) error {
	members, err := p.newestFounding(id, members)
	if err != nil || len(members) == 0 {
		return err
	}
	best, err := partition.BestLog(members)
	if err != nil {
		return &RecoveryError{err.Error()}
	}
	if needed, err := p.lostMajority(id, best, members); err != nil || !needed {
		return err
	}
	var inside []MemberSurvey
	for _, m := range members {
		switch {
		case !slices.Contains(best.Voters, m.ID) && !slices.Contains(best.Replicas, m.ID):
			p.note("partition %d: %s is left out, it is no member by the configuration of %s", id, m.ID, best.ID)
			continue
		case m.Diverged:
			return refuse("partition %d: %s is in the safe mode of a divergence (%s): leave its host out, and give it up", id, m.ID, m.SafeMode)
		case m.SafeMode != "":
			p.note("partition %d: %s is in safe mode and stays in it until it is cleared: %s", id, m.ID, m.SafeMode)
		}
		inside = append(inside, m)
	}
	known, epoch := reported(id, best.Founding, surveys)
	r, err := partition.PlanRecovery(inside, known.Index, epoch, rand.Uint64())
	if err != nil {
		return &RecoveryError{err.Error()}
	}
	if known.Index > 0 {
		p.Known = append(p.Known, known)
	}
	p.Partitions = append(p.Partitions, r)
	return nil
}

// newestFounding leaves out members that hold nothing, and those of a founding which others of them have given up.
func (p *RecoveryPlan) newestFounding(id uint32, members []MemberSurvey) ([]MemberSurvey, error) {
	members = slices.DeleteFunc(members, func(m MemberSurvey) bool { return m.Founding == 0 || m.Last == 0 })
	if len(members) == 0 {
		return nil, nil
	}
	newest := slices.MaxFunc(members, func(a, b MemberSurvey) int {
		switch {
		case slices.Contains(a.Former, b.Founding):
			return 1
		case slices.Contains(b.Former, a.Founding):
			return -1
		}
		return 0
	})
	var list []MemberSurvey
	for _, m := range members {
		switch {
		case m.Founding == newest.Founding:
			list = append(list, m)
		case slices.Contains(newest.Former, m.Founding):
			p.note("partition %d: %s is left out, its founding %s was given up for %s", id, m.ID, m.Founding, newest.Founding)
		default:
			return nil, refuse("partition %d was founded twice: %s is of founding %s, %s of %s; leave one of them out", id, m.ID, m.Founding, newest.ID, newest.Founding)
		}
	}
	return list, nil
}

// lostMajority reports whether the partition has no majority left with the lost hosts given up.
func (p *RecoveryPlan) lostMajority(id uint32, best *MemberSurvey, members []MemberSurvey) (bool, error) {
	here := 0
	var unknown []string
	for _, v := range best.Voters {
		host := partition.HostOf(raft.ServerID(v))
		switch {
		case slices.ContainsFunc(members, func(m MemberSurvey) bool { return m.ID == v }):
			here++
		case slices.Contains(p.Lost, host), slices.Contains(p.Hosts, host): // or its disk was replaced
		default:
			unknown = append(unknown, host)
		}
	}
	majority := len(best.Voters)/2 + 1
	switch {
	case here >= majority:
		p.note("partition %d is left alone: %d of its %d voters are here, which is a majority", id, here, len(best.Voters))
		return false, nil
	case here+len(unknown) >= majority:
		p.note("partition %d is left alone: with %s its voters have a majority", id, strings.Join(unknown, ", "))
		return false, nil
	case len(unknown) > 0:
		return false, refuse("partition %d: %s was neither surveyed nor given up as lost", id, strings.Join(unknown, ", "))
	}
	return true, nil
}

// reported is the furthest that another host reported to have applied of a founding, and the highest epoch in any report.
func reported(id uint32, founding partition.Founding, surveys []HostSurvey) (k KnownIndex, epoch uint64) {
	k.Partition = id
	for i := range surveys {
		for _, h := range surveys[i].Heard {
			for _, m := range h.Members {
				if m.Partition != id {
					continue
				}
				epoch = max(epoch, m.Epoch)
				if m.Founding == founding && m.Applied > k.Index {
					k.Index, k.Host, k.At = m.Applied, h.Host, h.At
				}
			}
		}
	}
	return k, epoch
}

// Describe writes what the plan does and what may be lost, a line each.
func (p *RecoveryPlan) Describe() []string {
	lines := []string{fmt.Sprintf("cluster %s: %d partitions are recovered without %s", p.Cluster, len(p.Partitions), strings.Join(p.Lost, ", "))}
	for i := range p.Partitions {
		r := &p.Partitions[i]
		lines = append(lines, fmt.Sprintf("partition %d: founding %s in place of %s, from index %d, term %d", r.Partition, r.Founding, r.Former[len(r.Former)-1], r.Base+uint64(len(r.Members)), r.Term))
		for _, m := range r.Members {
			role := "voter"
			if slices.Contains(r.Replicas, m.ID) {
				role = "replica"
			}
			lines = append(lines, fmt.Sprintf("  %s: %s, covers %s", m.ID, role, m.Covers))
		}
		if len(r.Uncertain) > 0 {
			lines = append(lines, fmt.Sprintf("  kept, although nobody here knows whether it was acknowledged: index %s", r.Uncertain))
		}
		known := ""
		if at := slices.IndexFunc(p.Known, func(k KnownIndex) bool { return k.Partition == r.Partition }); at >= 0 {
			k := p.Known[at]
			known = fmt.Sprintf(" (host %s reported to have applied %d at %s)", k.Host, k.Index, k.At.Format(time.DateTime))
		}
		if n := r.Lost.Set().Len(); n > 0 {
			lines = append(lines, fmt.Sprintf("  MAY BE LOST: acknowledged writes at index %s, %d at the most%s", r.Lost, n, known))
		} else {
			lines = append(lines, "  nothing is known to be lost"+known)
		}
	}
	if len(p.Partitions) > 0 {
		lines = append(lines, "In every partition, what was written after the last report of the hosts given up may be lost, too: nobody here knows of it.")
	}
	return append(lines, p.Notes...)
}
