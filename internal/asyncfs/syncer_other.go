//go:build !linux

package asyncfs

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// syncer does not exist here.
type syncer struct{}

func newSyncer() (*syncer, error) { return nil, errors.ErrUnsupported }

func newFile(f vfs.File, _ string, _ *syncer) vfs.File { return f }

func (*syncer) close() error { return nil }
