package store

import (
	"errors"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/syncdir"
)

// walFS keeps from Pebble that its write-ahead log failed. What Pebble does about that while it changes to another log is to panic with a
// lock released that a deferred call releases again, which ends the process: nobody can recover from it, and the application would be gone
// although its reads need nothing of the disk. So a failure of the log stops the engine here, before Pebble hears that all is well:
// failStop.guard answers nobody from then on, and nothing of the log reaches the disk any more, as if it had been cut off there.
//
// Only the log is kept from it. What Pebble makes of it afterwards is as durable as ever: tables, and the manifest that lists them.
type walFS struct {
	vfs.FS
	stop *failStop
}

// walCategory is how Pebble calls what it writes to its log.
const walCategory = "pebble-wal"

// Unwrap returns the file system below.
func (f *walFS) Unwrap() vfs.FS { return f.FS }

// marksManifest begins the name of the file that says which manifest counts.
const marksManifest = "marker.manifest."

// Create makes a log a walFile. Before the marker of a manifest it makes the manifest's own name durable: Pebble syncs the directory
// after both, and a file system that keeps the younger name alone would leave an engine that can not be opened.
func (f *walFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category != walCategory {
		if strings.HasPrefix(f.PathBase(name), marksManifest) {
			if err := syncdir.Sync(f.FS, f.PathDir(name)); err != nil {
				return nil, err
			}
		}
		if category == manifestCategory && strings.HasPrefix(f.PathBase(name), manifestPrefix) {
			return createManifest(f.FS, name, category)
		}
		file, err := f.FS.Create(name, category)
		if err == nil && isTable(name) {
			file = bufferTable(file)
		}
		return file, err
	}
	return f.open(func() (vfs.File, error) { return f.FS.Create(name, category) })
}

// Remove removes a manifest's witness before the manifest.
func (f *walFS) Remove(name string) error {
	if strings.HasPrefix(f.PathBase(name), manifestPrefix) {
		if err := f.FS.Remove(witnessOf(f.FS, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return f.FS.Remove(name)
}

// ReuseForWrite does the same with an old log.
func (f *walFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category != walCategory {
		return f.FS.ReuseForWrite(oldname, newname, category)
	}
	return f.open(func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenDir makes the directory a walFile if it is for the log, which has its own.
func (f *walFS) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil || !calledByWAL() {
		return dir, err
	}
	return &walFile{dir, f.stop}, nil
}

// calledByWAL reports whether Pebble's manager of the log is among the callers.
func calledByWAL() bool {
	return calledBy(func(function string) bool {
		return strings.HasPrefix(function, "github.com/cockroachdb/pebble/v2/wal.")
	})
}

// open returns a file that is nowhere if there can be no other.
func (f *walFS) open(open func() (vfs.File, error)) (vfs.File, error) {
	if f.stop.check() == nil {
		file, err := open()
		if err = f.stop.hide(err); err != nil {
			return nil, err
		}
		if file != nil {
			return &walFile{file, f.stop}, nil
		}
	}
	nowhere, err := vfs.NewMem().Create("wal", walCategory)
	if err != nil {
		return nil, err
	}
	return &walFile{nowhere, f.stop}, nil
}

// hide stops the engine for an error of its log, and keeps it from Pebble. While the engine is being opened, Pebble takes errors well.
func (f *failStop) hide(err error) error {
	if err == nil || !f.armed.Load() {
		return err
	}
	f.fail(err)
	return nil
}

// walFile is a log, or its directory.
type walFile struct {
	vfs.File
	stop *failStop
}

// do does something with the file, unless the engine has failed.
func (f *walFile) do(what func() error) error {
	if f.stop.check() != nil {
		return nil
	}
	return f.stop.hide(what())
}

// Write appends to the log.
func (f *walFile) Write(b []byte) (n int, err error) {
	n = len(b)
	err = f.do(func() (err error) { n, err = f.File.Write(b); return err })
	if err == nil {
		n = len(b)
	}
	return n, err
}

// Preallocate makes room for what is to come, if it can.
func (f *walFile) Preallocate(offset, length int64) error {
	if f.stop.check() != nil {
		return nil
	}
	return f.File.Preallocate(offset, length)
}

// Sync makes everything durable.
func (f *walFile) Sync() error { return f.do(f.File.Sync) }

// SyncData makes the contents durable.
func (f *walFile) SyncData() error { return f.do(f.File.SyncData) }

// SyncTo begins to make what is before an offset durable.
func (f *walFile) SyncTo(length int64) (full bool, err error) {
	err = f.do(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Close closes the file, after a failure, too.
func (f *walFile) Close() error { return f.stop.hide(f.File.Close()) }
