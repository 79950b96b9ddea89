// Package syncdir makes the names in a directory durable: a file's own fsync does not do that for its name.
package syncdir

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Sync makes the names in a directory durable; "" is the current one.
func Sync(fs vfs.FS, dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
