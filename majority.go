package adamant

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/partition"
)

// outnumberedAfter is for how long nobody must lead a partition, at the least, before it counts as having lost its majority.
const outnumberedAfter = 5 * time.Second

// majority is what a member knows of its partition's majority (design §10, safe mode). It is found out anew all the time and
// kept nowhere: who hears of a leader is out of it.
type majority struct {
	leaderless time.Time // since when nobody is known to lead; zero while somebody is
	lost       string    // why a majority counts as lost; "" while it does not
}

// look judges by who leads and which voters are silent. A leader may be missing for other reasons than silence: then an
// election is what is needed, and safe mode would only hide that it does not come about.
func (m *majority) look(leader bool, voters int, silent []string, now time.Time, patience time.Duration) {
	switch {
	case leader:
		*m = majority{}
	case m.leaderless.IsZero():
		m.leaderless = now
	case voters-len(silent) >= voters/2+1:
		m.lost = ""
	case now.Sub(m.leaderless) >= patience:
		slices.Sort(silent)
		m.lost = fmt.Sprintf("majority lost: %s silent, of %d voters", strings.Join(silent, " and "), voters)
	}
}

// lookMajority finds out whether the member's partition has lost its majority, and tells when that is news.
func (h *Host) lookMajority(m *member) {
	p := m.running()
	if p == nil {
		return
	}
	now, leaders := time.Now(), m.leaders.Load()
	leader, _ := p.Leader()
	if leader != "" {
		m.led.Store(leaders + 1)
	}
	var silent []string
	voters := 0
	if leader == "" {
		for _, s := range p.Status().Servers {
			if s.Suffrage != raft.Voter {
				continue
			}
			voters++
			if s.ID != h.serverID && !h.reports.alive(s.ID, now) {
				silent = append(silent, partition.HostOf(s.ID))
			}
		}
	}
	m.mu.Lock()
	before := m.majority.lost
	m.majority.look(leader != "" || voters == 0, voters, silent, now, max(outnumberedAfter, 10*h.opts.Timing.Heartbeat))
	after := m.majority.lost
	m.mu.Unlock()
	if (before != "") == (after != "") {
		return
	}
	if after != "" {
		h.keepHeard()
	}
	h.note(&m.id, "safe-mode", after)
	h.events.SafeModeChanged(SafeModeChange{Partition: m.id, On: after != "", Reason: after})
	h.routeChanged()
}

// mayBeOutnumbered reports whether the member's majority has to be looked for: nobody has been seen to lead since who leads has
// changed.
func (m *member) mayBeOutnumbered() bool { return m.led.Load() != m.leaders.Load()+1 }

// outnumbered says why the member's partition counts as having lost its majority, "" when it does not.
func (m *member) outnumbered() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.majority.lost
}
