package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// logDigest is everything a group answers, as text.
func logDigest(t testing.TB, g LogGroup) string {
	t.Helper()
	var b strings.Builder
	first, err := g.FirstIndex()
	mustLog(t, err)
	last, err := g.LastIndex()
	mustLog(t, err)
	compacted, compactedTerm := g.Compacted()
	fmt.Fprintf(&b, "[%d,%d] compacted %d/%d", first, last, compacted, compactedTerm)
	m, ok, err := g.Marker()
	mustLog(t, err)
	term, _ := g.GetUint64([]byte(logKeyVoteTerm))
	candidate, _ := g.Get([]byte(logKeyVoteCandidate))
	current, _ := g.GetUint64([]byte("CurrentTerm"))
	fmt.Fprintf(&b, " marker %v %d/%d %q vote %d %q term %d entries", ok, m.Index, m.Term, m.Payload, term, candidate, current)
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		mustLog(t, g.GetLog(i, &l))
		fmt.Fprintf(&b, " %d/%d:%d", l.Index, l.Term, len(l.Data))
	}
	return b.String()
}

// logCrashStep is a step of a log's life. A lazy one may be lost with what it did; one that runs nothing drops the group.
type logCrashStep struct {
	name string
	lazy bool
	run  func(g LogGroup) error
}

// do returns the group of after the step.
func (s *logCrashStep) do(e LogEngine, g LogGroup) (LogGroup, error) {
	if s.run != nil {
		return g, s.run(g)
	}
	if err := e.Drop(5); err != nil {
		return nil, err
	}
	return e.Group(5)
}

// logCrashSteps is a life of a log with every kind of step in it.
var logCrashSteps = []logCrashStep{
	{"term", false, func(g LogGroup) error { return g.SetUint64([]byte("CurrentTerm"), 1) }},
	{"vote", false, func(g LogGroup) error { return saveLogVote(g, 1, "a") }},
	{"first entries", false, func(g LogGroup) error { return g.StoreLogs(logEntries(1, 5, 1)) }},
	{"more", false, func(g LogGroup) error { return g.StoreLogs(logEntries(6, 20, 1)) }},
	{"staged", true, func(g LogGroup) error { return g.Stage(logEntries(21, 23, 1), ignoreLanding) }},
	{"more staged", true, func(g LogGroup) error { return g.Stage(logEntries(24, 30, 1), ignoreLanding) }},
	{"suffix", false, func(g LogGroup) error { return g.DeleteRange(16, 30) }},
	{"other suffix", false, func(g LogGroup) error { return g.StoreLogs(logEntries(16, 24, 2)) }},
	{"marker", false, func(g LogGroup) error { return g.SaveMarker(logTestMarker(12, 1), true) }},
	{"prefix", true, func(g LogGroup) error { return g.DeleteRange(1, 9) }},
	{"second vote", false, func(g LogGroup) error { return saveLogVote(g, 3, "b") }},
	{"newer marker", false, func(g LogGroup) error { return g.SaveMarker(logTestMarker(18, 2), true) }},
	{"marker drops a log behind", false, func(g LogGroup) error { return g.SaveMarker(logTestMarker(100, 3), false) }},
	{"after the drop", false, func(g LogGroup) error { return g.StoreLogs(logEntries(101, 130, 3)) }},
	{"marker drops a log in conflict", false, func(g LogGroup) error { return g.SaveMarker(logTestMarker(110, 4), true) }},
	{"after the conflict", false, func(g LogGroup) error { return g.StoreLogs(logEntries(111, 140, 4)) }},
	{"marker near the end", false, func(g LogGroup) error { return g.SaveMarker(logTestMarker(140, 4), true) }},
	{"everything", true, func(g LogGroup) error { return g.DeleteRange(111, 140) }},
	{"large", false, func(g LogGroup) error { return g.StoreLogs(largeLogs(141, 20, 5)) }}, // the memtable is rotated
	{"larger", false, func(g LogGroup) error { return g.StoreLogs(largeLogs(161, 20, 5)) }},
	{"whole log in conflict", false, func(g LogGroup) error { return g.DeleteRange(141, 180) }},
	{"long", false, func(g LogGroup) error { return g.StoreLogs(logEntries(141, 141+logPointDeletes+9, 6)) }},
	{"late marker", false, func(g LogGroup) error { return g.SaveMarker(logTestMarker(141+logPointDeletes+5, 6), true) }},
	{"long prefix", true, func(g LogGroup) error { return g.DeleteRange(0, 141+logPointDeletes+1) }},
	{"last vote", false, func(g LogGroup) error { return saveLogVote(g, 9, "c") }},
	{"drop", false, nil},
	{"entries of another life", false, func(g LogGroup) error { return g.StoreLogs(logEntries(1, 3, 9)) }},
	{"drop without a marker", false, nil},
}

