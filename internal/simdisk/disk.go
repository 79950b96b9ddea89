package simdisk

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Fault is something that a disk does once, or until Mend.
type Fault uint8

const (
	// FailSync fails one fsync, and pretends from then on that what the file held is durable, as a kernel does that marked
	// the pages clean: it never is.
	FailSync Fault = iota
	// FailWrite fails one write, half of which is done.
	FailWrite
	// FailRead fails one read.
	FailRead
	// Full fails every write and every new file until Mend.
	Full

	faults = iota // how many there are
)

// String names the fault.
func (f Fault) String() string {
	return [...]string{"fsync fails once", "write fails once", "read fails once", "disk full"}[f]
}

// Disk is a vfs.FS. Its methods may be called at any time.
type Disk struct {
	*vfs.MemFS

	locking sync.Mutex // one of Lock and Image at a time: MemFS.Lock takes what CrashClone waits for twice, and both wait for ever

	mu    sync.Mutex // guards the rest
	armed []armed
	hits  [faults]int
	waits int // fsyncs that Slow has held up
	delay time.Duration
	slow  string         // the part of the path that Slow names
	open  map[string]int // handles by path
}

type armed struct {
	fault Fault
	in    string // see within
}

// New makes an empty disk.
func New() *Disk { return &Disk{MemFS: vfs.NewCrashableMem()} }

var _ vfs.FS = (*Disk)(nil)

// Image is the disk as a crash at this moment leaves it: everything synced, and each other block and name with a
// probability of keep percent. It has no faults.
func (d *Disk) Image(keep int, rng *rand.Rand) *Disk {
	d.locking.Lock()
	defer d.locking.Unlock()
	return &Disk{MemFS: d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: rng})}
}

// Lock is vfs.FS's.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.locking.Lock()
	defer d.locking.Unlock()
	c, err := d.MemFS.Lock(name)
	if err != nil {
		return nil, err
	}
	d.opened(name, 1)
	return &lock{Closer: c, disk: d, path: name}, nil
}

// Handles lists the handles that are open: of files, of directories, and locks. Each is named by its path.
func (d *Disk) Handles() (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, n := range d.open {
		list = append(list, slices.Repeat([]string{path}, n)...)
	}
	slices.Sort(list)
	return list
}

// opened counts a handle, or with a negative n takes it back.
func (d *Disk) opened(path string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = map[string]int{}
	}
	if d.open[path] += n; d.open[path] == 0 {
		delete(d.open, path)
	}
}

// Backup is a copy of what the disk has for sure now, to be put in its place later.
func (d *Disk) Backup() *Disk { return d.Image(0, nil) }

// Flip inverts one bit of a file whose path contains in, chosen by rng among all that are not empty, and says where. It goes
// below all faults. "" means that there is no such file.
func (d *Disk) Flip(rng *rand.Rand, in string) (where string, err error) {
	var files []string
	if err := d.files("/", &files); err != nil {
		return "", err
	}
	files = slices.DeleteFunc(files, func(path string) bool {
		info, err := d.Stat(path)
		return err != nil || info.Size() == 0 || !within(path, in)
	})
	if len(files) == 0 {
		return "", nil
	}
	slices.Sort(files)
	path := files[rng.IntN(len(files))]
	info, err := d.Stat(path)
	if err != nil {
		return "", err
	}
	f, err := d.MemFS.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", err
	}
	at, bit := rng.Int64N(info.Size()), rng.IntN(8)
	one := make([]byte, 1)
	if _, err = f.ReadAt(one, at); err == nil {
		one[0] ^= 1 << bit
		_, err = f.WriteAt(one, at)
	}
	if err == nil {
		err = f.Sync() // or a crash would undo it
	}
	return fmt.Sprintf("bit %d of byte %d of %d of %s", bit, at, info.Size(), path), errors.Join(err, f.Close())
}

// files appends the paths of all files below a directory.
func (d *Disk) files(dir string, list *[]string) error {
	names, err := d.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := d.PathJoin(dir, name)
		info, err := d.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist): // removed just now
		case err != nil:
			return err
		case info.IsDir():
			if err := d.files(path, list); err != nil {
				return err
			}
		default:
			*list = append(*list, path)
		}
	}
	return nil
}

