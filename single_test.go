package adamant

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestEmbeddedDefault: a directory is all it takes; no port is opened, and what was written is there after a restart.
func TestEmbeddedDefault(t *testing.T) {
	dir := t.TempDir()
	h, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	start := time.Now()
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %v", time.Since(start))
	key := Key{Space: "space", Key: "doc"}
	if err := h.Create(ctx, key, Delta{SeqBegin: 1, SeqEnd: 1, Redo: []byte(`{"a":1}`), Undo: []byte(`{"a":null}`)}); err != nil {
		t.Fatal(err)
	}
	if head, err := h.Append(ctx, key, []Delta{{SeqBegin: 2, SeqEnd: 2, Redo: []byte(`{"a":2}`), Undo: []byte(`{"a":1}`)}}); err != nil || head != 2 {
		t.Fatal(head, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if h, err = Open(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	d, err := h.Get(context.Background(), key)
	if err != nil || string(d.JSON) != `{"a":2}` || d.Head != 2 {
		t.Fatalf("%s at %d, %v", d.JSON, d.Head, err)
	}
}

// TestBoltLogOnTheSystemsFiles: the other log engine works on the file system that a host uses by itself, and keeps what was
// written.
func TestBoltLogOnTheSystemsFiles(t *testing.T) {
	o := Options{Dir: t.TempDir(), Partitions: 2, Log: LogBolt}
	for round := range 2 {
		h, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx := testContext(t)
		if err := h.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			err = h.Create(ctx, testKey(0), testDelta(1, "x"))
		} else {
			_, err = h.Get(ctx, testKey(0))
		}
		if err := errors.Join(err, h.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