func ignoreLanding(error) {}

func largeLogs(first uint64, n int, term uint64) []*raft.Log {
	logs := logEntries(first, first+uint64(n)-1, term)
	for _, l := range logs {
		l.Data = make([]byte, 4<<10)
	}
	return logs
}

// logCrash is a file system as a crash left it, and the steps that were done and durable by then.
type logCrash struct {
	fs            *vfs.MemFS
	durable, done int
	where         string
}

// TestLogCrashAtEachStep stops the world before each operation on the disk and reopens what a power failure leaves: with
// nothing of what was not synced, and with arbitrary parts of it. The log must be as after one of the steps that were begun: no
// earlier than the last durable one, and never in between two.
func TestLogCrashAtEachStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	mem := vfs.NewCrashableMem()
	var mu sync.Mutex
	var crashes []logCrash
	var durable, done int
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || !mu.TryLock() {
			return nil // another goroutine of Pebble's is about to crash here
		}
		defer mu.Unlock()
		where := fmt.Sprintf("operation %d on %s after step %d", op.Kind, op.Path, done)
		crashes = append(crashes, logCrash{mem.CrashClone(vfs.CrashCloneCfg{}), durable, done, where},
			logCrash{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}), durable, done, where})
		return nil
	}))
	o := logOptions("/a/b/log")
	o.FS, o.MemTableBytes = fs, 256<<10
	e := openLog(t, logKinds[0], o)
	g := openLogGroup(t, e, 5)
	states := []string{logDigest(t, g)}
	for i, s := range logCrashSteps {
		var err error
		if g, err = s.do(e, g); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		states = append(states, logDigest(t, g))
		mu.Lock()
		if done = i + 1; !s.lazy {
			durable = done
		}
		mu.Unlock()
	}
	mustLog(t, e.Close())
	mu.Lock()
	defer mu.Unlock()
	again := 0
	for i, c := range crashes {
		if slowBuild && i%9 > 0 {
			continue
		}
		have := checkLogCrash(t, c, states)
		if i%27 == 0 {
			again += crashLogAgain(t, c, have)
		}
	}
	if t.Logf("%d crashes, %d of recoveries", len(crashes), again); again < 50 {
		t.Error("hardly a recovery was crashed")
	}
}

// crashLogAgain crashes the opening after a crash before each operation on the disk: what it came to stays so.
func crashLogAgain(t *testing.T, c logCrash, want string) (crashes int) {
	t.Helper()
	return crashAgain(c.fs, uint64(c.done), func(files vfs.FS, again bool) {
		t.Helper()
		if have := reopenLogCrash(t, files, c.where); again && have != want {
			t.Fatalf("%s: a crash while a crash was recovered from: the log is\n%s\nwas\n%s", c.where, have, want)
		}
	})
}

// reopenLogCrash returns what a log is.
func reopenLogCrash(t *testing.T, files vfs.FS, where string) string {
	t.Helper()
	o := logOptions("/a/b/log")
	o.FS = files
	e, err := OpenPebbleLog(o)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	g, err := e.Group(5)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	have := logDigest(t, g)
	mustLog(t, e.Close())
	return have
}

