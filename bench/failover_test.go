package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFailover(t *testing.T) {
	for name, args := range map[string][]string{
		"a killed process":         {"-kill", "9"},
		"a stopped process":        {"--kill", "stop", "--think", "5ms"},
		"killed within a process":  {"--kill", "SIGKILL", "--processes=false", "--hosts", "4"},
		"stopped within a process": {"--kill", "stop", "--processes=false", "--log", "bolt"},
	} {
		t.Run(name, func(t *testing.T) {
			r := atLast(t, above("writesPerSecond"), slices.Concat([]string{"failover", "--hosts", "3", "--partitions", "6"}, args, brief)...)
			for _, key := range []string{"p50Millis", "p99Millis", "maxMillis", "minMillis", "partitionsLed", "checkedWrites", "writesPerSecond"} {
				if v, ok := r[key].(float64); !ok || v <= 0 {
					t.Errorf("%s is %v", key, r[key])
				}
			}
			if r["lostWrites"] != 0.0 {
				t.Errorf("%v writes were lost", r["lostWrites"])
			}
			if n := r["partitionsLed"].(float64); n > 6 {
				t.Errorf("%v of 6 partitions were led by the host that was lost", n)
			}
			if !slices.IsSorted([]float64{r["minMillis"].(float64), r["p50Millis"].(float64), r["p99Millis"].(float64), r["maxMillis"].(float64)}) {
				t.Errorf("percentiles out of order: %v", r)
			}
		})
	}
}

// TestFailoverThatPasses: the host comes back, and is asked before it can know what happened.
func TestFailoverThatPasses(t *testing.T) {
	for name, args := range map[string][]string{
		"a paused process": {"--kill", "pause"},
		"cut off":          {"--kill", "isolate", "--processes=false"},
		"not heard":        {"--kill", "isolate-out", "--processes=false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			r := atLast(t, above("checkedWrites", "checkedReads"), slices.Concat([]string{"failover", "--hosts", "3", "--partitions", "3", "--think", "5ms", "--for", "1500ms", "--read", "50ms"}, args, brief)...)
			for _, key := range []string{"p50Millis", "partitionsLed", "checkedWrites", "checkedReads"} {
				if v, ok := r[key].(float64); !ok || v <= 0 {
					t.Errorf("%s is %v", key, r[key])
				}
			}
			for _, key := range []string{"lostWrites", "staleReads", "notLinearizable", "overlapMillis", "catastrophesMissing"} {
				if v, ok := r[key].(float64); !ok || v != 0 {
					t.Errorf("%s is %v", key, r[key])
				}
			}
		})
	}
}

// TestFailoverOfTheIdle: what nobody wrote to is led again, too.
func TestFailoverOfTheIdle(t *testing.T) {
	r := atLast(t, above("checkedWrites"), slices.Concat([]string{"failover", "--hosts", "3", "--partitions", "6", "--idle", "--think", "5ms", "--processes=false"}, brief)...)
	if r["writesPerSecond"] != 0.0 {
		t.Errorf("%v writes per second before the loss", r["writesPerSecond"])
	}
	if p, ok := r["minMillis"].(float64); !ok || p <= 0 || r["partitionsLed"].(float64) <= 0 {
		t.Errorf("%v", r)
	}
	if r["lostWrites"] != 0.0 || r["staleReads"] != 0.0 {
		t.Errorf("%v", r)
	}
}

func TestFailoverTable(t *testing.T) {
	args := append([]string{"failover", "--hosts", "3", "--partitions", "2", "--processes=false", "--rounds", "2", "--compare", "kill=9,stop", "--dir", t.TempDir()}, brief...)
	status, out, errs := bench(t, args...)
	if status != exitOK {
		t.Fatalf("%d: %s", status, errs)
	}
	for _, want := range []string{"p50 ms", "p99 ms", "lost writes", "kill=9", "kill=stop", "ratio", "partitions led"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestLostWrites(t *testing.T) {
	sum := func(seq int64) uint64 { return uint64(seq) * 7 }
	read := func(seqs ...int64) (list []entry) {
		for _, s := range seqs {
			list = append(list, entry{s, s, sum(s)})
		}
		return list
	}
	for name, c := range map[string]struct {
		read []entry
		want int64
	}{
		"all":                         {read(1, 2, 3, 4), 0},
		"and one of unknown outcome":  {read(1, 2, 3, 4, 5), 0},
		"the last is missing":         {read(1, 2, 3), 1},
		"one in the middle":           {read(1, 3, 4), 1},
		"the document":                {nil, 4},
		"one has other contents":      {append(read(1, 2, 3), entry{4, 4, 1}), 1},
		"one is there twice":          {read(1, 2, 2, 3, 4), 1},
		"one spans others":            {append(read(1), entry{2, 4, sum(2)}), 3},
		"what was never acknowledged": {read(5, 6, 0, -1), 4},
	} {
		if got := lostWrites(4, c.read, sum); got != c.want {
			t.Errorf("%s: %d writes lost, want %d", name, got, c.want)
		}
	}
}

// A client's deltas are what it expects to read back, and no two are alike.
func TestClientDeltas(t *testing.T) {
	for _, size := range []int{minSize, 64, 1000} {
		c := &client{size: size, undo: []byte(payloadUndo), text: []byte(strings.Repeat("ab", size)[:size])}
		seen := map[uint64]bool{}
		for seq := int64(1); seq < 3000; seq++ {
			d := c.delta(seq)
			if seen[sumOf(d)] || sumOf(d) != sumOf(c.delta(seq)) {
				t.Fatalf("size %d: delta %d is like another one, or unlike itself", size, seq)
			}
			seen[sumOf(d)] = true
			if n := len(d.Redo) + len(d.Undo); size > minSize+10 && n != size {
				t.Fatalf("delta %d is of %d bytes, not %d", seq, n, size)
			}
		}
	}
}

// A gap begins with the last write that the lost host acknowledged, even if that is heard late.
func TestCut(t *testing.T) {
	begun := time.Now()
	at := func(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }
	all := &clients{}
	led, other := &client{all: all, host: "h1"}, &client{all: all, host: "h2"}
	all.list = []*client{led, other}
	led.acknowledge(1, at(0))
	other.acknowledge(1, at(0))
	all.lose("h1")
	led.acknowledge(2, at(10)) // was on its way
	other.acknowledge(2, at(20))
	if _, over := all.cuts(); over {
		t.Fatal("over before anybody else acknowledged")
	}
	led.host = "h3"
	led.acknowledge(3, at(510))
	led.acknowledge(4, at(900))
	cuts, over := all.cuts()
	if !over || len(cuts) != 1 || cuts[0].gap() != 500*time.Millisecond {
		t.Fatalf("%v %+v", over, cuts)
	}
	f := cutFigures(cuts)
	if f["p50Millis"] != 500 || f["p99Millis"] != 500 || f["partitionsLed"] != 1 {
		t.Fatalf("%v", f)
	}
}

func TestRank(t *testing.T) {
	v := []float64{1, 2, 3, 4}
	if rank(v, 0.5) != 2 || rank(v, 0.99) != 4 || rank(v, 0) != 1 || rank(v, 1) != 4 {
		t.Fatal("wrong ranks")
	}
}
