package liveness

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Pair is a partition in one term of its leader.
type Pair struct {
	Partition uint32
	Term      uint64
}

// Table is one host's half of all its beats, as leader and as follower. It is safe for concurrent use.
//
// Always: a pair of a set counts as acknowledged only since a beat that was sent while it was in the set; a follower's
// answer names every pair of the list it has from that leader that it does not follow.
type Table struct {
	instance uint64 // of this process: a set of an earlier one is another set

	mu        sync.Mutex
	followers map[string]*follower // server id of a host that follows
	leaders   map[string]*leader   // server id of a host that leads
	follows   map[uint32]*followed
	changes   uint64 // of who follows whom
	forgotten uint64 // highest version of a follower that was dropped: no answer to an old beat may count for a new set
}

// follower is what this host, as leader, knows of another one.
type follower struct {
	pairs   map[uint32]ledPair
	digest  uint64
	version uint64 // grows with every change of pairs
	listed  uint64 // version of the list the other side has said yes to
	acked   time.Time
	ackedAt uint64 // version that acked is about
}

type ledPair struct {
	term  uint64
	added uint64 // version that brought it
}

// leader is what this host, as follower, has from another one.
type leader struct {
	digest uint64
	pairs  map[uint32]uint64   // partition to term: what is followed of the list
	gone   map[uint32]struct{} // what is not, or was not for a while: refused until there is another list
	beat   time.Time           // when the last beat that was answered with yes arrived
	gap    time.Duration       // see Gap
	dead   bool                // see Died; until the next beat
}

// followed is whom this host's member of a partition follows.
type followed struct {
	leader string
	term   uint64
	beat   time.Time // contact by lists before the present one
	left   bool      // the leader's host has taken it out of its list, or has died before it named it
}

// NewTable returns an empty table. instance is a number that no other process of this host uses.
func NewTable(instance uint64) *Table {
	return &Table{instance: instance, followers: map[string]*follower{}, leaders: map[string]*leader{}, follows: map[uint32]*followed{}}
}

func digestOf(p uint32, term uint64) uint64 {
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], p)
	binary.LittleEndian.PutUint64(b[4:], term)
	return xxhash.Sum64(b[:])
}

// Led notes that the member of a partition on another host has acknowledged this host's leadership in a term.
func (t *Table) Led(p uint32, term uint64, peer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[peer]
	if f == nil {
		f = &follower{pairs: map[uint32]ledPair{}, digest: t.instance, version: t.forgotten}
		t.followers[peer] = f
	}
	if old, ok := f.pairs[p]; ok {
		if old.term >= term {
			return
		}
		f.digest -= digestOf(p, old.term)
	}
	f.version++
	f.pairs[p] = ledPair{term: term, added: f.version}
	f.digest += digestOf(p, term)
}

// Resigned takes a partition out of all sets: this host does not lead it any more.
func (t *Table) Resigned(p uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.followers {
		f.remove(p)
	}
}

func (f *follower) remove(p uint32) {
	if old, ok := f.pairs[p]; ok {
		f.version++
		delete(f.pairs, p)
		f.digest -= digestOf(p, old.term)
	}
}

// Forget drops what is held for servers that are gone for good, as gone says: those that follow, and those that led and are
// followed by nobody here any more. A promise to one that is still followed is kept.
func (t *Table) Forget(gone func(server string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for peer, f := range t.followers {
		if gone(peer) {
			t.forgotten = max(t.forgotten, f.version)
			delete(t.followers, peer)
		}
	}
	for peer, l := range t.leaders {
		if len(l.pairs) == 0 && gone(peer) {
			delete(t.leaders, peer)
		}
	}
}

// Len is how many other servers the table holds something of.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.followers) + len(t.leaders)
}

// Acked is when the newest beat was sent by which a host acknowledged this host's leadership of a partition in a term; the
// zero time when there is none.
func (t *Table) Acked(p uint32, term uint64, peer string) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[peer]
	if f == nil {
		return time.Time{}
	}
	if pair, ok := f.pairs[p]; ok && pair.term == term && pair.added <= f.ackedAt {
		return f.acked
	}
	return time.Time{}
}

// Follow notes that this host's member of a partition has accepted a leader in a term.
func (t *Table) Follow(p uint32, term uint64, leader string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.follows[p]
	if old != nil && (old.term > term || old.leader == leader && old.term == term) {
		return
	}
	t.unfollow(p)
	if l := t.leaders[leader]; l != nil {
		l.dead = false // whose word this is
	}
	t.follows[p] = &followed{leader: leader, term: term}
	t.changes++
}

// Unfollow takes a partition back: its member follows nobody by what it said so far.
func (t *Table) Unfollow(p uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unfollow(p)
}

func (t *Table) unfollow(p uint32) {
	old := t.follows[p]
	if old == nil {
		return
	}
	delete(t.follows, p)
	t.changes++
	if l := t.leaders[old.leader]; l != nil && l.pairs[p] == old.term {
		delete(l.pairs, p)
		l.gone[p] = struct{}{}
	}
}

// Contact is when this host last heard, by a beat, from the leader that its member of a partition follows; the zero time
// when never.
func (t *Table) Contact(p uint32) (leader string, term uint64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.contact(p)
}

