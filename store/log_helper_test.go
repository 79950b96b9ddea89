package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// logKind is one of the two implementations, for tests that run on both.
type logKind struct {
	name string
	open func(LogOptions) (LogEngine, error)
}

var logKinds = []logKind{{"pebble", OpenPebbleLog}, {"bolt", OpenBoltLog}}

func forLogKinds(t *testing.T, test func(*testing.T, logKind)) {
	for _, k := range logKinds {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

func logOptions(dir string) LogOptions {
	return LogOptions{Dir: dir, Cluster: "c", Host: "h", Incarnation: "i", MemTableBytes: 1 << 20}
}

// openLog opens an engine that is closed with the test.
func openLog(t testing.TB, k logKind, o LogOptions) LogEngine {
	t.Helper()
	e, err := k.open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func openLogGroup(t testing.TB, e LogEngine, partition uint32) LogGroup {
	t.Helper()
	g, err := e.Group(partition)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func mustLog(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logEntry is a command whose data depends on index and term.
func logEntry(index, term uint64) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d of term %d", index, term),
		AppendedAt: time.Unix(1_700_000_000, int64(index)).UTC()}
}

func logEntries(first, last, term uint64) (list []*raft.Log) {
	for i := first; i <= last; i++ {
		list = append(list, logEntry(i, term))
	}
	return list
}

func sameLog(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) &&
		bytes.Equal(a.Extensions, b.Extensions) && a.AppendedAt.Equal(b.AppendedAt)
}

func logTestMarker(index, term uint64) Marker {
	return Marker{Index: index, Term: term, ConfigurationIndex: 1, Configuration: raft.EncodeConfiguration(raft.Configuration{
		Servers: []raft.Server{{ID: "h@i", Address: "h@i"}}}), Payload: fmt.Appendf(nil, "terms up to %d", index)}
}

// checkLog verifies that a group holds exactly want, and what was compacted before it.
func checkLog(t testing.TB, g LogGroup, compacted, compactedTerm uint64, want []*raft.Log) {
	t.Helper()
	first, last := uint64(0), uint64(0)
	if len(want) > 0 {
		first, last = want[0].Index, want[len(want)-1].Index
	}
	haveFirst, err := g.FirstIndex()
	mustLog(t, err)
	haveLast, err := g.LastIndex()
	mustLog(t, err)
	if haveFirst != first || haveLast != last {
		t.Fatalf("log is [%d, %d], want [%d, %d]", haveFirst, haveLast, first, last)
	}
	if i, term := g.Compacted(); i != compacted || term != compactedTerm {
		t.Fatalf("compacted is %d of term %d, want %d of term %d", i, term, compacted, compactedTerm)
	}
	for _, w := range want {
		var l raft.Log
		if err := g.GetLog(w.Index, &l); err != nil || !sameLog(&l, w) {
			t.Fatalf("entry %d is %+v (%v), want %+v", w.Index, l, err, *w)
		}
	}
	missing := []uint64{0, max(last, compacted) + 1, 1 << 60}
	if compacted > 1 {
		missing = append(missing, compacted-1)
	}
	for _, i := range missing {
		if err := g.GetLog(i, &raft.Log{}); err != raft.ErrLogNotFound {
			t.Fatalf("entry %d: %v, want ErrLogNotFound", i, err)
		}
	}
	if compacted > 0 {
		var l raft.Log
		mustLog(t, g.GetLog(compacted, &l))
		if l.Index != compacted || l.Term != compactedTerm {
			t.Fatalf("stub is %+v", l)
		}
	}
}

// checkMarker verifies the marker; nil for none.
func checkLogMarker(t testing.TB, g LogGroup, want *Marker) {
	t.Helper()
	m, ok, err := g.Marker()
	mustLog(t, err)
	if ok != (want != nil) || ok && !sameMarker(m, *want) {
		t.Fatalf("marker is %+v (%v), want %+v", m, ok, want)
	}
}

func sameMarker(a, b Marker) bool {
	return a.Index == b.Index && a.Term == b.Term && a.ConfigurationIndex == b.ConfigurationIndex &&
		bytes.Equal(a.Configuration, b.Configuration) && bytes.Equal(a.Payload, b.Payload)
}

// saveVote writes a vote as Raft does.
func saveLogVote(g LogGroup, term uint64, candidate string) error {
	if err := g.SetUint64([]byte(logKeyVoteTerm), term); err != nil {
		return err
	}
	return g.Set([]byte(logKeyVoteCandidate), []byte(candidate))
}

// checkVote verifies the vote; term 0 for none.
func checkLogVote(t testing.TB, g LogGroup, term uint64, candidate string) {
	t.Helper()
	have, err := g.GetUint64([]byte(logKeyVoteTerm))
	who, whoErr := g.Get([]byte(logKeyVoteCandidate))
	if term == 0 {
		if err == nil || whoErr == nil || err.Error() != "not found" || whoErr.Error() != "not found" {
			t.Fatalf("vote: %v, %v, want not found", err, whoErr)
		}
		return
	}
	mustLog(t, err)
	mustLog(t, whoErr)
	if have != term || string(who) != candidate {
		t.Fatalf("vote is for %q in term %d, want %q in term %d", who, have, candidate, term)
	}
}

// copyLogDir copies a directory of plain files: the disk as a crash would leave it.
func copyLogDir(t testing.TB, from, to string) {
	t.Helper()
	mustLog(t, os.MkdirAll(to, 0o755))
	files, err := os.ReadDir(from)
	mustLog(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		mustLog(t, err)
		mustLog(t, os.WriteFile(filepath.Join(to, f.Name()), b, 0o600))
	}
}
