package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"net"
	"sync"

	"github.com/adamantdb/adamant"
)

// line is how a client reaches one host.
type line interface {
	// ask sends a request and waits for what comes of it. A line that is down answers codeBroken at once.
	ask(ctx context.Context, r request) reply
	close() error
}

// direct is the line to a host in this process.
type direct struct {
	host *adamant.Host
	name string
}

func (d direct) ask(ctx context.Context, r request) reply { return r.at(ctx, d.host, d.name) }
func (d direct) close() error                             { return nil }

// wire is the line to a host behind a door.
type wire struct {
	conn net.Conn
	out  *sender
	read sync.WaitGroup

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan reply // nil once the line is down
}

func dialDoor(ctx context.Context, addr string) (*wire, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w := &wire{conn: c, out: newSender(c), waiting: map[uint64]chan reply{}}
	w.read.Go(w.receive)
	return w, nil
}

// receive hands answers to those who wait for them, until the line is down.
func (w *wire) receive() {
	in := gob.NewDecoder(bufio.NewReader(w.conn))
	for {
		var a reply
		err := in.Decode(&a)
		w.mu.Lock()
		if err != nil {
			for _, c := range w.waiting {
				c <- broken
			}
			w.waiting = nil
			w.mu.Unlock()
			return
		}
		if c, ok := w.waiting[a.ID]; ok {
			delete(w.waiting, a.ID)
			c <- a
		}
		w.mu.Unlock()
	}
}

var broken = reply{Code: codeBroken, Text: "the line to the host is down"}

func (w *wire) ask(ctx context.Context, r request) reply {
	answered := make(chan reply, 1)
	w.mu.Lock()
	if w.waiting == nil {
		w.mu.Unlock()
		return broken
	}
	w.last++
	r.ID = w.last
	w.waiting[r.ID] = answered
	w.mu.Unlock()
	if err := w.out.send(r); err != nil {
		w.conn.Close() // the receiver then answers everybody
	}
	select {
	case a := <-answered:
		return a
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting, r.ID)
		return reply{Code: codeBroken, Text: ctx.Err().Error()}
	}
}

// close ends the line; one that broke is closed already.
func (w *wire) close() error {
	err := w.conn.Close()
	w.read.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
