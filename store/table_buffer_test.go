package store

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestBufferedTableHoldsWhatWasWritten: whatever the pieces are, what was synced is in the file after a crash, and all of it once it is closed.
func TestBufferedTableHoldsWhatWasWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, tableWrite - 1, tableWrite, tableWrite + 1, 3*tableWrite + 12345} {
		mem := vfs.NewCrashableMem()
		f, err := (&walFS{FS: mem}).Create("000007.sst", "pebble-compaction")
		must(t, err)
		if _, ok := f.(*bufferedTable); !ok {
			t.Fatalf("a table is a %T", f)
		}
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		synced := 0
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(2*tableWrite))
			if taken, err := f.Write(rest[:n]); err != nil || taken != n {
				t.Fatal(taken, err)
			}
			rest = rest[n:]
			if rng.IntN(3) == 0 {
				must(t, f.SyncData())
				synced = size - len(rest)
			}
			_, err := f.SyncTo(int64(size - len(rest)))
			must(t, err)
		}
		dir, err := mem.OpenDir("")
		must(t, err)
		must(t, dir.Sync())
		if got := contentsOf(t, mem.CrashClone(vfs.CrashCloneCfg{})); len(got) < synced || !bytes.Equal(got, want[:len(got)]) {
			t.Errorf("%d bytes: %d are left, %d were synced", size, len(got), synced)
		}
		must(t, f.Close())
		if got := contentsOf(t, mem); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d when it was closed", size, len(got))
		}
	}
}

func contentsOf(t *testing.T, fs vfs.FS) []byte {
	t.Helper()
	f, err := fs.Open("000007.sst")
	must(t, err)
	b, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	return b
}

// TestBufferedTableKeepsItsFailure: a table of which a part is missing is never said to be durable.
func TestBufferedTableKeepsItsFailure(t *testing.T) {
	broken, fail := errors.New("broken"), false
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail && op.Kind == errorfs.OpFileWrite {
			fail = false // the next one would work
			return broken
		}
		return nil
	}))
	f, err := (&walFS{FS: fs}).Create("000007.sst", "pebble-compaction")
	must(t, err)
	fail = true
	if _, err := f.Write(make([]byte, tableWrite+1)); !errors.Is(err, broken) {
		t.Fatalf("write: %v", err)
	}
	_, err = f.SyncTo(1 << 30)
	for what, err := range map[string]error{"sync": f.Sync(), "sync data": f.SyncData(), "sync to": err, "close": f.Close()} {
		if !errors.Is(err, broken) {
			t.Errorf("%s after a write that failed: %v", what, err)
		}
	}
}
