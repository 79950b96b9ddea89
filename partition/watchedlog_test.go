package partition

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// gatedGroup is a group of three whose disks can be held.
type gatedGroup struct {
	*group
	disks map[*node]*stall
}

func newGatedGroup(t *testing.T, changes ...func(*Options)) *gatedGroup {
	var disks []*stall
	g := &gatedGroup{disks: map[*node]*stall{}}
	g.group = openGroup(t, 3, func(o *Options) {
		disks = append(disks, &stall{})
		o.Log = faultyLog{o.Log.(*memLog), new(atomic.Value), disks[len(disks)-1]}
		for _, change := range changes {
			change(o)
		}
	})
	for i, nd := range g.nodes {
		g.disks[nd] = disks[i]
		nd.part.guard.stuck = func(time.Time) bool { return false } // a held disk is no stuck one
	}
	g.found()
	return g
}

// hold keeps everything that is staged from now on from being durable.
func (g *gatedGroup) hold(nodes ...*node) (release func()) {
	var disks []*stall
	for _, nd := range nodes {
		disks = append(disks, g.disks[nd])
	}
	release = hold(disks...)
	g.t.Cleanup(release)
	return release
}

// TestWriteWaitsForTheLeadersDisk: Raft counts the leader's entry as stored when it is staged. Until it is durable nobody is
// told that it is committed: not the proposer, not the leader's own documents, and no follower, which would apply an entry that
// one disk alone holds.
func TestWriteWaitsForTheLeadersDisk(t *testing.T) { synctest.Test(t, testWriteWaitsForTheLeadersDisk) }

func testWriteWaitsForTheLeadersDisk(t *testing.T) {
	g := newGatedGroup(t)
	l := g.serving()
	must(t, l.create("a"))
	for _, nd := range g.nodes {
		g.wait("everybody to apply", func() bool { return nd.head("a") == 1 })
	}
	before := l.part.raft.Load().LastIndex()
	release := g.hold(l)
	result := make(chan error, 1)
	go func() { _, err := l.append("a", 2, `{"x":1}`); result <- err }()
	r := l.part.raft.Load()
	g.wait("Raft to take the entry for committed", func() bool { return r.LastIndex() > before && r.CommitIndex() == r.LastIndex() })
	// More entries tell followers the commit index, if anything does.
	second := r.Apply((&command{EvalTerm: r.CurrentTerm(), Barrier: true, Founding: l.part.Founding()}).encode(), 0)
	g.wait("the followers to store more", func() bool {
		return r.CommitIndex() == r.LastIndex() && g.other(l).part.raft.Load().LastIndex() == r.LastIndex() && r.LastIndex() > before+1
	})
	select {
	case err := <-result:
		t.Fatalf("acknowledged before it was durable: %v", err)
	default:
	}
	for _, nd := range g.nodes {
		if nd.head("a") != 1 || nd != l && nd.part.raft.Load().CommitIndex() >= r.CommitIndex() {
			t.Fatalf("%s: head %d, commit index %d", nd.id, nd.head("a"), nd.part.raft.Load().CommitIndex())
		}
	}
	release()
	must(t, <-result)
	must(t, second.Error())
	if l.head("a") != 2 {
		t.Fatalf("head %d", l.head("a"))
	}
}

// TestFollowerAcknowledgesWhatIsDurable: what followers have only staged is not committed.
func TestFollowerAcknowledgesWhatIsDurable(t *testing.T) {
	synctest.Test(t, testFollowerAcknowledgesWhatIsDurable)
}

func testFollowerAcknowledgesWhatIsDurable(t *testing.T) {
	g := newGatedGroup(t)
	l := g.serving()
	must(t, l.create("a"))
	f1 := g.other(l)
	f2 := g.other(l, f1)
	for _, nd := range g.nodes {
		g.wait("everybody to apply", func() bool { return nd.head("a") == 1 })
	}
	last := func(nd *node) uint64 { i, _ := nd.log.LastIndex(); return i }
	before := last(l)
	release := g.hold(f1, f2)
	result := make(chan error, 1)
	go func() { _, err := l.append("a", 2, `{"x":1}`); result <- err }()
	g.wait("the entry to arrive", func() bool { return last(f1) == last(l) && last(f2) == last(l) && last(l) > before })
	r := l.part.raft.Load()
	if c := r.CommitIndex(); c >= last(l) {
		t.Fatalf("index %d is committed on one disk", c)
	}
	select {
	case err := <-result:
		t.Fatalf("acknowledged on one disk: %v", err)
	default:
	}
	release()
	must(t, <-result)
}

