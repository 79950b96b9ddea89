package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/hashicorp/raft"
	bolterrors "go.etcd.io/bbolt/errors"
)

// load opens the file, finishes what a crash has cut short, and reads everything.
func (d *boltLogDisk) load(visit func(*raft.Log) error) (s logState, err error) {
	if _, err := os.Stat(d.path); errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	damaged := true
	defer func() {
		switch {
		case err == nil || !damaged:
		case ofTheSystem(err):
			err = fmt.Errorf("partition %d: open its log: %w", d.partition, openError(d.path, err))
		default:
			err = &CorruptionError{Partition: d.partition, Kind: "log", Err: fmt.Errorf("%s: %w", d.path, err)}
		}
	}()
	defer recoverBolt(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a page beyond the end of the file
	if err := checkBoltMeta(d.path); err != nil {
		return s, err
	}
	if d.store, err = d.log.open(d.path); err != nil {
		return s, err
	}
	stamp, err := d.store.Get(boltKeyStamp)
	if err != nil {
		return s, fmt.Errorf("stamp: %w", err)
	}
	if err := checkLogStamp(d.path, stamp, d.log.engine.opts); err != nil {
		damaged = false
		return s, err
	}
	v, err := d.store.Get(boltKeyRecord)
	if err != nil {
		return s, fmt.Errorf("record: %w", err)
	}
	if d.record, err = decodeBoltRecord(v); err != nil {
		return s, fmt.Errorf("record: %w", err)
	}
	if err := d.finish(); err != nil {
		damaged = false
		return s, err
	}
	s = logState{compacted: d.record.compacted, marker: d.record.marker, vote: d.record.vote, stable: d.record.stable}
	return s, d.scan(&s, visit)
}

// ofTheSystem reports whether the system refused something that says nothing about a file's contents: nobody shall throw away a sound log
// because there were too many open files.
func ofTheSystem(err error) bool {
	for _, reason := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.ENOSPC,
		syscall.EDQUOT, syscall.EAGAIN, bolterrors.ErrTimeout} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// finish carries out removals that were recorded and may not have happened.
func (d *boltLogDisk) finish() error {
	first, err := d.store.FirstIndex()
	if err != nil {
		return err
	}
	if compacted := d.record.compacted.index; first > 0 && first <= compacted {
		if err := d.write(func() error { return d.store.DeleteRange(first, compacted) }); err != nil {
			return err
		}
	}
	if d.record.from == 0 {
		return nil
	}
	if err := d.write(func() error { return d.store.DeleteRange(d.record.from, d.record.to) }); err != nil {
		return err
	}
	d.record.from, d.record.to = 0, 0
	return d.write(func() error { return d.store.Set(boltKeyRecord, d.record.encode()) })
}

func (d *boltLogDisk) scan(s *logState, visit func(*raft.Log) error) (err error) {
	if s.first, err = d.store.FirstIndex(); err != nil {
		return err
	}
	if s.last, err = d.store.LastIndex(); err != nil || s.first == 0 {
		return err
	}
	for i := s.first; i <= s.last; i++ {
		var l raft.Log
		if err := d.store.GetLog(i, &l); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if err := unsealBoltEntry(&l, i); err != nil {
			return err
		}
		if err := visit(&l); err != nil {
			return err
		}
	}
	return nil
}

// Of bolt's meta page: a page header, then
//
//	magic u32 | version u32 | page size u32 | flags u32 | root u64 | sequence u64 | freelist u64 | pages u64 | transaction u64 |
//	checksum u64: FNV-1a of what precedes it; all in the machine's byte order
const (
	boltPageHeader = 16
	boltMetaSum    = 56
	boltMagic      = 0xED0CDAED
)

// checkBoltMeta verifies both meta pages and the file's length. Bolt is content with one of them, and goes back to the
// transaction before when the newer one is damaged: an acknowledged write would be gone. A meta page lies within a disk sector, so
// a crash does not tear it.
func checkBoltMeta(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	pageSize := int64(os.Getpagesize())
	for page := int64(0); page < 2; page++ {
		var b [boltPageHeader + boltMetaSum + 8]byte
		if _, err := f.ReadAt(b[:], page*pageSize); err != nil {
			return fmt.Errorf("meta page %d: %w", page, err)
		}
		meta := b[boltPageHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:boltMetaSum])
		if binary.NativeEndian.Uint32(meta) != boltMagic || binary.NativeEndian.Uint64(meta[boltMetaSum:]) != sum.Sum64() {
			return fmt.Errorf("meta page %d is damaged", page)
		}
		pageSize = int64(max(1, binary.NativeEndian.Uint32(meta[8:])))
		if pages := binary.NativeEndian.Uint64(meta[40:]); pages > uint64(info.Size()/pageSize) {
			return fmt.Errorf("meta page %d counts %d pages of %d bytes, the file has %d bytes", page, pages, pageSize, info.Size())
		}
	}
	return nil
}
