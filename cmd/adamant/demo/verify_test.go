package demo

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
)

// loaded writes some games to a fake cluster through the real client and load.
func loaded(t *testing.T, f *fakeCluster) *load {
	t.Helper()
	var scripts []script
	for i := range 6 {
		scripts = append(scripts, newGame(i, 3))
	}
	l := newLoad(newTestClient(f), scripts, 3, 10)
	ended := make(chan error, 1)
	go func() { ended <- l.run(t.Context()) }()
	enough := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, s := range scripts {
			if len(f.docs[s.key()]) < 10 {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(time.Minute); !enough(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no progress")
		}
	}
	l.end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return l
}

func verifyAll(t *testing.T, f *fakeCluster, records []*record) verdict {
	t.Helper()
	v := &verifier{client: newTestClient(f), members: func(adamant.Key) []string { return []string{"h1", "h2"} }}
	return v.documents(t.Context(), records, func() {})
}

func TestVerifierAcceptsWhatWasWritten(t *testing.T) {
	f := newFakeCluster()
	l := loaded(t, f)
	v := verifyAll(t, f, l.records)
	if v.lost != 0 || len(v.problems) != 0 || v.documents != 6 || v.deltas != int(l.acked.Load()) || v.copies != 12 || v.uncertain != 0 {
		t.Errorf("%+v", v)
	}
	waited, began := l.cadence.worst()
	if waited <= 0 || began < 0 || l.cadence.at(0).writes == 0 || l.cadence.at(99).writes != 0 {
		t.Errorf("waited %v from %v, %+v", waited, began, l.cadence.at(0))
	}
}

// Each way to lose or change something is found.
func TestVerifierFindsDamage(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(f *fakeCluster, r *record)
		lost   func(r *record) int
		says   string
	}{
		{"last delta missing", func(f *fakeCluster, r *record) {
			d := f.docs[r.script.key()]
			f.docs[r.script.key()] = d[:len(d)-1]
		}, func(*record) int { return 1 }, "is missing"},
		{"document missing", func(f *fakeCluster, r *record) { delete(f.docs, r.script.key()) }, func(r *record) int { return r.deltas }, "cannot be read"},
		{"undo changed", func(f *fakeCluster, r *record) { f.docs[r.script.key()][1].Undo = []byte(`{"forged":1}`) }, func(*record) int { return 1 }, "differs"},
		{"who changed", func(f *fakeCluster, r *record) { f.docs[r.script.key()][0].Who = "mallory" }, func(*record) int { return 1 }, "differs"},
		{"redo changed", func(f *fakeCluster, r *record) {
			f.docs[r.script.key()][1].Redo = []byte(`{"forged":1}`)
		}, func(*record) int { return 1 }, "was written"},
		{"something nobody wrote", func(f *fakeCluster, r *record) {
			k := r.script.key()
			f.docs[k] = append(f.docs[k], adamant.Delta{SeqBegin: r.head + 1, SeqEnd: r.head + 1, Redo: []byte(`{}`)})
		}, func(*record) int { return 0 }, "nobody acknowledged"},
		{"written twice", func(f *fakeCluster, r *record) {
			k := r.script.key()
			f.docs[k] = append(f.docs[k], f.docs[k][len(f.docs[k])-1])
		}, func(*record) int { return 0 }, "nobody acknowledged"},
	} {
		f := newFakeCluster()
		l := loaded(t, f)
		r := l.records[2]
		tc.damage(f, r)
		v := verifyAll(t, f, l.records)
		if v.lost != tc.lost(r) || len(v.problems) == 0 || !strings.Contains(strings.Join(v.problems, "\n"), tc.says) {
			t.Errorf("%s: lost %d, %q", tc.name, v.lost, v.problems)
		}
	}
}

// A write whose outcome was never learned may be there or not, but not in part.
func TestVerifierAllowsUnknownOutcomes(t *testing.T) {
	f := newFakeCluster()
	l := loaded(t, f)
	r := l.records[1]
	r.unknown = r.script.next(3)
	if v := verifyAll(t, f, l.records); len(v.problems) != 0 || v.uncertain != 0 {
		t.Errorf("not there: %+v", v)
	}
	k := r.script.key()
	acked := f.docs[k]
	f.docs[k] = append(acked[:len(acked):len(acked)], r.unknown...)
	if v := verifyAll(t, f, l.records); len(v.problems) != 0 || v.uncertain != 3 {
		t.Errorf("there: %+v", v)
	}
	f.docs[k] = append(acked[:len(acked):len(acked)], r.unknown[:2]...)
	if v := verifyAll(t, f, l.records); len(v.problems) == 0 {
		t.Error("a part of an append was not noticed")
	}
}

func TestLoadReportsTheFirstCause(t *testing.T) {
	f := newFakeCluster()
	f.before = func(_, op string) error {
		if op == "append" {
			return errors.New("broken")
		}
		return nil
	}
	var scripts []script
	for i := range 6 {
		scripts = append(scripts, newGame(i, 3))
	}
	l := newLoad(newTestClient(f), scripts, 3, 10)
	if err := l.run(t.Context()); err == nil || strings.Contains(err.Error(), errStopped.Error()) || !l.over() {
		t.Errorf("%v", err)
	}
}

