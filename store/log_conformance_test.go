package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// TestLogConformance runs each case on both implementations, each followed by a check of the same state after a reopen.
func TestLogConformance(t *testing.T) {
	for _, c := range logCases {
		forLogKinds(t, func(t *testing.T, k logKind) {
			t.Run(c.name, func(t *testing.T) {
				dir := t.TempDir()
				e := openLog(t, k, logOptions(dir))
				check := c.run(t, openLogGroup(t, e, 7))
				check(t, openLogGroup(t, e, 7))
				mustLog(t, e.Close())
				e = openLog(t, k, logOptions(dir))
				check(t, openLogGroup(t, e, 7))
			})
		})
	}
}

type logCheck func(*testing.T, LogGroup)

func wantLog(compacted, term uint64, entries []*raft.Log) logCheck {
	return func(t *testing.T, g LogGroup) { t.Helper(); checkLog(t, g, compacted, term, entries) }
}

var logCases = []struct {
	name string
	run  func(*testing.T, LogGroup) logCheck
}{
	{"empty", func(t *testing.T, g LogGroup) logCheck {
		if !g.IsMonotonic() {
			t.Fatal("not monotonic")
		}
		mustLog(t, g.StoreLogs(nil))
		mustLog(t, g.DeleteRange(1, 10))
		return func(t *testing.T, g LogGroup) {
			checkLog(t, g, 0, 0, nil)
			checkLogMarker(t, g, nil)
			checkLogVote(t, g, 0, "")
			if _, err := g.Get([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
				t.Fatalf("missing key: %v", err)
			}
			if v, err := g.GetUint64([]byte("CurrentTerm")); v != 0 || err == nil || err.Error() != "not found" {
				t.Fatalf("missing number: %v", err)
			}
		}
	}},
	{"store", func(t *testing.T, g LogGroup) logCheck {
		logs := logEntries(1, 40, 2)
		logs[3].Extensions, logs[4].Data, logs[5].Type = []byte("extension"), nil, raft.LogConfiguration
		logs[6] = &raft.Log{Index: 7, Term: 2, Type: raft.LogBarrier}
		mustLog(t, g.StoreLog(logs[0]))
		mustLog(t, g.StoreLogs(logs[1:40]))
		return wantLog(0, 0, logs)
	}},
	{"stored entries are copies", func(t *testing.T, g LogGroup) logCheck {
		l := logEntry(1, 1)
		mustLog(t, g.StoreLog(l))
		clear(l.Data)
		l.Term = 9
		return wantLog(0, 0, logEntries(1, 1, 1))
	}},
	{"gaps and overlaps are refused", func(t *testing.T, g LogGroup) logCheck {
		for _, logs := range [][]*raft.Log{logEntries(2, 3, 1), {logEntry(1, 1), logEntry(3, 1)}, {logEntry(0, 1)}, {logEntry(1, 1), logEntry(1, 1)}} {
			if g.StoreLogs(logs) == nil {
				t.Fatalf("stored %d entries from %d", len(logs), logs[0].Index)
			}
		}
		checkLog(t, g, 0, 0, nil)
		mustLog(t, g.StoreLogs(logEntries(1, 3, 1)))
		for _, first := range []uint64{1, 3, 5} {
			if g.StoreLogs(logEntries(first, 6, 1)) == nil {
				t.Fatalf("stored from %d", first)
			}
		}
		return wantLog(0, 0, logEntries(1, 3, 1))
	}},
	{"suffix", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.StoreLogs(logEntries(1, 10, 1)))
		mustLog(t, g.DeleteRange(6, 10))
		mustLog(t, g.StoreLogs(logEntries(6, 8, 2)))
		return wantLog(0, 0, append(logEntries(1, 5, 1), logEntries(6, 8, 2)...))
	}},
	{"whole log in conflict", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.StoreLogs(logEntries(1, 4, 1)))
		mustLog(t, g.DeleteRange(1, 4))
		checkLog(t, g, 0, 0, nil)
		mustLog(t, g.StoreLogs(logEntries(1, 2, 3)))
		return wantLog(0, 0, logEntries(1, 2, 3))
	}},
	{"prefix", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.StoreLogs(logEntries(1, 20, 3)))
		mustLog(t, g.SaveMarker(logTestMarker(15, 3), true))
		mustLog(t, g.DeleteRange(0, 5))
		mustLog(t, g.DeleteRange(6, 12))
		mustLog(t, g.DeleteRange(1, 12))
		mustLog(t, g.StoreLogs(logEntries(21, 22, 4)))
		return wantLog(12, 3, append(logEntries(13, 20, 3), logEntries(21, 22, 4)...))
	}},
	{"long prefix", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.StoreLogs(logEntries(1, logPointDeletes+100, 3)))
		mustLog(t, g.SaveMarker(logTestMarker(logPointDeletes+50, 3), true))
		mustLog(t, g.DeleteRange(1, logPointDeletes+50))
		return wantLog(logPointDeletes+50, 3, logEntries(logPointDeletes+51, logPointDeletes+100, 3))
	}},
	{"compaction of everything", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.StoreLogs(logEntries(1, 9, 2)))
		mustLog(t, g.SaveMarker(logTestMarker(9, 2), true))
		mustLog(t, g.DeleteRange(1, 9))
		checkLog(t, g, 9, 2, nil)
		if g.StoreLog(logEntry(11, 2)) == nil {
			t.Fatal("stored behind a gap")
		}
		mustLog(t, g.StoreLog(logEntry(10, 2)))
		return wantLog(9, 2, logEntries(10, 10, 2))
	}},
	{"removal of everything around the marker", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.StoreLogs(logEntries(1, 9, 2)))
		mustLog(t, g.SaveMarker(logTestMarker(5, 2), true))
		mustLog(t, g.DeleteRange(1, 9))
		checkLog(t, g, 5, 2, nil)
		mustLog(t, g.StoreLogs(logEntries(6, 7, 3)))
		return wantLog(5, 2, logEntries(6, 7, 3))
	}},
	{"a range whose removal would leave no log", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.StoreLogs(logEntries(1, 20, 1)))
		for _, r := range [][2]uint64{{1, 5}, {5, 10}} { // no marker; a hole
			if g.DeleteRange(r[0], r[1]) == nil {
				t.Fatalf("deleted %v", r)
			}
		}
		mustLog(t, g.SaveMarker(logTestMarker(10, 1), true))
		for _, r := range [][2]uint64{{1, 11}, {10, 20}, {2, 9}} { // above the marker; at it; a hole
			if g.DeleteRange(r[0], r[1]) == nil {
				t.Fatalf("deleted %v", r)
			}
		}
		mustLog(t, g.DeleteRange(7, 3))
		mustLog(t, g.DeleteRange(21, 90))
		return wantLog(0, 0, logEntries(1, 20, 1))
	}},
	{"marker kept with the log", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.StoreLogs(logEntries(1, 20, 1)))
		m := logTestMarker(12, 1)
		mustLog(t, g.SaveMarker(logTestMarker(10, 1), true))
		mustLog(t, g.SaveMarker(m, true))
		return func(t *testing.T, g LogGroup) {
			checkLogMarker(t, g, &m)
			checkLog(t, g, 0, 0, logEntries(1, 20, 1))
		}
	}},
	{"marker at the compacted entry", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.SaveMarker(logTestMarker(12, 4), false))
		mustLog(t, g.StoreLogs(logEntries(13, 15, 4)))
		m := logTestMarker(12, 4)
		m.Payload = []byte("once more")
		mustLog(t, g.SaveMarker(m, true))
		return func(t *testing.T, g LogGroup) {
			checkLogMarker(t, g, &m)
			checkLog(t, g, 12, 4, logEntries(13, 15, 4))
		}
	}},
	{"marker drops", func(t *testing.T, g LogGroup) logCheck {
		for i, keep := range []bool{false, true, true, true} {
			base := uint64(100 * (i + 1))
			mustLog(t, g.StoreLogs(logEntries(nextLog(t, g), base+20, 1)))
			m := logTestMarker(base+10, 1)
			switch i {
			case 1: // another term at the marker
				m.Term = 2
			case 2: // beyond the log
				m.Index = base + 50
			case 3: // far beyond
				m.Index = base + 90
			}
			mustLog(t, g.SaveMarker(m, keep))
			checkLogMarker(t, g, &m)
			checkLog(t, g, m.Index, m.Term, nil)
			if g.StoreLog(logEntry(m.Index+2, 3)) == nil {
				t.Fatal("stored behind a gap")
			}
		}
		mustLog(t, g.StoreLogs(logEntries(491, 495, 5)))
		return wantLog(490, 1, logEntries(491, 495, 5))
	}},
	{"marker on an empty log", func(t *testing.T, g LogGroup) logCheck {
		m := logTestMarker(1000, 7)
		mustLog(t, g.SaveMarker(m, true))
		return func(t *testing.T, g LogGroup) { checkLogMarker(t, g, &m); checkLog(t, g, 1000, 7, nil) }
	}},
	{"refused markers", func(t *testing.T, g LogGroup) logCheck {
		m := logTestMarker(10, 3)
		mustLog(t, g.SaveMarker(m, false))
		mustLog(t, g.StoreLogs(logEntries(11, 12, 3)))
		older, term, zero, config, big := logTestMarker(9, 3), logTestMarker(10, 2), logTestMarker(0, 0), logTestMarker(20, 3), logTestMarker(20, 3)
		config.ConfigurationIndex = 21
		big.Payload = make([]byte, maxMarkerPayload+1)
		for _, bad := range []Marker{older, term, zero, config, big} {
			if g.SaveMarker(bad, false) == nil {
				t.Fatalf("saved a marker at %d, term %d", bad.Index, bad.Term)
			}
		}
		return func(t *testing.T, g LogGroup) { checkLogMarker(t, g, &m); checkLog(t, g, 10, 3, logEntries(11, 12, 3)) }
	}},
	{"stub of a configuration", func(t *testing.T, g LogGroup) logCheck {
		logs := logEntries(1, 5, 1)
		logs[0].Type, logs[0].Data = raft.LogConfiguration, logTestMarker(1, 1).Configuration
		mustLog(t, g.StoreLogs(logs))
		mustLog(t, g.SaveMarker(logTestMarker(5, 1), true))
		mustLog(t, g.DeleteRange(1, 1))
		return func(t *testing.T, g LogGroup) {
			var l raft.Log
			mustLog(t, g.GetLog(1, &l))
			if l.Type != raft.LogConfiguration || string(l.Data) != string(logs[0].Data) {
				t.Fatalf("stub of the first configuration is %+v", l)
			}
		}
	}},
	{"stub of a marker's configuration", func(t *testing.T, g LogGroup) logCheck {
		m := logTestMarker(8, 2)
		m.ConfigurationIndex = 8
		mustLog(t, g.SaveMarker(m, false))
		return func(t *testing.T, g LogGroup) {
			var l raft.Log
			mustLog(t, g.GetLog(8, &l))
			if l.Type != raft.LogConfiguration || string(l.Data) != string(m.Configuration) {
				t.Fatalf("stub is %+v", l)
			}
		}
	}},
	{"stable values", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, g.SetUint64([]byte("CurrentTerm"), 3))
		mustLog(t, g.SetUint64([]byte("CurrentTerm"), 1<<63))
		mustLog(t, g.Set([]byte("k"), []byte("v")))
		mustLog(t, g.Set([]byte("empty"), nil))
		return func(t *testing.T, g LogGroup) {
			if v, err := g.GetUint64([]byte("CurrentTerm")); v != 1<<63 || err != nil {
				t.Fatal(v, err)
			}
			if v, err := g.Get([]byte("k")); string(v) != "v" || err != nil {
				t.Fatal(v, err)
			}
			if v, err := g.Get([]byte("empty")); len(v) != 0 || err != nil {
				t.Fatal(v, err)
			}
			if _, err := g.GetUint64([]byte("k")); err == nil {
				t.Fatal("one byte taken for a number")
			}
		}
	}},
	{"vote", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, saveLogVote(g, 4, "a@1"))
		mustLog(t, saveLogVote(g, 6, "b@1"))
		mustLog(t, g.SetUint64([]byte(logKeyVoteTerm), 9)) // the second half never comes
		return func(t *testing.T, g LogGroup) { checkLogVote(t, g, 6, "b@1") }
	}},
	{"everything at once", func(t *testing.T, g LogGroup) logCheck {
		mustLog(t, saveLogVote(g, 4, "a@1"))
		mustLog(t, g.SetUint64([]byte("CurrentTerm"), 4))
		mustLog(t, g.StoreLogs(logEntries(1, 9, 4)))
		m := logTestMarker(6, 4)
		mustLog(t, g.SaveMarker(m, true))
		mustLog(t, g.DeleteRange(1, 3))
		return func(t *testing.T, g LogGroup) {
			checkLogVote(t, g, 4, "a@1")
			checkLogMarker(t, g, &m)
			checkLog(t, g, 3, 4, logEntries(4, 9, 4))
		}
	}},
}

