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

func (f *FS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || f.syncer == nil || file.Fd() == vfs.InvalidFd {
		return file, err
	}
	return newFile(file, name, f.syncer), nil
}

// Create makes a file to be written.
func (f *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return f.wrap(name, file, err)
}

// ReuseForWrite opens an old file to be written anew under another name.
func (f *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	return f.wrap(newname, file, err)
}

// OpenReadWrite opens a file for both.
func (f *FS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, category, opts...)
	return f.wrap(name, file, err)
}
