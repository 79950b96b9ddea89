package mesh

import "sync"

// outFrame is a frame waiting to be written.
type outFrame struct {
	header  header
	payload []byte
	pending *Pending // of a request; skipped by the writer once it is over
}

func (f *outFrame) size() int { return headerBytes + len(f.payload) }

// laneLimits bound what may wait in one class of a queue.
type laneLimits struct{ frames, bytes int }

// sendQueue holds the frames of one connection until its writer takes them,
// urgent ones first, then normal, then bulk; in order within a class.
type sendQueue struct {
	limits [classes]laneLimits // by class, Urgent first; set before use

	// wake has room for one token; the writer waits for it when it found
	// nothing to take.
	wake chan struct{}

	mu     sync.Mutex // guards what follows
	lanes  [classes]lane
	closed bool
	last   bool // nothing more is accepted; the writer ends when it is empty
}

// lane is a FIFO. frames[head:] are waiting; bytes is their size.
type lane struct {
	frames []outFrame
	head   int
	bytes  int
}

func (l *lane) len() int { return len(l.frames) - l.head }

func (l *lane) pop() outFrame {
	f := l.frames[l.head]
	l.frames[l.head] = outFrame{}
	l.head++
	l.bytes -= f.size()
	switch {
	case l.head == len(l.frames):
		l.frames, l.head = l.frames[:0], 0
	case l.head >= 64 && l.head*2 >= len(l.frames):
		// Move the rest to the front, so that a lane that never drains does
		// not grow for ever.
		n := copy(l.frames, l.frames[l.head:])
		clear(l.frames[n:])
		l.frames, l.head = l.frames[:n], 0
	}
	return f
}

func newSendQueue(limits [classes]laneLimits) *sendQueue {
	return &sendQueue{limits: limits, wake: make(chan struct{}, 1)}
}

// push queues f, or says why it cannot: ErrQueueFull or ErrClosed. A frame is
// always taken by an empty lane, whatever its size.
func (q *sendQueue) push(f outFrame) error {
	i := int(f.header.class) - int(Urgent)
	q.mu.Lock()
	if q.closed || q.last {
		q.mu.Unlock()
		return ErrClosed
	}
	l, limit := &q.lanes[i], q.limits[i]
	if l.len() >= limit.frames || (l.len() > 0 && l.bytes+f.size() > limit.bytes) {
		q.mu.Unlock()
		return ErrQueueFull
	}
	l.frames = append(l.frames, f)
	l.bytes += f.size()
	q.mu.Unlock()
	q.signal()
	return nil
}

func (q *sendQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take moves frames into batch until it holds about maxBytes: one frame at
// least, and no lower class while a higher one has frames left. more is false
// when nothing will ever come again.
func (q *sendQueue) take(batch []outFrame, maxBytes int) (_ []outFrame, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return batch, false
	}
	size := 0
	for i := range q.lanes {
		l := &q.lanes[i]
		for l.len() > 0 && size < maxBytes {
			f := l.pop()
			size += f.size()
			batch = append(batch, f)
		}
	}
	return batch, len(batch) > 0 || !q.last
}

// finish drops everything that waits, queues f as the last frame ever, and
// lets the writer end after it.
func (q *sendQueue) finish(f outFrame) {
	q.mu.Lock()
	if !q.closed && !q.last {
		q.lanes = [classes]lane{}
		q.lanes[0] = lane{frames: []outFrame{f}, bytes: f.size()}
		q.last = true
	}
	q.mu.Unlock()
	q.signal()
}

// close drops everything and lets the writer end.
func (q *sendQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.lanes = [classes]lane{}
	q.mu.Unlock()
	q.signal()
}

// waiting is the number of frames and bytes queued.
func (q *sendQueue) waiting() (frames, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.lanes {
		frames += q.lanes[i].len()
		bytes += q.lanes[i].bytes
	}
	return frames, bytes
}
