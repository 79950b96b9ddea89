package adamant

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/liveness"
	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
)

// The signs of life between hosts (package liveness), and the notes that tell followers of quiet partitions what is
// committed. Both are calls of mesh.ServiceHost, answered on the link's own goroutine.

// beatsPerHeartbeat is how many beats a host sends in a heartbeat.
const beatsPerHeartbeat = 3

// campaignsAtOnce bounds how many of a host's members stand for election at once: a thousand that begin together, because a
// host died or a cluster starts, would keep each other from being elected in time.
const campaignsAtOnce = 16

// ticksPerHeartbeat is how often in that time a host looks after its members; quietTicks is how many of these looks a member is
// left out of that has nothing to watch.
const (
	ticksPerHeartbeat = 8
	quietTicks        = 4 * ticksPerHeartbeat
)

// beat is the loop that sends beats to every host this one leads members on, each on its own goroutine, so that a slow host
// delays no other. None waits for the answer to the one before, which may take as long as a lease when the machines are busy:
// then the followers would miss a leader that lives.
func (h *Host) beat(ctx context.Context) {
	interval := h.opts.Timing.Heartbeat / beatsPerHeartbeat
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	unanswered := map[raft.ServerID]int{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		failed := h.failed() != nil
		for _, peer := range h.reports.servers() {
			b, ok := h.live.Beat(string(peer))
			if failed && (!b.Listed || len(b.Pairs) > 0) {
				ok = false // a host that stopped leads nothing, and says no more than that
			}
			mu.Lock()
			free := ok && unanswered[peer] < beatsPerHeartbeat
			if free {
				unanswered[peer]++
			}
			mu.Unlock()
			if !free {
				continue
			}
			wg.Go(func() {
				lost := h.beatOnce(ctx, peer, b, h.opts.Timing.Lease)
				mu.Lock()
				if unanswered[peer]--; unanswered[peer] == 0 {
					delete(unanswered, peer)
				}
				mu.Unlock()
				h.reassure(peer, lost) // takes its time: the other partitions' next beat does not wait for it
			})
		}
	}
}

// beatOnce sends one beat and takes its answer. It returns what the other host does not follow this one in.
func (h *Host) beatOnce(ctx context.Context, peer raft.ServerID, b liveness.Beat, patience time.Duration) []liveness.Pair {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	target, err := mesh.TargetOf(raft.ServerAddress(peer))
	if err != nil {
		return nil
	}
	sent := h.opts.Clock()
	p := h.net.Start(target, express(b.AppendBinary([]byte{callBeat}), patience))
	payload, err := mesh.Await(ctx, p)
	if err != nil {
		return nil // it counts for nothing; links say themselves when they break
	}
	a, err := liveness.DecodeAnswer(payload)
	if err != nil {
		h.log.Warn("answer to a beat", "peer", peer, "error", err)
		return nil
	}
	return h.live.Answered(string(peer), b, a, sent)
}

// reassure has members say themselves that they lead, to those of another host that do not follow them.
func (h *Host) reassure(peer raft.ServerID, pairs []liveness.Pair) {
	for _, lost := range pairs {
		m := h.member(lost.Partition)
		if m == nil || m.running() == nil {
			continue
		}
		if err := m.running().Reassure(peer, lost.Term); err != nil {
			h.log.Debug("reassure", "partition", lost.Partition, "peer", peer, "error", err)
		}
	}
}

// heard answers another host's beat.
func (h *Host) heard(from mesh.Identity, body []byte) ([]byte, error) {
	b, err := liveness.DecodeBeat(body)
	if err != nil {
		return nil, err
	}
	if h.failed() != nil {
		return nil, h.failed() // its members follow nobody any more
	}
	return h.live.Heard(from.ID(), b, h.opts.Clock()).AppendBinary(nil), nil
}

// tick looks after the members: silent leaders are replaced, quiet followers told what is committed.
func (h *Host) tick(ctx context.Context) {
	usual := h.opts.Timing.Heartbeat / ticksPerHeartbeat
	every := usual
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	attention, compared := attention{beat: h.opts.Timing.Heartbeat, last: h.opts.Clock()}, time.Time{}
	round := watchRound{}
	var awake []*member    // and watched
	var disk time.Duration // that a member waited for its log in the round before, at the most
	var told sync.WaitGroup
	defer told.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := h.opts.Clock()
		seen := attention.look(now, every, round.silent, disk)
		disk = 0
		if now.Sub(compared) >= compareEvery {
			compared = now
			h.remind()
			h.live.Forget(h.reports.succeeded())
		}
		notes := map[raft.ServerID][]byte{}
		look := func(m *member) (awake bool) {
			p := m.running()
			if p == nil {
				return false
			}
			disk = max(disk, p.DiskWaits(now))
			if n, ok := p.Tick(seen); ok {
				for _, to := range n.To {
					notes[to] = appendNote(notes[to], m.id, n)
				}
			}
			return p.Awake()
		}
		all := round.next(h, now)
		if next := round.pace(usual); next != every {
			every = next
			ticker.Reset(every)
		}
		awake = h.roused.join(awake)
		members, first, stride := h.allMembers(), round.number%quietTicks, quietTicks
		if all {
			first, stride = 0, 1
		}
		for i := first; i < len(members); i += stride {
			awake = members[i].watch(awake)
		}
		awake = slices.DeleteFunc(awake, func(m *member) bool {
			m.watched = look(m)
			return !m.watched
		})
		for to, payload := range notes {
			told.Go(func() { h.tell(ctx, to, payload) })
		}
	}
}

