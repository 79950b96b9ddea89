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
	// The current summary, a page of it only where a bucket ever held a document:
	// a host has very many members that hold few.
	pages [Buckets / pageSize]*page
	index uint64
	floor uint64

	// The ring grows to capacity as changes come, and stays there until Forget,
	// so that many idle members on one host cost nothing. first is 0 until it is full.
	ring     []change
	first    int // position of the oldest change
	capacity int
}

// page is some neighbouring buckets of a summary.
type page [pageSize]Bucket

const pageSize = 16

// change is what one document's change did to its bucket; adding it is doing,
// subtracting it is undoing. 32 bytes: a host keeps very many.
type change struct {
	index  uint64
	sum    Sum
	count  int8 // -1, 0 or 1
	bucket uint8
}

func (c *change) do(k *Bucket)   { *k = k.Add(Bucket{c.sum, uint64(int64(c.count))}) }
func (c *change) undo(k *Bucket) { *k = k.Sub(Bucket{c.sum, uint64(int64(c.count))}) }

// NewTracker starts at summary s, which is the state as of index. The ring
// takes capacity changes; with none only the current summary can be asked for.
func NewTracker(s Summary, index uint64, capacity int) *Tracker {
	t := &Tracker{index: index, floor: index, capacity: max(capacity, 0)}
	for i := range s {
		if s[i] != (Bucket{}) {
			*t.bucket(uint8(i)) = s[i]
		}
	}
	return t
}

// bucket is where a bucket of the current summary is kept.
func (t *Tracker) bucket(b uint8) *Bucket {
	p := &t.pages[b/pageSize]
	if *p == nil {
		*p = new(page)
	}
	return &(*p)[b%pageSize]
}

// Replace applies one document's change by the command at index: its leaf in
// the bucket was before and is after; nil is no leaf. Several changes may share an
// index; At(index) is the state after the last of them.
//
// Indexes never fall. One below the current index would belong to a past that
// was already answered for, so it is handled as Learn does.
func (t *Tracker) Replace(index uint64, bucket uint8, before, after *Sum) {
	if index < t.index {
		t.Learn(bucket, before, after)
		return
	}
	t.index = index
	c := newChange(index, bucket, before, after)
	if c.nothing() {
		return
	}
	c.do(t.bucket(bucket))
	t.remember(c)
}

// Advance says that everything through index is applied and the commands since
// the current index changed no document. A smaller index changes nothing.
func (t *Tracker) Advance(index uint64) { t.index = max(t.index, index) }

// Learn applies a change that came by repair. Where in the order of commands
// it belongs is not known, so earlier states cannot be told any more: the
// current index is the oldest that At answers. A change that changes nothing
// forgets nothing.
func (t *Tracker) Learn(bucket uint8, before, after *Sum) {
	c := newChange(t.index, bucket, before, after)
	if c.nothing() {
		return
	}
	c.do(t.bucket(bucket))
	t.ring, t.first = t.ring[:0], 0
	t.floor = t.index
}

// Reset replaces a bucket's sum, which was counted anew because it, or what it
// sums up, was damaged. The past was that of a damaged member and is forgotten.
func (t *Tracker) Reset(bucket uint8, now Bucket) {
	if now != t.Bucket(bucket) {
		*t.bucket(bucket) = now
	}
	t.Forget()
}

// Forget gives up the past, and the memory that it takes: the current index is
// the oldest that At answers.
func (t *Tracker) Forget() {
	t.ring, t.first = nil, 0
	t.floor = t.index
}

// Kept is for how many changes there is room already; 32 bytes each.
func (t *Tracker) Kept() int { return cap(t.ring) }

// Current is the summary as it is and the index it is the state of.
func (t *Tracker) Current() (s Summary, index uint64) {
	t.copyTo(&s)
	return s, t.index
}

// copyTo fills in an empty summary with the current one.
func (t *Tracker) copyTo(s *Summary) {
	for i, p := range t.pages {
		if p != nil {
			copy(s[i*pageSize:], p[:])
		}
	}
}

// Bucket is one bucket of the current summary.
func (t *Tracker) Bucket(b uint8) Bucket {
	if p := t.pages[b/pageSize]; p != nil {
		return p[b%pageSize]
	}
	return Bucket{}
}

// At is the summary as it was at index: exactly, or nil and false when index is
// older than what the ring can undo or newer than the current one. It costs one
// copy and one subtraction for each change after index. The copy is not on the
// stack, as Current's is: who asks often does so with a goroutine for each
// question, whose stack would have to grow.
func (t *Tracker) At(index uint64) (*Summary, bool) {
	if index < t.floor || index > t.index {
		return nil, false
	}
	s := new(Summary)
	t.copyTo(s)
	for i := len(t.ring) - 1; i >= 0; i-- {
		c := &t.ring[t.position(i)]
		if c.index <= index {
			break
		}
		c.undo(&s[c.bucket])
	}
	return s, true
}

// remember puts c into the ring. What it pushes out can no longer be undone,
// so the oldest state left is the one just after it.
func (t *Tracker) remember(c change) {
	switch {
	case t.capacity == 0:
		t.floor = c.index
	case len(t.ring) < t.capacity:
		t.ring = append(t.ring, c)
	default:
		t.floor = t.ring[t.first].index
		t.ring[t.first] = c
		t.first = t.position(1)
	}
}

// position is where the i-th oldest change lies; i ≤ len(t.ring).
func (t *Tracker) position(i int) int {
	p := t.first + i
	if p >= len(t.ring) {
		p -= len(t.ring)
	}
	return p
}

func newChange(index uint64, bucket uint8, before, after *Sum) change {
	c := change{index: index, bucket: bucket}
	if after != nil {
		c.sum, c.count = *after, 1
	}
	if before != nil {
		c.sum, c.count = c.sum.Sub(*before), c.count-1
	}
	return c
}

// nothing reports whether the change changes nothing.
func (c *change) nothing() bool { return c.sum == (Sum{}) && c.count == 0 }
