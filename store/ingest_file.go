package store

import (
	"errors"
	"sync"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableFile is the file behind a table that is being written. Pebble's own writes every four kilobytes in a call of their
// own, which costs more than the bytes do. Where the system allows it, they also go past its cache of files: nobody reads a
// table soon, and to copy it there took a quarter of the processor time of a pull, and the place of what somebody does read.
type tableFile struct {
	file   vfs.File
	buffer []byte // begins and ends where directAlign wants it
	used   int
	direct bool
	pool   *sync.Pool // of *[]byte, where buffer comes from and goes to
}

var _ objstorage.Writable = (*tableFile)(nil)

const (
	tableBuffer = 1 << 20 // what a call writes, but for the last ones
	directAlign = 4 << 10 // of memory, offsets and sizes: what any disk's blocks are a part of
)

func newTableFile(f vfs.File, pool *sync.Pool) *tableFile {
	buffer, ok := pool.Get().(*[]byte)
	if !ok {
		b := make([]byte, tableBuffer+directAlign)
		from := -int(uintptr(unsafe.Pointer(&b[0]))) & (directAlign - 1)
		b = b[from : from+tableBuffer : from+tableBuffer]
		buffer = &b
	}
	return &tableFile{file: f, buffer: *buffer, direct: setDirect(f, true), pool: pool}
}

// close closes the file, after which nothing else may be called.
func (t *tableFile) close() error {
	buffer := t.buffer
	t.buffer = nil
	t.pool.Put(&buffer)
	return t.file.Close()
}

// Write implements objstorage.Writable.
func (t *tableFile) Write(p []byte) error {
	for len(p) > 0 {
		n := copy(t.buffer[t.used:], p)
		t.used += n
		p = p[n:]
		if t.used == len(t.buffer) {
			if err := t.put(t.buffer); err != nil {
				return err
			}
			t.used = 0
		}
	}
	return nil
}

// put writes whole blocks.
func (t *tableFile) put(p []byte) error {
	n, err := t.file.Write(p)
	if err != nil && t.direct && refusesDirect(err) && setDirect(t.file, false) {
		t.direct = false // a disk, or a file system, that wants more than directAlign
		_, err = t.file.Write(p[n:])
	}
	return err
}

// Finish implements objstorage.Writable: what was written is durable when it returns nil.
func (t *tableFile) Finish() error {
	return errors.Join(t.finish(), t.close())
}

func (t *tableFile) finish() error {
	whole := t.used &^ (directAlign - 1)
	if whole > 0 {
		if err := t.put(t.buffer[:whole]); err != nil {
			return err
		}
	}
	if whole < t.used {
		if t.direct && !setDirect(t.file, false) {
			return errors.New("store: a file can not be written to its end")
		}
		if _, err := t.file.Write(t.buffer[whole:t.used]); err != nil {
			return err
		}
	}
	return t.file.Sync()
}

// Abort implements objstorage.Writable.
func (t *tableFile) Abort() { _ = t.close() }
