package faultproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// window bounds what is on its way in one direction of one connection: with 25 ms of delay, 320 MB/s pass.
const window = 8 << 20

// piece is what is read at once.
const piece = 64 << 10

// parcel is on its way. The last one of a direction has no bytes.
type parcel struct {
	due    time.Time
	bytes  []byte
	broken bool // of the last one: the sender broke the connection off
}

// pump passes one direction on, until its sender has ended it and that has arrived.
func (p *Proxy) pump(ctx context.Context, c *conn, d Direction, from, to *net.TCPConn) {
	q := &queue{}
	q.cond.L = &q.mu
	defer context.AfterFunc(ctx, q.close)()
	var reader sync.WaitGroup
	reader.Go(func() { p.collect(q, d, from) })
	if p.deliver(ctx, q, d, to) {
		c.end(abort)
	}
	q.close() // the reader may wait for room
	reader.Wait()
}

// collect reads until the sender is through.
func (p *Proxy) collect(q *queue, d Direction, from *net.TCPConn) {
	for {
		b := make([]byte, piece)
		n, err := from.Read(b)
		due := time.Now().Add(p.delayed(d))
		if n > 0 && !q.put(parcel{due: due, bytes: b[:n]}) {
			return
		}
		if err != nil {
			q.put(parcel{due: due, broken: !errors.Is(err, io.EOF)})
			return
		}
	}
}

// deliver writes until the last parcel. It returns true when the connection is to be broken off.
func (p *Proxy) deliver(ctx context.Context, q *queue, d Direction, to *net.TCPConn) (broken bool) {
	gone := false
	for {
		next, ok := q.take()
		if !ok || p.pass(ctx, d, next.due) != nil {
			return true
		}
		if next.bytes == nil {
			return next.broken || to.CloseWrite() != nil
		}
		if !gone { // that the receiver is gone is for the other direction to tell
			_, err := to.Write(next.bytes)
			gone = err != nil
		}
		q.done(len(next.bytes))
	}
}

// queue holds parcels in order.
type queue struct {
	mu     sync.Mutex // guards what follows
	cond   sync.Cond
	list   []parcel
	bytes  int // taken in and not done
	closed bool
}

// put waits for room; false means that the queue is closed.
func (q *queue) put(p parcel) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes >= window && !q.closed {
		q.cond.Wait()
	}
	q.list = append(q.list, p)
	q.bytes += len(p.bytes)
	q.cond.Broadcast()
	return !q.closed
}

// take waits for a parcel; false means that the queue is closed.
func (q *queue) take() (parcel, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 && !q.closed {
		q.cond.Wait()
	}
	if q.closed {
		return parcel{}, false
	}
	p := q.list[0]
	q.list[0] = parcel{}
	q.list = q.list[1:]
	return p, true
}

func (q *queue) done(bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= bytes
	q.cond.Broadcast()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.list = true, nil
	q.cond.Broadcast()
}
