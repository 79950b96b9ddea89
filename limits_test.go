package adamant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// boundaryCases read around every boundary of a ten-entry document: with a base at every seq, after histories that keep
// nothing below it, something, or everything, and after a second compaction. What they expect comes from the definitions of
// design §12, computed the slow way.
func boundaryCases() []namedScript {
	cases := []namedScript{boundaryCase()}
	for base := 1; base <= 10; base++ {
		for _, history := range []int{1, 2, 5, 100} {
			cases = append(cases, boundaryCase([2]int{base, history}))
		}
	}
	for _, again := range [][2]int{{4, 1}, {6, 1}, {6, 100}, {9, 1}, {9, 2}, {9, 5}, {9, 100}} {
		cases = append(cases, boundaryCase([2]int{6, 2}, again)) // below, at and above the first base
	}
	return cases
}

// boundaryCase compacts a document of the seqs 1 to 10 at [0] with the history [1], in this order.
func boundaryCase(compactions ...[2]int) namedScript {
	var b strings.Builder
	b.WriteString("create 1 => ok\nappend 2,3,4,5,6,7,8,9,10 => head 10\n")
	base, floor := 0, 0
	for _, c := range compactions {
		fmt.Fprintf(&b, "compact %d %d => ok\n", c[0], c[1])
		if c[0] >= base {
			base, floor = c[0], max(floor, c[0]-c[1])
		}
	}
	b.WriteString("--\n")
	for at := -1; at <= 12; at++ {
		redo, undo := map[string]any{}, map[string]any{}
		for seq := max(at+1, 1); seq <= 10; seq++ {
			redo[fmt.Sprint("k", seq)], redo["v"] = seq, seq
			undo[fmt.Sprint("k", seq)] = nil
			if _, ok := undo["v"]; !ok {
				undo["v"] = seq - 1
			}
		}
		switch {
		case at > 10:
			fmt.Fprintf(&b, "patch %d => future 787507\nrewind %d => future 791602\n", at, at)
		case floor > 0 && at < floor:
			fmt.Fprintf(&b, "patch %d => horizon 787507\nrewind %d => horizon 791602\n", at, at)
		default:
			fmt.Fprintf(&b, "patch %d => %s\nrewind %d => %s\n", at, marshal(redo), at, marshal(undo))
		}
	}
	document := map[string]any{}
	if base > 0 {
		document["base"] = base
	}
	var kept []string
	for seq := 1; seq <= 10; seq++ {
		if seq > base {
			document[fmt.Sprint("k", seq)], document["v"] = seq, seq
		}
		if seq > floor {
			kept = append(kept, fmt.Sprint(seq))
		}
	}
	fmt.Fprintf(&b, "get => %s head 10\nlog => %s\n", marshal(document), strings.Join(kept, " "))
	return namedScript{fmt.Sprintf("ten entries, compactions %v", compactions), b.String()}
}

// limitCases stay within or exceed what TestConformance allows: 1000 bytes of a delta, 2000 of a command, 4000 of a document.
func limitCases() []namedScript {
	return []namedScript{
		{"deltas at and over their limit", `
			createsized 1 1001 => toolarge
			createsized 1 1000 => ok
			appendsized 2 1000 => head 2
			--
			appendsized 3 1001 => toolarge
			appendsized 2 1000 => head 2
			log => 1 2`},
		{"commands at and over their limit", `
			createsized 1 100 => ok
			appendsized 2 1000 999 100 => toolarge
			appendsized 2 1000 1000 => head 3
			--
			appendsized 4 1000 1000 100 => toolarge
			appendsized 4 1000 901 100 => toolarge
			appendsized 2 1000 1000 => head 3
			log => 1 2 3`},
		{"a document at and over its limit", `
			createsized 1 1000 => ok
			appendsized 2 1000 1000 => head 3
			appendsized 4 999 => head 4
			appendsized 5 100 => toolarge
			--
			appendsized 5 100 => toolarge
			appendsized 4 999 => head 4
			log => 1 2 3 4`},
		{"a document exactly at its limit", `
			createsized 1 1000 => ok
			appendsized 2 1000 1000 => head 3
			appendsized 4 1000 => head 4
			--
			appendsized 5 10 => toolarge
			log => 1 2 3 4`},
		{"snapshots at and over their limit, and the room they make", `
			createsized 1 1000 => ok
			appendsized 2 1000 1000 => head 3
			appendsized 4 1000 => head 4
			compactsized 4 2001 1 => toolarge
			appendsized 5 100 => toolarge
			compactsized 4 2000 1 => ok
			appendsized 5 1000 => head 5
			--
			compactsized 5 2001 1 => toolarge
			replacesized 9 2001 => toolarge
			appendsized 6 10 => toolarge
			appendsized 5 1000 => head 5
			log => 4 5`},
		{"a replacement at its limit", `
			createsized 1 1000 => ok
			replacesized 7 2000 => ok
			appendsized 8 1000 1000 => head 9
			--
			appendsized 10 10 => toolarge
			log => 8 9`},
	}
}