func (t *Table) contact(p uint32) (leader string, term uint64, at time.Time) {
	f := t.follows[p]
	if f == nil {
		return "", 0, time.Time{}
	}
	at = f.beat
	if l := t.leaders[f.leader]; l != nil && l.pairs[p] == f.term && l.beat.After(at) {
		at = l.beat
	}
	return f.leader, f.term, at
}

// Gap is the longest time that lately passed between two beats of the host that the member of a partition follows, 0 when it
// follows nobody, and whether no beat is to be waited for: since the last one the host's process has died (Died), or the host has said that
// it does not lead this partition any more, or so it seems for a moment after this host refused it late. The time halves with every 22 beats that come sooner.
func (t *Table) Gap(p uint32) (longest time.Duration, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.follows[p]; f != nil {
		if l := t.leaders[f.leader]; l != nil {
			return l.gap, l.dead || f.left
		}
		return 0, f.left
	}
	return 0, false
}

// Died notes that the process of a host is gone, as its machine says: no beat is to be waited for any more. What was promised by the
// last one holds all the same.
func (t *Table) Died(server string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leaders[server]
	if l != nil && !l.dead {
		l.dead = true
		t.changes++
	}
	for p, f := range t.follows {
		if f.leader == server && !f.left && (l == nil || l.pairs[p] != f.term) { // it has not been named yet
			f.left = true
			t.changes++
		}
	}
}

// arrived notes a beat, and how long it was waited for, unless nobody did: a host that leads nothing here sends none.
func (l *leader) arrived(now time.Time) {
	l.gap -= l.gap / 32
	if len(l.pairs) > 0 {
		l.gap = max(l.gap, now.Sub(l.beat))
	}
	l.beat, l.dead = now, false
}

// Release takes a partition back for the sake of a candidate, unless a beat has promised its leader otherwise until after
// now: lease is for how long a promise holds. It reports whether the candidate may be helped.
func (t *Table) Release(p uint32, candidate string, now time.Time, lease time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	leader, _, at := t.contact(p)
	if leader != "" && leader != candidate && !at.IsZero() && now.Before(at.Add(lease)) {
		return false
	}
	t.unfollow(p)
	return true
}

// Beat returns the next beat for a host, false when this host leads nothing there and the other one knows.
func (t *Table) Beat(peer string) (Beat, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[peer]
	if f == nil || len(f.pairs) == 0 && f.listed == f.version {
		return Beat{}, false
	}
	b := Beat{Version: f.version, Digest: f.digest}
	if f.listed != f.version {
		b.Listed = true
		for p, pair := range f.pairs {
			b.Pairs = append(b.Pairs, Pair{p, pair.term})
		}
		slices.SortFunc(b.Pairs, func(x, y Pair) int { return int(int64(x.Partition) - int64(y.Partition)) })
	}
	return b, true
}

// Heard is the follower's side of a beat that arrived now.
func (t *Table) Heard(from string, b Beat, now time.Time) Answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leaders[from]
	if !b.Listed {
		if l == nil || l.digest != b.Digest {
			return Answer{Unlisted: true}
		}
		l.arrived(now)
		return l.answer()
	}
	fresh := &leader{digest: b.Digest, pairs: make(map[uint32]uint64, len(b.Pairs)), gone: map[uint32]struct{}{}, beat: now}
	for _, pair := range b.Pairs {
		if f := t.follows[pair.Partition]; f != nil && f.leader == from && f.term == pair.Term {
			fresh.pairs[pair.Partition] = pair.Term
			f.left = false
		} else {
			fresh.gone[pair.Partition] = struct{}{}
		}
	}
	if l != nil {
		for p, term := range l.pairs {
			f := t.follows[p]
			if f == nil || f.leader != from || f.term != term {
				continue
			}
			if l.beat.After(f.beat) {
				f.beat = l.beat
			}
			_, named := slices.BinarySearchFunc(b.Pairs, p, func(x Pair, p uint32) int { return cmp.Compare(x.Partition, p) })
			f.left = !named
		}
		l.arrived(now)
		fresh.gap = l.gap
	}
	t.leaders[from] = fresh
	t.changes++
	return fresh.answer()
}

// answer to a beat is yes, but for what is not followed.
func (l *leader) answer() Answer { return Answer{Yes: true, Refused: slices.Sorted(maps.Keys(l.gone))} }

// Unrest counts the changes of who follows whom here, and reports whether a host that is followed has not been heard of for
// longer than a time: while neither is so, nobody's leader is missing.
func (t *Table) Unrest(now time.Time, patience time.Duration) (changes uint64, silent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.leaders {
		silent = silent || len(l.pairs) > 0 && now.Sub(l.beat) > patience
	}
	return t.changes, silent
}

// Answered takes the answer to a beat that was sent at a time, and returns the partitions that the other side does not
// follow this host in: each needs a word of Raft.
func (t *Table) Answered(peer string, b Beat, a Answer, sent time.Time) []Pair {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[peer]
	if f == nil {
		return nil
	}
	switch {
	case a.Yes:
		if b.Version > f.ackedAt || b.Version == f.ackedAt && sent.After(f.acked) {
			f.acked, f.ackedAt = sent, b.Version
		}
		f.listed = max(f.listed, b.Version)
	case a.Unlisted:
		f.listed = 0
	}
	var lost []Pair
	for _, p := range a.Refused {
		if pair, ok := f.pairs[p]; ok && pair.added <= b.Version {
			lost = append(lost, Pair{p, pair.term})
			f.remove(p)
		}
	}
	return lost
}
