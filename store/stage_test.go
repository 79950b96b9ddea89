package store

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestStagedIsWrittenSoon: what is staged tells of itself without anybody asking, by time and by size.
func TestStagedIsWrittenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, d := openMember(t, testOptions(vfs.NewMem()))
		defer func() { must(t, e.Close()) }()
		must(t, d.Stage([]Mutation{createAt(1)}, 1))
		if d.Applied() != 0 || e.staged.Load() == 0 {
			t.Fatalf("applied %d at once, %d bytes staged", d.Applied(), e.staged.Load())
		}
		time.Sleep(stageFor)
		synctest.Wait()
		if d.Applied() != 1 || e.staged.Load() != 0 {
			t.Fatalf("applied %d after a while, %d bytes staged", d.Applied(), e.staged.Load())
		}
		m := createAt(2)
		m.Deltas[0].Redo = make([]byte, stageBytes)
		m.Chain = SeedChain(m.Key).Next(m.Deltas[0].AppendBinary(nil))
		must(t, d.Stage([]Mutation{m}, 2))
		if d.Applied() != 2 || e.staged.Load() != 0 {
			t.Fatalf("applied %d of what is large, %d bytes staged", d.Applied(), e.staged.Load())
		}
	})
}

// TestStagedIsBoundedForTheHost: many members together keep no more than the host may.
func TestStagedIsBoundedForTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := OpenDocs(testOptions(vfs.NewMem()))
		must(t, err)
		defer func() { must(t, e.Close()) }()
		most := int64(0)
		for p := range uint32(3 * stageTotal / stageBytes) {
			d, err := e.Member(p, FullRange())
			must(t, err)
			m := createAt(1)
			m.Deltas[0].Redo = make([]byte, stageBytes*3/4)
			m.Chain = SeedChain(m.Key).Next(m.Deltas[0].AppendBinary(nil))
			must(t, d.Stage([]Mutation{m}, 1))
			most = max(most, e.staged.Load())
		}
		if most < stageTotal/2 || most > stageTotal {
			t.Fatalf("%d bytes were staged at most, %d may be", most, stageTotal)
		}
	})
}

// TestStagedGoesWithTheMember: Drop forgets it, Close writes it, and a hole comes after it.
func TestStagedGoesWithTheMember(t *testing.T) {
	o := testOptions(vfs.NewMem())
	e, d := openMember(t, o)
	other, err := e.Member(9, FullRange())
	must(t, err)
	must(t, other.Stage([]Mutation{createAt(1)}, 1))
	must(t, e.Drop(9))
	if err := other.Stage([]Mutation{createAt(2)}, 2); !errors.Is(err, ErrDropped) || e.staged.Load() != 0 {
		t.Fatalf("%v, %d bytes staged", err, e.staged.Load())
	}
	must(t, d.Stage([]Mutation{createAt(1)}, 1))
	must(t, d.RecordHole(2, 4))
	must(t, d.Stage([]Mutation{createAt(5)}, 5))
	must(t, e.Close())
	e, d = openMember(t, o)
	defer func() { must(t, e.Close()) }()
	if list, err := e.Members(); err != nil || fmt.Sprint(list) != "[7]" {
		t.Fatalf("members %v, %v", list, err)
	}
	if s := d.Status(); s.Applied != 5 || s.Documents != 2 || s.Holes.String() != "[2,4]" {
		t.Fatalf("%+v", s)
	}
}

