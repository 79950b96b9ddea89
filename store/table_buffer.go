package store

import (
	"errors"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableSuffix ends the names of Pebble's tables.
const tableSuffix = ".sst"

// tableWrite is how many bytes of a table go to the system in one call. Pebble makes two or three for each block, which with large
// values took twice the processor time (docs/performance.md).
const tableWrite = 256 << 10

// tableBuffers holds what tables are gathered in, as *[]byte: there is one for each flush or compaction under way.
var tableBuffers sync.Pool

// bufferedTable is a table that is being flushed or merged. It is read by nobody before it is synced and closed.
type bufferedTable struct {
	vfs.File
	buffer  *[]byte
	written int64
	failed  error // what is in the file since is not known
}

func isTable(name string) bool { return strings.HasSuffix(name, tableSuffix) }

func bufferTable(f vfs.File) vfs.File {
	buffer, ok := tableBuffers.Get().(*[]byte)
	if !ok {
		b := make([]byte, 0, tableWrite)
		buffer = &b
	}
	return &bufferedTable{File: f, buffer: buffer}
}

// Write takes in p; an error of the system may be returned by a later call, at the latest by that which makes everything durable.
func (t *bufferedTable) Write(p []byte) (int, error) {
	taken := 0
	for taken < len(p) {
		b := *t.buffer
		n := copy(b[len(b):cap(b)], p[taken:])
		*t.buffer = b[:len(b)+n]
		taken += n
		if len(*t.buffer) == cap(b) {
			if err := t.flush(); err != nil {
				return taken, err
			}
		}
	}
	return taken, nil
}

func (t *bufferedTable) flush() error {
	if t.failed != nil || len(*t.buffer) == 0 {
		return t.failed
	}
	n, err := t.File.Write(*t.buffer)
	t.written += int64(n)
	*t.buffer = (*t.buffer)[:0]
	t.failed = err
	return err
}

// Sync makes everything durable.
func (t *bufferedTable) Sync() error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.File.Sync()
}

// SyncData makes the contents durable.
func (t *bufferedTable) SyncData() error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.File.SyncData()
}

// SyncTo begins to make what is before an offset durable, as far as the system has it; it promises nothing.
func (t *bufferedTable) SyncTo(length int64) (full bool, err error) {
	if length > t.written {
		if err := t.flush(); err != nil {
			return false, err
		}
	}
	return t.File.SyncTo(length)
}

// Close closes the file, after which nothing else may be called.
func (t *bufferedTable) Close() error {
	err := t.flush()
	*t.buffer = (*t.buffer)[:0]
	tableBuffers.Put(t.buffer)
	t.buffer = nil
	return errors.Join(err, t.File.Close())
}
