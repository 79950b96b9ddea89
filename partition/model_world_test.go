package partition

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant/store"
)

// engine is what a member's document engine holds.
type engine struct {
	docs           [modelDocs]docID
	healed         [modelDocs]indexes // by bucket
	holes          indexes
	applied, ahead uint8
}

// Of a slot.
const (
	slotFree uint8 = iota
	slotLive
	slotLost // its disk is gone; what it held when it went counts for what a majority holds, but it never answers again
)

// slot is one member: a disk under one identity.
type slot struct {
	status    uint8
	now, disk engine  // disk: what a crash leaves; now: with what is not synced yet
	tip, base entryID // the log holds the entries after base, up to tip; base is its marker's
	pull      session
}

// session is a member's pull of one bucket.
type session struct {
	phase         uint8 // sessionNone, …
	peer, bucket  uint8
	applied, seen uint8 // as in store.Answers
	covered       indexes
	wants         uint8 // documents still to pull, as indexes

	// An answer on its way, when answers take time: what the peer had when it gave it.
	flight                   [modelDocs]docID
	flightCovered            indexes
	flightApplied, flightTop uint8
}

const (
	sessionNone   uint8 = iota
	sessionListed       // a listing is on its way
	sessionPulls        // wants says what is still to be asked for
	sessionChunk        // a document is on its way
)

// budget names what a search does a limited number of times.
type budget uint8

const (
	commands  budget = iota
	elections        // leader changes
	markers          // truncations of a log behind a marker
	crashes
	wipes // disks lost
	joins
	changes  // of the configuration
	sessions // pulls begun
	budgets
)

type limits [budgets]uint8

// world is one state.
type world struct {
	m      [modelSlots]slot
	commit entryID // all that is committed
	office entryID // the leader's first entry: what it has to have applied before it serves
	leader int8    // -1: none
	term   uint8
	used   limits
}

// swap exchanges two slots.
func (w *world) swap(a, b int) {
	w.m[a], w.m[b] = w.m[b], w.m[a]
	rename := func(i int) int {
		switch i {
		case a:
			return b
		case b:
			return a
		}
		return i
	}
	if w.leader >= 0 {
		w.leader = int8(rename(int(w.leader)))
	}
	for i := range w.m {
		if w.m[i].pull.phase != sessionNone {
			w.m[i].pull.peer = uint8(rename(int(w.m[i].pull.peer)))
		}
	}
}

const slotBytes = 46

// bytes encodes a slot. The peer of its session is left out when slots are put in order: it is itself a slot.
func (s *slot) bytes(peer bool) (b [slotBytes]byte) {
	at := 0
	put8 := func(v uint8) { b[at] = v; at++ }
	put16 := func(v uint16) { binary.LittleEndian.PutUint16(b[at:], v); at += 2 }
	put8(s.status)
	for _, e := range []*engine{&s.now, &s.disk} {
		for i := range e.docs {
			put16(uint16(e.docs[i]))
			put16(uint16(e.healed[i]))
		}
		put16(uint16(e.holes))
		put8(e.applied)
		put8(e.ahead)
	}
	put16(uint16(s.tip))
	put16(uint16(s.base))
	p := &s.pull
	if p.phase == sessionNone {
		return b
	}
	put8(p.phase)
	if peer {
		put8(p.peer)
	}
	put8(p.bucket | p.wants<<4)
	put8(p.applied)
	put8(p.seen)
	put16(uint16(p.covered))
	for _, d := range p.flight {
		put16(uint16(d))
	}
	put16(uint16(p.flightCovered))
	put8(p.flightApplied)
	put8(p.flightTop)
	return b
}

// order puts the first n slots into a canonical order: which host is which makes no difference to what can happen. With
// moved, it notes what it exchanges.
func (w *world) order(n int, moved func(a, b int)) {
	type key struct {
		b      [slotBytes]byte
		leader bool
	}
	var keys [modelSlots]key
	for i := range n {
		keys[i] = key{w.m[i].bytes(false), int(w.leader) == i}
	}
	less := func(a, b *key) bool {
		for i := range a.b {
			if a.b[i] != b.b[i] {
				return a.b[i] < b.b[i]
			}
		}
		return a.leader && !b.leader
	}
	for i := 1; i < n; i++ {
		for j := i; j > 0 && less(&keys[j], &keys[j-1]); j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
			w.swap(j, j-1)
			if moved != nil {
				moved(j, j-1)
			}
		}
	}
}

// fingerprint stands for a world: two 64-bit hashes.
type fingerprint [2]uint64

func (w *world) fingerprint() fingerprint {
	var b [modelSlots*slotBytes + 16]byte
	at := 0
	for i := range w.m {
		s := w.m[i].bytes(true)
		at += copy(b[at:], s[:])
	}
	binary.LittleEndian.PutUint16(b[at:], uint16(w.commit))
	binary.LittleEndian.PutUint16(b[at+2:], uint16(w.office))
	b[at+4], b[at+5] = byte(w.leader), w.term
	at += 6 + copy(b[at+6:], w.used[:])
	var d xxhash.Digest
	d.ResetWithSeed(0x9e3779b97f4a7c15)
	_, _ = d.Write(b[:at])
	return fingerprint{xxhash.Sum64(b[:at]), d.Sum64()}
}

// complete, covers and learn are the product's rules on the model's sets.

func (u *universe) complete(e *engine) bool {
	return store.Complete(u.set(e.holes), uint64(e.ahead), uint64(e.applied))
}

func (u *universe) covers(e *engine, bucket uint8) indexes {
	return bitsOf(store.Coverage(uint64(e.applied), u.set(e.holes), u.set(e.healed[bucket])))
}

func (u *universe) coversAll(e *engine) indexes {
	return bitsOf(store.Coverage(uint64(e.applied), u.set(e.holes), nil))
}

// settled ends every batch: a complete member keeps no delete records.
func (u *universe) settled(e *engine) {
	if u.broken != "deletes" && !u.complete(e) {
		return
	}
	for i, id := range e.docs {
		if u.docs[id].deleted > 0 {
			e.docs[i] = 0
		}
	}
}

// play applies an entry.
func (u *universe) play(e *engine, id entryID) (violation string) {
	x := &u.entries[id]
	e.applied = x.index
	if x.kind != 0 {
		r := u.replay(replayKey{e.docs[x.doc], id, !u.complete(e)})
		if r.diverged {
			violation = "an entry contradicts what a member holds"
		}
		e.docs[x.doc] = r.doc
	}
	u.settled(e)
	return violation
}

// skip moves past a marker; it is synced.
func (u *universe) skip(e *engine, marker uint8) {
	e.holes = bitsOf(store.Skip(u.set(e.holes), uint64(e.applied), uint64(marker)))
	e.applied = max(e.applied, marker)
}
