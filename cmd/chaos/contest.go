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
			c.fail("what clients saw of %s has no order that explains it:\n%s", c.key(doc), lines(c.ops[doc]))
		case lincheck.Unknown:
			c.Undecided.Add(1)
			c.remember(c.key(doc), c.ops[doc], o, r)
		default:
			c.remember(c.key(doc), c.ops[doc], o, r)
		}
	}
}

func lines(ops []lincheck.Op) *strings.Builder {
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&b, "%+v\n", o)
	}
	return &b
}

// judged is what is left of a contest's document: what it was like in the end, and what may yet become of it.
type judged struct {
	key adamant.Key
	ops []lincheck.Op // one that makes it what it was, and those of unknown outcome
}

// maxJudged bounds how many documents of contests are looked at again in the end.
const maxJudged = 3000

// remember keeps what is needed to look at a document again at the end of the run.
func (f *field) remember(key adamant.Key, ops []lincheck.Op, last lincheck.Op, r *rand.Rand) {
	j := judged{key: key}
	if last.Found {
		j.ops = append(j.ops, lincheck.Op{Kind: lincheck.Create, Seq: last.Seq, IDs: last.IDs, Known: true, Call: 1, Ret: 2})
	}
	for _, o := range ops {
		if !o.Known {
			o.Call, o.Ret = 3, 3
			j.ops = append(j.ops, o)
		}
	}
	f.judgedMu.Lock()
	defer f.judgedMu.Unlock()
	if len(f.judged) < maxJudged {
		f.judged = append(f.judged, j)
	} else {
		f.judged[r.IntN(len(f.judged))] = j
	}
}

// contestsStay reads the documents of contests again, at the end of the run: each is what it was, but for what had an unknown outcome.
func (f *field) contestsStay(ctx context.Context) {
	f.judgedMu.Lock()
	list := slices.Clone(f.judged)
	f.judgedMu.Unlock()
	ctx, cancel := f.patience(ctx, endPatience)
	defer cancel()
	r := rand.New(rand.NewPCG(f.o.Seed, 5))
	for _, j := range list {
		o := lincheck.Op{}
		_, err := f.docs.persist(ctx, j.key, r, func(ctx context.Context, h *host) (err error) {
			o, err = f.readEntries(ctx, h, j.key, "quorum")
			return err
		})
		if err != nil {
			f.fail("%s can not be read in the end: %v", j.key, err)
			continue
		}
		f.Rechecked.Add(1)
		f.judgeAgain(j, o)
	}
	if few := max(3, f.Contested.Load()/10); f.Undecided.Load() > few {
		f.fail("%d histories of contests were too hard to check, of %d", f.Undecided.Load(), f.Contested.Load())
	}
}

// judgeAgain compares a document with what it was when its contest had ended.
func (f *field) judgeAgain(j judged, now lincheck.Op) {
	now.Call, now.Ret = 4, 5
	switch ops := append(slices.Clone(j.ops), now); lincheck.Check(ops, checkPatience) {
	case lincheck.Illegal:
		before := len(j.ops) > 0 && j.ops[0].Known
		if before && (!now.Found || len(now.IDs) < len(j.ops[0].IDs)) {
			f.lost.Add(1)
		} else {
			f.resurrected.Add(1)
		}
		f.fail("%s is not what it was when its contest had ended:\n%s", j.key, lines(ops))
	case lincheck.Unknown:
		f.Undecided.Add(1)
	}
}

// read reads a document at a host. That there is none is an answer, too.
func (c *contest) read(ctx context.Context, h *host, doc int, level string) (lincheck.Op, error) {
	call := c.now()
	o, err := c.readEntries(ctx, h, c.key(doc), level)
	o.Call, o.Ret = call, c.now()
	return o, err
}

// readEntries reads a document that shows its entries. That there is none is an answer, too.
func (f *field) readEntries(ctx context.Context, h *host, key adamant.Key, level string) (lincheck.Op, error) {
	o := lincheck.Op{Client: contestClients, Kind: lincheck.Read, Known: true}
	d, err := h.client.Get(ctx, key, level)
	if errors.As(err, new(*adamant.NotFoundError)) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	o.Found = true
	if o.Seq, o.IDs, err = lincheck.Entries(d.JSON, d.Head); err != nil {
		f.fail("%s shows %s as nobody wrote it: %v", h.name, key, err)
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
		c.refusal(doc, o, err)
		return err
	}
	c.add(doc, o)
	return err
}

// refusal writes down what an answer says of the document.
func (c *contender) refusal(doc int, o lincheck.Op, err error) {
	var mismatch *adamant.SeqMismatchError
	switch {
	case errors.As(err, &mismatch):
		o.Kind, o.Head = lincheck.Mismatch, mismatch.Head
	case errors.As(err, new(*adamant.NotFoundError)):
		o.Kind = lincheck.Missing
	case errors.As(err, new(*adamant.ExistsError)):
		o.Kind = lincheck.Exists
	default:
		return
	}
	o.Known, o.IDs = true, nil
	c.add(doc, o)
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
