package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adamantdb/adamant"
)

// A census tells hosts apart that hold anything else, down to a byte of a delta.
func TestCensus(t *testing.T) {
	delta := func(redo string) adamant.Delta {
		return adamant.Delta{SeqBegin: 1, SeqEnd: 1, Redo: []byte(redo), Undo: []byte(payloadUndo), Who: "w"}
	}
	take := func(deltas map[string]adamant.Delta) census {
		t.Helper()
		h, err := adamant.Open(adamant.Options{Dir: filepath.Join(t.TempDir(), "h"), Partitions: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if err := h.WaitReady(context.Background()); err != nil {
			t.Fatal(err)
		}
		for key, d := range deltas {
			if err := h.Create(context.Background(), adamant.Key{Space: "bench", Key: key}, d); err != nil {
				t.Fatal(err)
			}
		}
		c, err := takeCensus(context.Background(), h)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one := take(map[string]adamant.Delta{"a": delta("x"), "b": delta("y")})
	if one.size() != (census{2, 2, 2, 0}) || one.Digest == 0 {
		t.Errorf("%+v", one)
	}
	if same := take(map[string]adamant.Delta{"b": delta("y"), "a": delta("x")}); same != one {
		t.Errorf("%+v, %+v of the same", one, same)
	}
	for _, other := range []map[string]adamant.Delta{{"a": delta("y"), "b": delta("x")}, {"a": delta("x"), "c": delta("y")}, {"a": delta("x"), "b": delta("z")}} {
		c := take(other)
		if c == one {
			t.Errorf("%v looks the same", other)
		}
		if _, err := unanimous(map[string]census{"h1": one, "h2": one, "h3": c}); err == nil || !strings.Contains(err.Error(), "h3") {
			t.Errorf("%v", err)
		}
	}
	if c, err := unanimous(map[string]census{"h1": one, "h2": one}); err != nil || c != one {
		t.Errorf("%+v, %v", c, err)
	}
}

// Every field of a delta counts.
func TestAppendDelta(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range []adamant.Delta{{}, {SeqBegin: 1}, {SeqEnd: 1}, {AssetBytes: 1}, {WhenToInvalidate: 1}, {RequiresFutureInvalidation: true},
		{Redo: []byte("a")}, {Undo: []byte("a")}, {Request: []byte("a")}, {Who: "a"}} {
		seen[string(appendDelta(nil, &d))] = true
	}
	if len(seen) != 10 {
		t.Errorf("only %d deltas are told apart", len(seen))
	}
}
