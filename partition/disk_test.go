package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// faultyLog fails or stalls what its fields say.
type faultyLog struct {
	*memLog
	failing *atomic.Value // string: which call fails
	stall   *stall
}

// stall is a disk that durable calls reach one after the other, each once the gate is open.
type stall struct {
	mu       sync.Mutex
	gate     chan struct{} // nil: open
	pace     time.Duration // what each call takes
	queue    []func()
	draining bool
}

// enter runs land on its turn, not before enter returns.
func (s *stall) enter(land func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, land)
	if !s.draining {
		s.draining = true
		go s.drain()
	}
}

func (s *stall) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		if gate := s.gate; gate != nil {
			s.mu.Unlock()
			<-gate
			s.mu.Lock()
			continue
		}
		if s.pace > 0 {
			pace := s.pace
			s.mu.Unlock()
			time.Sleep(pace)
			s.mu.Lock()
		}
		land := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		land()
		s.mu.Lock()
	}
	s.draining = false
}

// slow has each call take a time from now on.
func (s *stall) slow(pace time.Duration) { s.mu.Lock(); s.pace = pace; s.mu.Unlock() }

func (s *stall) set(c chan struct{}) { s.mu.Lock(); s.gate = c; s.mu.Unlock() }

// hold closes the gates of disks until release is called, which may be called again.
func hold(disks ...*stall) (release func()) {
	gate := make(chan struct{})
	for _, d := range disks {
		d.set(gate)
	}
	return sync.OnceFunc(func() {
		for _, d := range disks {
			d.set(nil)
		}
		close(gate)
	})
}

// wait returns on its turn.
func (s *stall) wait() {
	done := make(chan struct{})
	s.enter(func() { close(done) })
	<-done
}

var errDisk = errors.New("no space left on device")

func (l faultyLog) fails(call string) bool { return l.failing.Load() == call }

func (l faultyLog) StoreLogs(es []*raft.Log) error {
	l.stall.wait()
	if l.fails("StoreLogs") {
		return errDisk
	}
	return l.memLog.StoreLogs(es)
}

// Stage fails like StoreLogs; half of the time only when the disk is reached.
func (l faultyLog) Stage(es []*raft.Log, done func(error)) error {
	late := es[0].Index%2 == 0
	if l.fails("StoreLogs") && !late {
		return errDisk
	}
	if err := l.memLog.StoreLogs(es); err != nil {
		return err
	}
	l.stall.enter(func() {
		if l.fails("StoreLogs") {
			done(errDisk)
		} else {
			done(nil)
		}
	})
	return nil
}

func (l faultyLog) SetUint64(k []byte, v uint64) error {
	if l.fails("SetUint64") {
		return errDisk
	}
	return l.memLog.SetUint64(k, v)
}

func (l faultyLog) Set(k, v []byte) error {
	if l.fails("Set") {
		return errDisk
	}
	return l.memLog.Set(k, v)
}

func (l faultyLog) GetLog(i uint64, out *raft.Log) error {
	if l.fails("GetLog") {
		return errDisk
	}
	return l.memLog.GetLog(i, out)
}

// TestFailedDurableStepStopsTheMember: Raft panics when a term can not be stored or an entry can not be read. The member
// stops instead, tells so once, answers nobody any more, and the others go on.
func TestFailedDurableStepStopsTheMember(t *testing.T) {
	for _, call := range []string{"StoreLogs", "SetUint64", "Set", "GetLog"} {
		for _, victim := range []string{"leader", "follower"} {
			t.Run(call+" of a "+victim, simulated(func(t *testing.T) { failingMember(t, call, victim == "leader") }))
		}
	}
}

