package asyncfs

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestSyncsOfManyFiles(t *testing.T) {
	fs := New(vfs.Default)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 200 { // more than may be under way
		wg.Go(func() {
			f, err := fs.Create(filepath.Join(dir, fmt.Sprint(i)), vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				if _, err := f.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				if err := errors.Join(f.SyncData(), f.Sync()); err != nil {
					t.Error(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOtherFileSystemsAreLeftAlone: files without a descriptor are synced by themselves.
func TestOtherFileSystemsAreLeftAlone(t *testing.T) {
	mem := vfs.NewMem()
	fs := New(mem)
	inner, err := mem.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.wrap("f", inner, nil)
	if err != nil {
		t.Fatal(err)
	}
	if any(f) != any(inner) {
		t.Fatal("wrapped")
	}
	if err := errors.Join(f.Sync(), f.Close(), fs.Close()); err != nil {
		t.Fatal(err)
	}
}