// sizedDelta is a delta of exactly n encoded bytes.
func sizedDelta(seq int64, n int) Delta {
	d := Delta{SeqBegin: seq, SeqEnd: seq}
	for d.Size() < n {
		d.Redo = append(d.Redo, make([]byte, max(1, n-d.Size()-4))...)
	}
	if d.Size() != n {
		panic(fmt.Sprintf("no delta has %d bytes", n))
	}
	return d
}

// keyLimits uses keys at and over their limits. The good ones are there from the first phase on.
func (c *testCluster) keyLimits(phase string) {
	c.t.Helper()
	text := func(n int) string { return strings.Repeat("a", n) }
	for _, k := range []struct {
		space, key, want string
	}{
		{text(3), text(1), "ok"}, {text(127), text(511), "ok"}, {"A-Z.a_9", "-._", "ok"},
		{text(2), "a", "key"}, {text(128), "a", "key"}, {"abc", "", "key"}, {"abc", text(512), "key"},
		{"ab/c", "a", "key"}, {"abc", "a b", "key"}, {"abc", "ä", "key"}, {"abc", "a\x00", "key"}, {"", "", "key"},
	} {
		key := Key{Space: k.space, Key: k.key}
		if k.want == "ok" {
			if got := c.runLine(key, scriptLine{op: "create", args: "1"}); got != "ok" && got != "exists" {
				c.t.Errorf("%s: create %.20q: %s", phase, key, got)
			}
		}
		lines := []scriptLine{{op: "create", args: "1", want: "exists"}, {op: "get", want: `{"k1":1,"v":1} head 1`}, {op: "append", args: "1", want: "head 1"}}
		if k.want != "ok" {
			for _, l := range []string{"create 1", "get", "append 2", "patch 0", "rewind 0", "compact 1 1", "replace 1", "delete", "log"} {
				op, args, _ := strings.Cut(l, " ")
				lines = append(lines, scriptLine{op, args, k.want})
			}
			lines = lines[3:]
		}
		for _, l := range lines {
			if got := c.runLine(key, l); got != l.want {
				c.t.Errorf("%s: %s of %.20q: %s, want %s", phase, l.op, key, got, l.want)
			}
		}
	}
}

// syncGate holds up the syncs of every host's Raft logs while it is shut.
type syncGate struct {
	mu   sync.Mutex
	shut chan struct{} // nil while open
	held atomic.Int64  // syncs that wait, or have waited since it was shut last
}

func (g *syncGate) fs() vfs.FS {
	return errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if strings.Contains(op.Path, "/"+logDir+"/") {
				g.pass()
			}
		}
		return nil
	}))
}

func (g *syncGate) pass() {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		g.held.Add(1)
		<-shut
	}
}

// close shuts the gate and returns what opens it again.
func (g *syncGate) close() (open func()) {
	shut := make(chan struct{})
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	g.held.Store(0)
	return sync.OnceFunc(func() {
		g.mu.Lock()
		g.shut = nil
		g.mu.Unlock()
		close(shut)
	})
}