func nextLog(t *testing.T, g LogGroup) uint64 {
	last, err := g.LastIndex()
	mustLog(t, err)
	compacted, _ := g.Compacted()
	return max(last, compacted) + 1
}

func TestLogGroupsAndDrop(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		dir := t.TempDir()
		e := openLog(t, k, logOptions(dir))
		groups := func(want ...uint32) {
			t.Helper()
			if list, err := e.Groups(); err != nil || !slices.Equal(list, want) {
				t.Fatalf("groups are %v (%v), want %v", list, err, want)
			}
		}
		if _, err := e.Group(hostPartition); err == nil {
			t.Fatal("reserved number accepted")
		}
		for _, p := range []uint32{3, 1, 0, 1 << 31} {
			g := openLogGroup(t, e, p)
			if again := openLogGroup(t, e, p); again != g {
				t.Fatal("two groups of one partition")
			}
			groups() // nothing written yet
		}
		mustLog(t, openLogGroup(t, e, 1).StoreLogs(logEntries(1, 5, 1)))
		mustLog(t, saveLogVote(openLogGroup(t, e, 3), 1, "x"))
		mustLog(t, openLogGroup(t, e, 1<<31).SaveMarker(logTestMarker(5, 5), false))
		mustLog(t, openLogGroup(t, e, 0).SetUint64([]byte("CurrentTerm"), 1))
		groups(0, 1, 3, 1<<31)
		old := openLogGroup(t, e, 1)
		mustLog(t, e.Drop(1))
		mustLog(t, e.Drop(2)) // never existed
		groups(0, 3, 1<<31)
		for what, err := range map[string]error{"store": old.StoreLog(logEntry(6, 1)), "read": old.GetLog(3, &raft.Log{}), "vote": saveLogVote(old, 2, "x")} {
			if !errors.Is(err, ErrDropped) {
				t.Fatalf("%s of a dropped group: %v", what, err)
			}
		}
		mustLog(t, e.Close())
		e = openLog(t, k, logOptions(dir))
		groups(0, 3, 1<<31)
		mustLog(t, e.Drop(3)) // not opened in this run
		groups(0, 1<<31)
		g := openLogGroup(t, e, 1)
		checkLog(t, g, 0, 0, nil)
		mustLog(t, g.StoreLogs(logEntries(1, 2, 9)))
		mustLog(t, e.Close())
		e = openLog(t, k, logOptions(dir))
		groups(0, 1, 1<<31)
		checkLog(t, openLogGroup(t, e, 1), 0, 0, logEntries(1, 2, 9))
	})
}

