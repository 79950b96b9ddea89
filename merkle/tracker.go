package merkle

// Tracker is the summary of one member, moved along as commands are applied,
// with a ring of its recent changes. Not safe for concurrent use: the owner's
// lock that orders the changes also guards the reads.
//
//	        floor                            index
//	----------|================================|
//	 forgotten  At answers, by undoing the ring   current
//
// Invariants: floor ≤ index; ring holds exactly the changes with floor <
// change.index ≤ index and perhaps more at floor itself, oldest first, indexes
// never falling.
type Tracker struct {
	current Summary
	index   uint64
	floor   uint64

	ring  []change // allocated once, len = capacity
	first int      // position of the oldest change
	n     int      // changes held
}

// change is what one document's change did to its bucket; adding it is doing,
// subtracting it is undoing.
type change struct {
	index  uint64
	delta  Bucket
	bucket uint8
}

// NewTracker starts at summary s, which is the state as of index. The ring
// takes capacity changes; with none only the current summary can be asked for.
func NewTracker(s Summary, index uint64, capacity int) *Tracker {
	return &Tracker{current: s, index: index, floor: index, ring: make([]change, max(capacity, 0))}
}

// Replace applies one document's change by the command at index: its leaf in
// the bucket was old and is new; nil is no leaf. Several changes may share an
// index; At(index) is the state after the last of them.
//
// Indexes never fall. One below the current index would belong to a past that
// was already answered for, so it is handled as Learn does.
func (t *Tracker) Replace(index uint64, bucket uint8, old, new *Sum) {
	if index < t.index {
		t.Learn(bucket, old, new)
		return
	}
	t.index = index
	d := difference(old, new)
	if d == (Bucket{}) {
		return
	}
	t.current[bucket] = t.current[bucket].Add(d)
	t.remember(change{index, d, bucket})
}

// Advance says that everything through index is applied and the commands since
// the current index changed no document. A smaller index changes nothing.
func (t *Tracker) Advance(index uint64) { t.index = max(t.index, index) }

// Learn applies a change that came by repair. Where in the order of commands
// it belongs is not known, so earlier states cannot be told any more: the
// current index is the oldest that At answers. A change that changes nothing
// forgets nothing.
func (t *Tracker) Learn(bucket uint8, old, new *Sum) {
	d := difference(old, new)
	if d == (Bucket{}) {
		return
	}
	t.current[bucket] = t.current[bucket].Add(d)
	t.first, t.n = 0, 0
	t.floor = t.index
}

// Current is the summary as it is and the index it is the state of. The
// pointer is the tracker's own: read it under the owner's lock, or copy it.
func (t *Tracker) Current() (*Summary, uint64) { return &t.current, t.index }

// Bucket is one bucket of the current summary.
func (t *Tracker) Bucket(b uint8) Bucket { return t.current[b] }

// At is the summary as it was at index: exactly, or false when index is older
// than what the ring can undo or newer than the current one. It costs one copy
// and one subtraction for each change after index.
func (t *Tracker) At(index uint64) (Summary, bool) {
	if index < t.floor || index > t.index {
		return Summary{}, false
	}
	s := t.current
	for i := t.n - 1; i >= 0; i-- {
		c := &t.ring[t.position(i)]
		if c.index <= index {
			break
		}
		s[c.bucket] = s[c.bucket].Sub(c.delta)
	}
	return s, true
}

// Oldest is the oldest index At answers for.
func (t *Tracker) Oldest() uint64 { return t.floor }

// remember puts c into the ring. What it pushes out can no longer be undone,
// so the oldest state left is the one just after it.
func (t *Tracker) remember(c change) {
	if len(t.ring) == 0 {
		t.floor = c.index
		return
	}
	if t.n < len(t.ring) {
		t.ring[t.position(t.n)] = c
		t.n++
		return
	}
	t.floor = t.ring[t.first].index
	t.ring[t.first] = c
	t.first = t.position(1)
}

// position is where the i-th oldest change lies; i ≤ capacity.
func (t *Tracker) position(i int) int {
	p := t.first + i
	if p >= len(t.ring) {
		p -= len(t.ring)
	}
	return p
}

func difference(old, new *Sum) (d Bucket) {
	if new != nil {
		d = Bucket{*new, 1}
	}
	if old != nil {
		d = d.Sub(Bucket{*old, 1})
	}
	return d
}
