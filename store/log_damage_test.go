package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// fillLog writes a log with everything in it and returns its digest.
func fillLog(t testing.TB, g LogGroup) string {
	t.Helper()
	mustLog(t, g.SetUint64([]byte("CurrentTerm"), 3))
	mustLog(t, saveLogVote(g, 3, "a@1"))
	for i := range uint64(6) {
		mustLog(t, g.StoreLogs(logEntries(5*i+1, 5*i+5, 3)))
	}
	mustLog(t, g.SaveMarker(logTestMarker(20, 3), true))
	mustLog(t, g.DeleteRange(1, 8))
	mustLog(t, g.StoreLogs(logEntries(31, 34, 3)))
	return logDigest(t, g)
}

// readLog opens a directory and returns the digest of its group, or why it cannot be read.
func readLog(t testing.TB, k logKind, o LogOptions, partition uint32) (string, error) {
	t.Helper()
	e, err := k.open(o)
	if err != nil {
		return "", err
	}
	defer func() { _ = e.Close() }()
	g, err := e.Group(partition)
	if err != nil {
		return "", err
	}
	return logDigest(t, g), nil
}

// TestLogDamageIsNotCutAway flips bits all over the files of a cleanly closed engine, in its first run, whose write-ahead log
// is short, and in its second, whose log is of several blocks. A log that opens must be the whole one.
func TestLogDamageIsNotCutAway(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		dir := t.TempDir()
		e := openLog(t, k, logOptions(dir))
		want := fillLog(t, openLogGroup(t, e, 3))
		mustLog(t, e.Close())
		checkLogFlips(t, k, dir, want)
		e = openLog(t, k, logOptions(dir))
		g := openLogGroup(t, e, 3)
		mustLog(t, g.StoreLogs(largeLogs(35, 20, 3)))
		mustLog(t, g.SaveMarker(logTestMarker(40, 3), true))
		mustLog(t, g.DeleteRange(9, 39)) // lazy, and the last step
		want = logDigest(t, g)
		mustLog(t, e.Close())
		checkLogFlips(t, k, dir, want)
	})
}

func checkLogFlips(t *testing.T, k logKind, dir, want string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	mustLog(t, err)
	opened, refused := 0, 0
	damaged := t.TempDir()
	copyLogDir(t, dir, damaged)
	for n, f := range files {
		info, err := f.Info()
		mustLog(t, err)
		places := int64(60)
		if slowBuild {
			places = 8
		}
		step := max(1, info.Size()/places) | 1
		for at := step / 2; at < info.Size(); at += step {
			if step > 41 && at > info.Size()-1000 { // the last steps are small
				step = 41
			}
			name := filepath.Join(damaged, f.Name())
			flipByte(t, name, at, []byte{0x10, 0x01}[(int(at)+n)%2])
			have, err := readLog(t, k, logOptions(damaged), 3)
			switch {
			case err == nil && have != want:
				t.Errorf("%s with byte %d flipped:\n%s\nwant\n%s", f.Name(), at, have, want)
			case err == nil:
				opened++
			default:
				refused++
			}
			mustLog(t, os.RemoveAll(damaged))
			copyLogDir(t, dir, damaged)
		}
	}
	t.Logf("%d kinds of damage were harmless, %d refused", opened, refused)
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// TestLogDamageAfterCrash flips each byte of a write-ahead log that was not closed. Only the last round can be lost, because
// nothing behind it says that it was synced; damage to anything before it is refused.
func TestLogDamageAfterCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := logOptions("/log")
	o.FS = mem
	e := openLog(t, logKinds[0], o)
	g := openLogGroup(t, e, 3)
	fillLog(t, g)
	mustLog(t, saveLogVote(g, 8, "b@1"))
	before := logDigest(t, g)
	size := func() int64 { return memSize(t, mem, "/log/000002.log") }
	last := size() // where the last round begins
	mustLog(t, saveLogVote(g, 9, "c@1"))
	after := logDigest(t, g)
	for at := range size() {
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		flipMem(t, crashed, "/log/000002.log", at)
		o.FS = crashed
		have, err := readLog(t, logKinds[0], o, 3)
		var corrupt *CorruptionError
		switch {
		case at < last && (!errors.As(err, &corrupt) || !strings.Contains(err.Error(), "000002.log")):
			t.Fatalf("byte %d of %d flipped: %v, log is %s", at, last, err, have)
		case at >= last && (err != nil || have != before && have != after):
			t.Fatalf("byte %d, in the last round, flipped: %v, log is %s", at, err, have)
		}
	}
}

func flipByte(t testing.TB, path string, at int64, mask byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	mustLog(t, err)
	b[at] ^= mask
	mustLog(t, os.WriteFile(path, b, 0o600))
}