// TestFollowerAppliesWhatIsDurable: a member's documents never know more than its log: it would be taken for a log that has
// lost data when it starts again.
func TestFollowerAppliesWhatIsDurable(t *testing.T) {
	synctest.Test(t, testFollowerAppliesWhatIsDurable)
}

func testFollowerAppliesWhatIsDurable(t *testing.T) {
	g := newGatedGroup(t)
	l := g.serving()
	must(t, l.create("a"))
	f := g.other(l)
	g.wait("the follower to apply", func() bool { return f.head("a") == 1 })
	before := l.part.raft.Load().CommitIndex()
	release := g.hold(f)
	_, err := l.append("a", 2, `{"x":1}`) // with the other one
	must(t, err)
	must(t, l.create("b"))
	fr := f.part.raft.Load()
	g.wait("the follower to hear that it is committed", func() bool { return fr.CommitIndex() > before })
	if f.head("a") != 1 {
		t.Fatalf("applied before it was durable: head %d", f.head("a"))
	}
	release()
	g.wait("the follower to apply the rest", func() bool { return f.head("a") == 2 })
}

// TestConfigurationsAreDurableFirst: Raft acts upon a configuration once it takes it for committed, so that one is not staged.
func TestConfigurationsAreDurableFirst(t *testing.T) {
	staged := 0
	log := &watchedLog{now: time.Now, LogGroup: countingLog{newMemLog(), &staged}, failed: func(err error) { t.Error(err) }}
	must(t, log.StoreLogs([]*raft.Log{{Index: 1, Type: raft.LogCommand}, {Index: 2, Type: raft.LogConfiguration}}))
	must(t, log.StoreLogs([]*raft.Log{{Index: 3, Type: raft.LogNoop}}))
	if staged != 0 {
		t.Fatalf("staged %d", staged)
	}
	must(t, log.StoreLogs([]*raft.Log{{Index: 4, Type: raft.LogCommand}}))
	if staged != 1 {
		t.Fatalf("staged %d", staged)
	}
}

type countingLog struct {
	*memLog
	staged *int
}

func (l countingLog) Stage(es []*raft.Log, done func(error)) error {
	*l.staged++
	return l.memLog.Stage(es, done)
}

// heldLog lands staged entries when the test says so.
type heldLog struct {
	*memLog
	done *[]func(error)
}

func (l heldLog) Stage(es []*raft.Log, done func(error)) error {
	*l.done = append(*l.done, done)
	return l.memLog.StoreLogs(es)
}

func TestWaitersForTheLog(t *testing.T) {
	var landing []func(error)
	failures := 0
	log := &watchedLog{now: time.Now, LogGroup: heldLog{newMemLog(), &landing}, failed: func(error) { failures++ }}
	store := func(first, last uint64) {
		var es []*raft.Log
		for i := first; i <= last; i++ {
			es = append(es, &raft.Log{Index: i, Type: raft.LogCommand})
		}
		must(t, log.StoreLogs(es))
	}
	var told []uint64
	var refused []error
	wait := func(i uint64) {
		log.whenDurable(i, func(err error) {
			if err != nil {
				refused = append(refused, err)
			} else {
				told = append(told, i)
			}
		})
	}
	expect := func(what string, want ...uint64) {
		t.Helper()
		if len(told) != len(want) {
			t.Fatalf("%s: told %v, want %v", what, told, want)
		}
		for i := range want {
			if told[i] != want[i] {
				t.Fatalf("%s: told %v, want %v", what, told, want)
			}
		}
		told = nil
	}
	wait(7)
	expect("nothing under way", 7)
	store(1, 3)
	store(4, 4)
	store(5, 9)
	wait(5)
	wait(0)
	wait(3)
	wait(4)
	wait(2)
	expect("nothing landed", 0)
	if log.durable() != 0 || log.overdue(time.Now().Add(time.Hour)) < time.Hour/2 {
		t.Fatalf("durable to %d, overdue %v", log.durable(), log.overdue(time.Now()))
	}
	landing[0](nil)
	expect("one landed", 2, 3)
	landing[1](nil)
	expect("two landed", 4)
	wait(4)
	expect("what is durable", 4)
	wait(9)
	landing[2](errDisk)
	expect("the failed one")
	if len(refused) != 2 || !errors.Is(refused[0], errDisk) || failures != 1 || log.durable() != 4 {
		t.Fatalf("refused %v, %d failures, durable to %d", refused, failures, log.durable())
	}
	wait(1)
	if err := log.StoreLogs([]*raft.Log{{Index: 10, Type: raft.LogCommand}}); !errors.Is(err, errDisk) || len(refused) != 3 {
		t.Fatalf("after the failure: %v, refused %d", err, len(refused))
	}
}

