package store

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// faults makes operations of the disk fail.
type faults struct {
	mu    sync.Mutex
	fail  func(errorfs.Op) error // nil: nothing fails
	count int                    // operations of the failing kind that were attempted since
}

func (f *faults) operation(op errorfs.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		return nil
	}
	err := f.fail(op)
	if err != nil {
		f.count++
	}
	return err
}

func (f *faults) set(fail func(errorfs.Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *faults) hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// walFault fails operations of a kind on the write-ahead log.
func walFault(err error, kinds ...errorfs.OpKind) func(errorfs.Op) error {
	return func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".log") {
			for _, k := range kinds {
				if op.Kind == k {
					return err
				}
			}
		}
		return nil
	}
}

type faultRun struct {
	mem    *vfs.MemFS
	faults *faults
	e      *DocEngine
	d      *Documents
	fatal  atomic.Int32
	last   atomic.Pointer[EngineFailedError]
}

func newFaultRun(t *testing.T) *faultRun {
	r := &faultRun{mem: vfs.NewCrashableMem(), faults: &faults{}}
	o := testOptions(errorfs.Wrap(r.mem, errorfs.InjectorFunc(r.faults.operation)))
	o.OnFatal = func(err error) {
		var failed *EngineFailedError
		if !errors.As(err, &failed) {
			t.Errorf("OnFatal got %T", err)
		}
		r.fatal.Add(1)
		r.last.Store(failed)
	}
	r.e, r.d = openMember(t, o)
	must(t, r.d.Apply([]Mutation{createAt(1)}, 1))
	must(t, r.e.Sync())
	return r
}

// stopped verifies that the engine is and stays stopped, although the disk works again.
func (r *faultRun) stopped(t *testing.T) {
	t.Helper()
	r.faults.set(func(op errorfs.Op) error { // count what still goes to the log
		if strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			r.faults.count++
		}
		return nil
	})
	before := r.faults.hits()
	for deadline := time.Now().Add(time.Minute); r.fatal.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // another goroutine may be about to call it
	}
	for name, call := range map[string]func() error{
		"apply":   func() error { return r.d.Apply([]Mutation{createAt(900)}, 900) },
		"sync":    r.e.Sync,
		"hole":    func() error { return r.d.RecordHole(r.d.Applied()+1, 1000) },
		"head":    func() error { _, _, err := r.d.Head(createAt(1).Key); return err },
		"view":    func() error { _, err := r.d.View(createAt(1).Key); return err },
		"drop":    func() error { return r.e.Drop(7) },
		"setmeta": func() error { return r.e.SetMeta("a", []byte("b")) },
		"members": func() error { _, err := r.e.Members(); return err },
		"member":  func() error { _, err := r.e.Member(8, FullRange()); return err },
		"close":   r.e.Close,
	} {
		var failed *EngineFailedError
		if err := call(); !errors.As(err, &failed) || Code(err) != CodeEngineFailed {
			t.Errorf("%s after the failure: %v", name, err)
		}
	}
	if n := r.fatal.Load(); n != 1 {
		t.Errorf("OnFatal was called %d times", n)
	}
	if after := r.faults.hits(); after != before {
		t.Errorf("%d operations on the log after the failure", after-before)
	}
}

// reopened verifies what a restart after a power failure finds.
func (r *faultRun) reopened(t *testing.T, atLeast, atMost uint64) {
	t.Helper()
	e, d := openMember(t, testOptions(r.mem.CrashClone(vfs.CrashCloneCfg{})))
	defer func() { must(t, e.Close()) }()
	if a := d.Applied(); a < atLeast || a > atMost || d.Status().Documents != int64(a) {
		t.Errorf("after the restart: %+v, want applied %d to %d", d.Status(), atLeast, atMost)
	}
	sum, _ := d.Summary()
	if want := rebuild(t, d); sum != want {
		t.Error("sums differ from a rebuild")
	}
}