func failingMember(t *testing.T, call string, leader bool) {
	var failed [3]atomic.Int32
	var failing [3]atomic.Value
	i := 0
	g := newGroup(t, 3, func(o *Options) {
		n := i
		i++
		o.Log = faultyLog{o.Log.(*memLog), &failing[n], &stall{}}
		o.Events.Failed = func(error) { failed[n].Add(1) }
	})
	l := g.serving()
	must(t, l.create("a"))
	victim := l
	if !leader {
		victim = g.other(l)
	}
	n := 0
	for k, nd := range g.nodes {
		if nd == victim {
			n = k
		}
	}
	for _, nd := range g.nodes {
		g.wait("everybody to apply", func() bool { return nd.head("a") == 1 })
	}
	failing[n].Store(call)
	rest := []*node{g.other(victim), g.other(victim, g.other(victim))}
	// Writes and elections go on until the victim has met its fault.
	g.wait("the member to stop", func() bool {
		if failed[n].Load() > 0 {
			return true
		}
		now := g.serving()
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_, _ = now.part.Do(ctx, Operation{Kind: store.Append, Key: key("a"), Deltas: []store.Delta{delta(now.head("a")+1, "{}")}})
		if call == "SetUint64" || call == "Set" || call == "GetLog" {
			_ = now.part.Transfer(ctx, rest[0].id)
			_ = now.part.Transfer(ctx, victim.id)
		}
		return false
	})
	if s := victim.part.Status(); s.Serving != Failed {
		t.Fatalf("the failed member: %s", s.Serving)
	}
	if _, err := victim.append("a", 100, "{}"); err == nil {
		t.Fatal("a failed member acknowledged a write")
	}
	now := g.serving(rest...)
	must(t, now.create("later"))
	if got := victim.head("later"); got != -1 {
		t.Fatalf("a failed member applied more: head %d", got)
	}
	if got := failed[n].Load(); got != 1 {
		t.Fatalf("Failed was raised %d times", got)
	}
}

// TestStuckDiskIsNotKeptAlive: a leader whose disk does not answer is replaced although its process is well, and its own reads
// do not wait for the disk.
func TestStuckDiskIsNotKeptAlive(t *testing.T) { synctest.Test(t, testStuckDiskIsNotKeptAlive) }

