package journal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func open(t *testing.T, fs vfs.FS, o Options) *Journal {
	t.Helper()
	j, err := Open(fs, "j", o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func read(t *testing.T, j *Journal) (lines []string) {
	t.Helper()
	for line, err := range j.Lines() {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	return lines
}

func TestLinesOutliveTheProcess(t *testing.T) {
	fs := vfs.NewMem()
	for i := range 3 {
		j := open(t, fs, Options{})
		j.Add(fmt.Appendf(nil, "line %d", i))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, fs, Options{})
	defer j.Close()
	if got := strings.Join(read(t, j), ","); got != "line 0,line 1,line 2" {
		t.Error(got)
	}
}

// TestOnlyTheNewestAreKept: what is on disk stays within the bound, and is the end of what was added.
func TestOnlyTheNewestAreKept(t *testing.T) {
	fs := vfs.NewMem()
	o := Options{SegmentBytes: 100, Segments: 3, Waiting: 10000}
	j := open(t, fs, o)
	for i := range 1000 {
		j.Add(fmt.Appendf(nil, "line %03d", i))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, fs, o)
	defer j.Close()
	lines := read(t, j)
	if n := len(lines); n < 20 || n > 33 || lines[n-1] != "line 999" {
		t.Errorf("%d lines, the last is %q", n, lines[n-1])
	}
	names, _ := fs.List("j")
	if len(names) != 3 {
		t.Errorf("files %v", names)
	}
}

// TestCrash: what is older than a sync is there; a torn line is left out, and what comes after it is not.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		if err := fs.MkdirAll("j", 0o700); err != nil {
			t.Fatal(err)
		}
		j := open(t, fs, Options{Sync: time.Second})
		j.Add([]byte("old"))
		time.Sleep(2 * time.Second)
		j.Add([]byte("new"))
		synctest.Wait()
		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := crashed.Create("j/0000000007.lines", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write([]byte("whole\ntorn"))
		_ = f.Close()
		after := open(t, crashed, Options{})
		after.Add([]byte("next"))
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
		after = open(t, crashed, Options{})
		defer after.Close()
		if got := strings.Join(read(t, after), ","); got != "old,whole,next" {
			t.Error(got)
		}
	})
}

// TestFailingDisk: the journal gives up, says so, and bothers nobody.
func TestFailingDisk(t *testing.T) {
	broken := errors.New("broken")
	for _, kind := range []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync} {
		on := false
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if on && op.Kind == kind {
				return broken
			}
			return nil
		}))
		j := open(t, fs, Options{})
		on = true
		j.Add([]byte("x"))
		if err := j.Close(); !errors.Is(err, broken) {
			t.Errorf("%v: %v", kind, err)
		}
	}
}

// TestTooMuchIsDropped: a flood does not block and takes no more memory than is allowed.
func TestTooMuchIsDropped(t *testing.T) {
	j := &Journal{o: Options{}.withDefaults(), lines: make(chan []byte, 2)}
	for range 5 {
		j.Add([]byte("x"))
	}
	if n := j.Dropped(); n != 3 {
		t.Errorf("%d dropped", n)
	}
	j.Add(make([]byte, MaxLine+1))
	if n := j.Dropped(); n != 4 {
		t.Errorf("%d dropped after a line that is too long", n)
	}
}
