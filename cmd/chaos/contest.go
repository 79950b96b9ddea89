//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/lincheck"
)

// Contests: several clients write a few documents of which each client knows only what it reads, for so long. Then
// what they saw has to be linearizable, and the next contest begins, with other documents.
const (
	contestSpace   = "contest"
	contestTime    = 8 * time.Second
	contestClients = 4
	contestDocs    = 3
	checkPatience  = 20 * time.Second
)

// contested says whether a document is of a contest.
func (f *field) contested(key adamant.Key) bool { return key.Space == contestSpace }

// contest is what clients did to the documents of one.
type contest struct {
	*field
	number int
	begun  time.Time

	mu  sync.Mutex
	ops [contestDocs][]lincheck.Op
}

func (f *field) contests(ctx context.Context) {
	for n := 1; ctx.Err() == nil; n++ {
		c := &contest{field: f, number: n, begun: time.Now()}
		once, cancel := context.WithTimeout(ctx, contestTime)
		var all sync.WaitGroup
		for i := range contestClients {
			r := rand.New(rand.NewPCG(f.o.Seed, uint64(n*100_000+i)))
			all.Go(func() { (&contender{contest: c, id: i, r: r}).run(once) })
		}
		all.Wait()
		cancel()
		c.judge(ctx)
	}
}

func (c *contest) key(doc int) adamant.Key {
	return adamant.Key{Space: contestSpace, Key: fmt.Sprintf("%d-%d", c.number, doc)}
}

func (c *contest) now() int64 { return int64(time.Since(c.begun)) }

func (c *contest) add(doc int, o lincheck.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops[doc] = append(c.ops[doc], o)
}

// judge reads what has become of the documents, and looks for an order that explains everything.
func (c *contest) judge(ctx context.Context) {
	r := rand.New(rand.NewPCG(c.o.Seed, uint64(c.number)))
	last, cancel := c.afterwards(ctx, endPatience)
	defer cancel()
	for doc := range c.ops {
		o := lincheck.Op{Client: contestClients, Kind: lincheck.Read, Known: true}
		_, err := c.docs.persist(last, c.key(doc), r, func(ctx context.Context, h *host) (err error) {
			o, err = c.read(ctx, h, doc, "quorum")
			return err
		})
		if err != nil {
			c.fail("%s can not be read any more: %v", c.key(doc), err)
			continue
		}
		c.add(doc, o)
		c.Contested.Add(1)
		switch lincheck.Check(c.ops[doc], checkPatience) {
		case lincheck.Illegal:
			c.stale.Add(1)
			var b strings.Builder
			for _, o := range c.ops[doc] {
				fmt.Fprintf(&b, "%+v\n", o)
			}
			c.fail("what clients saw of %s has no order that explains it:\n%s", c.key(doc), &b)
		case lincheck.Unknown:
			c.Undecided.Add(1)
		}
	}
}

// read reads a document at a host. That there is none is an answer, too.
func (c *contest) read(ctx context.Context, h *host, doc int, level string) (lincheck.Op, error) {
	o := lincheck.Op{Client: contestClients, Kind: lincheck.Read, Known: true, Call: c.now()}
	d, err := h.client.Get(ctx, c.key(doc), level)
	o.Ret = c.now()
	if errors.As(err, new(*adamant.NotFoundError)) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	o.Found = true
	if o.Seq, o.IDs, err = lincheck.Entries(d.JSON, d.Head); err != nil {
		c.fail("%s shows %s as nobody wrote it: %v", h.name, c.key(doc), err)
	}
	return o, nil
}

// contender is one client of a contest.
type contender struct {
	*contest
	id   int
	r    *rand.Rand
	n    int                // entries made so far: each has an id of its own
	head [contestDocs]int64 // as far as it knows
}

