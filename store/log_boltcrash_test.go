package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestLogBoltCrashAtEachTransaction kills the process between the transactions of each step: the log must be as before the step
// or as after it. (Within a transaction bolt itself is atomic; both of its fsyncs are in each.)
func TestLogBoltCrashAtEachTransaction(t *testing.T) {
	type crash struct {
		dir   string
		steps int // that had returned
		name  string
	}
	o := logOptions(filepath.Join(t.TempDir(), "a", "log"))
	var crashes []crash
	done, name := 0, "creation"
	die := func() {
		c := crash{filepath.Join(t.TempDir(), "log"), done, name}
		copyLogDir(t, o.Dir, c.dir)
		crashes = append(crashes, c)
	}
	b, err := openBoltLog(o, boltHooks{between: die, noSync: true}) // what a process wrote outlives it, synced or not
	mustLog(t, err)
	t.Cleanup(func() { _ = b.engine.Close() })
	g := openLogGroup(t, b.engine, 5)
	states, between := []string{logDigest(t, g)}, 0
	die()
	for i, s := range logCrashSteps {
		name = s.name
		before := len(crashes)
		g, err = s.do(b.engine, g)
		mustLog(t, err)
		between += len(crashes) - before
		states, done = append(states, logDigest(t, g)), i+1
		die()
	}
	// One in each creation of the file, one in each of three prefixes and in the marker above the log, two in the marker
	// within it, which is recorded, carried out and recorded as done.
	if between != 8 {
		t.Errorf("%d crashes within steps", between)
	}
	for _, c := range crashes {
		o.Dir = c.dir
		e := openLog(t, logKinds[1], o)
		have := logDigest(t, openLogGroup(t, e, 5))
		if have != states[c.steps] && (c.steps+1 >= len(states) || have != states[c.steps+1]) {
			t.Fatalf("%s: after a crash the log is\n%s\nwant\n%s\nor the next one", c.name, have, states[c.steps])
		}
		mustLog(t, e.Close())
		if again, err := readLog(t, logKinds[1], o, 5); err != nil || again != have {
			t.Fatalf("%s: reopened once more, the log is\n%s (%v)\nwant\n%s", c.name, again, err, have)
		}
	}
}

// TestLogBoltUnfinishedFile: a partition's file that a crash left without a first state is none, and in nobody's way.
func TestLogBoltUnfinishedFile(t *testing.T) {
	for i, content := range [][]byte{nil, []byte("garbage")} {
		o := logOptions(t.TempDir())
		mustLog(t, openLog(t, logKinds[1], o).Close())
		mustLog(t, os.WriteFile(filepath.Join(o.Dir, boltName(5)+boltNewborn), content, 0o600))
		e := openLog(t, logKinds[1], o)
		if list, err := e.Groups(); err != nil || len(list) != 0 {
			t.Fatalf("groups are %v (%v)", list, err)
		}
		g := openLogGroup(t, e, 5)
		mustLog(t, saveLogVote(g, 1, fmt.Sprint(i)))
		mustLog(t, e.Close())
		checkLogVote(t, openLogGroup(t, openLog(t, logKinds[1], o), 5), 1, fmt.Sprint(i))
	}
}

// TestLogBoltMetaPages flips each byte of a file's two meta pages: bolt would go back to the step before the last one.
func TestLogBoltMetaPages(t *testing.T) {
	o := logOptions(t.TempDir())
	e := openLog(t, logKinds[1], o)
	g := openLogGroup(t, e, 5)
	want := fillLog(t, g)
	mustLog(t, e.Close())
	path := filepath.Join(o.Dir, boltName(5))
	for page := range int64(2) {
		for at := range int64(boltMetaSum + 8) {
			at += page*int64(os.Getpagesize()) + boltPageHeader
			flipByte(t, path, at, 1)
			var corrupt *CorruptionError
			if have, err := readLog(t, logKinds[1], o, 5); !errors.As(err, &corrupt) || corrupt.Partition != 5 {
				t.Fatalf("byte %d flipped: %v, log is %s", at, err, have)
			}
			flipByte(t, path, at, 1)
		}
	}
	if have, err := readLog(t, logKinds[1], o, 5); err != nil || have != want {
		t.Fatalf("undamaged again: %v, log is %s", err, have)
	}
}

// TestLogBoltPageThatIsNotThere: an entry that the disk does not give any more is damage of its partition's log, not the end of the process,
// which reads through a mapping of the file.
func TestLogBoltPageThatIsNotThere(t *testing.T) {
	o := logOptions(t.TempDir())
	e := openLog(t, logKinds[1], o)
	g := openLogGroup(t, e, 5)
	mustLog(t, g.StoreLogs(logEntries(1, 200, 1)))
	mustLog(t, e.Close())
	e = openLog(t, logKinds[1], o)
	disk := openLogGroup(t, e, 5).(*logGroup).disk
	if _, found, err := disk.entry(100); err != nil || !found {
		t.Fatal(found, err)
	}
	mustLog(t, os.Truncate(filepath.Join(o.Dir, boltName(5)), 2*int64(os.Getpagesize()))) // what says where everything is stays
	var corrupt *CorruptionError
	if _, found, err := disk.entry(100); !errors.As(err, &corrupt) || corrupt.Partition != 5 || found {
		t.Errorf("found %v, %v", found, err)
	}
}
