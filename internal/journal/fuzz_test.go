package journal

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzLines: whatever a segment holds, its whole lines are read, and a torn one is left out.
func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo\ntor"))
	f.Add([]byte("\n\n"))
	f.Add(append(bytes.Repeat([]byte("x"), 2*MaxLine), '\n'))
	f.Fuzz(func(t *testing.T, content []byte) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("dir", 0o700); err != nil {
			t.Fatal(err)
		}
		file, err := fs.Create(fs.PathJoin("dir", "0000000001"+suffix), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(bytes.Clone(content)); err != nil { // which may change it
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		j, err := Open(fs, "dir", Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		at := content
		for line, err := range j.Lines() {
			if err != nil {
				t.Fatal(err)
			}
			i := bytes.Index(at, append(bytes.Clone(line), '\n'))
			if i < 0 || len(line) == 0 {
				t.Fatalf("the line %q is not in the segment", line)
			}
			at = at[i+len(line)+1:]
		}
		if i := bytes.LastIndexByte(at, '\n'); i >= 0 && len(bytes.Trim(at[:i], "\n")) > 0 && len(content) < MaxLine {
			t.Fatalf("left out: %q", at)
		}
	})
}
