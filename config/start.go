package config

// fill gives every vacant slot the host that costs least, partition by partition, and every partition without one a
// preferred leader. With cells, home is the cell of each partition and its members come from there.
func (l *layout) fill(home []int32) {
	for p := range l.parts {
		for slot, h := range l.parts[p].slots {
			if h == vacant {
				l.fillSlot(p, slot, home)
			}
		}
		if l.parts[p].lead == vacant {
			l.setLead(p, 0)
		}
	}
}

func (l *layout) fillSlot(p, slot int, home []int32) {
	best, least := int32(vacant), int64(0)
	for h := range int32(l.hosts) {
		if l.isMember(p, h) || home != nil && l.cell[h] != home[p] {
			continue
		}
		price := l.put(p, slot, h)
		l.take(p, slot)
		if best == vacant || price < least {
			best, least = h, price
		}
	}
	l.put(p, slot, best)
}

// improve makes a filled layout as good as the planner can.
func (l *layout) improve() {
	rng := random(1)
	l.balanceMembers()
	l.balanceVoters()
	l.balanceLeads()
	l.search(&rng)
	l.balanceMembers() // what a zone forbade before may be possible now
	l.balanceLeads()
}
