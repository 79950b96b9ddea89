package asyncfs

import (
	"errors"
	"fmt"
	"os"
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

// TestErrorsOfTheDisk: what the kernel says of a sync is what the caller gets.
func TestErrorsOfTheDisk(t *testing.T) {
	fs := New(vfs.Default)
	defer func() {
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	}()
	r, w, err := os.Pipe() // can not be synced
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if fs.syncer == nil {
		t.Skip("synced in the usual way here")
	}
	if err := fs.syncer.sync(w.Fd(), opFsync, w.Sync); err == nil {
		t.Fatal("a pipe was synced")
	}
}

// TestOtherFileSystemsAreLeftAlone: files without a descriptor are synced by themselves.
func TestOtherFileSystemsAreLeftAlone(t *testing.T) {
	mem := vfs.NewMem()
	fs := New(mem)
	f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, wrapped := f.(*asyncFile); wrapped {
		t.Fatal("wrapped")
	}
	if err := errors.Join(f.Sync(), f.Close(), fs.Close()); err != nil {
		t.Fatal(err)
	}
}
