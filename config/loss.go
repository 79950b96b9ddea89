package config

// deaths counts, for a set of dead hosts that changes one host at a time, the partitions that lost their majority and
// those that lost every member.
type deaths struct {
	held    [][]seat // by host
	voters  []int    // by partition
	members []int
	deadV   []int // by partition: dead voters, dead members
	deadM   []int

	lostMajority, lostAll int
}

// seat is one membership of a host.
type seat struct {
	part  int32
	voter bool
}

func newDeaths(l *layout) *deaths {
	n := len(l.parts)
	d := &deaths{
		held: make([][]seat, l.hosts), voters: make([]int, n), members: make([]int, n), deadV: make([]int, n), deadM: make([]int, n),
	}
	for p := range l.parts {
		part := &l.parts[p]
		d.voters[p], d.members[p] = part.voters, len(part.slots)
		for slot, h := range part.slots {
			d.held[h] = append(d.held[h], seat{int32(p), slot < part.voters})
		}
	}
	return d
}

// kill adds a host to the dead.
func (d *deaths) kill(h int) {
	for _, s := range d.held[h] {
		if d.deadM[s.part]++; d.deadM[s.part] == d.members[s.part] {
			d.lostAll++
		}
		if !s.voter {
			continue
		}
		if d.deadV[s.part]++; d.deadV[s.part] == fatal(d.voters[s.part]) {
			d.lostMajority++
		}
	}
}

// revive takes a host back from the dead.
func (d *deaths) revive(h int) {
	for _, s := range d.held[h] {
		if d.deadM[s.part] == d.members[s.part] {
			d.lostAll--
		}
		d.deadM[s.part]--
		if !s.voter {
			continue
		}
		if d.deadV[s.part] == fatal(d.voters[s.part]) {
			d.lostMajority--
		}
		d.deadV[s.part]--
	}
}

// fatal returns how many deaths leave no majority of the voters.
func fatal(voters int) int { return voters - voters/2 }

const (
	// exactWork bounds the memberships an exact count may visit: some tenths of a second.
	exactWork = 20_000_000
	// maxSamples is how many sets a sample has unless that is too much work: a chance of 1 % is then known to ±0.1 %.
	maxSamples = 100_000
)

// loss returns what k failures cost: exactly if there are few enough sets of k hosts, else by a seeded sample.
func (d *deaths) loss(k int) Loss {
	seats := 1
	for _, held := range d.held {
		seats += len(held)
	}
	n := len(d.held)
	perHost := float64(seats) / float64(n)
	result := Loss{Failures: k, Exact: choose(n, k)*perHost <= exactWork}
	var majority, all int
	count := func() {
		result.Sets++
		if d.lostMajority > 0 {
			majority++
		}
		if d.lostAll > 0 {
			all++
		}
	}
	if result.Exact {
		d.each(0, k, count)
	} else {
		d.sample(k, min(maxSamples, max(1, int(exactWork/(perHost*float64(k))))), count)
	}
	result.Majority = float64(majority) / float64(result.Sets)
	result.AllCopies = float64(all) / float64(result.Sets)
	return result
}

// each calls count with every set of k hosts from the given one on dead.
func (d *deaths) each(from, k int, count func()) {
	if k == 0 {
		count()
		return
	}
	for h := from; h <= len(d.held)-k; h++ {
		d.kill(h)
		d.each(h+1, k-1, count)
		d.revive(h)
	}
}

// sample calls count with random sets of k hosts dead.
func (d *deaths) sample(k, sets int, count func()) {
	rng := random(1)
	order := make([]int, len(d.held))
	for i := range order {
		order[i] = i
	}
	for range sets {
		for i := range k { // the first k of a shuffle
			j := i + rng.below(len(order)-i)
			order[i], order[j] = order[j], order[i]
			d.kill(order[i])
		}
		count()
		for _, h := range order[:k] {
			d.revive(h)
		}
	}
}

// byZone returns what the failure of each named zone costs.
func (d *deaths) byZone(names []string, hosts map[string]Host) []ZoneLoss {
	inZone := map[string][]int{}
	for h, name := range names {
		if zone := hosts[name].Zone; zone != "" {
			inZone[zone] = append(inZone[zone], h)
		}
	}
	var losses []ZoneLoss
	for _, zone := range sortedNames(inZone) {
		for _, h := range inZone[zone] {
			d.kill(h)
		}
		losses = append(losses, ZoneLoss{zone, len(inZone[zone]), d.lostMajority, d.lostAll})
		for _, h := range inZone[zone] {
			d.revive(h)
		}
	}
	return losses
}

// choose returns the number of sets of k of n.
func choose(n, k int) float64 {
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return c
}
