//go:build linux

package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/adamantdb/adamant/internal/diskcalls"
)

// diskSector is what a disk writes as a whole.
const diskSector = 512

// callImage is a directory as a power failure leaves it: names and contents.
type callImage map[string][]byte

// callRecorder knows what a directory holds and what of it a power failure keeps: files' contents up to the last sync of each, names up
// to the last sync of the directory. What was not synced may be there as well: of names what was done first, of contents any sector.
type callRecorder struct {
	dir    string
	rng    *rand.Rand
	lucky  int                 // images with some of what was not synced, at each call
	synced map[string][]byte   // contents by a file's identity
	names  []map[string]string // identities by name: those that are durable, then each other set that there was since
	images []callImage         // of the present step
	calls  map[diskcalls.Op]int
	err    error
}

func newCallRecorder(dir string, seed uint64, lucky int) *callRecorder {
	return &callRecorder{dir: dir, lucky: lucky, rng: rand.New(rand.NewPCG(seed, 1)), synced: map[string][]byte{}, names: []map[string]string{{}},
		calls: map[diskcalls.Op]int{}}
}

// settled takes over a directory all of which is durable.
func (r *callRecorder) settled() {
	names, contents := r.look()
	r.names, r.synced = []map[string]string{names}, contents
}

// before is called with each call on the disk that waits.
func (r *callRecorder) before(c diskcalls.Call) {
	r.calls[c.Op]++
	r.take()
	if c.Op != diskcalls.Sync || r.err != nil {
		return
	}
	info, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", c.FD))
	if err != nil {
		r.err = err
		return
	}
	names, contents := r.look()
	if info.IsDir() {
		r.names = []map[string]string{names}
	} else if id := identity(info); contents[id] != nil {
		r.synced[id] = contents[id]
	}
}

// look reads the directory as the process sees it: identities by name, contents by identity.
func (r *callRecorder) look() (names map[string]string, contents map[string][]byte) {
	names, contents = map[string]string{}, map[string][]byte{}
	files, err := os.ReadDir(r.dir)
	for _, f := range files {
		info, statErr := f.Info()
		content, readErr := os.ReadFile(filepath.Join(r.dir, f.Name()))
		if err = errors.Join(err, statErr, readErr); err != nil {
			break
		}
		names[f.Name()], contents[identity(info)] = identity(info), content
	}
	r.err = errors.Join(r.err, err)
	return names, contents
}

// take makes images of now: one with nothing that was not synced, and some with some of it.
func (r *callRecorder) take() {
	names, contents := r.look()
	if !maps.Equal(names, r.names[len(r.names)-1]) {
		r.names = append(r.names, names)
	}
	for n := range 1 + r.lucky {
		lucky := n > 0
		chosen := r.names[0]
		if lucky {
			chosen = r.names[r.rng.IntN(len(r.names))]
		}
		image := callImage{}
		for name, id := range chosen {
			image[name] = slices.Clone(r.synced[id])
			if now, ok := contents[id]; lucky && ok {
				image[name] = r.torn(image[name], now)
			}
		}
		same := func(other callImage) bool { return maps.EqualFunc(image, other, bytes.Equal) }
		if !slices.ContainsFunc(r.images, same) {
			r.images = append(r.images, image)
		}
	}
}

// torn is a file with some of the sectors that were not synced, perhaps as long as it was.
func (r *callRecorder) torn(synced, now []byte) []byte {
	keep, b := r.rng.IntN(101), slices.Clone(synced)
	if r.rng.IntN(2) == 0 {
		b = append(b, make([]byte, max(0, len(now)-len(b)))...)[:len(now)]
	}
	for at := 0; at < min(len(b), len(now)); at += diskSector {
		if r.rng.IntN(100) < keep {
			copy(b[at:min(at+diskSector, len(b))], now[at:])
		}
	}
	return b
}

// identity names a file whatever its name is.
func identity(info os.FileInfo) string { return fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino) }

