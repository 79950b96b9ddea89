package adamant

import (
	"sync"
	"time"
)

// historyLength bounds the notable events a host remembers for its status.
const historyLength = 256

// history is a ring of notable events.
type history struct {
	mu      sync.Mutex
	notices []Notice
}

func (h *history) add(n Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.notices) == historyLength {
		h.notices = append(h.notices[:0], h.notices[1:]...)
	}
	h.notices = append(h.notices, n)
}

func (h *history) list() []Notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Notice(nil), h.notices...)
}

// note remembers a notable event; partition is nil when it concerns the whole host.
func (h *Host) note(partition *uint32, kind, text string) {
	h.history.add(Notice{Time: time.Now(), Partition: partition, Kind: kind, Text: text})
}