// Bytes is how much all files hold.
func (d *Disk) Bytes() (sum int64, err error) {
	var files []string
	err = d.files("/", &files)
	for _, path := range files {
		if info, err := d.Stat(path); err == nil {
			sum += info.Size()
		}
	}
	return sum, err
}

// within reports whether a path contains the parts of in, which stars separate, one after the other.
func within(path, in string) bool {
	for part := range strings.SplitSeq(in, "*") {
		i := strings.Index(path, part)
		if i < 0 {
			return false
		}
		path = path[i+len(part):]
	}
	return true
}

// Arm has the next fitting operation on a file whose path contains in fail; "/log/*.log" is every log below that directory.
func (d *Disk) Arm(f Fault, in string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = append(d.armed, armed{f, in})
}

// Slow has each fsync of a file whose path contains in take so long. On simulated time that works only where no caller holds
// a mutex meanwhile that others want: time stands still while anybody waits for one.
func (d *Disk) Slow(delay time.Duration, in string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay, d.slow = delay, in
}

// Mend ends all faults that have not happened yet, and those that last.
func (d *Disk) Mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed, d.delay = nil, 0
}

// Hits counts the operations that failed.
func (d *Disk) Hits() (sum int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.hits {
		sum += n
	}
	return sum
}

// Struck counts the operations that one of the faults has failed.
func (d *Disk) Struck(f Fault) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hits[f]
}

// Waits counts the fsyncs that Slow has held up.
func (d *Disk) Waits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waits
}

// strikes reports whether one of the faults is armed for a path, and uses it up if it happens once.
func (d *Disk) strikes(path string, faults ...Fault) (Fault, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, a := range d.armed {
		for _, f := range faults {
			if a.fault != f || !within(path, a.in) {
				continue
			}
			if f != Full {
				d.armed = append(d.armed[:i:i], d.armed[i+1:]...)
			}
			d.hits[f]++
			return f, true
		}
	}
	return 0, false
}

func (d *Disk) wait(path string) {
	d.mu.Lock()
	delay := d.delay
	if !within(path, d.slow) {
		delay = 0
	}
	if delay > 0 {
		d.waits++
	}
	d.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
}

func failure(op, path string, err error) error { return &os.PathError{Op: op, Path: path, Err: err} }

func cause(f Fault) error {
	if f == Full {
		return syscall.ENOSPC
	}
	return syscall.EIO
}

func (d *Disk) wrap(path string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	d.opened(path, 1)
	return &file{File: f, disk: d, path: path}, nil
}

// searching is how long a full disk looks for room for a table. Pebble tries again at once, without end: simulated time would
// stand still.
const searching = 20 * time.Millisecond

// Create makes a file, unless the disk is full.
func (d *Disk) Create(path string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f, ok := d.strikes(path, Full); ok {
		if strings.HasSuffix(path, ".sst") {
			time.Sleep(searching)
		}
		return nil, failure("create", path, cause(f))
	}
	f, err := d.MemFS.Create(path, c)
	return d.wrap(path, f, err)
}

// ReuseForWrite opens an old file to be written anew under another name.
func (d *Disk) ReuseForWrite(old, path string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.MemFS.ReuseForWrite(old, path, c)
	return d.wrap(path, f, err)
}

// OpenReadWrite opens a file for both.
func (d *Disk) OpenReadWrite(path string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.MemFS.OpenReadWrite(path, c, opts...)
	return d.wrap(path, f, err)
}

// Open opens a file to be read.
func (d *Disk) Open(path string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.MemFS.Open(path, opts...)
	return d.wrap(path, f, err)
}

// OpenDir opens a directory to be synced.
func (d *Disk) OpenDir(path string) (vfs.File, error) {
	f, err := d.MemFS.OpenDir(path)
	return d.wrap(path, f, err)
}

// Unwrap returns the memory below.
func (d *Disk) Unwrap() vfs.FS { return d.MemFS }

// String names it for errors.
func (d *Disk) String() string { return fmt.Sprintf("simulated disk, %d operations failed", d.Hits()) }
