package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Names in a bolt engine's directory: host.bolt, which holds the stamp and whose lock is the directory's, and
// <partition>.bolt, each a raft-boltdb file. birth.lock is held while there is no host.bolt yet.
const (
	boltSuffix  = ".bolt"
	boltHost    = "host" + boltSuffix
	boltNewborn = ".new" // behind a file's name until it has its first state
	boltBirth   = "birth.lock"
)

// Keys of raft-boltdb's "conf" bucket.
var (
	boltKeyStamp  = []byte("adamant/stamp")
	boltKeyRecord = []byte("adamant/record")
)

// boltLock is how long to wait for a file's lock: two attempts. With none bolt waits for ever.
const boltLock = 60 * time.Millisecond

// boltLog is the backend with one file per partition: partitions share nothing but the disk, and pay for it with two
// fsyncs per write each.
type boltLog struct {
	engine  *logEngine
	host    *raftboltdb.BoltStore
	commits atomic.Uint64

	hooks boltHooks
}

// boltHooks are for tests.
type boltHooks struct {
	between  func() // called between the transactions of a step
	openFile func(string, int, os.FileMode) (*os.File, error)
	noSync   bool
}

// OpenBoltLog opens or creates a log engine that keeps each partition in a raft-boltdb file of its own.
func OpenBoltLog(o LogOptions) (LogEngine, error) {
	b, err := openBoltLog(o, boltHooks{})
	if err != nil {
		return nil, err
	}
	return b.engine, nil
}

func openBoltLog(o LogOptions, hooks boltHooks) (*boltLog, error) {
	if o.FS != nil && o.FS != vfs.Default {
		return nil, fmt.Errorf("store: log in %s: bolt files need the operating system's file system", o.Dir)
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := makeLogDir(vfs.Default, o.Dir); err != nil {
		return nil, openError(o.Dir, err)
	}
	if desc, err := pebble.Peek(o.Dir, vfs.Default); err != nil || desc.Exists {
		return nil, &OpenError{Dir: o.Dir, Reason: logOpenReason, Err: errors.Join(err, errors.New("found Pebble's files"))}
	}
	e := newLogEngine(o, newFailStop("log", o.Logger, o.OnFatal))
	b := &boltLog{engine: e, hooks: hooks}
	e.backend = b
	if err := b.openHost(); err != nil {
		return nil, err
	}
	e.stop.armed.Store(true)
	return b, nil
}

// findBoltLog returns the name of a bolt file in the directory.
func findBoltLog(files vfs.FS, dir string) (string, error) {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	i := slices.IndexFunc(names, func(s string) bool { return strings.HasSuffix(s, boltSuffix) })
	if i < 0 {
		return "", err
	}
	return names[i], err
}

// openHost opens the host's file. A new one gets its name when it has its stamp, durably: a crash in between would leave
// one that can not be read.
func (b *boltLog) openHost() error {
	dir := b.engine.opts.Dir
	path := filepath.Join(dir, boltHost)
	at := path
	if missing(path) {
		birth, err := vfs.Default.Lock(filepath.Join(dir, boltBirth)) // or another process would put its file in place of this one
		if err != nil {
			return lockError(dir, err)
		}
		defer func() { _ = birth.Close() }()
		if missing(path) { // still
			at = path + boltNewborn
			if err := removeBolt(at); err != nil {
				return openError(dir, err)
			}
		}
	}
	var err error
	if b.host, err = b.open(at); errors.Is(err, bolterrors.ErrTimeout) {
		return &OpenError{Dir: dir, Reason: OpenLocked, Err: err}
	} else if err != nil {
		return openError(dir, err)
	}
	err = b.stampHost()
	if err == nil && at != path {
		err = nameBolt(at, path)
	}
	if err != nil {
		return errors.Join(err, b.host.Close())
	}
	return nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// removeBolt removes a file, if it is there.
func removeBolt(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// nameBolt gives a file that has its first state its final name, durably.
func nameBolt(newborn, path string) error {
	if err := os.Rename(newborn, path); err != nil {
		return err
	}
	return syncLogDir(vfs.Default, filepath.Dir(path))
}

// stampHost verifies whose directory this is, or writes it into a new one.
func (b *boltLog) stampHost() error {
	o := b.engine.opts
	v, err := b.host.Get(boltKeyStamp)
	if err == nil {
		return checkLogStamp(o.Dir, v, o)
	}
	if !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("store: read the stamp of %s: %w", o.Dir, err)
	}
	list, err := b.partitions()
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return &CorruptionError{Partition: hostPartition, Kind: "log", Err: fmt.Errorf("directory %s has data but no stamp", o.Dir)}
	}
	if err := b.host.Set(boltKeyStamp, b.stamp()); err != nil {
		return openError(o.Dir, err)
	}
	return nil
}

func (b *boltLog) stamp() []byte {
	o := b.engine.opts
	return encodeStamp(o.Cluster, o.Host, o.Incarnation)
}

// open opens a raft-boltdb file. Bolt panics on some kinds of damage.
func (b *boltLog) open(path string) (store *raftboltdb.BoltStore, err error) {
	defer recoverBolt(&err)
	return raftboltdb.New(raftboltdb.Options{Path: path, MsgpackUseNewTimeFormat: true, NoSync: b.hooks.noSync,
		BoltOptions: &bbolt.Options{Timeout: boltLock, OpenFile: b.hooks.openFile}})
}

// recoverBolt turns bolt's panics, which it has for damaged pages, into an error.
func recoverBolt(err *error) {
	if p := recover(); p != nil {
		*err = errors.Join(*err, fmt.Errorf("bolt: %v", p))
	}
}

func (b *boltLog) partitions() (list []uint32, err error) {
	files, err := os.ReadDir(b.engine.opts.Dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), boltSuffix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(name, 10, 32); err == nil && boltName(uint32(n)) == f.Name() {
			list = append(list, uint32(n))
		}
	}
	slices.Sort(list)
	return list, nil
}

func boltName(partition uint32) string { return strconv.FormatUint(uint64(partition), 10) + boltSuffix }

func (b *boltLog) disk(partition uint32) logDisk {
	return &boltLogDisk{log: b, partition: partition, path: filepath.Join(b.engine.opts.Dir, boltName(partition))}
}

// usage counts two fsyncs per transaction: bolt writes the pages, then the meta page that makes them the newest.
func (b *boltLog) usage(s *LogStats) {
	s.Syncs, s.WrittenBytes = 2*b.commits.Load(), s.Bytes // a transaction syncs its pages, and then what points at them
	files, err := os.ReadDir(b.engine.opts.Dir)
	if err != nil {
		return
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && strings.HasSuffix(f.Name(), boltSuffix) {
			s.DiskBytes += uint64(info.Size())
		}
	}
}

func (b *boltLog) close(disks []logDisk) error {
	var errs []error
	for _, d := range disks {
		errs = append(errs, d.close())
	}
	return errors.Join(append(errs, b.host.Close())...)
}
