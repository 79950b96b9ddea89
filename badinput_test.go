package adamant

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/adamantdb/adamant/config"
)

// TestBadClusterFileChangesNothing (design §13.9): truncated, garbage and older files leave the last good one in force,
// are counted and shown, and membership stays as it is; the next good one is taken.
func TestBadClusterFileChangesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cluster.json")
	c, err := config.Generate(config.Spec{Cluster: "files", Hosts: map[string]config.Host{"h1": {Addr: freeAddr(t)}}, Partitions: 2, Voters: 1})
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file+".new", b, 0o644); err != nil { // a file half written would count as one more bad one
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(c.Marshal())
	var rejected atomic.Int32
	o := Options{Dir: filepath.Join(dir, "data"), Host: "h1", ClusterFile: file, Timing: Timing{Poll: 5 * time.Millisecond},
		Events: Events{ConfigRejected: func(error) { rejected.Add(1) }}}
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { h.Close() }()
	ctx := testContext(t)
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	key := Key{Space: "space", Key: "doc"}
	if err := h.Create(ctx, key, testDelta(1, "kept")); err != nil {
		t.Fatal(err)
	}
	before := h.Status()
	older := c.Clone()
	older.Hosts["h9"] = config.Host{Addr: "127.0.0.1:9"}
	good := c.Marshal()
	for i, bad := range [][]byte{good[:len(good)/2], []byte("\x00\xffgarbage"), nil, older.Marshal()} {
		write(bad)
		waitFor(t, "the rejection", func() error {
			if s := h.Status(); s.ConfigRejected != uint64(i+1) || s.ConfigError == "" || int(rejected.Load()) != i+1 {
				return fmt.Errorf("rejected %d, error %q, events %d", s.ConfigRejected, s.ConfigError, rejected.Load())
			}
			return nil
		})
		s := h.Status()
		if s.ConfigVersion != before.ConfigVersion || len(s.Partitions) != len(before.Partitions) {
			t.Fatalf("a bad file changed the configuration: %+v", s)
		}
		if _, err := h.Get(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	// A restart with the bad file still in place goes on with the last good one.
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if h, err = Open(o); err != nil {
		t.Fatalf("restart beside a bad file: %v", err)
	}
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(ctx, key); err != nil {
		t.Fatal(err)
	}
	next := c.Clone()
	next.Version++
	next.Hosts["h9"] = config.Host{Addr: "127.0.0.1:9"}
	write(next.Marshal())
	waitFor(t, "the good file", func() error {
		if v := h.Status().ConfigVersion; v != next.Version {
			return fmt.Errorf("version %d", v)
		}
		return nil
	})
	// So does one beside a file that has become newer meanwhile.
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	next.Version++
	delete(next.Hosts, "h9")
	write(next.Marshal())
	if h, err = Open(o); err != nil {
		t.Fatalf("restart beside a newer file: %v", err)
	}
	if v := h.Status().ConfigVersion; v != next.Version {
		t.Errorf("version %d in force, the file has %d", v, next.Version)
	}
}

// TestGarbageOnThePort: what is not the protocol is turned away and counted where operators look, whoever sends it and however
// far it keeps to the protocol; nobody else notices.
func TestGarbageOnThePort(t *testing.T) {
	c := newTestCluster(t, 3, 2, 3, nil)
	c.ready()
	c.fill(0, 10, 2)
	addr := c.config.Hosts["h1"].Addr
	stop, traffic := make(chan struct{}), make(chan error, 1)
	go func() { traffic <- c.appendUntil(testKey(0), 3, stop) }()
	for _, g := range garbage() {
		before := c.host("h1").Metrics().Links.Refused
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(g.first)
		if g.then != nil {
			if err := conn.SetReadDeadline(time.Now().Add(bound)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 32)); err != nil { // the answer to the hello
				t.Fatalf("%s: %v", g.name, err)
			}
			_, _ = conn.Write(g.then)
		}
		if c, ok := conn.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
		c.wait(g.name+" to be counted", func() error {
			if c.host("h1").Metrics().Links.Refused == before {
				return errors.New("not yet")
			}
			return nil
		})
		conn.Close()
		udp, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = udp.Write(g.first)
		udp.Close()
	}
	close(stop)
	if err := <-traffic; err != nil {
		t.Fatalf("the writer beside the garbage: %v", err)
	}
	c.fill(10, 20, 3)
	c.healthy()
}

// appendUntil appends one delta after the other, none of which may fail, until it is told to stop.
func (c *testCluster) appendUntil(key Key, seq int64, stop chan struct{}) error {
	for ; ; seq++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := c.on(key, func(h *Host) error {
			_, err := h.Append(context.Background(), key, []Delta{testDelta(seq, "x")})
			return err
		}); err != nil {
			return err
		}
	}
}