func checkLogCrash(t *testing.T, c logCrash, states []string) string {
	t.Helper()
	have := reopenLogCrash(t, wholeClone(c.fs), c.where)
	for i := c.durable; i <= min(c.done+1, len(states)-1); i++ {
		if have == states[i] {
			return have
		}
	}
	t.Fatalf("%s: the log is\n%s\nwant that of step %d to %d, the first being\n%s", c.where, have, c.durable, c.done+1, states[c.durable])
	return have
}

// TestLogCrashUnderLoad crashes while several groups write at once, in shared fsyncs: what each was told is there.
func TestLogCrashUnderLoad(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := logOptions("/log")
	o.FS, o.MemTableBytes = mem, 256<<10
	e := openLog(t, logKinds[0], o)
	const groups = 8
	var acked, issued, voted [groups]atomic.Uint64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for p := range uint32(groups) {
		g := openLogGroup(t, e, p)
		wg.Go(func() {
			for i := uint64(1); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				issued[p].Store(i)
				if p%2 == 0 { // several entries may be on their way
					err := g.Stage([]*raft.Log{logEntry(i, i)}, func(err error) {
						if err != nil || acked[p].Swap(i) != i-1 {
							t.Errorf("entry %d landed out of turn: %v", i, err)
						}
					})
					if err == nil && i%8 == 0 {
						err = saveLogVote(g, i, fmt.Sprint(i))
						voted[p].Store(i)
					}
					if err != nil {
						t.Error(err)
						return
					}
					continue
				}
				if err := errors.Join(g.StoreLog(logEntry(i, i)), saveLogVote(g, i, fmt.Sprint(i))); err != nil {
					t.Error(err)
					return
				}
				acked[p].Store(i)
				voted[p].Store(i)
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 12 {
		for acked[n%groups].Load() < uint64(20*n) { // some progress between crashes
		}
		var before, vote [groups]uint64
		for p := range before {
			before[p], vote[p] = acked[p].Load(), voted[p].Load()
		}
		o := o
		o.FS = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * (n % 2), RNG: rng})
		after := openLog(t, logKinds[0], o)
		for p := range before {
			g := openLogGroup(t, after, uint32(p))
			last, err := g.LastIndex()
			mustLog(t, err)
			term, _ := g.GetUint64([]byte(logKeyVoteTerm))
			candidate, _ := g.Get([]byte(logKeyVoteCandidate))
			if last < before[p] || last > issued[p].Load() || term < vote[p] || term > last || term > 0 && string(candidate) != fmt.Sprint(term) {
				t.Errorf("crash %d, group %d: log up to %d, vote for %q in term %d; %d was acknowledged", n, p, last, candidate, term, before[p])
			}
			for i := uint64(1); i <= last; i++ {
				var l raft.Log
				if err := g.GetLog(i, &l); err != nil || !sameLog(&l, logEntry(i, i)) {
					t.Fatalf("entry %d: %+v, %v", i, l, err)
				}
			}
		}
		mustLog(t, after.Close())
	}
	close(stop)
	wg.Wait()
}

// TestLogDropIsDurable: after Drop no crash brings the partition back.
func TestLogDropIsDurable(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := logOptions("/log")
	o.FS = mem
	e := openLog(t, logKinds[0], o)
	for p := range uint32(2) {
		g := openLogGroup(t, e, p)
		mustLog(t, g.StoreLogs(logEntries(1, 9, 1)))
		mustLog(t, saveLogVote(g, 1, "a"))
	}
	mustLog(t, e.Drop(0))
	o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
	e = openLog(t, logKinds[0], o)
	if list, err := e.Groups(); err != nil || len(list) != 1 || list[0] != 1 {
		t.Fatalf("groups are %v (%v)", list, err)
	}
	g := openLogGroup(t, e, 0)
	checkLog(t, g, 0, 0, nil)
	checkLogVote(t, g, 0, "")
}
