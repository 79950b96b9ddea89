package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// DocEvents are hooks for what an operator should see. Each may be nil; none may block or call the engine.
type DocEvents struct {
	BackgroundError func(error)               // a flush or compaction failed; Pebble will try again
	DiskSlow        func(text string)         // an operation of the disk takes seconds
	LowDiskSpace    func(avail, total uint64) // bytes
	WriteStall      func(reason string, on bool)
	DataCorruption  func(path string, err error)
	// Divergence: the document's history here contradicts the one that the leader built upon. The member keeps its own,
	// so that comparing summaries goes on showing the difference.
	Divergence func(partition uint32, key Key, seq int64)
}

// retryPause is how long Pebble waits before it tries again what it could not read in the background. By itself it does not: one
// wrong bit keeps a processor busy until its table is gone.
const retryPause = 200 * time.Millisecond

// calledByDB reports whether a method of Pebble's database is among the callers.
func calledByDB(method string) bool {
	return calledBy(func(function string) bool {
		return strings.HasPrefix(function, "github.com/cockroachdb/pebble/v2.(*DB)."+method)
	})
}

// listener translates Pebble's events; everything is logged too.
func (v DocEvents) listener(logger *slog.Logger) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			logger.Error("storage background error", "err", err)
			if v.BackgroundError != nil {
				v.BackgroundError(err)
			}
			// The collector of statistics holds no lock when it tells of an error. Others do, and must not be held up.
			if calledByDB("scanReadStateTableStats") {
				time.Sleep(retryPause)
			}
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			logger.Warn("disk is slow", "info", i.String())
			if v.DiskSlow != nil {
				v.DiskSlow(i.String())
			}
		},
		LowDiskSpace: func(i pebble.LowDiskSpaceInfo) {
			logger.Warn("disk space is low", "available", i.AvailBytes, "total", i.TotalBytes)
			if v.LowDiskSpace != nil {
				v.LowDiskSpace(i.AvailBytes, i.TotalBytes)
			}
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			logger.Warn("storage delays writes", "reason", i.Reason)
			if v.WriteStall != nil {
				v.WriteStall(i.Reason, true)
			}
		},
		WriteStallEnd: func() {
			logger.Info("storage no longer delays writes")
			if v.WriteStall != nil {
				v.WriteStall("", false)
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			logger.Error("stored data is corrupt", "path", i.Path, "err", i.Details)
			if v.DataCorruption != nil {
				v.DataCorruption(i.Path, i.Details)
			}
			// Pebble keeps away for a while from what a compaction could not read, but not in level 0. A compaction that reads
			// holds no lock.
			if calledByDB("runPickedCompaction") {
				time.Sleep(retryPause)
			}
		},
	}
}

// openPebble opens a Pebble the way both engines want it, and sorts out why it cannot be opened. files may be nil: the
// disk. Slow operations of the disk are watched for by Pebble, whatever is put over it.
func openPebble(dir string, files vfs.FS, stop *failStop, o *pebble.Options) (*pebble.DB, error) {
	disk := files
	if disk == nil {
		disk = vfs.Default
	}
	if err := disk.MkdirAll(dir, 0o755); err != nil {
		return nil, openError(dir, err)
	}
	lock, err := pebble.LockDirectory(dir, disk)
	if err != nil {
		return nil, lockError(dir, err)
	}
	if err := checkManifest(disk, dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := lock.Close(); err != nil { // Open takes it again: keeping it would be ours to release after every crash
		return nil, openError(dir, err)
	}
	o.FS = &walFS{disk, stop}
	if vfs.Root(disk) == vfs.Default {
		o.WithFSDefaults()
	}
	o.Logger = stop
	o.FormatMajorVersion = pebble.FormatNewest
	o.MemTableStopWritesThreshold = 4
	o.CompactionConcurrencyRange = func() (int, int) { return 1, 2 }
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// What is flushed is merged into the next level soon, and compressed there.
	o.Levels[0].Compression = uncompressed
	o.Levels[1].Compression = compressed
	db, err := openOrGiveUp(dir, stop, o)
	if err != nil {
		return nil, openError(dir, err)
	}
	stop.armed.Store(true)
	return db, nil
}

// giveUpAfter is how long an engine that has failed may take to say that it can not be opened.
const giveUpAfter = time.Second

// openOrGiveUp opens a Pebble. One that can not write its manifest, because the disk is full, stops a goroutine of its own (Fatalf) that holds
// what opening waits for, for ever; that goroutine and the lock of the directory are left to the end of the process.
func openOrGiveUp(dir string, stop *failStop, o *pebble.Options) (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan result, 1)
	go func() {
		var r result
		r.err = stop.recovered(func() (err error) {
			r.db, err = pebble.Open(dir, o)
			return err
		})
		opened <- r
	}()
	select {
	case r := <-opened:
		return r.db, r.err
	case <-stop.failed:
	}
	select {
	case r := <-opened:
		return r.db, r.err
	case <-time.After(giveUpAfter):
		return nil, stop.check()
	}
}

func uncompressed() *block.CompressionProfile { return block.NoCompression }
func compressed() *block.CompressionProfile   { return block.SnappyCompression }

// NewOpenError says what an operator can do about an error of opening something in a data directory.
func NewOpenError(dir string, err error) *OpenError { return openError(dir, err).(*OpenError) }

// lockError is openError for what taking a directory's lock returned.
func lockError(dir string, err error) error {
	var file *fs.PathError
	if !errors.As(err, &file) { // the lock, not the file that carries it
		return &OpenError{Dir: dir, Reason: OpenLocked, Err: err}
	}
	return openError(dir, err)
}

// openError is NewOpenError as an error.
func openError(dir string, err error) error {
	reason := OpenUnreadable
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		reason = OpenNoRoom
	case errors.Is(err, syscall.EAGAIN):
		reason = OpenLocked
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		reason = OpenDiskFull
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		reason = OpenReadOnly
	}
	return &OpenError{Dir: dir, Reason: reason, Err: err}
}

// get copies a value out of a reader; false when there is none.
func get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("store: read: %w", err)
	}
	v = append([]byte{}, v...)
	if err := closer.Close(); err != nil {
		return nil, false, fmt.Errorf("store: read: %w", err)
	}
	return v, true, nil
}

func partitionOf(key []byte) uint32 { return binary.BigEndian.Uint32(key) }