// TestLogLazyRoundIsTorn: a crash may leave the round behind a lazy one and not the lazy one itself, because one fsync was to
// cover both. That is no damage; it is when a further round says that the fsync returned.
func TestLogLazyRoundIsTorn(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := logOptions("/log")
	o.FS = mem
	e := openLog(t, logKinds[0], o)
	g := openLogGroup(t, e, 3)
	fillLog(t, g)
	mustLog(t, saveLogVote(g, 8, "b@1"))
	before, lazy := logDigest(t, g), memSize(t, mem, "/log/000002.log")
	mustLog(t, g.DeleteRange(9, 12))
	torn := func() (string, error) {
		mustLog(t, saveLogVote(g, 9, "c@1"))
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		flipMem(t, crashed, "/log/000002.log", lazy+30)
		o := o
		o.FS = crashed
		return readLog(t, logKinds[0], o, 3)
	}
	if have, err := torn(); err != nil || have != before {
		t.Errorf("without the lazy round: %v, log is\n%s\nwant\n%s", err, have, before)
	}
	var corrupt *CorruptionError
	if have, err := torn(); !errors.As(err, &corrupt) {
		t.Errorf("with one more round behind it: %v, log is %s", err, have)
	}
}

// memSize is the size of a file as far as it is synced.
func memSize(t testing.TB, mem *vfs.MemFS, name string) int64 {
	t.Helper()
	info, err := mem.CrashClone(vfs.CrashCloneCfg{}).Stat(name)
	mustLog(t, err)
	return info.Size()
}

// TestLogTornTail: what no fsync covered may be cut, whatever it is.
func TestLogTornTail(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := logOptions("/log")
	o.FS = mem
	e := openLog(t, logKinds[0], o)
	g := openLogGroup(t, e, 3)
	want := fillLog(t, g)
	for name, tail := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 200), "garbage": []byte(strings.Repeat("\xa5garbage", 40))} {
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		names, err := crashed.List("/log")
		mustLog(t, err)
		for _, n := range names {
			if strings.HasSuffix(n, ".log") {
				appendMem(t, crashed, "/log/"+n, tail)
			}
		}
		o.FS = crashed
		if have, err := readLog(t, logKinds[0], o, 3); err != nil || have != want {
			t.Errorf("%s after the last fsync: %v\n%s\nwant\n%s", name, err, have, want)
		}
	}
}

func appendMem(t testing.TB, files *vfs.MemFS, name string, tail []byte) {
	t.Helper()
	rewriteMem(t, files, name, func(b []byte) []byte { return append(b, tail...) })
}

func flipMem(t testing.TB, files *vfs.MemFS, name string, at int64) {
	t.Helper()
	rewriteMem(t, files, name, func(b []byte) []byte { b[at] ^= 1; return b })
}