// TestStepsOfALargeStoreCount: of what is stored in steps of a few megabytes, each is seen to be durable: by who asks how far the disk has
// come (Partition.stuck compares that with the followers' disks, which get the same in requests of their own), and for how long no step
// has ended. Nothing is told to be durable before it is.
func TestStepsOfALargeStoreCount(t *testing.T) {
	t.Run("commands", func(t *testing.T) { stepsOfALargeStoreCount(t, raft.LogCommand) })
	t.Run("behind a configuration", func(t *testing.T) { stepsOfALargeStoreCount(t, raft.LogConfiguration) })
}

func stepsOfALargeStoreCount(t *testing.T, first raft.LogType) {
	third, gate := make(chan struct{}), make(chan struct{})
	var syncs atomic.Int32
	var armed atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
		if sync && armed.Load() && strings.HasSuffix(op.Path, ".log") && syncs.Add(1) == 3 {
			close(third)
			<-gate
		}
		return nil
	}))
	e, err := store.OpenPebbleLog(store.LogOptions{Dir: "/log", FS: fs, Cluster: "c", Host: "h", Incarnation: "i", MemTableBytes: 64 << 20})
	must(t, err)
	g, err := e.Group(1)
	must(t, err)
	begin := time.Now()
	var later atomic.Int64
	l := &watchedLog{LogGroup: g, failed: func(err error) { t.Error(err) },
		now: func() time.Time { return begin.Add(time.Duration(later.Add(1)) * time.Second) }}
	must(t, g.SetUint64([]byte("LastVoteTerm"), 1))
	logs := []*raft.Log{{Index: 1, Term: 1, Type: first, Data: make([]byte, 1<<20)}}
	for i := uint64(2); i <= 20; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1, Type: raft.LogCommand, Data: make([]byte, 1<<20)})
	}
	armed.Store(true)
	stored := make(chan error, 1)
	go func() { stored <- l.StoreLogs(logs) }()
	<-third // of these, one is of a change to another file: a step has ended, perhaps two
	if late := l.overdue(begin.Add(time.Hour)); late >= time.Hour-time.Second {
		t.Errorf("a step has ended, and none has for %v", late)
	}
	if first == raft.LogCommand {
		must(t, <-stored) // it does not wait
		stored <- nil
		if durable := l.durable(); durable != 4 && durable != 8 {
			t.Errorf("a step of 4 MiB is durable, or two, and the log is durable through %d as far as is known", durable)
		}
	}
	close(gate)
	must(t, <-stored)
	must(t, l.await(20))
	must(t, e.Close())
}

// TestCloseDoesNotWaitForTheDisk: a member whose disk holds its entries closes all the same.
func TestCloseDoesNotWaitForTheDisk(t *testing.T) { synctest.Test(t, testCloseDoesNotWaitForTheDisk) }

func testCloseDoesNotWaitForTheDisk(t *testing.T) {
	g := newGatedGroup(t)
	l := g.serving()
	must(t, l.create("a"))
	r := l.part.raft.Load()
	before := r.LastIndex()
	release := g.hold(l)
	defer release()
	result := make(chan error, 1)
	go func() { _, err := l.append("a", 2, `{"x":1}`); result <- err }()
	g.wait("Raft to take the entry for committed", func() bool { return r.LastIndex() > before && r.CommitIndex() == r.LastIndex() })
	closed := make(chan error, 1)
	go func() { closed <- l.part.Close() }()
	select {
	case err := <-closed:
		must(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for the disk")
	}
	if err := <-result; err == nil {
		t.Fatal("acknowledged")
	}
}