func TestFailedFsyncStopsTheEngine(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		r := newFaultRun(t)
		r.faults.set(walFault(cause, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo))
		must(t, r.d.Apply([]Mutation{createAt(2)}, 2)) // not synced, so not noticed
		if err := r.e.Sync(); Code(err) != CodeEngineFailed || !errors.Is(err, cause) {
			t.Fatalf("sync: %v", err)
		}
		r.stopped(t)
		r.reopened(t, 1, 2)
	}
}

func TestFailedLogWriteStopsTheEngine(t *testing.T) {
	r := newFaultRun(t)
	r.faults.set(walFault(syscall.ENOSPC, errorfs.OpFileWrite, errorfs.OpFileWriteAt))
	if err := r.e.Sync(); Code(err) != CodeEngineFailed || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("sync: %v", err)
	}
	r.stopped(t)
	r.reopened(t, 1, 1)
}

// Without any sync, Pebble notices a failed write when its buffer has been through the log.
func TestFailedLogWriteIsNoticedWithoutSync(t *testing.T) {
	r := newFaultRun(t)
	r.faults.set(walFault(syscall.EIO, errorfs.OpFileWrite, errorfs.OpFileWriteAt))
	var err error
	for i := uint64(2); i < 100000 && err == nil; i++ {
		err = r.d.Apply([]Mutation{createAt(i)}, i)
	}
	if Code(err) != CodeEngineFailed {
		t.Fatalf("apply: %v", err)
	}
	r.stopped(t)
	r.reopened(t, 1, 1)
}

// A hole whose fsync failed must not be believed in: the caller would let Raft jump.
func TestFailedHoleIsAnError(t *testing.T) {
	r := newFaultRun(t)
	r.faults.set(walFault(syscall.EIO, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo))
	if err := r.d.RecordHole(2, 5); Code(err) != CodeEngineFailed {
		t.Fatalf("hole: %v", err)
	}
	if c := r.d.Coverage().String(); c != "[1,1]" {
		t.Errorf("coverage %s", c)
	}
	r.stopped(t)
	r.reopened(t, 1, 1)
}

// The manifest is written in Pebble's own goroutines: nobody there could take an error.
func TestFailedManifestStopsTheEngine(t *testing.T) {
	r := newFaultRun(t)
	must(t, r.d.Apply([]Mutation{createAt(2)}, 2))
	r.faults.set(func(op errorfs.Op) error {
		if strings.HasPrefix(filepath.Base(op.Path), "MANIFEST") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EIO
		}
		return nil
	})
	if _, err := r.e.db.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.e.stop.failed:
	case <-time.After(time.Minute):
		t.Fatal("the failure was not noticed")
	}
	r.stopped(t)
	r.reopened(t, 1, 2)
}

// Callers that wait for an fsync that never comes back are told when the engine fails.
func TestFailureReleasesWaitingSyncs(t *testing.T) {
	r := newFaultRun(t)
	block, entered := make(chan struct{}), make(chan struct{}, 1)
	r.faults.set(nil)
	go func() {
		_ = r.e.syncs.do(r.e.stop.failed, r.e.stop.check, func() error {
			entered <- struct{}{}
			<-block
			return nil
		})
	}()
	<-entered
	result := make(chan error)
	go func() { result <- r.e.Sync() }()
	r.e.stop.fail(errors.New("disk gone"))
	if err := <-result; Code(err) != CodeEngineFailed {
		t.Errorf("%v", err)
	}
	close(block)
}

