package store

import (
	"sync"
	"time"
)

// edgeMemory is the damage that edge found lately. To find it again is dear: Pebble tries every bit of the block. Tables do not
// change, but a disk may read another time what it could not, so nothing is remembered for long.
type edgeMemory struct {
	mu    sync.Mutex
	until time.Time
	found map[edgePlace]error
}

type edgePlace struct {
	table     uint64
	bound     string
	direction int
}

const (
	edgesRemembered = time.Minute
	mostEdges       = 4096
)

func (m *edgeMemory) recall(p edgePlace) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Now().After(m.until) {
		m.found = nil
	}
	return m.found[p]
}

func (m *edgeMemory) remember(p edgePlace, damage error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if damage == nil {
		return
	}
	if m.found == nil || len(m.found) >= mostEdges {
		m.found, m.until = map[edgePlace]error{}, time.Now().Add(edgesRemembered)
	}
	m.found[p] = damage
}
