package store

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/adamantdb/adamant/internal/asyncfs"
	"github.com/adamantdb/adamant/merkle"
)

func testLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// rebuild computes the sums from the heads.
func rebuild(t fataler, d *Documents) merkle.Summary {
	t.Helper()
	var s merkle.Summary
	for info, err := range d.Inventory("") {
		must(t, err)
		b := d.hashes.Bucket(info.Key.Hash())
		s[b] = s[b].Add(merkle.Bucket{Sum: leaf(info.Key, &info.Head), Count: 1})
	}
	return s
}

func TestOwnerIsVerified(t *testing.T) {
	mem := vfs.NewMem()
	e, _ := openMember(t, testOptions(mem))
	must(t, e.Close())
	for what, change := range map[string]func(*DocOptions){
		"cluster":     func(o *DocOptions) { o.Cluster = "other" },
		"host":        func(o *DocOptions) { o.Host = "other" },
		"incarnation": func(o *DocOptions) { o.Incarnation = "other" },
	} {
		o := testOptions(mem)
		change(&o)
		_, err := OpenDocs(o)
		var wrong *WrongOwnerError
		if !errors.As(err, &wrong) || wrong.What != what || wrong.Want != "other" || Code(err) != CodeWrongOwner {
			t.Errorf("%s: %v", what, err)
		}
	}
	e, _ = openMember(t, testOptions(mem)) // still usable, and the refused openings let go of it
	must(t, e.Close())
}

func TestDirectoryWithDataButNoStampIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	e, _ := openMember(t, testOptions(mem))
	must(t, e.db.Delete(hostKey(hostStamp, ""), pebble.Sync))
	must(t, e.Close())
	if _, err := OpenDocs(testOptions(mem)); Code(err) != CodeCorruption {
		t.Errorf("%v", err)
	}
}

// A later release's records would be misread, not found damaged: most of them have no version of their own.
func TestDirectoryOfAnotherVersionIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	e, _ := openMember(t, testOptions(mem))
	stamp := encodeStamp(e.opts.Cluster, e.opts.Host, e.opts.Incarnation)
	stamp[0]++
	must(t, e.db.Set(hostKey(hostStamp, ""), seal(stamp[:len(stamp)-checksumLen]), pebble.Sync))
	must(t, e.Close())
	if _, err := OpenDocs(testOptions(mem)); err == nil || !strings.Contains(err.Error(), "format version 2") {
		t.Errorf("%v", err)
	}
}

func TestRangeIsFixed(t *testing.T) {
	mem := vfs.NewMem()
	e, _ := openMember(t, testOptions(mem))
	for range 2 { // with the member open, and after a restart
		_, err := e.Member(7, Range{0, 1 << 40})
		var wrong *WrongRangeError
		if !errors.As(err, &wrong) || wrong.Have != FullRange() || Code(err) != CodeWrongRange {
			t.Errorf("%v", err)
		}
		must(t, e.Close())
		e, err = OpenDocs(testOptions(mem))
		must(t, err)
	}
	if _, err := e.Member(8, Range{2, 1}); err == nil {
		t.Error("an empty range was accepted")
	}
	if _, err := e.Member(hostPartition, FullRange()); err == nil {
		t.Error("the reserved partition was accepted")
	}
	d, err := e.Member(9, Range{0, 1})
	must(t, err)
	if err := d.Apply([]Mutation{createAt(1)}, 1); Code(err) != CodeKey || d.Applied() != 0 {
		t.Errorf("document outside of the range: %v", err)
	}
	must(t, e.Close())
}