// garbage is sent to a port: first at once, then after a sound handshake was answered.
func garbage() []struct {
	name        string
	first, then []byte
} {
	hello := func(cluster, target string) []byte {
		b := []byte{1, 1, 0, 0, 0, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8} // versions, main link, frame limit, instance
		for _, s := range []string{cluster, "stranger", "0011223344556677", "127.0.0.1:1", target} {
			b = append(append(b, byte(len(s))), s...)
		}
		return b
	}
	link := func(frames ...[]byte) []byte { return append([]byte{0xAD}, bytes.Join(frames, nil)...) }
	flipped := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	sound := rawFrame(1, 1, hello("test", "h1"))
	return []struct {
		name        string
		first, then []byte
	}{
		{"nothing", nil, nil},
		{"a web request", []byte("GET / HTTP/1.1\r\n\r\n"), nil},
		{"ones", bytes.Repeat([]byte{0xff}, 4096), nil},
		{"text", bytes.Repeat([]byte("adamant"), 1000), nil},
		{"three bytes", []byte{1, 2, 3}, nil},
		{"a link of noise", link(bytes.Repeat([]byte{0x5a}, 4096)), nil},
		{"half a hello", link(sound[:len(sound)/2]), nil},
		{"a hello with a flipped bit", link(flipped(sound, 40)), nil},
		{"a hello that promises 4 GB", link(longFrame(1)), nil},
		{"a hello of nothing", link(rawFrame(1, 1, nil)), nil},
		{"a request before a hello", link(rawFrame(4, 2, []byte("hi"))), nil},
		{"a hello of another cluster", link(rawFrame(1, 1, hello("other", "h1"))), nil},
		{"a hello for another host", link(rawFrame(1, 1, hello("test", "h2"))), nil},
		{"noise on a link that stands", link(sound), bytes.Repeat([]byte{0x5a}, 4096)},
		{"a request with a flipped bit on a link that stands", link(sound), flipped(rawFrame(4, 2, []byte("request")), 35)},
		{"4 GB on a link that stands", link(sound), longFrame(4)},
		{"a bulk request on a link that is not for it", link(sound), rawFrame(4, 3, []byte("request"))},
		{"an answer that nobody asked for", link(sound), rawFrame(5, 2, []byte("answer"))},
		{"a second hello", link(sound), sound},
	}
}

// rawFrame is a frame as docs/wire-format.md draws it, made without package mesh.
func rawFrame(typ, class byte, payload []byte) []byte {
	b := []byte{0xAD, 0xA3, 1, typ, class, 1, 0, 0, 0, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint64(b, 1)
	b = binary.BigEndian.AppendUint64(b, xxhash.Sum64(append(bytes.Clone(b), payload...)))
	return append(b, payload...)
}

// longFrame is the header of a frame of almost 4 GB.
func longFrame(typ byte) []byte {
	b := rawFrame(typ, 2, nil)
	binary.BigEndian.PutUint32(b[12:], 0xfffffff0)
	return b
}

func TestDirectoryOfAnotherCluster(t *testing.T) {
	dir := t.TempDir()
	h, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := config.Generate(config.Spec{Cluster: "other", Hosts: map[string]config.Host{"local": {Addr: freeAddr(t)}}, Partitions: 8, Voters: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Dir: dir, Host: "local", Cluster: c})
	var owner *WrongOwnerError
	if !errors.As(err, &owner) || owner.What != "cluster" {
		t.Fatalf("%v", err)
	}
	if _, err := Open(Options{Dir: dir, Partitions: 4}); err == nil {
		t.Fatal("another number of partitions was accepted: keys would be looked for in the wrong place")
	}
	if h, err = Open(Options{Dir: dir}); err != nil {
		t.Fatalf("the refusals damaged the directory: %v", err)
	}
	h.Close()
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	h, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_, err = Open(Options{Dir: dir})
	var open *OpenError
	if !errors.As(err, &open) {
		t.Fatalf("%v", err)
	}
}

func TestPortInUse(t *testing.T) {
	addr := freeAddr(t)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := config.Generate(config.Spec{Cluster: "ports", Hosts: map[string]config.Host{"h1": {Addr: addr}}, Partitions: 1, Voters: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Dir: t.TempDir(), Host: "h1", Cluster: c})
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Fatalf("the error does not name the address: %v", err)
	}
}

