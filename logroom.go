package adamant

// Entries that are truncated before the log engine's memory is full are never written a second time (design §4). So what stays behind the
// markers of all members of a host is bounded by a part of that memory, which is divided among them by what they wrote lately. What
// they do not write takes no room: it is in tables already.
const (
	logRoomPart = 4 // of LogMemoryBytes
	// leastLogRoom is a member's at least: to make a marker costs about as much as to write some ten kilobytes once more.
	leastLogRoom = 64 << 10
)

// logPace is how much a member's log has grown lately.
type logPace struct {
	seen   uint64  // bytes as of the last tick, since the member was opened
	recent float64 // bytes; of older ones half as much counts with each tick
}

func (p *logPace) tick(bytes uint64) {
	if bytes < p.seen {
		p.seen = 0 // opened anew
	}
	p.recent, p.seen = p.recent/2+float64(bytes-p.seen), bytes
}

// logRoom is the share of a member that wrote so much of all that was written lately.
func logRoom(total int64, recent, all float64) int64 {
	if all <= 0 {
		return max(leastLogRoom, total)
	}
	return max(leastLogRoom, int64(float64(total)*recent/all))
}

// logRooms are the rooms of members, as of this tick. An engine without a memory of its own leaves them to their options.
func (h *Host) logRooms(members []*member) []int64 {
	rooms := make([]int64, len(members))
	if h.opts.Log == LogBolt {
		return rooms
	}
	all := 0.0
	for _, m := range members {
		if p := m.running(); p != nil {
			m.pace.tick(p.Counts().LogBytes)
			all += m.pace.recent
		}
	}
	for i, m := range members {
		rooms[i] = logRoom(h.opts.LogMemoryBytes/logRoomPart, m.pace.recent, all)
	}
	return rooms
}