func TestMembersAndDrop(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	e, err := OpenDocs(o)
	must(t, err)
	members := map[uint32]*Documents{}
	for _, p := range []uint32{0, 3, 1 << 31, hostPartition - 1} {
		members[p], err = e.Member(p, FullRange())
		must(t, err)
		for i := uint64(1); i <= 5; i++ {
			must(t, members[p].Apply([]Mutation{createAt(i)}, i))
		}
	}
	must(t, e.SetMeta("kept", []byte("x")))
	list, err := e.Members()
	if err != nil || !slices.Equal(list, []uint32{0, 3, 1 << 31, hostPartition - 1}) {
		t.Fatalf("%v, %v", list, err)
	}
	if again, _ := e.Member(3, FullRange()); again != members[3] {
		t.Error("two handles of one member")
	}
	view, err := members[3].View(createAt(2).Key)
	must(t, err)
	must(t, e.Drop(3))
	must(t, e.Drop(hostPartition-1))
	must(t, e.Drop(77)) // never there
	if err := e.Drop(hostPartition); err == nil {
		t.Error("the host's records can be dropped")
	}
	if base, err := view.Base(); err != nil || base != nil {
		t.Errorf("open view of a dropped member: %v", err)
	}
	must(t, view.Close())
	dead := members[3]
	for name, err := range map[string]error{
		"apply": dead.Apply([]Mutation{createAt(6)}, 6),
		"hole":  dead.RecordHole(6, 7),
		"head":  func() error { _, _, err := dead.Head(createAt(1).Key); return err }(),
		"view":  func() error { _, err := dead.View(createAt(1).Key); return err }(),
		"inventory": func() error {
			for _, err := range dead.Inventory("") {
				return err
			}
			return nil
		}(),
	} {
		if !errors.Is(err, ErrDropped) {
			t.Errorf("%s on a dropped member: %v", name, err)
		}
	}
	fresh, err := e.Member(3, FullRange())
	must(t, err)
	if _, ok, err := fresh.Head(createAt(2).Key); ok || err != nil || fresh.Applied() != 0 {
		t.Errorf("the dropped member is back: %v, %v, applied %d", ok, err, fresh.Applied())
	}
	must(t, e.Close())
	e, err = OpenDocs(o)
	must(t, err)
	list, err = e.Members()
	if err != nil || !slices.Equal(list, []uint32{0, 3, 1 << 31}) {
		t.Errorf("after a restart: %v, %v", list, err)
	}
	d, err := e.Member(0, FullRange())
	must(t, err)
	if v, ok, err := e.Meta("kept"); string(v) != "x" || !ok || err != nil || d.Status().Documents != 5 {
		t.Errorf("neighbours of dropped members: %q, %v, %+v", v, err, d.Status())
	}
	must(t, e.Close())
}