// overlappingAppends sends two appends of the same seq with different bytes, the second before any disk holds the first:
// exactly one wins, the other gets the head, and not before the winner is durable.
func (c *testCluster) overlappingAppends(phase string, gate *syncGate) {
	c.t.Helper()
	key := Key{Space: "overlap", Key: "document"}
	if got := c.runLine(key, scriptLine{op: "create", args: "1"}); got != "ok" && got != "exists" {
		c.t.Fatalf("%s: create: %s", phase, got)
	}
	head := c.head(key)
	for range 3 {
		next := head + 1
		line := func(op string) scriptLine { return scriptLine{op: op, args: fmt.Sprint(next)} }
		open := gate.close()
		defer open()
		var results [2]string
		var wg sync.WaitGroup
		wg.Go(func() { results[0] = c.runLine(key, line("append")) })
		c.wait("the first append to reach a disk", func() error {
			if gate.held.Load() == 0 {
				return errors.New("no sync yet")
			}
			return nil
		})
		c.tooEarly(phase, key, line("appendother"))
		second := make(chan struct{})
		wg.Go(func() { close(second); results[1] = c.runLine(key, line("appendother")) })
		<-second
		open()
		wg.Wait()
		won, lost := fmt.Sprintf("head %d", next), fmt.Sprintf("mismatch %d", next)
		if results != [2]string{won, lost} && results != [2]string{lost, won} {
			c.t.Fatalf("%s: two appends of %d: %q", phase, next, results)
		}
		winner := map[string]string{won: "", lost: "other"}[results[0]]
		if got := c.newest(key); got.Delta.SeqEnd != next || got.Delta.Who != winner {
			c.t.Fatalf("%s: stored is seq %d by %q, acknowledged was seq %d by %q", phase, got.Delta.SeqEnd, got.Delta.Who, next, winner)
		}
		head = next
	}
}

// tooEarly sends an append that has to wait for another one's durability, and gives up.
func (c *testCluster) tooEarly(phase string, key Key, l scriptLine) {
	c.t.Helper()
	for _, h := range c.live() {
		target := c.host(h.Locate(key).Leader)
		if target == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		defer cancel()
		got, err := execute(ctx, target, key, l)
		if err == nil || !errors.Is(err, context.DeadlineExceeded) && !retriable(err) {
			c.t.Errorf("%s: %s %s was answered (%s, %v) before what it depends on was durable", phase, l.op, l.args, got, err)
		}
		return
	}
}

// head reads a document's head at the leader.
func (c *testCluster) head(key Key) (head int64) {
	c.t.Helper()
	if err := c.on(key, func(h *Host) error {
		d, err := h.Get(testContext(c.t), key)
		head = d.Head
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	return head
}

// newest reads a document's newest entry at the leader.
func (c *testCluster) newest(key Key) (newest LogEntry) {
	c.t.Helper()
	if err := c.on(key, func(h *Host) error {
		for e, err := range h.Log(testContext(c.t), key) {
			if err != nil {
				return err
			}
			newest = e
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	return newest
}

// TestLimitsOfAnEmbeddedHost: the limits hold for a host without a cluster too, which has other ways to answer.
func TestLimitsOfAnEmbeddedHost(t *testing.T) {
	h, err := Open(Options{Dir: t.TempDir(), Partitions: 1, Limits: Limits{DeltaBytes: 1000, CommandBytes: 2000, DocumentBytes: 4000}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.WaitReady(testContext(t)); err != nil {
		t.Fatal(err)
	}
	c := &testCluster{t: t, hosts: map[string]*Host{defaultHost: h}}
	var cases []*scriptCase
	for i, s := range limitCases() {
		cases = append(cases, parseScript(t, fmt.Sprintf("case-%d", i), s.name, s.script))
	}
	for _, phase := range []string{"first run", "again"} {
		c.runAll(phase, cases, func(s *scriptCase) []scriptLine {
			if phase == "again" {
				return s.after
			}
			return s.before
		})
		c.keyLimits(phase)
	}
}
