package asyncfs

import "github.com/cockroachdb/pebble/v2/vfs"

// FS is a file system whose files are synced by a syncer.
type FS struct {
	vfs.FS
	syncer *syncer // nil: in the usual way
}

// New wraps the operating system's file system; another one is returned as it is by its methods. Close ends it, after the
// files are closed.
func New(inner vfs.FS) *FS {
	s, err := newSyncer()
	if err != nil {
		s = nil // this system syncs in the usual way
	}
	return &FS{FS: inner, syncer: s}
}

// Close ends the goroutine that waits for the kernel.
func (f *FS) Close() error {
	if f.syncer == nil {
		return nil
	}
	return f.syncer.close()
}

// Unwrap returns the file system below.
func (f *FS) Unwrap() vfs.FS { return f.FS }

func (f *FS) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil || f.syncer == nil || file.Fd() == vfs.InvalidFd {
		return file, err
	}
	return &asyncFile{File: file, syncer: f.syncer}, nil
}

// Create makes a file to be written.
func (f *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(f.FS.Create(name, category))
}

// ReuseForWrite opens an old file to be written anew under another name.
func (f *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(f.FS.ReuseForWrite(oldname, newname, category))
}

// OpenReadWrite opens a file for both.
func (f *FS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.wrap(f.FS.OpenReadWrite(name, category, opts...))
}

// asyncFile hands its syncs to the kernel.
type asyncFile struct {
	vfs.File
	syncer *syncer
}

// Sync makes content and metadata durable.
func (f *asyncFile) Sync() error { return f.syncer.sync(f.Fd(), opFsync, f.File.Sync) }

// SyncData makes the content durable, and of the metadata what is needed to read it.
func (f *asyncFile) SyncData() error { return f.syncer.sync(f.Fd(), opFdatasync, f.File.SyncData) }