func TestHostMeta(t *testing.T) {
	mem := vfs.NewMem()
	e, err := OpenDocs(testOptions(mem))
	must(t, err)
	if _, ok, err := e.Meta("a"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	must(t, e.SetMeta("a", []byte("1")))
	must(t, e.SetMeta("", []byte("empty name")))
	must(t, e.SetMeta("b", []byte{}))
	must(t, e.SetMeta("c", []byte("2")))
	must(t, e.SetMeta("c", nil))
	must(t, e.Close())
	e, err = OpenDocs(testOptions(mem))
	must(t, err)
	for name, want := range map[string]string{"a": "1", "": "empty name", "b": ""} {
		if v, ok, err := e.Meta(name); string(v) != want || !ok || err != nil {
			t.Errorf("%q: %q, %v, %v", name, v, ok, err)
		}
	}
	if _, ok, _ := e.Meta("c"); ok {
		t.Error("removed record is there")
	}
	must(t, e.db.Set(hostKey(hostMeta, "a"), []byte("xxxxx"), pebble.NoSync))
	must(t, e.Close())
	e, err = OpenDocs(testOptions(mem))
	must(t, err)
	if _, _, err := e.Meta("a"); Code(err) != CodeCorruption {
		t.Errorf("%v", err)
	}
	must(t, e.Close())
}

// Opening reads the partition's own records and nothing else: it succeeds when every document is unreadable.
func TestOpeningReadsNoDocuments(t *testing.T) {
	mem := vfs.NewMem()
	e, d := openMember(t, testOptions(mem))
	const n = 2000
	batch := make([]Mutation, 0, n)
	for i := uint64(1); i <= n; i++ {
		batch = append(batch, createAt(i))
	}
	must(t, d.Apply(batch, n))
	want, _ := d.Summary()
	status := d.Status()
	for i := range batch {
		p, err := d.place(batch[i].Key)
		must(t, err)
		must(t, e.db.Set(appendDocument(nil, 7, p, kindHead), []byte("junk"), pebble.NoSync))
	}
	must(t, e.Close())
	e, d = openMember(t, testOptions(mem))
	if got, index := d.Summary(); got != want || index != n || d.Status().Documents != n || d.Status().Bytes != status.Bytes {
		t.Errorf("sums or counts were not stored: %+v", d.Status())
	}
	if _, _, err := d.Head(batch[0].Key); Code(err) != CodeCorruption {
		t.Errorf("%v", err)
	}
	must(t, e.Close())
}

func TestCloseEndsEverything(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	must(t, d.Apply([]Mutation{createAt(1)}, 1))
	v, err := d.View(createAt(1).Key)
	must(t, err)
	closed := make(chan error)
	go func() { closed <- e.Close() }()
	for e.Sync() == nil { // until Close has begun
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-closed:
		t.Fatalf("closed under an open view: %v", err)
	default:
	}
	if _, ok, err := v.EntryAt(1); !ok || err != nil {
		t.Errorf("view during Close: %v", err)
	}
	must(t, v.Close())
	must(t, v.Close()) // harmless
	must(t, <-closed)
	for name, err := range map[string]error{
		"close":   e.Close(),
		"sync":    e.Sync(),
		"apply":   d.Apply([]Mutation{createAt(2)}, 2),
		"hole":    d.RecordHole(2, 3),
		"drop":    e.Drop(7),
		"setmeta": e.SetMeta("a", nil),
		"head":    func() error { _, _, err := d.Head(createAt(1).Key); return err }(),
		"view":    func() error { _, err := d.View(createAt(1).Key); return err }(),
		"meta":    func() error { _, _, err := e.Meta("a"); return err }(),
		"member":  func() error { _, err := e.Member(8, FullRange()); return err }(),
		"members": func() error { _, err := e.Members(); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d.Applied() != 1 || d.Status().Documents != 1 {
		t.Error("what is in memory can still be asked for")
	}
}

// Callers that come while an fsync runs share the next one: that one starts after all of them called.
func TestConcurrentSyncsShareOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g syncGroup
		failed := make(chan struct{})
		never := func() error { return nil }
		release := make(chan error)
		started := 0
		fsync := func() error { started++; return <-release }
		results := make(chan error, 100)
		call := func() { results <- g.do(failed, never, fsync) }
		go call()
		synctest.Wait()
		for range 99 {
			go call()
		}
		synctest.Wait()
		if started != 1 {
			t.Fatalf("%d fsyncs at once", started)
		}
		release <- nil
		synctest.Wait()
		if started != 2 || len(results) != 1 {
			t.Fatalf("%d fsyncs, %d callers done", started, len(results))
		}
		go call() // while the second runs: it may not be served by it
		synctest.Wait()
		broken := errors.New("broken")
		release <- broken
		synctest.Wait()
		if started != 3 || len(results) != 100 {
			t.Fatalf("%d fsyncs, %d callers done", started, len(results))
		}
		release <- nil
		synctest.Wait()
		nils := 0
		for range 101 {
			if err := <-results; err == nil {
				nils++
			} else if err != broken {
				t.Error(err)
			}
		}
		if nils != 2 {
			t.Errorf("%d callers succeeded, want the first and the last", nils)
		}
	})
}

