package simdisk

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func put(t *testing.T, d *Disk, path, text string) vfs.File {
	t.Helper()
	f, err := d.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, d *Disk, path string) string {
	t.Helper()
	f, err := d.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func syncRoot(t *testing.T, d *Disk) { syncAll(t, d, "/") }

func syncAll(t *testing.T, d *Disk, dirs ...string) {
	t.Helper()
	for _, name := range dirs {
		dir, err := d.OpenDir(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := dir.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrash leaves what was synced, and of the rest what chance keeps.
func TestCrash(t *testing.T) {
	d := New()
	f := put(t, d, "a", "old")
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	syncRoot(t, d)
	if _, err := f.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, d.Image(0, nil), "a"); got != "old" {
		t.Errorf("after a crash: %q", got)
	}
	if got := content(t, d.Image(100, rand.New(rand.NewPCG(1, 1))), "a"); got != "oldnew" {
		t.Errorf("after a lucky crash: %q", got)
	}
}

// TestFailedSyncIsNeverMadeGood: the pages count as clean, whatever is called afterwards.
func TestFailedSyncIsNeverMadeGood(t *testing.T) {
	d := New()
	syncRoot(t, d)
	f := put(t, d, "log-1", "x")
	syncRoot(t, d)
	d.Arm(FailSync, "log")
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("first sync: %v", err)
	}
	if err := f.SyncData(); err != nil {
		t.Fatalf("second sync: %v", err)
	}
	if got := content(t, d.Image(0, nil), "log-1"); got != "" {
		t.Errorf("after a crash: %q", got)
	}
	if d.Hits() != 1 {
		t.Errorf("%d hits", d.Hits())
	}
}

// TestFaults happen where they were armed, once or until they are mended.
func TestFaults(t *testing.T) {
	d := New()
	f := put(t, d, "a", "1234")
	d.Arm(FailWrite, "b")
	d.Arm(FailWrite, "a*a")
	if _, err := f.Write([]byte("56")); err != nil {
		t.Fatal(err)
	}
	d.Arm(FailWrite, "a")
	if n, err := f.Write([]byte("7890")); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("%d, %v", n, err)
	}
	d.Arm(FailRead, "a")
	r, err := d.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
	d.Arm(Full, "")
	for range 2 {
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if _, err := d.Create("c", vfs.WriteCategoryUnspecified); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	d.Mend()
	put(t, d, "c", "x")
}

// TestSlow has an fsync take its time, on simulated time.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New()
		f := put(t, d, "log-1", "x")
		d.Slow(time.Second, "log")
		begun := time.Now()
		if err := f.Sync(); err != nil || time.Since(begun) != time.Second {
			t.Errorf("%s, %v", time.Since(begun), err)
		}
		if err := put(t, d, "other", "x").Sync(); err != nil || time.Since(begun) != time.Second {
			t.Errorf("%s, %v", time.Since(begun), err)
		}
	})
}

// TestFlip inverts one bit of a file that fits, for good.
func TestFlip(t *testing.T) {
	d := New()
	rng := rand.New(rand.NewPCG(1, 1))
	if where, err := d.Flip(rng, ""); where != "" || err != nil {
		t.Fatalf("on an empty disk: %q, %v", where, err)
	}
	if err := d.MkdirAll("/x/y", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, d, "/x/y/a", "aaaa")
	put(t, d, "/x/b", "bbbb")
	syncAll(t, d, "/", "/x", "/x/y")
	if where, err := d.Flip(rng, "/y/"); err != nil || where == "" {
		t.Fatalf("%q, %v", where, err)
	}
	got := content(t, d.Backup(), "/x/y/a")
	bits := 0
	for i := range got {
		for b := got[i] ^ 'a'; b != 0; b &= b - 1 {
			bits++
		}
	}
	if bits != 1 || content(t, d, "/x/b") != "bbbb" {
		t.Errorf("%q differs in %d bits", got, bits)
	}
	if n, err := d.Bytes(); n != 8 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestImagesBesideLocks: images are made while engines open and lock their directories.
func TestImagesBesideLocks(t *testing.T) {
	d := New()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				d.Image(0, nil)
			}
		}
	}()
	for range 20_000 {
		l, err := d.Lock("LOCK")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-stopped
}
