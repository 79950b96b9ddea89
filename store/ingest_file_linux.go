package store

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// setDirect has writes go past the system's cache of files, or through it, and reports whether they do as wanted.
func setDirect(f vfs.File, direct bool) bool {
	fd := f.Fd()
	if fd == vfs.InvalidFd {
		return !direct
	}
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	if flags &^= unix.O_DIRECT; direct {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(fd, unix.F_SETFL, flags)
	return err == nil
}

// refusesDirect reports whether a write failed because it was a direct one.
func refusesDirect(err error) bool { return errors.Is(err, unix.EINVAL) }
