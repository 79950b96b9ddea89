package store

import (
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/syncdir"
)

// makeLogDir creates a directory, durably: the engines make the names in it durable, but without the directory's own name a
// power failure takes the votes along that were promised.
func makeLogDir(files vfs.FS, dir string) error {
	var parents []string // those whose names change
	for at := dir; ; {
		_, err := files.Stat(at)
		if err == nil {
			break
		}
		parent := files.PathDir(at)
		if !errors.Is(err, fs.ErrNotExist) || parent == at {
			return err
		}
		parents, at = append(parents, parent), parent
		if parent == "." {
			break
		}
	}
	if err := files.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := syncLogDir(files, parent); err != nil {
			return err
		}
	}
	return nil
}

// syncLogDir makes the names in a directory durable.
func syncLogDir(files vfs.FS, dir string) error {
	err := syncdir.Sync(files, dir)
	if dir == "." && errors.Is(err, fs.ErrNotExist) {
		return nil // a file system in memory: names without a slash are in its root
	}
	return err
}
