package partition

import "sync"

// enough commands are a run that goes to Raft whatever is under way.
const enough = 32

// outbox gathers commands on their way to Raft while those before them are on their way to a majority.
//
//	in the log  ├── a ──┤├─ b c d ─┤├─ e f ─┤
//	proposed      b c d    e f
//
// Raft, the log, the links and the state machine cost by the entry and by the request, whatever is in it. So what comes while a
// run of entries is not answered waits for that, and goes out in one piece: in entries of several commands, if it can
// (several.go). The more there is to do, the longer a run takes and the more the next one holds, so that a busy machine works
// less for each write. A lone write never waits; one that comes behind others waits for one run at the most, and not at all once
// there are enough of them: a larger run would not cost less for each, and the disk and the links would have to wait.
//
// Always: commands are held only while some that Raft was given are not answered, or while the goroutine of release runs.
type outbox struct {
	apply func(entry []byte) // hands an entry to Raft

	mu         sync.Mutex // taken after the partition's
	unanswered int        // commands that Raft was given
	held       []together
	waiting    int    // commands in held
	entries    uint64 // that were begun so far; the last of held is of that number
	lately     int    // bytes of the last entry that Raft was given, as far as several commands may take them
	releasing  bool   // the goroutine of release runs, and keeps the order
	closed     bool
	running    sync.WaitGroup // of that goroutine
}

// put hands a command to Raft, now or later. Commands reach Raft in the order of put, but for barriers, which wait for nothing:
// what is unanswered may need one (Partition.push). The result is the number of the entry that the command will share with
// others, 0 if with none; after is what put said of the command before that has to precede it in the log, which may not be in the
// same entry.
func (o *outbox) put(c *command, after uint64) (entry uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case c.Barrier:
	case o.unanswered > 0 || len(o.held) > 0:
		return o.hold(c, after)
	default:
		o.unanswered = 1
	}
	o.apply(c.encode())
	return 0
}

// hold keeps a command for later. The caller holds mu.
func (o *outbox) hold(c *command, after uint64) (entry uint64) {
	if o.waiting++; o.waiting >= enough {
		o.run()
	}
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

// answered is told that commands were applied or fenced, barriers apart. After the last of a run it has what is held handed to
// Raft, by a goroutine of its own: the caller is one that Raft may be waiting for.
func (o *outbox) answered(commands int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unanswered -= commands; o.unanswered == 0 && o.waiting > 0 {
		o.run()
	}
}

// run starts the goroutine of release, unless it runs. The caller holds mu.
func (o *outbox) run() {
	if o.releasing || o.closed {
		return
	}
	o.releasing = true
	o.running.Go(o.release)
}

// release hands over what is held, and goes on while that is due again.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && o.waiting > 0 && (o.unanswered == 0 || o.waiting >= enough) {
		entries := o.held
		o.held, o.waiting = nil, 0
		for i := range entries {
			o.lately = min(len(entries[i].b), maxTogether)
			o.unanswered += entries[i].count
		}
		o.mu.Unlock()
		for i := range entries {
			o.apply(entries[i].entry())
		}
		o.mu.Lock()
	}
	o.releasing = false
}

// drop forgets what is held and what is unanswered, when the leadership ends that it was evaluated in: Raft has room for no more than
// may be in flight, and nobody is told what becomes of it any more.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unanswered, o.held, o.waiting = 0, nil, 0
}

// close ends the goroutine. Raft is shutting down, and takes nothing more.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed, o.held, o.waiting = true, nil, 0
	o.mu.Unlock()
	o.running.Wait()
}