func TestLogClosed(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		e := openLog(t, k, logOptions(t.TempDir()))
		g := openLogGroup(t, e, 1)
		mustLog(t, g.StoreLogs(logEntries(1, 3, 1)))
		mustLog(t, e.Close())
		_, openErr := e.Group(2)
		_, listErr := e.Groups()
		_, firstErr := g.FirstIndex()
		_, lastErr := g.LastIndex()
		_, _, markerErr := g.Marker()
		_, getErr := g.Get([]byte("k"))
		for i, err := range []error{e.Close(), e.Drop(1), openErr, listErr, firstErr, lastErr, markerErr, getErr, g.StoreLog(logEntry(4, 1)),
			g.DeleteRange(3, 3), g.GetLog(1, &raft.Log{}), g.SetUint64([]byte("k"), 1), g.SaveMarker(logTestMarker(3, 1), true)} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("call %d after Close: %v", i, err)
			}
		}
		e.Stats()
	})
}

// TestLogConcurrency has many groups written, read, truncated and closed at once; its point is -race.
func TestLogConcurrency(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		dir := t.TempDir()
		o := logOptions(dir)
		o.EntryCacheBytes = 8 << 10 // some reads come from the disk
		e := openLog(t, k, o)
		const groups, rounds = 6, 20
		var wg sync.WaitGroup
		for p := range uint32(groups) {
			g := openLogGroup(t, e, p)
			stop := make(chan struct{})
			wg.Go(func() {
				defer close(stop)
				for i := range uint64(rounds) {
					if err := errors.Join(g.StoreLogs(logEntries(5*i+1, 5*i+5, 1)), g.SaveMarker(logTestMarker(5*i+5, 1), true)); err != nil {
						t.Error(err)
						return
					}
					if i%3 == 2 {
						if err := g.DeleteRange(0, 5*i-5); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
			wg.Go(func() {
				for n := uint64(0); ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					var l raft.Log
					first, _ := g.FirstIndex()
					last, _ := g.LastIndex()
					if last == 0 {
						continue
					}
					if n%16 == 0 {
						g.Rest() // it does not, but nothing may get lost
					}
					i := first + n%(last-first+1)
					if err := g.GetLog(i, &l); err == raft.ErrLogNotFound {
						if now, _ := g.FirstIndex(); now <= i {
							t.Errorf("entry %d is missing", i)
						}
					} else if err != nil || !sameLog(&l, logEntry(i, 1)) {
						if c, _ := g.Compacted(); c != i {
							t.Errorf("entry %d: %v %+v", i, err, l)
						}
					}
					e.Stats()
				}
			})
		}
		wg.Wait()
		for p := range uint32(groups) {
			g := openLogGroup(t, e, p)
			first, err := g.FirstIndex()
			mustLog(t, err)
			checkLog(t, g, first-1, 1, logEntries(first, 5*rounds, 1))
		}
		if s := e.Stats(); s.ReadsDisk == 0 {
			t.Errorf("nothing was read from the disk: %+v", s)
		}
		mustLog(t, e.Close())
		e = openLog(t, k, o)
		for p := range uint32(groups) {
			g := openLogGroup(t, e, p)
			first, err := g.FirstIndex()
			mustLog(t, err)
			checkLog(t, g, first-1, 1, logEntries(first, 5*rounds, 1))
		}
	})
}

func TestLogCacheIsBounded(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		o := logOptions(t.TempDir())
		o.EntryCacheBytes = 32 << 10
		e := openLog(t, k, o)
		a, b := openLogGroup(t, e, 1), openLogGroup(t, e, 2)
		mustLog(t, a.StoreLogs(logEntries(1, 20, 1)))
		for i := range uint64(60) {
			mustLog(t, b.StoreLogs(logEntries(10*i+1, 10*i+10, 1)))
			if s := e.Stats(); s.CacheBytes > o.EntryCacheBytes {
				t.Fatalf("cache holds %d bytes", s.CacheBytes)
			}
		}
		checkLog(t, a, 0, 0, logEntries(1, 20, 1))
		checkLog(t, b, 0, 0, logEntries(1, 600, 1))
		before := e.Stats()
		for i := uint64(580); i <= 600; i++ {
			mustLog(t, b.GetLog(i, &raft.Log{}))
		}
		if s := e.Stats(); s.ReadsDisk != before.ReadsDisk || s.Reads != before.Reads+21 {
			t.Fatalf("recent entries were read from the disk: %+v, before %+v", s, before)
		}
		mustLog(t, b.DeleteRange(1, 600))
		mustLog(t, a.DeleteRange(1, 20))
		if s := e.Stats(); s.CacheBytes != 0 {
			t.Fatalf("%d bytes cached of empty logs", s.CacheBytes)
		}
	})
}

