package adamant

import (
	"context"
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