// write puts an image where an engine can be opened.
func (c callImage) write(t testing.TB, dir string) {
	t.Helper()
	mustLog(t, os.RemoveAll(dir))
	mustLog(t, os.MkdirAll(dir, 0o755))
	for name, content := range c {
		mustLog(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}

// boltCallRun is an engine all of whose calls on the disk are explored.
type boltCallRun struct {
	t      *testing.T
	o      LogOptions
	dir    string // of images
	states []string
	images int
	again  int // crashes of the recovery from a crash
}

// TestLogBoltCrashAtEachCall stops the world before each write, sync, truncation, rename and removal that bolt and the engine make
// on the disk, and reopens what a power failure leaves there; and does the same to some of these reopenings. The log must be as before
// the step or as after it, and what a recovery came to stays so.
func TestLogBoltCrashAtEachCall(t *testing.T) {
	r := &boltCallRun{t: t, o: logOptions(filepath.Join(t.TempDir(), "log")), dir: filepath.Join(t.TempDir(), "log")}
	mustLog(t, os.Mkdir(r.o.Dir, 0o755))
	rec := newCallRecorder(r.o.Dir, 1, 20)
	thread := startCalls(t, rec)
	var b *boltLog
	var g LogGroup
	do := func(name string, f func() error) {
		t.Helper()
		var err error
		thread.Do(func() { err = f() })
		if err = errors.Join(err, rec.err); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if g != nil {
			r.states = append(r.states, logDigest(t, g))
		}
		r.verify(name, rec.images, max(0, len(r.states)-2))
		rec.images, rec.lucky = nil, 1
		rec.take()
		r.verify("after "+name, rec.images, len(r.states)-1)
		rec.images = nil
	}
	do("creation", func() (err error) {
		if b, err = openBoltLog(r.o, boltHooks{}); err == nil {
			g, err = b.engine.Group(5)
		}
		return err
	})
	for _, s := range logCrashSteps {
		do(s.name, func() (err error) { g, err = s.do(b.engine, g); return err })
	}
	mustLog(t, errors.Join(b.engine.Close(), thread.Close()))
	t.Logf("%d images of %v calls, %d of recoveries", r.images, rec.calls, r.again)
	for op := range diskcalls.Remove {
		if rec.calls[op] == 0 {
			t.Errorf("no %s was seen", op)
		}
	}
	if rec.calls[diskcalls.Remove] == 0 || r.images < 80 || r.again < 40 {
		t.Error("hardly anything was crashed")
	}
}

func startCalls(t *testing.T, rec *callRecorder) *diskcalls.Thread {
	t.Helper()
	thread, err := diskcalls.Start(rec.before)
	if errors.Is(err, diskcalls.ErrUnsupported) {
		t.Skip(err)
	}
	mustLog(t, err)
	return thread
}

// verify opens images: the log must be as in one of the states from the given one on.
func (r *boltCallRun) verify(name string, images []callImage, from int) {
	r.t.Helper()
	for i, image := range images {
		if slowBuild && i%8 > 0 || testing.Short() && i%4 > 0 {
			continue
		}
		r.images++
		image.write(r.t, r.dir)
		have := r.reopen(name)
		if !slices.Contains(r.states[from:], have) {
			r.t.Fatalf("%s, image %d of %d: the log is\n%s\nwant one of\n%s", name, i, len(images), have, strings.Join(r.states[from:], "\n"))
		}
		if i%7 == 0 {
			r.crashAgain(name, image, have)
		}
	}
}

// reopen returns what the log in the directory of images is.
func (r *boltCallRun) reopen(name string) string {
	r.t.Helper()
	o := r.o
	o.Dir = r.dir
	b, err := openBoltLog(o, boltHooks{noSync: true}) // nothing crashes here
	if err != nil {
		r.t.Fatalf("%s: after a crash: %v", name, err)
	}
	g, err := b.engine.Group(5)
	if err != nil {
		r.t.Fatalf("%s: after a crash: %v", name, err)
	}
	have := logDigest(r.t, g)
	mustLog(r.t, b.engine.Close())
	return have
}

// crashAgain crashes the opening of an image at each of its calls.
func (r *boltCallRun) crashAgain(name string, image callImage, want string) {
	r.t.Helper()
	o := r.o
	o.Dir = filepath.Join(r.dir, "again")
	image.write(r.t, o.Dir)
	rec := newCallRecorder(o.Dir, uint64(r.images), 1)
	rec.settled()
	thread := startCalls(r.t, rec)
	var err error
	thread.Do(func() {
		var b *boltLog
		if b, err = openBoltLog(o, boltHooks{}); err == nil {
			_, err = b.engine.Group(5)
			err = errors.Join(err, b.engine.Close())
		}
	})
	mustLog(r.t, errors.Join(err, thread.Close(), rec.err))
	for i, image := range rec.images {
		if slowBuild && i%4 > 0 { // one goroutine: there is nothing to race
			continue
		}
		r.again++
		image.write(r.t, r.dir)
		if have := r.reopen(name); have != want {
			r.t.Fatalf("%s: a crash while a crash was recovered from: the log is\n%s\nwas\n%s", name, have, want)
		}
	}
}