// TestTwoHostsWithOneName: the second is noticed, named and cannot take the first one's place.
func TestTwoHostsWithOneName(t *testing.T) {
	c := newTestCluster(t, 3, 2, 3, nil)
	c.ready()
	c.fill(0, 10, 2)
	twin := c.config.Clone()
	h := twin.Hosts["h1"]
	h.Addr = freeAddr(t)
	twin.Hosts["h1"] = h
	o := c.options("h1")
	o.Dir, o.Cluster = t.TempDir(), twin
	imposter, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer imposter.Kill()
	c.wait("the conflict to be noticed", func() error {
		for _, h := range append([]*Host{imposter}, c.host("h1"), c.host("h2"), c.host("h3")) {
			for _, n := range h.Status().History {
				if strings.Contains(n.Text, "h1") && n.Kind == "peer" {
					return nil
				}
			}
		}
		return errors.New("nobody noticed")
	})
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	for i := range 10 { // the real ones go on
		key := testKey(i)
		if err := c.on(key, func(h *Host) error { _, err := h.Get(ctx, key); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

// diskFault fails what matches, once it is switched on.
func diskFault(err error, kinds ...errorfs.OpKind) (*vfs.MemFS, vfs.FS, *atomic.Bool) {
	on := new(atomic.Bool)
	disk := vfs.NewCrashableMem()
	return disk, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() {
			for _, k := range kinds {
				if op.Kind == k {
					return &os.PathError{Op: "write", Path: op.Path, Err: err}
				}
			}
		}
		return nil
	})), on
}

// TestFullDisk: the write that does not fit is not acknowledged, the host says why and stops serving, and after a restart
// with room everything acknowledged is there.
func TestFullDisk(t *testing.T) {
	disk, fs, full := diskFault(syscall.ENOSPC, errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpFileSync, errorfs.OpFileSyncData)
	var failed atomic.Int32
	o := Options{Dir: "data", FS: fs, Partitions: 2, Events: Events{Failed: func(error) { failed.Add(1) }}}
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := h.Create(ctx, testKey(i), testDelta(1, "kept")); err != nil {
			t.Fatal(err)
		}
	}
	full.Store(true)
	if err := h.Create(ctx, testKey(10), testDelta(1, "lost")); err == nil {
		t.Fatal("acknowledged on a full disk")
	}
	waitFor(t, "the failure to be known", func() error {
		if s := h.Status(); s.Failed == "" || failed.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	err = h.Create(ctx, testKey(11), testDelta(1, "lost"))
	if Code(err) != CodeEngineFailed {
		t.Fatalf("write on a failed host: %v", err)
	}
	if !strings.Contains(err.Error(), "no space left") {
		t.Errorf("the error does not say why: %v", err)
	}
	if d, err := h.Get(ctx, testKey(0), WithConsistency(ReadStale)); err != nil || d.Head != 1 {
		t.Errorf("stale read on a failed host: %v", err)
	}
	if _, err := h.Get(ctx, testKey(0)); err == nil {
		t.Error("a failed host serves linearizable reads")
	}
	_ = h.Kill()
	// A failed engine stays failed until its process ends: the restart is that of another process, after a crash that lost
	// whatever was not synced.
	o.FS = disk.CrashClone(vfs.CrashCloneCfg{})
	if h, err = Open(o); err != nil {
		t.Fatalf("restart with room: %v", err)
	}
	defer h.Close()
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if d, err := h.Get(ctx, testKey(i)); err != nil || d.Head != 1 {
			t.Fatalf("%s after the restart: %v", testKey(i), err)
		}
	}
}

func TestReadOnlyDisk(t *testing.T) {
	_, fs, readOnly := diskFault(syscall.EROFS, errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpMkdirAll, errorfs.OpRename, errorfs.OpLock, errorfs.OpReuseForWrite)
	h, err := Open(Options{Dir: "data", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	readOnly.Store(true)
	_, err = Open(Options{Dir: "data", FS: fs})
	if err == nil || !strings.Contains(err.Error(), "data") || !errors.Is(err, syscall.EROFS) {
		t.Fatalf("%v", err)
	}
	readOnly.Store(false)
	if h, err = Open(Options{Dir: "data", FS: fs}); err != nil {
		t.Fatalf("the refusal damaged the directory: %v", err)
	}
	h.Close()
}

func TestDirectoryWithoutItsIdentity(t *testing.T) {
	dir := t.TempDir()
	h, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := os.Remove(filepath.Join(dir, identityFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), identityFile) {
		t.Fatalf("a directory that lost its identity was taken for a new one: %v", err)
	}
	for _, bad := range []string{"", "{", `{"format":9}`, `{"format":1,"cluster":"local","host":"local","incarnation":"x"}`} {
		if err := os.WriteFile(filepath.Join(dir, identityFile), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), identityFile) {
			t.Errorf("identity %q: %v", bad, err)
		}
	}
}

// TestDirectoryThatLostAnEngine: a directory whose log or documents were lost must not go on under its old server id (lemma I2).
func TestDirectoryThatLostAnEngine(t *testing.T) {
	for _, kind := range []LogKind{LogPebble, LogBolt} {
		for _, engine := range engineDirs {
			dir := t.TempDir()
			h, err := Open(Options{Dir: dir, Log: kind})
			if err != nil {
				t.Fatal(err)
			}
			if err := h.WaitReady(testContext(t)); err != nil {
				t.Fatal(err)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, engine)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(Options{Dir: dir, Log: kind}); err == nil || !strings.Contains(err.Error(), engine) {
				t.Errorf("%v: opened without its %s: %v", kind, engine, err)
			}
		}
	}
}
