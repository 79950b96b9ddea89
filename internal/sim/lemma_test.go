package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/interval"
)

// lemmaEvery is how often the lemma is looked at.
const lemmaEvery = 250 * time.Millisecond

// watchLemma looks at the lemma of design §5 all the time: any majority of a partition's voters could heal any member. That
// is so as long as fewer than a majority lack an index that was committed: then every majority has one that holds it.
func (w *world) watchLemma(stop <-chan struct{}) {
	known, doubts := knowledge{committed: map[uint32]uint64{}, terms: map[uint32]uint64{}}, map[uint32]string{}
	for w.wait(stop, lemmaEvery, 40*lemmaEvery) {
		// In this order: what is committed is held before, and by whoever votes now.
		voters := w.voters(known)
		states := w.states()
		for id := range w.plan.Voters {
			id := uint32(id)
			doubt := w.lemma(id, known.committed[id], voters[id], states)
			if doubt != "" && doubts[id] != "" { // a leader that was never looked at may have changed the voters in between
				w.complain("%s", doubt)
			}
			doubts[id] = doubt
		}
		for name, members := range states {
			for _, p := range members {
				if p.Serving && !p.Complete {
					w.complain("%s serves partition %d with the holes %s", name, p.ID, p.Holes)
				}
			}
		}
	}
}

// knowledge is what was ever seen of the partitions.
type knowledge struct {
	committed map[uint32]uint64 // index
	terms     map[uint32]uint64 // of leaders
}

// voters are those of each partition, as its newest leader has them, if that is up: incarnations by host.
func (w *world) voters(k knowledge) map[uint32]map[string]string {
	list := map[uint32]map[string]string{}
	for _, h := range w.live() {
		for _, p := range h.Status().Partitions {
			k.committed[p.ID] = max(k.committed[p.ID], p.Commit)
			if p.Role != adamant.RoleLeader || p.Term < k.terms[p.ID] {
				continue
			}
			k.terms[p.ID], list[p.ID] = p.Term, map[string]string{}
			for _, m := range p.Members {
				if m.Voter {
					list[p.ID][m.Host] = m.Incarnation
				}
			}
		}
	}
	return list
}

// states are what all members say of themselves, by server.
func (w *world) states() map[string]map[uint32]adamant.PartitionStatus {
	states := map[string]map[uint32]adamant.PartitionStatus{}
	for name, h := range w.live() {
		st := h.Status()
		members := map[uint32]adamant.PartitionStatus{}
		for _, p := range st.Partitions {
			members[p.ID] = p
		}
		states[name+"@"+st.Incarnation] = members
	}
	return states
}

// lemma says what contradicts it.
func (w *world) lemma(id uint32, committed uint64, voters map[string]string, states map[string]map[uint32]adamant.PartitionStatus) (doubt string) {
	lack := map[string]interval.Set{}
	for host, incarnation := range voters {
		w.mu.Lock()
		damaged := w.refused[incarnation] || w.machines[host].incarnation == incarnation && w.machines[host].damaged
		lost := w.lostDisks[incarnation] && !damaged
		w.mu.Unlock()
		p, known := states[host+"@"+incarnation][id]
		switch {
		case lost:
			lack[host] = interval.Of(1, committed)
		case damaged:
		case known: // of a host that is down nobody can say
			lack[host] = lacking(p, committed)
		}
	}
	if i, ok := lackedByMajority(lack, len(voters)); ok {
		return fmt.Sprintf("partition %d: not every majority of %v holds index %d of %d that are committed: %v lack", id, slices.Sorted(maps.Keys(voters)), i,
			committed, lack)
	}
	return ""
}

// lacking is what a member has neither in its documents nor in its log.
func lacking(p adamant.PartitionStatus, committed uint64) interval.Set {
	lack := parseIntervals(p.Holes)
	if last := max(p.LastIndex, p.Applied); last < committed {
		lack = lack.Union(interval.Of(last+1, committed))
	}
	return lack
}

// parseIntervals reads "[1,5] [7,9]".
func parseIntervals(text string) (s interval.Set) {
	for _, one := range strings.Fields(text) {
		var first, last uint64
		if n, err := fmt.Sscanf(one, "[%d,%d]", &first, &last); n != 2 || err != nil {
			panic("status shows " + text)
		}
		s = s.Union(interval.Of(first, last))
	}
	return s
}

// lackedByMajority finds an index that a majority of n lacks.
func lackedByMajority(lack map[string]interval.Set, n int) (uint64, bool) {
	for _, candidate := range lack {
		for _, r := range candidate { // a most lacked index is where one of the ranges begins
			count := 0
			for _, other := range lack {
				if other.Contains(r.First) {
					count++
				}
			}
			if count >= n/2+1 {
				return r.First, true
			}
		}
	}
	return 0, false
}

// TestLackedByMajority: the lemma is seen to fail.
func TestLackedByMajority(t *testing.T) {
	for _, c := range []struct {
		n    int
		lack []string
		want uint64
	}{
		{3, []string{"[2,5]", ""}, 0},
		{3, []string{"[2,5]", "[6,9]"}, 0},
		{3, []string{"[2,5]", "[1,1] [5,9]"}, 5},
		{5, []string{"[2,5]", "[1,9]"}, 0},
		{5, []string{"[2,5]", "[4,9]", "[1,4]"}, 4},
		{4, []string{"[2,5]", "[1,9]"}, 0}, // each three of four have one that holds it
	} {
		lack := map[string]interval.Set{}
		for i, text := range c.lack {
			lack[fmt.Sprint(i)] = parseIntervals(text)
		}
		if got, ok := lackedByMajority(lack, c.n); got != c.want || ok != (c.want != 0) {
			t.Errorf("%d voters, %v: index %d", c.n, c.lack, got)
		}
	}
}