func vfsRead(files vfs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

func rewriteMem(t testing.TB, files *vfs.MemFS, name string, change func([]byte) []byte) {
	t.Helper()
	b, err := vfsRead(files, name)
	mustLog(t, err)
	f, err := files.Create(name, vfs.WriteCategoryUnspecified)
	mustLog(t, err)
	_, err = f.Write(change(b))
	mustLog(t, errors.Join(err, f.Sync(), f.Close()))
}

// TestLogDamageNamesThePartition damages records as Pebble would return them: each is a clear error of that partition's
// Group, and no other partition suffers.
func TestLogDamageNamesThePartition(t *testing.T) {
	entry := func(i uint64) []byte { return appendLogEntryKey(nil, 3, i) }
	record := func(kind byte) []byte { return appendLogKey(nil, 3, kind) }
	foreign := logTestMarker(20, 9)
	for name, damage := range map[string]func(b *pebble.Batch) error{
		"missing entry":        func(b *pebble.Batch) error { return b.Delete(entry(15), nil) },
		"missing first entry":  func(b *pebble.Batch) error { return b.Delete(entry(9), nil) },
		"missing up to marker": func(b *pebble.Batch) error { return b.DeleteRange(entry(12), entry(40), nil) },
		"garbage entry":        func(b *pebble.Batch) error { return b.Set(entry(15), []byte("garbage"), nil) },
		"misplaced entry":      func(b *pebble.Batch) error { return b.Set(entry(15), appendLogEntry(nil, logEntry(16, 3)), nil) },
		"short key":            func(b *pebble.Batch) error { return b.Set(append(record(logKindEntry), 0xff), nil, nil) },
		"long key": func(b *pebble.Batch) error {
			return b.Set(append(entry(15), 0), appendLogEntry(nil, logEntry(15, 3)), nil)
		},
		"garbage marker":       func(b *pebble.Batch) error { return b.Set(record(logKindMarker), []byte{1, 2}, nil) },
		"marker of other term": func(b *pebble.Batch) error { return b.Set(record(logKindMarker), foreign.AppendBinary(nil), nil) },
		"missing marker":       func(b *pebble.Batch) error { return b.Delete(record(logKindMarker), nil) },
		"garbage compacted":    func(b *pebble.Batch) error { return b.Set(record(logKindCompacted), []byte{9}, nil) },
		"missing compacted":    func(b *pebble.Batch) error { return b.Delete(record(logKindCompacted), nil) },
		"garbage vote":         func(b *pebble.Batch) error { return b.Set(record(logKindVote), []byte{1}, nil) },
		"compacted beyond last": func(b *pebble.Batch) error {
			return b.Set(record(logKindCompacted), appendLogPoint(nil, logPoint{index: 90, term: 3, kind: raft.LogNoop}), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := logOptions("/log")
			o.FS = vfs.NewMem()
			e := openLog(t, logKinds[0], o)
			fillLog(t, openLogGroup(t, e, 3))
			want := fillLog(t, openLogGroup(t, e, 4))
			db := e.(*logEngine).backend.(*pebbleLog).db
			b := db.NewBatch()
			mustLog(t, errors.Join(damage(b), db.Apply(b, pebble.Sync), e.Close()))
			e = openLog(t, logKinds[0], o)
			var corrupt *CorruptionError
			if _, err := e.Group(3); !errors.As(err, &corrupt) || corrupt.Partition != 3 || !strings.Contains(err.Error(), "/log") {
				t.Errorf("damaged group opened: %v", err)
			}
			if have := logDigest(t, openLogGroup(t, e, 4)); have != want {
				t.Errorf("the other group is %s, want %s", have, want)
			}
		})
	}
}

// TestLogDamagedTableNamesThePartition damages an entry after it was flushed: Pebble's checksum finds it.
func TestLogDamagedTableNamesThePartition(t *testing.T) {
	dir := t.TempDir()
	o := logOptions(dir)
	e := openLog(t, logKinds[0], o)
	g := openLogGroup(t, e, 3)
	logs := logEntries(1, 40, 1)
	for i, l := range logs {
		l.Data = fmt.Appendf(nil, "%0900d", i*7919)
	}
	mustLog(t, g.StoreLogs(logs))
	mustLog(t, e.Close())
	mustLog(t, openLog(t, logKinds[0], o).Close()) // replaying the write-ahead log flushes it
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	mustLog(t, err)
	if len(tables) != 1 {
		t.Fatalf("tables: %v", tables)
	}
	flipByte(t, tables[0], 3000, 0x10)
	e = openLog(t, logKinds[0], o)
	if _, err := e.Group(3); err == nil || !strings.Contains(err.Error(), "partition 3") {
		t.Fatalf("damaged group opened: %v", err)
	}
	mustLog(t, openLogGroup(t, e, 4).StoreLog(logEntry(1, 1)))
}

// TestDamagedEntryIsTruncated: to cut the log at an entry that is damaged, all that the marker covers is cut; one that can not be
// read just now stays.
func TestDamagedEntryIsTruncated(t *testing.T) {
	s := logState{first: 3, last: 20, marker: &Marker{Index: 15, Term: 4}}
	damaged := func(index uint64) (raft.Log, error) {
		return raft.Log{}, logReadError(1, fmt.Errorf("entry %d: %w", index, pebble.ErrCorruption))
	}
	c, err := s.deleteRange(1, 10, damaged)
	if err != nil || c.from != 3 || c.to != 15 || c.compacted.index != 15 || c.compacted.term != 4 {
		t.Errorf("%+v, %v", c, err)
	}
	s.last = 12 // the marker came from a leader
	if c, err = s.deleteRange(1, 10, damaged); err != nil || c.to != 12 || c.compacted.index != 15 || c.compacted.term != 4 {
		t.Errorf("%+v, %v", c, err)
	}
	unreadable := func(uint64) (raft.Log, error) { return raft.Log{}, logReadError(1, errors.New("no answer")) }
	var read *ReadError
	if _, err := s.deleteRange(1, 10, unreadable); !errors.As(err, &read) {
		t.Errorf("%v", err)
	}
}

// TestLogUnwritableDirectory: the error says what is in the way.
func TestLogUnwritableDirectory(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		file := filepath.Join(t.TempDir(), "file")
		mustLog(t, os.WriteFile(file, nil, 0o600))
		var open *OpenError
		if _, err := k.open(logOptions(filepath.Join(file, "log"))); !errors.As(err, &open) || !strings.Contains(err.Error(), file) {
			t.Errorf("below a file: %v", err)
		}
		if os.Getuid() == 0 {
			t.Skip("root may write everywhere")
		}
		dir := t.TempDir()
		mustLog(t, os.Chmod(dir, 0o500))
		if _, err := k.open(logOptions(filepath.Join(dir, "log"))); !errors.As(err, &open) || open.Reason != OpenReadOnly {
			t.Errorf("in a read-only directory: %v", err)
		}
	})
}