// A call that was inside of Pebble when it failed may never come back; Close does not wait for it.
func TestFailureEndsClose(t *testing.T) {
	r := newFaultRun(t)
	v, err := r.d.View(createAt(1).Key)
	must(t, err)
	closed := make(chan error)
	go func() { closed <- r.e.Close() }()
	for !errors.Is(r.e.Sync(), ErrClosed) { // until Close has begun
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	r.e.stop.fail(errors.New("disk gone"))
	if err := <-closed; Code(err) != CodeEngineFailed || time.Since(start) > time.Minute/2 {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	must(t, v.Close())
}

func TestPanicOfOursIsNotHidden(t *testing.T) {
	f := newFailStop("documents", testLogger(), nil)
	defer func() {
		if recover() == nil {
			t.Error("a nil map write was turned into a disk failure")
		}
	}()
	count := func(m map[int]int) error {
		m[1]++
		return nil
	}
	_ = f.guard(func() error { return count(nil) })
}

func TestFatalfNeverReturns(t *testing.T) {
	f := newFailStop("documents", testLogger(), nil)
	returned := make(chan struct{})
	go func() { // as one of Pebble's goroutines would
		f.Fatalf("manifest: %v", syscall.EIO)
		close(returned)
	}()
	<-f.failed
	select {
	case <-returned:
		t.Fatal("Fatalf returned")
	case <-time.After(50 * time.Millisecond):
	}
	err := f.guard(func() error { t.Error("a write after the failure"); return nil })
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
}

func TestDamagedRecordsAreNamed(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	key := createAt(1).Key
	create := createAt(1)
	must(t, d.Apply([]Mutation{create}, 1))
	h, _, err := d.Head(key)
	must(t, err)
	base := Mutation{Kind: Compact, Key: key, Index: 2, Generation: 1, HeadSeq: 1, Chain: h.Chain, BaseSeq: 1, Base: []byte("{}"), Floor: 0}
	must(t, d.Apply([]Mutation{base, appendAt(3, key, h, 1)}, 3))
	must(t, d.RecordHole(4, 4))
	gone := createAt(5)
	must(t, d.Apply([]Mutation{gone, {Kind: Delete, Key: gone.Key, Index: 6}}, 6))
	p, err := d.place(key)
	must(t, err)
	q, err := d.place(gone.Key)
	must(t, err)
	e.heads.drop(7, p)

	damage := func(record []byte) (restore func()) {
		good, ok, err := get(e.db, record)
		if err != nil || !ok {
			t.Fatalf("record %x: %v", record, err)
		}
		bad := append([]byte{}, good...)
		bad[len(bad)/2] ^= 0x40
		must(t, e.db.Set(record, bad, pebble.NoSync))
		return func() { must(t, e.db.Set(record, good, pebble.NoSync)) }
	}
	entries := func() error {
		v, err := d.View(key)
		if err != nil {
			return err
		}
		defer func() { must(t, v.Close()) }()
		for _, err := range v.Entries(-1) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range []struct {
		kind   string
		key    Key
		record []byte
		read   func() error
	}{
		{"head", key, appendDocument(nil, 7, p, kindHead), func() error { _, _, err := d.Head(key); return err }},
		{"head", key, appendDocument(nil, 7, p, kindHead), entries},
		{"head", key, appendDocument(nil, 7, p, kindHead), func() error {
			for _, err := range d.Inventory("") {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"head", key, appendDocument(nil, 7, p, kindHead), func() error { return d.Apply([]Mutation{appendAt(8, key, h, 1)}, 8) }},
		{"base", key, appendGeneration(nil, 7, p, kindBase, 1), func() error {
			v, err := d.View(key)
			if err != nil {
				return err
			}
			defer func() { must(t, v.Close()) }()
			_, err = v.Base()
			return err
		}},
		{"entry", key, appendEntry(nil, 7, p, 1, 2), entries},
		{"delete record", gone.Key, appendDocument(nil, 7, q, kindDelete), func() error {
			return d.Apply([]Mutation{func() Mutation { m := createAt(5); m.Index = 9; return m }()}, 9)
		}},
		{"meta", Key{}, appendMeta(nil, 7, metaState), func() error { _, err := readMeta(e.db, 7); return err }},
		{"meta", Key{}, appendMeta(nil, 7, metaHoles), func() error { _, err := readMeta(e.db, 7); return err }},
		{"meta", Key{}, appendMetaBucket(nil, 7, metaBucket, p.bucket), func() error { _, err := readMeta(e.db, 7); return err }},
	} {
		restore := damage(c.record)
		applied := d.Applied()
		err := c.read()
		var corrupt *CorruptionError
		if !errors.As(err, &corrupt) || corrupt.Partition != 7 || corrupt.Key != c.key || corrupt.Kind != c.kind || !errors.Is(err, ErrEncoding) {
			t.Errorf("damaged %s of %q: %v", c.kind, c.key, err)
		}
		if d.Applied() != applied || e.stop.check() != nil {
			t.Errorf("damaged %s: applied %d, engine %v", c.kind, d.Applied(), e.stop.check())
		}
		restore()
		e.heads.drop(7, p)
		must(t, c.read())
		e.heads.drop(7, p)
	}
	must(t, e.Close())
}

// A damaged table is Pebble's to find; the error still names the document, and the hook is called.
func TestDamagedTableIsCorruption(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	var seen atomic.Int32
	o.Events.DataCorruption = func(string, error) { seen.Add(1) }
	e, d := openMember(t, o)
	for i := uint64(1); i <= 200; i++ {
		must(t, d.Apply([]Mutation{createAt(i)}, i))
	}
	must(t, e.db.Flush())
	must(t, e.Close())
	names, err := mem.List("docs")
	must(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := mem.OpenReadWrite(mem.PathJoin("docs", name), vfs.WriteCategoryUnspecified)
		must(t, err)
		st, err := f.Stat()
		must(t, err)
		junk := make([]byte, st.Size()/2)
		_, err = f.WriteAt(junk, 0)
		must(t, err)
		must(t, f.Close())
	}
	e, err = OpenDocs(o)
	if err == nil {
		d, err = e.Member(7, FullRange())
		for i := uint64(1); i <= 200 && err == nil; i++ {
			_, _, err = d.Head(createAt(i).Key)
		}
		defer func() { _ = e.Close() }()
	}
	if code := Code(err); code != CodeCorruption && code != CodeUnreadable {
		t.Errorf("%v", err)
	}
	if seen.Load() == 0 {
		t.Error("the hook was not called")
	}
}

// A log that fails while Pebble changes to the next one: it would end the process.
func TestFailedLogWhileItRotates(t *testing.T) {
	isNew := func(op errorfs.Op, name string) bool { // the log's, and not the one that is written now
		return strings.HasSuffix(op.Path, ".log") && filepath.Base(op.Path) != name
	}
	for name, fails := range map[string]func(op errorfs.Op, current string) bool{
		"its last write": func(op errorfs.Op, current string) bool {
			return filepath.Base(op.Path) == current && op.Kind == errorfs.OpFileWrite
		},
		"its last sync": func(op errorfs.Op, current string) bool {
			return filepath.Base(op.Path) == current && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
		},
		"the new one": func(op errorfs.Op, current string) bool {
			return isNew(op, current) && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite)
		},
		"the new one's name": func(op errorfs.Op, _ string) bool {
			return op.Kind == errorfs.OpFileSync && !strings.Contains(filepath.Base(op.Path), ".") && !strings.HasPrefix(filepath.Base(op.Path), "MANIFEST")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFaultRun(t)
			must(t, r.d.Apply([]Mutation{createAt(2)}, 2))
			current := r.log(t)
			r.faults.set(func(op errorfs.Op) error {
				if fails(op, current) {
					return syscall.ENOSPC
				}
				return nil
			})
			_, _ = r.e.db.AsyncFlush() // what it says does not count any more
			if r.faults.hits() == 0 {
				t.Fatal("nothing failed")
			}
			if err := r.e.Sync(); Code(err) != CodeEngineFailed || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("sync: %v", err)
			}
			r.stopped(t)
			r.reopened(t, 1, 2)
		})
	}
}

// log is the file name of the log that is written now.
func (r *faultRun) log(t *testing.T) (newest string) {
	t.Helper()
	names, err := r.mem.List("docs")
	must(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, ".log") {
			newest = max(newest, n)
		}
	}
	return newest
}