func TestOpenErrors(t *testing.T) {
	injected := func(err error, kinds ...errorfs.OpKind) vfs.FS {
		return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if slices.Contains(kinds, op.Kind) {
				return &os.PathError{Op: "open", Path: op.Path, Err: err}
			}
			return nil
		}))
	}
	for _, c := range []struct {
		name   string
		fs     vfs.FS
		reason OpenReason
		code   int
	}{
		{"read-only file system", injected(syscall.EROFS, errorfs.OpMkdirAll), OpenReadOnly, CodeReadOnly},
		{"read-only directory", injected(syscall.EACCES, errorfs.OpLock), OpenReadOnly, CodeReadOnly},
		{"no permission for files", injected(syscall.EACCES, errorfs.OpCreate), OpenReadOnly, CodeReadOnly},
		{"full at creation", injected(syscall.ENOSPC, errorfs.OpCreate), OpenDiskFull, CodeDiskFull},
		{"full at the first write", injected(syscall.ENOSPC, errorfs.OpFileWrite), OpenDiskFull, CodeDiskFull},
		{"fsync fails", injected(syscall.EIO, errorfs.OpFileSync), OpenUnreadable, CodeUnreadable},
		{"quota", injected(syscall.EDQUOT, errorfs.OpFileWrite), OpenDiskFull, CodeDiskFull},
	} {
		o := testOptions(c.fs)
		o.OnFatal = func(err error) { t.Errorf("%s: OnFatal: %v", c.name, err) }
		_, err := OpenDocs(o)
		var open *OpenError
		if !errors.As(err, &open) || open.Reason != c.reason || Code(err) != c.code {
			t.Errorf("%s: %v (%T)", c.name, err, err)
		}
	}
	if _, err := OpenDocs(DocOptions{}); err == nil {
		t.Error("no directory was accepted")
	}
}

func TestDirectoryInUse(t *testing.T) {
	o := testOptions(nil)
	o.Dir = filepath.Join(t.TempDir(), "docs")
	e, err := OpenDocs(o)
	must(t, err)
	locked := func(what string) {
		t.Helper()
		_, err := OpenDocs(o)
		var open *OpenError
		if !errors.As(err, &open) || open.Reason != OpenLocked || Code(err) != CodeLocked || !strings.Contains(err.Error(), o.Dir) {
			t.Errorf("%s: %v", what, err)
		}
	}
	locked("in this process")
	must(t, e.Close())

	child := exec.Command(os.Args[0], "-test.run=^TestHelperHoldsDirectory$", "-test.v", "--", o.Dir)
	stdin, err := child.StdinPipe()
	must(t, err)
	stdout, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	held := false
	for lines := bufio.NewScanner(stdout); !held && lines.Scan(); {
		held = strings.Contains(lines.Text(), "holding")
	}
	if !held {
		t.Fatal("the other process did not open the directory")
	}
	locked("in another process")
	must(t, stdin.Close())
	must(t, child.Wait())
	e, err = OpenDocs(o)
	must(t, err)
	must(t, e.Close())
}

// TestHelperHoldsDirectory is the other process of TestDirectoryInUse.
func TestHelperHoldsDirectory(t *testing.T) {
	i := slices.Index(os.Args, "--")
	if i < 0 {
		t.Skip("only as a helper of TestDirectoryInUse")
	}
	o := testOptions(nil)
	o.Dir = os.Args[i+1]
	e, err := OpenDocs(o)
	must(t, err)
	fmt.Println("holding")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	must(t, e.Close())
}

