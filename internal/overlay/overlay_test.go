package overlay_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adamantdb/adamant/internal/overlay"
)

// TestWrite builds a program with a line of it changed.
func TestWrite(t *testing.T) {
	source, out := t.TempDir(), t.TempDir()
	file := filepath.Join(source, "main.go")
	text := "package main\n\nconst what = \"this\"\n\nfunc main() { print(what) }\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := overlay.Write(out, overlay.Edit{File: file, Old: `"this"`, New: `"that"`})
	if err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command("go", "run", "-overlay", list, file).CombinedOutput()
	if err != nil || string(got) != "that" {
		t.Errorf("%q, %v", got, err)
	}
	if still, err := os.ReadFile(file); err != nil || string(still) != text {
		t.Errorf("the source is %q now, %v", still, err)
	}
	for _, old := range []string{"what", "nowhere"} { // three times, and never
		if _, err := overlay.Write(out, overlay.Edit{File: file, Old: old, New: "x"}); err == nil || !strings.Contains(err.Error(), old) {
			t.Errorf("%q: %v", old, err)
		}
	}
	if _, err := overlay.Write(out, overlay.Edit{File: file + "x"}); err == nil {
		t.Error("no error without a file")
	}
}
