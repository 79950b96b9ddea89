package store

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// TestTableBytes: what is flushed, and what is compacted after that, counts as written, in both engines.
func TestTableBytes(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	defer func() { must(t, e.Close()) }()
	must(t, d.Apply([]Mutation{createAt(1)}, 1))
	if n := e.Metrics().TableBytes; n != 0 {
		t.Errorf("%d bytes before anything was flushed", n)
	}
	must(t, e.db.Flush())
	flushed := e.Metrics().TableBytes
	if flushed == 0 {
		t.Error("a flush does not count")
	}
	must(t, d.Apply([]Mutation{createAt(2)}, 2))
	must(t, e.db.Flush())
	twice := e.Metrics().TableBytes
	must(t, e.db.Compact(t.Context(), []byte{0}, []byte{0xff, 0xff}, false))
	if now := e.Metrics().TableBytes; twice <= flushed || now <= twice {
		t.Errorf("%d bytes after a flush, %d after another one, %d after a compaction", flushed, twice, now)
	}
}

func TestLogTableBytes(t *testing.T) {
	o := logOptions("log")
	o.FS = vfs.NewMem()
	e := openLog(t, logKinds[0], o)
	mustLog(t, openLogGroup(t, e, 1).StoreLogs([]*raft.Log{logEntry(1, 1)}))
	before := e.Stats().TableBytes
	mustLog(t, e.(*logEngine).backend.(*pebbleLog).db.Flush())
	if after := e.Stats().TableBytes; before != 0 || after == 0 {
		t.Errorf("%d bytes before a flush, %d after it", before, after)
	}
}