// TestLogAtRest: what a group at rest lets go of is read from the disk, and its last entry needs no disk unless it is large. What is under
// way to the disk stays.
func TestLogAtRest(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		e := openLog(t, k, logOptions(t.TempDir()))
		g := openLogGroup(t, e, 1)
		want := logEntries(1, 40, 1)
		mustLog(t, g.StoreLogs(want[:39]))
		mustLog(t, g.StoreLog(want[39]))
		full := e.Stats().CacheBytes
		inner := g.(*logGroup)
		inner.mu.Lock()
		inner.begin()
		inner.mu.Unlock()
		g.Rest()
		if s := e.Stats(); s.CacheBytes != full {
			t.Fatalf("a step is under way, and %d of %d bytes are kept", s.CacheBytes, full)
		}
		inner.mu.Lock()
		inner.end()
		inner.mu.Unlock()
		g.Rest()
		g.Rest()
		before := e.Stats()
		if before.CacheBytes == 0 || before.CacheBytes > logKeptAtRest {
			t.Fatalf("a group at rest keeps %d bytes of %d", before.CacheBytes, full)
		}
		mustLog(t, g.GetLog(40, &raft.Log{}))
		if s := e.Stats(); s.ReadsDisk != before.ReadsDisk {
			t.Fatal("the last entry was read from the disk")
		}
		checkLog(t, g, 0, 0, want)
		if s := e.Stats(); s.ReadsDisk < before.ReadsDisk+39 {
			t.Fatalf("%d reads of the disk", s.ReadsDisk-before.ReadsDisk)
		}
		large := logEntry(41, 1)
		large.Data = make([]byte, 2*logKeptAtRest)
		want = append(want, large)
		mustLog(t, g.StoreLog(large))
		g.Rest()
		if s := e.Stats(); s.CacheBytes != 0 {
			t.Fatalf("%d bytes are kept of a large entry", s.CacheBytes)
		}
		want = append(want[:30], logEntries(31, 35, 2)...)
		mustLog(t, g.DeleteRange(31, 41))
		mustLog(t, g.StoreLogs(want[30:]))
		checkLog(t, g, 0, 0, want)
	})
}