func testStuckDiskIsNotKeptAlive(t *testing.T) {
	var stalls [3]stall
	i := 0
	g := newGroup(t, 3, func(o *Options) {
		o.Log = faultyLog{o.Log.(*memLog), new(atomic.Value), &stalls[i]}
		i++
	})
	l := g.serving()
	must(t, l.create("a"))
	n := 0
	for k, nd := range g.nodes {
		if nd == l {
			n = k
		}
	}
	release := hold(&stalls[n])
	defer release()
	result := make(chan error, 1)
	go func() { _, err := l.append("a", 2, `{"stuck":1}`); result <- err }()
	next := g.serving(g.other(l), g.other(l, g.other(l)))
	if _, err := l.part.Read(context.Background(), Lease); err == nil {
		t.Fatal("two leaders serve")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.part.Read(ctx, Quorum); err == nil {
		t.Fatal("a quorum read at a leader with a stuck disk")
	}
	var ambiguous *AmbiguousError
	if err := <-result; !errors.As(err, &ambiguous) { // it need not wait for the disk
		t.Fatalf("write at a leader with a stuck disk: %v", err)
	}
	must(t, next.create("b"))
	release()
	g.wait("the old leader to follow", func() bool { return l.head("b") == 1 })
}

// slowView is a set of documents whose entries are slow to read.
type slowView struct {
	engineDocs
	gate chan struct{}
}

func (d slowView) View(k store.Key) (*store.View, error) {
	<-d.gate
	return d.engineDocs.View(k)
}

// TestSlowReadsDoNotStopThePartition: looking whether an append was stored before may read the disk; others do not wait.
func TestSlowReadsDoNotStopThePartition(t *testing.T) {
	synctest.Test(t, testSlowReadsDoNotStopThePartition)
}

func testSlowReadsDoNotStopThePartition(t *testing.T) {
	gate := make(chan struct{})
	g := newGroup(t, 1, func(o *Options) { o.Documents = slowView{o.Documents.(engineDocs), gate} })
	l := g.serving()
	must(t, l.create("a"))
	_, err := l.append("a", 2, "{}")
	must(t, err)
	retried := make(chan error, 1)
	go func() { _, err := l.append("a", 2, "{}"); retried <- err }()
	for i := range 20 {
		must(t, l.create(fmt.Sprint("k", i)))
	}
	select {
	case err := <-retried:
		t.Fatalf("the retry did not look at what is stored: %v", err)
	default:
	}
	close(gate)
	must(t, <-retried)
}

func TestCancelledContextProposesNothing(t *testing.T) {
	synctest.Test(t, testCancelledContextProposesNothing)
}

func testCancelledContextProposesNothing(t *testing.T) {
	g := newGroup(t, 1, nil)
	l := g.serving()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 50 {
		if _, err := l.part.Do(ctx, Operation{Kind: store.Create, Key: key("a"), Deltas: []store.Delta{delta(1, "{}")}}); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
		for _, level := range []Level{Lease, Quorum, Stale} {
			if _, err := l.part.Read(ctx, level); !errors.Is(err, context.Canceled) {
				t.Fatalf("level %d: %v", level, err)
			}
		}
	}
	if got := l.head("a"); got != -1 {
		t.Fatalf("head %d", got)
	}
}

// TestLeaseEndsBeforeThePromises: the lease runs from the send time of what a majority acknowledged, for the time of a
// promise less the drift two clocks may have.
func TestLeaseEndsBeforeThePromises(t *testing.T) { synctest.Test(t, testLeaseEndsBeforeThePromises) }

func testLeaseEndsBeforeThePromises(t *testing.T) {
	for _, drift := range []float64{0.01, 0.05, 0.5} {
		g := newGroup(t, 3, func(o *Options) { o.Timing.Drift = drift })
		l := g.serving()
		now := time.Now()
		until, ok := l.part.leaseUntil(l.part.Status().Epoch, now)
		at, _ := l.part.guard.followed(l.part.Status().Epoch, l.part.voters(), now)
		want := at.Add(time.Duration(float64(quick.Heartbeat) * (1 - drift)))
		if d := until.Sub(want); !ok || d > 2*quick.Heartbeat/10 || d < -2*quick.Heartbeat/10 {
			t.Fatalf("drift %v: the lease ends %v after the send time, want %v", drift, until.Sub(at), want.Sub(at))
		}
	}
}

// TestNobodyLeadsIsNews: a member whose group has lost its majority says that it knows no leader.
func TestNobodyLeadsIsNews(t *testing.T) { synctest.Test(t, testNobodyLeadsIsNews) }

func testNobodyLeadsIsNews(t *testing.T) {
	var mu sync.Mutex
	var seen []raft.ServerID
	var served []Refusal
	g := newGroup(t, 3, func(o *Options) {
		if o.Self == "h1@1" {
			o.Events.Leader = func(id raft.ServerID, _ uint64) { mu.Lock(); seen = append(seen, id); mu.Unlock() }
			o.Events.Serving = func(_ uint64, r Refusal) { mu.Lock(); served = append(served, r); mu.Unlock() }
		}
	})
	g.wait("h1 to serve", func() bool {
		l := g.serving()
		if l == g.nodes[0] {
			return true
		}
		_ = l.part.Transfer(context.Background(), "h1@1")
		return false
	})
	g.isolate(g.nodes[0])
	g.wait("the news that nobody leads", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) > 0 && seen[len(seen)-1] == "" && len(served) > 0 && served[len(served)-1] != Serves
	})
	mu.Lock()
	defer mu.Unlock()
	if seen[len(seen)-2] != "h1@1" {
		t.Errorf("leaders: %v", seen)
	}
}

// TestOwnMarkerTooLate: a marker that Raft is still writing when a leader's newer one is taken over is refused by the log; that
// is no failure of the disk.
func TestOwnMarkerTooLate(t *testing.T) { synctest.Test(t, testOwnMarkerTooLate) }

func testOwnMarkerTooLate(t *testing.T) {
	g := newGroup(t, 1, nil)
	l := g.serving()
	must(t, l.create("a"))
	refused := errors.New("marker at 3 after the one at 9")
	log := &watchedLog{now: time.Now, LogGroup: refusingLog{l.log, refused}, failed: func(err error) { t.Errorf("the member stopped: %v", err) }}
	if err := log.SaveMarker(store.Marker{Index: 3, Term: 1}, true); !errors.Is(err, refused) {
		t.Fatalf("%v", err)
	}
}

type refusingLog struct {
	*memLog
	err error
}

func (l refusingLog) SaveMarker(store.Marker, bool) error { return l.err }
