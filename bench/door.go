package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant"
)

// A door lets clients outside of a crew's process use its hosts: what a client does must survive the host it talks to.
// Requests are gobs on one connection, answered in any order.

// request is what a client wants of a host.
type request struct {
	ID    uint64
	Do    requestKind
	Key   adamant.Key
	Delta adamant.Delta
	Avoid string // a host that is gone: a leader of that name is none

	After     int64               // of askHead: a seq that the caller has
	Level     adamant.Consistency // of askHead
	Partition uint32              // of askHead: the document's
}

type requestKind uint8

const (
	askCreate requestKind = iota + 1
	askAppend
	askRead   // everything a linearizable read finds of a document
	askHead   // its head and newest entry
	askLocate // who leads, as far as this host knows
)

// reply is what came of a request.
type reply struct {
	ID      uint64
	Code    int // of the error, 0 for success
	Text    string
	Leader  string // another host that leads, with adamant.CodeNotLeader; any, of askLocate
	Head    int64
	Newest  string  // of askHead: the newest entry's id, "" if the caller has it
	Epoch   uint64  // of askHead, by lease: in which it was served, 0 if another one began meanwhile
	Entries []entry // of askRead
}

// entry is a delta as it was read.
type entry struct {
	First, Last int64 // its seqs
	Sum         uint64
}

// codeBroken says that the link to the host broke, or that it never was: whether the request took effect is unknown.
const codeBroken = -1

// codeOther stands for errors without a number.
const codeOther = -2

// A host that does not serve answers when it knows who does, or after doorPatience.
const (
	doorPatience = 100 * time.Millisecond
	doorPoll     = 3 * time.Millisecond
	askPatience  = 30 * time.Second // bounds one attempt of anything, also of what came while the host stood still
)

// at does what is asked at a host, as its own client would, but for one thing: when the host does not serve the
// document, it is asked again until it serves or names another host that does. Clients that ask in turn would cost the
// machine what the election needs.
func (r *request) at(ctx context.Context, h *adamant.Host, name string) reply {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	begun := time.Now()
	for {
		a := r.once(ctx, h)
		if r.Do == askHead || r.Do == askLocate {
			return a // a refusal is an answer
		}
		if a.Code != adamant.CodeNotLeader && a.Code != adamant.CodeUnavailable {
			return a
		}
		if leader := h.Locate(r.Key).Leader; leader != "" && leader != name && leader != r.Avoid {
			a.Code, a.Leader = adamant.CodeNotLeader, leader
			return a
		}
		if time.Since(begun) > doorPatience || pause(ctx, doorPoll) != nil {
			a.Leader = ""
			return a
		}
	}
}

func (r *request) once(ctx context.Context, h *adamant.Host) (a reply) {
	a.ID = r.ID
	var err error
	switch r.Do {
	case askCreate:
		err = h.Create(ctx, r.Key, r.Delta)
	case askAppend:
		a.Head, err = h.Append(ctx, r.Key, []adamant.Delta{r.Delta})
	case askRead:
		for e, rerr := range h.Log(ctx, r.Key, adamant.WithConsistency(adamant.ReadQuorum)) {
			if err = rerr; err != nil {
				break
			}
			a.Entries = append(a.Entries, entry{e.Delta.SeqBegin, e.Delta.SeqEnd, sumOf(e.Delta)})
		}
	case askHead:
		err = r.readHead(ctx, h, &a)
	case askLocate:
		a.Leader = h.Locate(r.Key).Leader
	default:
		err = fmt.Errorf("unknown request %d", r.Do)
	}
	if err != nil {
		a.Text, a.Entries = err.Error(), nil
		if a.Code = adamant.Code(err); a.Code == 0 {
			a.Code = codeOther
		}
		var mismatch *adamant.SeqMismatchError
		if errors.As(err, &mismatch) {
			a.Head = mismatch.Head
		}
	}
	return a
}

// readHead reads what the caller lacks. All entries of a document set the same field, so that what is merged is the newest one.
func (r *request) readHead(ctx context.Context, h *adamant.Host, a *reply) error {
	var before adamant.Leadership
	if r.Level == adamant.ReadLease {
		var err error
		if before, err = h.Lease(r.Partition); err != nil {
			return err
		}
	}
	d, err := h.HeadPatch(ctx, r.Key, r.After, adamant.WithConsistency(r.Level))
	if after, failed := h.Lease(r.Partition); before.Epoch != 0 && failed == nil && after.Epoch == before.Epoch {
		a.Epoch = before.Epoch
	}
	var future *adamant.FutureError
	switch {
	case errors.As(err, &future):
		d.Head = future.Head // a finding
	case errors.As(err, new(*adamant.NotFoundError)):
		d.Head = 0
	case err != nil:
		return err
	}
	if a.Head = d.Head; d.Head > r.After {
		a.Newest = entryID(d.JSON)
	}
	return nil
}

// sumOf tells deltas with different contents apart.
func sumOf(d adamant.Delta) uint64 {
	x := xxhash.New()
	_, _ = x.Write(d.Redo)
	_, _ = x.Write([]byte{0})
	_, _ = x.Write(d.Undo)
	return x.Sum64()
}

// door is the server's side: a listener of one host.
type door struct {
	listener net.Listener
	host     *adamant.Host
	name     string
	stop     context.CancelFunc
	work     sync.WaitGroup
}

func openDoor(h *adamant.Host, name string) (*door, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("door of host %s: %w", name, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &door{listener: l, host: h, name: name, stop: stop}
	d.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			d.work.Go(func() { d.serve(ctx, c) })
		}
	})
	return d, nil
}

// serve answers one client until it, or the door, goes.
func (d *door) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	unwatch := context.AfterFunc(ctx, func() { c.Close() })
	defer unwatch()
	in, out := gob.NewDecoder(bufio.NewReader(c)), newSender(c)
	var work sync.WaitGroup
	defer work.Wait()
	for {
		var r request
		if err := in.Decode(&r); err != nil {
			return
		}
		work.Go(func() { _ = out.send(r.at(ctx, d.host, d.name)) }) // a client that is gone needs no answer
	}
}

func (d *door) close() error {
	d.stop()
	err := d.listener.Close()
	d.work.Wait()
	return err
}

// sender writes gobs of many goroutines to one connection.
type sender struct {
	mu  sync.Mutex
	buf *bufio.Writer
	enc *gob.Encoder
}

func newSender(w io.Writer) *sender {
	b := bufio.NewWriter(w)
	return &sender{buf: b, enc: gob.NewEncoder(b)}
}

func (s *sender) send(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enc.Encode(v); err != nil {
		return err
	}
	return s.buf.Flush()
}
