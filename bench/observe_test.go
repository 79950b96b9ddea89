package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/lincheck"
)

// randomOps is what one writer and some readers may see of a register that is always right, unless a read is wrong by some
// entries.
func randomOps(rng *rand.Rand, writes int, wrong int64) []lincheck.Op {
	var ops []lincheck.Op
	id := func(seq int64) string { return fmt.Sprint("entry ", seq) }
	now := int64(0)
	head := int64(0)
	for range writes {
		head++
		call := now + 1 + rng.Int64N(5)
		ret := call + rng.Int64N(10)
		op := lincheck.Op{Kind: lincheck.Append, Seq: head, IDs: []string{id(head)}, Known: true, Call: call, Ret: ret}
		if head == 1 {
			op.Kind = lincheck.Create
		}
		ops = append(ops, op)
		if head > 1 && rng.IntN(3) == 0 { // a read that overlaps it, from either side
			found := head - rng.Int64N(2)
			from, to := call-rng.Int64N(4), ret+rng.Int64N(4)
			ops = append(ops, lincheck.Op{Client: 1, Kind: lincheck.Tail, Seq: found, IDs: []string{id(found)}, Known: true, Found: true, Call: from, Ret: to})
		}
		now = ret
	}
	if wrong != 0 {
		o := &ops[len(ops)-1]
		*o = lincheck.Op{Client: 2, Kind: lincheck.Tail, Seq: head - wrong, IDs: []string{id(head - wrong)}, Known: true, Found: true, Call: now + 100, Ret: now + 101}
	}
	return ops
}

// TestCondense: it changes no verdict.
func TestCondense(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	shorter := 0
	for i := range 300 {
		ops := randomOps(rng, 40, int64(i%3))
		small := condense(ops)
		shorter += len(ops) - len(small)
		want, got := lincheck.Check(ops, time.Minute), lincheck.Check(small, time.Minute)
		if got != want {
			t.Fatalf("%s, but %s when condensed:\n%+v\n%+v", want, got, ops, small)
		}
	}
	if shorter < 300 {
		t.Errorf("only %d operations less", shorter)
	}
}

func TestObservedReads(t *testing.T) {
	var o observed
	at := func(host string, epoch uint64, head, known, call int64) {
		o.read(sight{host: host, epoch: epoch, head: head, newest: entryID([]byte(fmt.Sprint(head))), known: known, call: call, ret: call + 5})
	}
	write := func(seq, call int64) {
		kind := lincheck.Append
		if seq == 1 {
			kind = lincheck.Create
		}
		o.write(kind, seq, []byte(fmt.Sprint(seq)), call, call+1)
	}
	write(1, 0)
	write(2, 10)
	at("h1", 3, 2, 2, 20)
	write(3, 30)
	at("h2", 4, 3, 3, 40)
	if o.check() != lincheck.Linearizable || o.stale != 0 || o.overlap() != 0 {
		t.Fatalf("%s, %d stale, overlap %d", o.check(), o.stale, o.overlap())
	}
	at("h1", 3, 3, 3, 50) // right, but in an office that was over
	if o.check() != lincheck.Linearizable || o.overlap() != 5 {
		t.Fatalf("%s, overlap %d", o.check(), o.overlap())
	}
	at("h1", 3, 2, 3, 60)
	if o.check() != lincheck.Illegal || o.stale != 1 || !strings.Contains(o.first, "host h1") {
		t.Fatalf("%s, %d stale: %s", o.check(), o.stale, o.first)
	}
}

// TestJudgement: each of what must not be is an error.
func TestJudgement(t *testing.T) {
	for want, j := range map[string]judgement{
		"": {reads: 3, unknown: 1}, "2 of 3": {reads: 3, stale: 2}, "not linearizable: 1": {illegal: 1}, "overlap for 1ms": {overlap: time.Millisecond},
	} {
		err := j.err()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", j, err)
		}
	}
}

// scriptedLine never answers when it is silent, and says who leads when it is not.
type scriptedLine struct {
	silent bool
	leader string
}

func (l scriptedLine) ask(ctx context.Context, r request) reply {
	switch {
	case l.silent:
		<-ctx.Done()
		return reply{Code: adamant.CodeAmbiguous}
	case r.Do == askLocate:
		return reply{Leader: l.leader}
	}
	return reply{}
}
func (l scriptedLine) close() error { return nil }

// TestUnansweredWrite: a client turns to the leader that others name, and notes what the silent host answers in the end.
func TestUnansweredWrite(t *testing.T) {
	all := &clients{begun: time.Now(), lines: map[string]line{"h1": scriptedLine{silent: true}, "h2": scriptedLine{leader: "h3"}, "h3": scriptedLine{leader: "h3"}}}
	all.base, all.giveUp = context.WithCancel(context.Background())
	c := &client{all: all, key: documentKey(1), voters: []string{"h1", "h2", "h3"}, host: "h1", size: minSize, undo: []byte(payloadUndo)}
	all.list = []*client{c}
	if err := c.write(context.Background(), askAppend); err != nil {
		t.Fatal(err)
	}
	if c.host != "h3" || c.acknowledged() != 1 || len(all.ambiguous()) != 0 {
		t.Fatalf("at %s, head %d, %v", c.host, c.acknowledged(), all.ambiguous())
	}
	all.giveUp()
	all.settle()
	if got := all.ambiguous()["h1"]; len(got) != 1 || got[0] != c.key {
		t.Fatalf("%v", got)
	}
	f := &fleet{byHost: map[string]int{"h1": 0}}
	s := &site{}
	f.crews = []crew{s}
	if missing, affected, err := f.unnotified(t.Context(), all, 60*time.Millisecond); missing != 1 || affected != 1 || err != nil {
		t.Fatalf("%d of %d, %v", missing, affected, err)
	}
	s.losses.note("h1", c.key)
	if missing, affected, err := f.unnotified(t.Context(), all, 60*time.Millisecond); missing != 0 || affected != 1 || err != nil {
		t.Fatalf("%d of %d, %v", missing, affected, err)
	}
}
