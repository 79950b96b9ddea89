package diskcalls

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// TestCalls tells each call while it has not happened yet, and none of other goroutines.
func TestCalls(t *testing.T) {
	dir := t.TempDir()
	path, renamed := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	var seen []string
	thread, err := Start(func(c Call) {
		size := int64(-1)
		for _, name := range []string{path, renamed} {
			if info, err := os.Stat(name); err == nil {
				size = info.Size()
			}
		}
		seen = append(seen, fmt.Sprintf("%s at %d", c.Op, size))
		runtime.GC() // needs the waiting thread to be out of its way
	})
	if errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var did error
	thread.Do(func() {
		f, err := os.Create(path)
		if err != nil {
			did = err
			return
		}
		_, err = f.WriteAt([]byte("four"), 0)
		did = errors.Join(err, f.Sync(), f.Truncate(2), f.Close(), os.Rename(path, renamed), os.Remove(renamed))
	})
	if did != nil {
		t.Fatal(did)
	}
	if err := os.WriteFile(path, []byte("unseen"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := thread.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"write at 0", "sync at 4", "truncate at 4", "rename at 2", "remove at 2"}
	if !slices.Equal(seen, want) {
		t.Errorf("saw %q, want %q", seen, want)
	}
}