func TestCompareRoots(t *testing.T) {
	c := &config.Cluster{Partitions: []config.Partition{{ID: 1, Voters: []string{"h1", "h2"}}}}
	all := func(second adamant.PartitionStatus) map[string]adamant.Status {
		return map[string]adamant.Status{"h1": {Partitions: []adamant.PartitionStatus{{ID: 1, Root: "aa", RootIndex: 9, Complete: true}}},
			"h2": {Partitions: []adamant.PartitionStatus{second}}}
	}
	for _, tc := range []struct {
		second            adamant.PartitionStatus
		waiting, problems bool
		roots             int
	}{
		{adamant.PartitionStatus{ID: 1, Root: "aa", RootIndex: 9, Complete: true}, false, false, 2},
		{adamant.PartitionStatus{ID: 1, Root: "bb", RootIndex: 9, Complete: true}, false, true, 1},
		{adamant.PartitionStatus{ID: 1, Root: "bb", RootIndex: 8, Complete: true}, true, false, 1},
		{adamant.PartitionStatus{ID: 1, Root: "aa", RootIndex: 9}, true, false, 1},
		{adamant.PartitionStatus{ID: 2}, true, false, 1},
	} {
		var v verdict
		waiting := compareRoots(c, all(tc.second), &v)
		if (waiting != "") != tc.waiting || (len(v.problems) > 0) != tc.problems || v.roots != tc.roots {
			t.Errorf("%+v: waiting %q, %+v", tc.second, waiting, v)
		}
	}
}

func TestAssess(t *testing.T) {
	c := &config.Cluster{Partitions: []config.Partition{{ID: 1, Voters: []string{"h1", "h2", "h3"}}, {ID: 2, Voters: []string{"h1", "h2", "h4"}}}}
	member := func(host, incarnation string, voter, complete bool) adamant.MemberStatus {
		return adamant.MemberStatus{Host: host, Incarnation: incarnation, Voter: voter, Complete: complete, Alive: true}
	}
	own := adamant.Status{Incarnation: "new", Partitions: []adamant.PartitionStatus{{ID: 1, Role: adamant.RoleNonVoter, Repair: &adamant.RepairStatus{BucketsDone: 10}}}}
	leader := func(members ...adamant.MemberStatus) map[string]adamant.Status {
		return map[string]adamant.Status{"h1": {Partitions: []adamant.PartitionStatus{{ID: 1, Role: adamant.RoleLeader, Serving: true, Members: members}}}, "h3": own}
	}
	h := assess(c, "h3", own, leader(member("h1", "a", true, true), member("h2", "b", true, true), member("h3", "old", true, true), member("h3", "new", false, false)))
	if h.members != 1 || h.open != 1 || h.complete != 0 || len(h.voters) != 0 || len(h.clean) != 0 || h.buckets != 10 || h.healthy() {
		t.Errorf("while healing: %+v", h)
	}
	own.Partitions[0] = adamant.PartitionStatus{ID: 1, Role: adamant.RoleFollower, Complete: true}
	h = assess(c, "h3", own, leader(member("h1", "a", true, true), member("h2", "b", true, true), member("h3", "new", true, true)))
	if !h.healthy() || h.buckets != 256 {
		t.Errorf("when whole: %+v", h)
	}
	h = assess(c, "h3", own, leader(member("h1", "a", true, true), member("h2", "b", true, true), member("h3", "old", true, true)))
	if len(h.voters) != 0 || h.healthy() {
		t.Errorf("the dead incarnation still votes: %+v", h)
	}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	r := report{verdict: verdict{documents: 3000, writes: 41234, deltas: 80123, copies: 9000, roots: 192},
		repair: repaired{healthy: 12340 * time.Millisecond, pulling: 2 * time.Second, bytes: 25_000_000, wire: 9_000_000, entries: 5000, documents: 1800, snapshots: 900},
		worst:  1230 * time.Millisecond, worstBegan: 4100 * time.Millisecond, killed: 4 * time.Second, rate: 8012}
	if err := r.write(&b); err != nil || !r.ok() {
		t.Fatal(err)
	}
	for _, want := range []string{"documents                      3,000\n", "acknowledged writes            41,234 (80,123 deltas, 8,012/s)\n", "lost                           0\n",
		"1.23s (of a write begun 100ms after the kill)", "bytes repaired                 25.0 MB (5,000 deltas of 1,800 documents; 9.0 MB on the wire)", "repair MB/s                    12.5 MB/s (in 2s)", "time to healthy                12.34s (after the load)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.ContainsFunc(b.String(), func(r rune) bool { return r < ' ' && r != '\n' }) {
		t.Error("control characters")
	}
	for i := range 30 {
		r.problem("problem %d", i)
	}
	r.lost = 2
	b.Reset()
	if err := r.write(&b); err != nil || r.ok() || !strings.Contains(b.String(), "30 problems\n  problem 0\n") || !strings.Contains(b.String(), "and 10 more") || strings.Contains(b.String(), "problem 20") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestFiguresForPeople(t *testing.T) {
	for got, want := range map[string]string{
		size(999): "999 B", size(1000): "1.0 kB", size(25_340_000): "25.3 MB", size(3e12): "3.0 TB", size(3e15): "3000.0 TB",
		count(0): "0", count(999): "999", count(1000): "1,000", count(-1234567): "-1,234,567", quantity(1, "host"): "1 host", quantity(2000, "host"): "2,000 hosts",
		rate(5, 0): "0.0 MB/s", short(1234567): "1.2ms", relative(-time.Second): "1s before the kill",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := (Options{}).withDefaults(); err != nil {
		t.Error(err)
	}
	_, err := Options{Hosts: 3, Partitions: -1, Documents: -1, Writers: -1, Copies: -1, Batch: 5000, Load: -1, Limit: -1}.withDefaults()
	if err == nil || strings.Count(err.Error(), "\n") != 7 {
		t.Errorf("every problem should be named: %v", err)
	}
	o, err := Options{Traces: []string{"x"}}.withDefaults()
	if err != nil || o.Documents != 0 {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestDemoRefusesADirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "something"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := Run(context.Background(), Options{Dir: dir, Out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Error(err)
	}
}