func TestEventsAreSurfaced(t *testing.T) {
	var got []string
	v := DocEvents{
		BackgroundError: func(err error) { got = append(got, "error "+err.Error()) },
		DiskSlow:        func(string) { got = append(got, "slow") },
		LowDiskSpace:    func(avail, total uint64) { got = append(got, fmt.Sprint("space ", avail, total)) },
		WriteStall:      func(reason string, on bool) { got = append(got, fmt.Sprint("stall ", reason, on)) },
		DataCorruption:  func(path string, err error) { got = append(got, "corrupt "+path) },
	}
	for _, l := range []*pebble.EventListener{v.listener(testLogger()), DocEvents{}.listener(testLogger())} {
		l.BackgroundError(errors.New("x"))
		l.DiskSlow(pebble.DiskSlowInfo{})
		l.LowDiskSpace(pebble.LowDiskSpaceInfo{AvailBytes: 1, TotalBytes: 2})
		l.WriteStallBegin(pebble.WriteStallBeginInfo{Reason: "memtable"})
		l.WriteStallEnd()
		l.DataCorruption(pebble.DataCorruptionInfo{Path: "p", Details: errors.New("y")})
	}
	want := []string{"error x", "slow", "space 1 2", "stall memtabletrue", "stall false", "corrupt p"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Readers of every kind beside a writer; run with -race. Each view must be one instant.
func TestReadersBesideApply(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.HeadCache = 16
	e, d := openMember(t, o)
	const documents, rounds = 8, 300
	heads := map[Key]Head{}
	var keys []Key
	index := uint64(0)
	for range documents {
		index++
		m := createAt(index)
		must(t, d.Apply([]Mutation{m}, index))
		keys = append(keys, m.Key)
		heads[m.Key], _, _ = d.Head(m.Key)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	read := func(f func(n int) error) {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := f(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	seen := make([]int64, documents)
	read(func(n int) error { // a head never goes back
		h, ok, err := d.Head(keys[n%documents])
		if err != nil || !ok || h.HeadSeq < seen[n%documents] {
			return fmt.Errorf("head %d after %d: %v, %v", h.HeadSeq, seen[n%documents], ok, err)
		}
		seen[n%documents] = h.HeadSeq
		return nil
	})
	read(func(n int) error {
		v, err := d.View(keys[n%documents])
		if err != nil {
			return err
		}
		defer func() { _ = v.Close() }()
		last, count := int64(0), int64(0)
		for e, err := range v.Entries(-1) {
			if err != nil {
				return err
			}
			last, count = e.SeqEnd, count+1
		}
		if last != v.Head.HeadSeq || count != v.Head.Entries {
			return fmt.Errorf("view: head %+v, %d entries up to %d", v.Head, count, last)
		}
		return nil
	})
	read(func(int) error {
		for _, err := range d.Inventory("") {
			if err != nil {
				return err
			}
		}
		s := d.Status()
		if s.Documents != documents || s.Applied > uint64(documents+rounds) {
			return fmt.Errorf("%+v", s)
		}
		d.Summary()
		d.Coverage()
		return nil
	})
	read(func(int) error { return e.Sync() })
	read(func(n int) error {
		e.Shed(7, func(k Key) bool { return k == keys[n%documents] })
		return nil
	})
	for n := range rounds {
		index++
		key := keys[n%documents]
		m := appendAt(index, key, heads[key], 1)
		must(t, d.Apply([]Mutation{m}, index))
		h, _, err := d.Head(key)
		if err != nil || h.HeadSeq != m.HeadSeq || h.Chain != m.Chain {
			t.Fatalf("after Apply returned: %+v, %v", h, err)
		}
		heads[key] = h
	}
	close(done)
	readers.Wait()
	if got, _ := d.Summary(); got != rebuild(t, d) {
		t.Error("sums differ from a rebuild")
	}
	must(t, e.Close())
}

// TestSlowDisksAreWatched: also when a file system of the application's is put over the disk.
func TestSlowDisksAreWatched(t *testing.T) {
	for name, files := range map[string]vfs.FS{"the disk": nil, "over it": asyncfs.New(vfs.Default), "not the disk": vfs.NewMem()} {
		if a, ok := files.(*asyncfs.FS); ok {
			defer func() { must(t, a.Close()) }()
		}
		o := testOptions(files)
		o.Dir = t.TempDir()
		before := diskWatchers()
		e, _ := openMember(t, o)
		watched := slices.ContainsFunc(diskWatchers(), func(id string) bool { return !slices.Contains(before, id) })
		if want := name != "not the disk"; watched != want {
			t.Errorf("%s: watched: %v", name, watched)
		}
		must(t, e.Close())
	}
}

// diskWatchers lists the goroutines that watch a file.
func diskWatchers() (ids []string) {
	b := make([]byte, 4<<20)
	for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "diskHealthChecking") {
			ids = append(ids, strings.SplitN(g, " [", 2)[0])
		}
	}
	return ids
}