// watch adds the member to those that are watched, once.
func (m *member) watch(watched []*member) []*member {
	if m.watched {
		return watched
	}
	m.watched = true
	return append(watched, m)
}

// roused lists the members that got something to watch since it was asked last. It is a lock that nothing is called under.
type roused struct {
	mu      sync.Mutex
	members []*member
}

func (r *roused) add(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = append(r.members, m)
}

// join adds them to those that are watched.
func (r *roused) join(watched []*member) []*member {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		watched = m.watch(watched)
	}
	clear(r.members)
	r.members = r.members[:0]
	return watched
}

// watchRound says whose turn it is. While all is quiet a member is looked at once in four heartbeats; all of them each time when
// a host has become silent, or somebody follows another one, and those each time that something has happened to.
type watchRound struct {
	number  int
	changes uint64
	until   time.Time // everybody's turn
	silent  bool      // a host that is followed is
}

func (w *watchRound) next(h *Host, now time.Time) (all bool) {
	w.number++
	changes, silent := h.live.Unrest(now, h.opts.Timing.Heartbeat/2)
	w.silent = silent
	if silent || changes != w.changes {
		w.changes, w.until = changes, now.Add(2*h.opts.Timing.Heartbeat)
	}
	return now.Before(w.until)
}

// pace is the time to the next round: short while a host may be missing any moment, because what a round comes late is added
// to the time without a leader.
func (w *watchRound) pace(usual time.Duration) time.Duration {
	if w.silent {
		return usual / 4
	}
	return usual
}

// compareEvery is how often a host looks whether the followers of its partitions have applied what it told them.
const compareEvery = time.Second

// remind looks after partitions where a follower reported that it applied less than this leader: it was told too early what
// is committed, or not at all, or it misses entries.
func (h *Host) remind() {
	for _, m := range h.allMembers() {
		p := m.running()
		if p == nil || !h.leads(p) {
			continue
		}
		for _, peer := range h.reports.behind(m.id, m.docs.Applied(), time.Now()) {
			p.Nudge(peer)
		}
	}
}

// renoteAfter is how long a host waits before it repeats notes that did not arrive.
const renoteAfter = time.Second

// tell sends notes to one host; the members repeat those that it did not take.
func (h *Host) tell(ctx context.Context, to raft.ServerID, payload []byte) {
	ctx, cancel := context.WithTimeout(ctx, hostCallTimeout)
	defer cancel()
	target, err := mesh.TargetOf(raft.ServerAddress(to))
	if err == nil {
		_, err = h.net.Call(ctx, target, mesh.Request{Service: mesh.ServiceHost, Class: mesh.Normal, Payload: payload, Timeout: hostCallTimeout})
	}
	if err == nil {
		return
	}
	_ = eachNote(payload[1:], func(id uint32, _ partition.Note) { // made by appendNote
		if m := h.member(id); m != nil {
			if p := m.running(); p != nil {
				p.Renote(renoteAfter)
			}
		}
	})
}

// appendNote encodes: call u8 once | for each note: partition, term, index, term of the index as uvarints.
func appendNote(b []byte, id uint32, n partition.Note) []byte {
	if len(b) == 0 {
		b = append(b, callNotes)
	}
	b = binary.AppendUvarint(b, uint64(id))
	b = binary.AppendUvarint(b, n.Term)
	b = binary.AppendUvarint(b, n.Index)
	return binary.AppendUvarint(b, n.IndexTerm)
}

// noted hands another host's notes to the members they are for.
func (h *Host) noted(from mesh.Identity, body []byte) error {
	return eachNote(body, func(id uint32, n partition.Note) {
		if m := h.member(id); m != nil {
			if p := m.running(); p != nil {
				p.Noted(raft.ServerID(from.ID()), n)
			}
		}
	})
}

// eachNote decodes what appendNote made, without the first byte.
func eachNote(body []byte, do func(uint32, partition.Note)) error {
	d := decoder{b: body}
	for len(d.b) > 0 {
		id := d.uvarint()
		n := partition.Note{Term: d.uvarint(), Index: d.uvarint(), IndexTerm: d.uvarint()}
		if d.err != nil || id > 1<<32-1 {
			return fmt.Errorf("%w: notes", errReport)
		}
		do(uint32(id), n)
	}
	return nil
}
