package lincheck

import (
	"fmt"
	"testing"
	"time"
)

// TestModel: what is linearizable, and what is not.
func TestModel(t *testing.T) {
	n := int64(0)
	do := func(kind Kind, seq int64, ids ...string) Op {
		n += 2
		return Op{Kind: kind, Seq: seq, IDs: ids, Known: true, Found: ids != nil, Call: n, Ret: n + 1}
	}
	unknown := func(o Op) Op { o.Known = false; return o }
	head := func(next int64) Op { o := do(Tail, next); o.Found = true; return o }
	for _, c := range []struct {
		name string
		ops  []Op
		want Result
	}{
		{"plain", []Op{do(Create, 1, "a"), do(Append, 2, "b", "c"), do(Read, 1, "a", "b", "c")}, Linearizable},
		{"repeated", []Op{do(Create, 1, "a"), unknown(do(Append, 2, "b")), do(Append, 2, "b"), do(Append, 3, "c"), do(Append, 2, "b"), do(Read, 1, "a", "b", "c")}, Linearizable},
		{"lost", []Op{do(Create, 1, "a"), do(Append, 2, "b"), do(Read, 1, "a")}, Illegal},
		{"other content", []Op{do(Create, 1, "a"), do(Append, 2, "b"), do(Read, 1, "a", "x")}, Illegal},
		{"took effect", []Op{do(Create, 1, "a"), unknown(do(Append, 2, "b")), do(Read, 1, "a", "b")}, Linearizable},
		{"took effect late", []Op{do(Create, 1, "a"), unknown(do(Append, 2, "b")), do(Read, 1, "a"), do(Read, 1, "a", "b")}, Linearizable},
		{"never took effect", []Op{do(Create, 1, "a"), unknown(do(Append, 2, "b")), do(Append, 2, "x"), do(Read, 1, "a", "x")}, Linearizable},
		{"came and went", []Op{do(Create, 1, "a"), unknown(do(Append, 2, "b")), do(Read, 1, "a", "b"), do(Read, 1, "a")}, Illegal},
		{"refused, and yet there", []Op{do(Create, 1, "a"), do(Read, 1, "a", "b")}, Illegal},
		{"deleted", []Op{do(Create, 1, "a"), do(Delete, 0), do(Read, 0), do(Create, 1, "x"), do(Read, 1, "x")}, Linearizable},
		{"resurrected", []Op{do(Create, 1, "a"), do(Delete, 0), do(Read, 0), do(Read, 1, "a")}, Illegal},
		{"replaced", []Op{do(Create, 1, "a"), do(Replace, 9, "r"), do(Read, 9, "r"), do(Append, 10, "s"), do(Read, 9, "r", "s")}, Linearizable},
		{"a tail", []Op{do(Create, 1, "a"), do(Append, 2, "b", "c"), do(Tail, 3, "c"), do(Tail, 2, "b", "c"), head(4)}, Linearizable},
		{"a tail with other content", []Op{do(Create, 1, "a"), do(Append, 2, "b"), do(Tail, 2, "x")}, Illegal},
		{"a stale tail", []Op{do(Create, 1, "a"), do(Append, 2, "b"), do(Tail, 1, "a")}, Illegal},
		{"a stale head", []Op{do(Create, 1, "a"), do(Append, 2, "b"), head(2)}, Illegal},
		{"a tail of nothing", []Op{do(Create, 1, "a"), do(Tail, 0)}, Illegal},
	} {
		if got := Check(c.ops, time.Minute); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// TestOverlap: a read that overlaps a write may find either, one that overlaps two of them what was there at any moment.
func TestOverlap(t *testing.T) {
	read := func(call, ret int64, head int) Op {
		o := Op{Client: 1, Kind: Tail, Seq: int64(head), IDs: []string{fmt.Sprint(head)}, Known: true, Found: true, Call: call, Ret: ret}
		return o
	}
	var writes []Op
	for i := range 20 {
		o := Op{Kind: Append, Seq: int64(i + 1), IDs: []string{fmt.Sprint(i + 1)}, Known: true, Call: int64(i * 10), Ret: int64(i*10 + 5)}
		if i == 0 {
			o.Kind = Create
		}
		writes = append(writes, o)
	}
	for _, c := range []struct {
		read Op
		want Result
	}{
		{read(52, 53, 5), Linearizable}, {read(52, 53, 6), Linearizable}, {read(52, 53, 7), Illegal}, {read(52, 53, 4), Illegal},
		{read(56, 58, 5), Illegal}, {read(56, 71, 8), Linearizable}, {read(56, 69, 8), Illegal},
	} {
		if got := Check(append([]Op{c.read}, writes...), time.Minute); got != c.want {
			t.Errorf("%+v: %s", c.read, got)
		}
	}
}

// TestRefusals: what a refusal says of a document has to have been so.
func TestRefusals(t *testing.T) {
	writes := []Op{
		{Kind: Create, Seq: 1, IDs: []string{"a"}, Known: true, Call: 10, Ret: 11},
		{Kind: Append, Seq: 2, IDs: []string{"b", "c"}, Known: true, Call: 20, Ret: 21},
		{Kind: Delete, Known: true, Call: 30, Ret: 31},
	}
	at := func(n int64, o Op) Op { o.Known, o.Call, o.Ret = true, n, n+1; return o }
	for _, c := range []struct {
		o    Op
		want Result
	}{
		{at(12, Op{Kind: Mismatch, Seq: 5, Head: 1}), Linearizable},
		{at(22, Op{Kind: Mismatch, Seq: 2, Head: 3}), Linearizable},
		{at(22, Op{Kind: Mismatch, Seq: 5, Head: 2}), Illegal},
		{at(22, Op{Kind: Mismatch, Seq: 4, Head: 3}), Illegal}, // it had to be done
		{at(18, Op{Kind: Mismatch, Seq: 9, Head: 3}), Illegal},
		{at(20, Op{Kind: Mismatch, Seq: 9, Head: 3}), Linearizable},
		{at(40, Op{Kind: Mismatch, Seq: 9, Head: 3}), Illegal},
		{at(40, Op{Kind: Missing}), Linearizable},
		{at(22, Op{Kind: Missing}), Illegal},
		{at(22, Op{Kind: Exists}), Linearizable},
		{at(5, Op{Kind: Exists}), Illegal},
	} {
		if got := Check(append([]Op{c.o}, writes...), time.Minute); got != c.want {
			t.Errorf("%+v: %s", c.o, got)
		}
	}
}

func TestEntries(t *testing.T) {
	seq, ids, err := Entries([]byte(`{"7":"a","8":"b"}`), 8)
	if seq != 7 || len(ids) != 2 || ids[1] != "b" || err != nil {
		t.Errorf("%d %v %v", seq, ids, err)
	}
	if _, _, err := Entries([]byte(`{"7":"a","9":"b"}`), 9); err == nil {
		t.Error("a gap is not noticed")
	}
}
