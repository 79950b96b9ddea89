//go:build !linux

package asyncfs

import "errors"

const (
	opFsync     = 0
	opFdatasync = 0
)

// syncer does not exist here.
type syncer struct{}

func newSyncer() (*syncer, error) { return nil, errors.ErrUnsupported }

func (*syncer) sync(_ uintptr, _ uint16, usual func() error) error { return usual() }

func (*syncer) close() error { return nil }
