// Package overlay has programs be built with some lines of their sources changed, and the sources left alone (go build -overlay).
package overlay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Edit replaces text of a source file.
type Edit struct {
	File     string // its path, absolute
	Old, New string // Old is in it once
}

// Write writes the edited files and their list into a directory, and returns the path of the list, which is what the flag
// -overlay of go's commands wants. Each file is edited once at most.
func Write(dir string, edits ...Edit) (string, error) {
	replace := make(map[string]string, len(edits))
	for i, e := range edits {
		source, err := os.ReadFile(e.File)
		if err != nil {
			return "", err
		}
		source, err = e.apply(source)
		if err != nil {
			return "", err
		}
		edited := filepath.Join(dir, fmt.Sprintf("%s.%d.txt", filepath.Base(e.File), i))
		if err := os.WriteFile(edited, source, 0o644); err != nil {
			return "", err
		}
		replace[e.File] = edited
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o644)
}

func (e Edit) apply(source []byte) ([]byte, error) {
	if n := bytes.Count(source, []byte(e.Old)); n != 1 {
		return nil, fmt.Errorf("%s has %q %d times, not once", e.File, strings.TrimSpace(e.Old), n)
	}
	return bytes.Replace(source, []byte(e.Old), []byte(e.New), 1), nil
}
