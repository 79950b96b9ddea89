package config

// fill gives every vacant slot the host that costs least, partition by partition, and every partition without one a
// preferred leader. With cells (the cell of each host, the home cell of each partition) members come from the home.
func (l *layout) fill(cell, home []int32) {
	for p := range l.parts {
		for slot, h := range l.parts[p].slots {
			if h == vacant {
				l.fillSlot(p, slot, cell, home)
			}
		}
		if l.parts[p].lead == vacant {
			l.setLead(p, 0)
		}
	}
}

func (l *layout) fillSlot(p, slot int, cell, home []int32) {
	best, least := int32(vacant), int64(0)
	for h := range int32(l.hosts) {
		if l.isMember(p, h) || cell != nil && cell[h] != home[p] {
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

// fillCells is fill with the cells of a cap; members outside of a partition's cell leave it.
func (l *layout) fillCells(c cells) {
	cell := l.seat(c)
	l.fill(cell, l.settle(cell))
}

// improve makes a filled layout as good as the planner can.
func (l *layout) improve() {
	rng := random(1)
	l.balanceMembers()
	l.balanceVoters()
	l.balanceLeads()
	l.search(&rng)
	l.balanceLeads()
}