func TestLogRefusesTheOtherKind(t *testing.T) {
	for i, k := range logKinds {
		dir := t.TempDir()
		e := openLog(t, k, logOptions(dir))
		mustLog(t, saveLogVote(openLogGroup(t, e, 1), 1, "x"))
		mustLog(t, e.Close())
		var open *OpenError
		if _, err := logKinds[1-i].open(logOptions(dir)); !errors.As(err, &open) {
			t.Fatalf("a %s directory opened as the other kind: %v", k.name, err)
		}
	}
}

func TestLogWrongOwner(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		dir := t.TempDir()
		e := openLog(t, k, logOptions(dir))
		mustLog(t, saveLogVote(openLogGroup(t, e, 1), 1, "x"))
		mustLog(t, e.Close())
		for i, change := range []func(*LogOptions){func(o *LogOptions) { o.Cluster = "d" }, func(o *LogOptions) { o.Host = "j" }, func(o *LogOptions) { o.Incarnation = "k" }} {
			o := logOptions(dir)
			change(&o)
			var wrong *WrongOwnerError
			if _, err := k.open(o); !errors.As(err, &wrong) || wrong.What != [...]string{"cluster", "host", "incarnation"}[i] {
				t.Fatalf("opened by another owner: %v", err)
			}
		}
		checkLogVote(t, openLogGroup(t, openLog(t, k, logOptions(dir)), 1), 1, "x")
	})
}

func TestLogLocked(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		dir := t.TempDir()
		openLog(t, k, logOptions(dir))
		var open *OpenError
		if _, err := k.open(logOptions(dir)); !errors.As(err, &open) || open.Reason != OpenLocked {
			t.Fatalf("second open: %v", err)
		}
	})
}

func TestLogOptions(t *testing.T) {
	forLogKinds(t, func(t *testing.T, k logKind) {
		if _, err := k.open(LogOptions{}); err == nil {
			t.Fatal("opened without a directory")
		}
		dir := fmt.Sprintf("%s/a/b/log", t.TempDir()) // created
		e := openLog(t, k, logOptions(dir))
		mustLog(t, openLogGroup(t, e, 1).StoreLog(logEntry(1, 1)))
	})
}
