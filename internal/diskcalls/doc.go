// Package diskcalls tells tests of each change that code makes to files, just before the kernel makes it, where that code offers no file
// system to be replaced: bbolt maps its file and wants an *os.File. A Thread runs functions on an operating system thread that has a seccomp
// filter, whose system calls on files wait until somebody has looked.
//
// It needs Linux of 5.5 or later, on amd64 or arm64, and nobody who forbids seccomp; elsewhere Start returns ErrUnsupported. Only what
// the thread itself calls is told, not what other goroutines do for it.
package diskcalls

import "errors"

// ErrUnsupported: system calls cannot be watched here.
var ErrUnsupported = errors.New("diskcalls: system calls cannot be watched here")

// Op is a kind of call.
type Op uint8

// The calls that change what a disk holds, or make that last.
const (
	Write    Op = iota // of bytes at an offset
	Truncate           // shortens or lengthens a file
	Sync               // fsync or fdatasync
	Rename
	Remove
)

// String names the call.
func (o Op) String() string { return [...]string{"write", "truncate", "sync", "rename", "remove"}[o] }

// Call is one that is about to be made.
type Call struct {
	Op Op
	FD int // of Write, Truncate and Sync; still open
}
