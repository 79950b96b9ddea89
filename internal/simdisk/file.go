package simdisk

import (
	"io"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// file passes on what its disk lets it.
type file struct {
	vfs.File
	disk *Disk
	path string
	lies atomic.Bool // a sync has failed: those after it do nothing, and say they did
	shut atomic.Bool
}

// Close gives the handle back. What is closed twice counts once.
func (f *file) Close() error {
	if !f.shut.Swap(true) {
		f.disk.opened(f.path, -1)
	}
	return f.File.Close()
}

// lock is a handle, too.
type lock struct {
	io.Closer
	disk *Disk
	path string
}

func (l *lock) Close() error {
	l.disk.opened(l.path, -1)
	return l.Closer.Close()
}

// Write writes half when it fails, so that the tail is torn.
func (f *file) Write(b []byte) (int, error) {
	fault, ok := f.disk.strikes(f.path, FailWrite, Full)
	if !ok {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:len(b)/2])
	if err == nil {
		err = failure("write", f.path, cause(fault))
	}
	return n, err
}

// WriteAt writes half when it fails.
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	fault, ok := f.disk.strikes(f.path, FailWrite, Full)
	if !ok {
		return f.File.WriteAt(b, at)
	}
	n, err := f.File.WriteAt(b[:len(b)/2], at)
	if err == nil {
		err = failure("write", f.path, cause(fault))
	}
	return n, err
}

// Read reads nothing when it fails.
func (f *file) Read(b []byte) (int, error) {
	if _, ok := f.disk.strikes(f.path, FailRead); ok {
		return 0, failure("read", f.path, syscall.EIO)
	}
	return f.File.Read(b)
}

// ReadAt reads nothing when it fails.
func (f *file) ReadAt(b []byte, at int64) (int, error) {
	if _, ok := f.disk.strikes(f.path, FailRead); ok {
		return 0, failure("read", f.path, syscall.EIO)
	}
	return f.File.ReadAt(b, at)
}

// Sync makes the file durable.
func (f *file) Sync() error { return f.synced(f.File.Sync) }

// SyncData makes the content durable.
func (f *file) SyncData() error { return f.synced(f.File.SyncData) }

// SyncTo makes a part of the content durable.
func (f *file) SyncTo(length int64) (full bool, err error) {
	err = f.synced(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *file) synced(do func() error) error {
	f.disk.wait(f.path)
	if _, ok := f.disk.strikes(f.path, FailSync); ok {
		f.lies.Store(true)
		return failure("fsync", f.path, syscall.EIO)
	}
	if f.lies.Load() {
		return nil
	}
	return do()
}