func (c *contender) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(c.r.IntN(40))*time.Millisecond)
		doc := c.r.IntN(contestDocs)
		switch k := c.r.IntN(40); {
		case k < 20:
			c.write(ctx, doc)
		case k < 37:
			c.look(doc)
		case k < 39:
			o := lincheck.Op{Kind: lincheck.Replace, Seq: max(1, c.head[doc]+int64(c.r.IntN(5))-2), IDs: c.ids(1)}
			if c.try(doc, o, func(ctx context.Context, h *host) error {
				return h.client.Replace(ctx, c.key(doc), o.Seq, lincheck.Redo(o.Seq, o.IDs...))
			}) == nil {
				c.head[doc] = o.Seq
			}
		default:
			if c.try(doc, lincheck.Op{Kind: lincheck.Delete}, func(ctx context.Context, h *host) error { return h.client.Delete(ctx, c.key(doc)) }) == nil {
				c.head[doc] = 0
			}
		}
	}
}

func (c *contender) ids(n int) (list []string) {
	for range n {
		c.n++
		list = append(list, fmt.Sprintf("c%d-%d", c.id, c.n))
	}
	return list
}

// host picks the leader, as far as is known, or any.
func (c *contender) host(doc int) *host {
	if c.r.IntN(5) == 0 {
		return c.hosts[c.r.IntN(len(c.hosts))]
	}
	return c.docs.at(c.key(doc), c.r)
}

// try does an operation once, and writes it down unless it was refused.
func (c *contender) try(doc int, o lincheck.Op, do func(context.Context, *host) error) error {
	h := c.host(doc)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+c.r.IntN(1500))*time.Millisecond)
	defer cancel()
	o.Client, o.Call = c.id, c.now()
	err := do(ctx, h)
	o.Ret = c.now()
	c.docs.learn(c.key(doc), h, err)
	switch judge(err) {
	case done:
		o.Known = true
		c.Writes.Add(1)
		c.Deltas.Add(int64(len(o.IDs)))
	case unknown:
		c.Ambiguous.Add(1)
	case broken:
		c.field.fail("%s answers a write of %s: %v", h.name, c.key(doc), err)
		return err
	case refused:
		c.Refused.Add(1)
		return err
	default:
		return err
	}
	c.add(doc, o)
	return err
}

// write creates or appends, and repeats what has an unknown outcome, sometimes.
func (c *contender) write(ctx context.Context, doc int) {
	seq := c.head[doc] + 1
	o := lincheck.Op{Kind: lincheck.Append, Seq: seq, IDs: c.ids(1 + c.r.IntN(3))}
	if seq == 1 {
		o.Kind, o.IDs = lincheck.Create, o.IDs[:1]
	}
	var deltas []adamant.Delta
	for i, id := range o.IDs {
		at := seq + int64(i)
		deltas = append(deltas, adamant.Delta{SeqBegin: at, SeqEnd: at, Redo: lincheck.Redo(at, id), Undo: []byte("{}")})
	}
	for range 1 + c.r.IntN(4) {
		err := c.try(doc, o, func(ctx context.Context, h *host) error {
			if o.Kind == lincheck.Create {
				_, err := h.client.Create(ctx, c.key(doc), deltas[0])
				return err
			}
			_, err := h.client.Append(ctx, c.key(doc), deltas)
			return err
		})
		if err == nil {
			c.head[doc] = seq + int64(len(deltas)) - 1
			return
		}
		if judge(err) == answered {
			c.look(doc)
			return
		}
		pause(ctx, time.Duration(c.r.IntN(100))*time.Millisecond)
	}
}

// look reads, and learns the head.
func (c *contender) look(doc int) {
	h := c.host(doc)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+c.r.IntN(1500))*time.Millisecond)
	defer cancel()
	level := []string{"lease", "quorum"}[c.r.IntN(2)]
	o, err := c.read(ctx, h, doc, level)
	c.docs.learn(c.key(doc), h, err)
	switch judge(err) {
	case done:
		o.Client = c.id
		o.IDs = slices.Clip(o.IDs)
		c.add(doc, o)
		c.head[doc] = 0
		if o.Found {
			c.head[doc] = o.Seq + int64(len(o.IDs)) - 1
		}
		if level == "lease" {
			c.LeaseReads.Add(1)
		} else {
			c.QuorumReads.Add(1)
		}
	case broken:
		c.field.fail("%s answers a %s read of %s: %v", h.name, level, c.key(doc), err)
	}
}
