package store

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestManifestDamageIsNoticed: whichever byte of a manifest is not what was synced, and wherever it ends, the engine does not open with
// the tables of an earlier time.
func TestManifestDamageIsNoticed(t *testing.T) {
	for name, open := range map[string]func(vfs.FS) (io.Closer, error){
		"documents": func(fs vfs.FS) (io.Closer, error) {
			return OpenDocs(DocOptions{Dir: "dir", FS: fs, Cluster: "c", Host: "h", Incarnation: "1"})
		},
		"log": func(fs vfs.FS) (io.Closer, error) {
			return OpenPebbleLog(LogOptions{Dir: "dir", FS: fs, Cluster: "c", Host: "h", Incarnation: "1"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			for range 2 { // the second time there is something to flush
				e, err := open(fs)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
			desc, err := pebble.Peek("dir", fs)
			if err != nil {
				t.Fatal(err)
			}
			path := desc.ManifestFilename
			whole := readAll(t, fs, path)
			synced, err := readWitness(fs, witnessOf(fs, path))
			if err != nil || synced != int64(len(whole)) {
				t.Fatalf("%d bytes synced of %d: %v", synced, len(whole), err)
			}
			refused := func(what string, at int, content []byte) {
				overwrite(t, fs, path, content)
				e, err := open(fs)
				var damage *CorruptionError
				if err == nil {
					err = e.Close()
				}
				if !errors.As(err, &damage) || !strings.Contains(err.Error(), path) {
					t.Fatalf("%s at %d of %d: %v", what, at, len(whole), err)
				}
			}
			for at := range whole {
				damaged := append([]byte(nil), whole...)
				damaged[at] ^= 1 << (at % 8)
				refused("damaged", at, damaged)
				refused("cut", at, whole[:at])
			}
			overwrite(t, fs, path, whole)
			e, err := open(fs)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestManifestBeyondItsWitness: what no fsync covered may be anything, and a witness that is torn or gone says nothing.
func TestManifestBeyondItsWitness(t *testing.T) {
	fs := vfs.NewMem()
	o := DocOptions{Dir: "dir", FS: fs, Cluster: "c", Host: "h", Incarnation: "1"}
	reopen := func() string {
		e, err := OpenDocs(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		desc, err := pebble.Peek("dir", fs)
		if err != nil {
			t.Fatal(err)
		}
		return desc.ManifestFilename
	}
	path := reopen()
	overwrite(t, fs, path, append(readAll(t, fs, path), "torn edit"...))
	path = reopen()
	overwrite(t, fs, witnessOf(fs, path), []byte("torn"))
	path = reopen()
	if err := fs.Remove(witnessOf(fs, path)); err != nil {
		t.Fatal(err)
	}
	path = reopen()
	names, err := fs.List("dir")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, witnessPrefix) && name != fs.PathBase(witnessOf(fs, path)) {
			t.Errorf("%s is left", name)
		}
	}
}

func readAll(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func overwrite(t *testing.T, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(bytes.Clone(b)) // under -race a MemFS scribbles over what it was given
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
