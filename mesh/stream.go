package mesh

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readBuffer  = 32 << 10
	batchBytes  = 256 << 10 // what the writer takes from the queue at a time
	writeBytes  = 256 << 10 // what one write call carries, under one deadline
	inlineBytes = 4 << 10   // payloads up to this are copied behind their header
)

// stream is one TCP (or TLS) connection after its handshake, seen as frames.
// One goroutine reads (its owner's), one runs writeLoop; anyone may queue.
type stream struct {
	conn         net.Conn // what is read and written
	raw          net.Conn // the TCP connection below; closing it never blocks
	reader       *bufio.Reader
	queue        *sendQueue
	peer         string      // for messages: "h2 at 127.0.0.1:7400"
	ours         frameLimits // what we take
	theirs       int         // the largest payload the peer takes
	writeTimeout time.Duration
	stats        *counters

	// Signs of life, for the maintainer: bytes read; write calls finished, and
	// whether one is under way.
	gotBytes atomic.Uint64
	wrote    atomic.Uint64
	writing  atomic.Bool

	// Owned by the maintainer's tick.
	quiet quietness

	dead  chan struct{} // closed by kill
	mu    sync.Mutex    // guards what follows
	over  bool          // dead is closed
	cause error         // the first one given
}

func newStream(m *Mesh, conn, raw net.Conn, kind linkKind, peer string, theirs int, q *sendQueue) *stream {
	s := &stream{
		conn: conn, raw: raw, queue: q, peer: peer, theirs: theirs,
		ours: m.limits.frames(), writeTimeout: m.timing.Write, stats: &m.stats, dead: make(chan struct{}),
	}
	s.reader = bufio.NewReaderSize(&meteredReader{conn, &s.gotBytes, &m.stats.bytesIn}, readBuffer)
	s.quiet.limit = m.timing.silenceTicks(kind)
	return s
}

// meteredReader counts what comes in.
type meteredReader struct {
	r     io.Reader
	n     *atomic.Uint64
	total *atomic.Uint64
}

func (r *meteredReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.n.Add(uint64(n))
	r.total.Add(uint64(n))
	return n, err
}

// next reads one frame; garbage comes back as a *FrameError that names the peer.
func (s *stream) next() (header, []byte, error) {
	h, payload, err := readFrame(s.reader, s.ours)
	if fault, ok := err.(*FrameError); ok {
		fault.Peer = s.peer
	}
	if err == nil {
		s.stats.framesIn.Add(1)
	}
	return h, payload, err
}

// kill ends the stream at once. The first cause is the one that counts.
func (s *stream) kill(cause error) {
	s.mu.Lock()
	if s.cause == nil {
		s.cause = cause
	}
	if !s.over {
		s.over = true
		close(s.dead)
	}
	s.mu.Unlock()
	_ = s.raw.Close()
	s.queue.close()
}

// reset is kill without any of the courtesies of TCP, as when the process dies.
func (s *stream) reset(cause error) {
	if tcp, ok := s.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	s.kill(cause)
}

// why is the cause of the stream's end.
func (s *stream) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// farewell ends the stream because of what the peer did: it drops what is
// queued, tells the peer, and has the writer end after that.
func (s *stream) farewell(cause error) {
	s.mu.Lock()
	if s.cause == nil {
		s.cause = cause
	}
	s.mu.Unlock()
	text := cause.Error()
	s.queue.finish(outFrame{header: header{typ: frameGoodbye, class: Urgent}, payload: []byte(text[:min(len(text), maxFailureBytes)])})
}

// writeLoop writes what is queued until the stream dies or the queue ends. What
// has gathered while one write was under way goes out with the next.
func (s *stream) writeLoop() {
	var batch []outFrame
	var w frameWriter
	for {
		var more bool
		batch, more = s.queue.take(batch[:0], batchBytes)
		if len(batch) == 0 {
			if !more {
				return
			}
			select {
			case <-s.queue.wake:
				// Whoever else is about to queue a frame does so first: with
				// many callers a write then carries tens of frames, not two.
				runtime.Gosched()
			case <-s.dead:
				return
			}
			continue
		}
		s.writing.Store(true)
		err := w.write(s, batch)
		s.writing.Store(false)
		clear(batch)
		if err != nil {
			s.kill(err)
			return
		}
	}
}

// frameWriter turns frames into few write calls: headers and small payloads are
// gathered in one buffer, long payloads are handed to the kernel as they are.
type frameWriter struct {
	scratch []byte
	from    int // scratch[from:] is not in segs yet
	segs    net.Buffers
	out     net.Buffers
	size    int // of segs and scratch[from:]
}

func (w *frameWriter) write(s *stream, batch []outFrame) error {
	for i := range batch {
		f := &batch[i]
		if f.pending != nil && f.pending.isOver() {
			continue
		}
		if f.header.typ <= frameResponse && len(f.payload) > s.theirs {
			tooLarge(s, f)
			continue
		}
		w.scratch = appendHeader(w.scratch, f.header, f.payload)
		w.size += headerBytes
		s.stats.framesOut.Add(1)
		if err := w.add(s, f.payload); err != nil {
			return err
		}
	}
	return w.flush(s)
}

// tooLarge handles a frame that is within our limit but over the peer's.
func tooLarge(s *stream, f *outFrame) {
	err := &TooLargeError{Size: len(f.payload), Limit: s.theirs}
	if f.pending != nil {
		f.pending.Abandon(err)
		return
	}
	h := f.header
	h.typ = frameFailure
	_ = s.queue.push(outFrame{header: h, payload: appendFailure(nil, CodeTooLarge, err.Error())})
}

// add puts a payload behind its header, writing whatever is complete.
func (w *frameWriter) add(s *stream, payload []byte) error {
	if len(payload) <= inlineBytes {
		w.scratch = append(w.scratch, payload...)
		w.size += len(payload)
		if w.size >= writeBytes {
			return w.flush(s)
		}
		return nil
	}
	for len(payload) > 0 {
		w.cut()
		n := min(len(payload), writeBytes)
		w.segs = append(w.segs, payload[:n])
		w.size += n
		payload = payload[n:]
		if w.size >= writeBytes {
			if err := w.flush(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// cut makes a segment of what was gathered in the buffer. Appending more
// afterwards leaves it alone, even when the buffer moves.
func (w *frameWriter) cut() {
	if len(w.scratch) > w.from {
		w.segs = append(w.segs, w.scratch[w.from:len(w.scratch):len(w.scratch)])
		w.from = len(w.scratch)
	}
}

// flush is one write call (several under TLS).
func (w *frameWriter) flush(s *stream) error {
	w.cut()
	if len(w.segs) == 0 {
		return nil
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.writeTimeout)); err != nil {
		return err
	}
	var n int64
	var err error
	if len(w.segs) == 1 {
		var k int
		k, err = s.conn.Write(w.segs[0])
		n = int64(k)
	} else {
		w.out = w.segs // WriteTo eats the slice it is called on
		n, err = w.out.WriteTo(s.conn)
	}
	s.stats.bytesOut.Add(uint64(n))
	s.stats.writes.Add(1)
	s.wrote.Add(1)
	clear(w.segs)
	w.segs, w.scratch, w.from, w.size = w.segs[:0], w.scratch[:0], 0, 0
	if cap(w.scratch) > 2*writeBytes {
		w.scratch = nil
	}
	return err
}
