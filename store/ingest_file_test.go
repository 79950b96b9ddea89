package store

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// pickyFile refuses one write, after taking a part of it.
type pickyFile struct {
	vfs.File
	takes  int
	refuse bool
}

func (f *pickyFile) Write(p []byte) (int, error) {
	if !f.refuse {
		return f.File.Write(p)
	}
	f.refuse = false
	n, err := f.File.Write(p[:f.takes])
	if err == nil {
		err = syscall.EINVAL
	}
	return n, err
}

// TestTableFileIsWrittenWhole: what is written piece by piece is what the file holds, wherever it ends, and also when the disk refuses in the
// midst of it to be written to directly.
func TestTableFileIsWrittenWhole(t *testing.T) {
	var pool sync.Pool
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, directAlign - 1, directAlign, directAlign + 1, tableBuffer, tableBuffer + 3*directAlign, 2*tableBuffer + 12345} {
		for _, takes := range []int{-1, 0, directAlign} {
			want := make([]byte, size)
			for i := range want {
				want[i] = byte(rng.Uint32())
			}
			path := filepath.Join(t.TempDir(), "table")
			f, err := vfs.Default.Create(path, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			picky := &pickyFile{File: f, takes: takes, refuse: takes >= 0 && size >= 2*directAlign}
			w := newTableFile(picky, &pool)
			if refused := picky.refuse; refused && !w.direct {
				t.Skip("no direct writes here")
			}
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+rng.IntN(40_000))
				if err := w.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := w.Finish(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) || picky.refuse {
				t.Fatalf("size %d, refused after %d: %d bytes read (%v)", size, takes, len(got), err)
			}
		}
	}
}
