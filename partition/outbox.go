package partition

import "sync"

// outbox gathers commands on their way to Raft while this leader's disk works on those before them.
//
//	disk      ├── a ──┤├─ b c d ─┤
//	proposed    b c d   e f
//
// Raft sends on what it finds queued at once, in requests of a few entries when its log does not make it wait: with many
// writers each of those costs more than the entries in it. What comes while an fsync of this partition runs can not be durable
// here before the next one, so it waits for that one's beginning, and goes out in one piece: in entries of several commands, if
// it can (several.go). Followers lose at most an fsync's time by that, which their own disks need for what came before. A lone
// write never waits.
//
// Always: commands are held only while a run of entries is on its way to the disk, whose landing calls release, or while the
// goroutine of release runs.
type outbox struct {
	landing func() bool        // a run of entries is on its way to the disk
	apply   func(entry []byte) // hands an entry to Raft

	mu        sync.Mutex // taken after the partition's
	held      []together
	entries   uint64 // that were begun so far; the last of held is of that number
	lately    int    // bytes of the last entry that Raft was given, as far as several commands may take them
	releasing bool   // the goroutine of release runs, and keeps the order
	closed    bool
	running   sync.WaitGroup // of that goroutine
}

// put hands a command to Raft, now or later. Commands reach Raft in the order of put. The result is the number of the entry that it
// will share with others, 0 if with none; after is what put said of the command before that has to precede it in the log, which may
// not be in the same entry.
func (o *outbox) put(c *command, after uint64) (entry uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.releasing || len(o.held) > 0 || o.landing() {
		return o.hold(c, after)
	}
	o.apply(c.encode())
	return 0
}

// hold keeps a command for later. The caller holds mu.
func (o *outbox) hold(c *command, after uint64) (entry uint64) {
	if n := len(o.held); n > 0 && o.entries > after && o.held[n-1].add(c, 0) {
		return o.entries
	}
	room := 0
	if o.entries > after { // else it is one document's commands that fill entries, each with one
		room = o.lately
	}
	o.entries++
	o.held = append(o.held, together{})
	o.held[len(o.held)-1].add(c, room)
	return o.entries
}

// release has what is held handed to Raft. It is told that a run of entries has landed, by a goroutine that Raft may be
// waiting for: another one waits for Raft, if it comes to that.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.held) == 0 || o.releasing || o.closed {
		return
	}
	o.releasing = true
	o.running.Go(o.run)
}

func (o *outbox) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		entries := o.held
		o.held = nil
		for i := range entries {
			o.lately = min(len(entries[i].b), maxTogether)
		}
		o.mu.Unlock()
		for i := range entries {
			o.apply(entries[i].entry())
		}
		o.mu.Lock()
		if len(o.held) == 0 || o.closed || o.landing() {
			o.releasing = false
			return
		}
	}
}

// drop forgets what is held, when the leadership ends that it was evaluated in: Raft has room for no more than may be in flight.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = nil
}

// close ends the goroutine. Raft is shutting down, and takes nothing more.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed, o.held = true, nil
	o.mu.Unlock()
	o.running.Wait()
}