// TestSpoiledStage: of commands that could not be staged as a whole nothing is written, and no later one is.
func TestSpoiledStage(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	defer func() { _ = e.Close() }()
	first := createAt(1)
	must(t, d.Apply([]Mutation{first}, 1))
	head, _, err := d.Head(first.Key)
	must(t, err)
	p, err := d.place(first.Key)
	must(t, err)
	must(t, e.db.Set(appendDocument(nil, 7, p, kindHead), []byte("damaged"), nil))
	e.Shed(7, func(Key) bool { return true })
	must(t, d.Stage([]Mutation{createAt(2)}, 2))
	var corruption *CorruptionError
	if err := d.Stage([]Mutation{createAt(3), appendAt(4, first.Key, head, 1)}, 4); !errors.As(err, &corruption) {
		t.Fatalf("staged upon a damaged head: %v", err)
	}
	for what, err := range map[string]error{
		"stage": d.Stage([]Mutation{createAt(5)}, 5), "flush": d.Flush(), "hole": d.RecordHole(2, 9), "apply": d.Apply(nil, 9),
	} {
		if !errors.As(err, &corruption) {
			t.Errorf("%s afterwards: %v", what, err)
		}
	}
	// What was staged before was acknowledged: nobody may be told that it is not there.
	if _, ok, err := d.Head(createAt(2).Key); !errors.As(err, &corruption) {
		t.Errorf("head afterwards: %v, %v", ok, err)
	}
	if _, err := d.View(createAt(2).Key); !errors.As(err, &corruption) {
		t.Errorf("view afterwards: %v", err)
	}
	for _, err := range d.Inventory("") {
		if !errors.As(err, &corruption) {
			t.Errorf("inventory afterwards: %v", err)
		}
	}
	if s := d.Status(); s.Applied != 1 || s.Documents != 1 || e.staged.Load() != 0 {
		t.Fatalf("%+v, %d bytes staged", s, e.staged.Load())
	}
}

// TestSpoiledWhileOthersWait: who came before a failure, and looks after it, is not told that what was staged is not there, or is written.
func TestSpoiledWhileOthersWait(t *testing.T) {
	failure, key := errors.New("broken"), createAt(2).Key
	for name, call := range map[string]func(*Documents) error{
		"flush": (*Documents).Flush,
		"hole":  func(d *Documents) error { return d.RecordHole(3, 9) },
		"stage": func(d *Documents) error { return d.Stage([]Mutation{createAt(3)}, 3) },
		"head":  func(d *Documents) error { _, _, err := d.Head(key); return err },
		"view":  func(d *Documents) error { _, err := d.View(key); return err },
	} {
		e, d := openMember(t, testOptions(vfs.NewMem()))
		must(t, d.Apply([]Mutation{createAt(1)}, 1))
		must(t, d.Stage([]Mutation{createAt(2)}, 2))
		d.mu.Lock()
		d.stage.lock.Lock()
		result := make(chan error, 1)
		go func() { result <- call(d) }()
		awaitBlocked(t, ".TestSpoiledWhileOthersWait.func")
		d.stage.spoil.Store(&failure) // as spoil does, that can not be held up in the midst
		clear(d.stage.heads)
		d.stage.lock.Unlock()
		d.unstage()
		d.mu.Unlock()
		if err := <-result; !errors.Is(err, failure) {
			t.Errorf("%s: %v", name, err)
		}
		_ = e.Close()
	}
}

// TestViewWhileTheMemberIsDropped: who came before the member was dropped, and looks afterwards, is not told that a document is not there.
func TestViewWhileTheMemberIsDropped(t *testing.T) {
	e, d := openMember(t, testOptions(vfs.NewMem()))
	defer func() { must(t, e.Close()) }()
	must(t, d.Apply([]Mutation{createAt(1)}, 1))
	d.stage.lock.Lock()
	result := make(chan error, 1)
	go func() {
		_, err := d.View(createAt(1).Key)
		result <- err
	}()
	awaitBlocked(t, ".TestViewWhileTheMemberIsDropped.func")
	must(t, e.Drop(7))
	d.stage.lock.Unlock()
	if err := <-result; !errors.Is(err, ErrDropped) {
		t.Error(err)
	}
}

// awaitBlocked waits until the goroutine that a function began waits for a lock.
func awaitBlocked(t *testing.T, begun string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b := make([]byte, 1<<20)
		for _, g := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
			head, stack, _ := strings.Cut(g, "\n")
			if strings.Contains(stack, begun) && (strings.Contains(head, "[sync.Mutex.Lock") || strings.Contains(head, "[sync.RWMutex.RLock")) {
				return
			}
		}
	}
	t.Fatal("nobody waits")
}
