package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
)

func TestFailover(t *testing.T) {
	for _, kill := range []string{killHard, killStop, killPause} {
		t.Run(kill, func(t *testing.T) {
			t.Parallel()
			status, out, errs := peers("failover -json -rounds 1 -systems adamant,etcd-tuned -partitions 3 -think 5ms -read 50ms -for 1s -warmup 100ms -duration 200ms -kill " +
				kill + " -dir " + t.TempDir())
			if status != exitOK {
				t.Fatalf("status %d: %s", status, errs)
			}
			var r failoverComparison
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatal(err)
			}
			if r.Rounds != 1 || r.Kill != kill || len(r.Loads) != 1 || len(r.Loads[0].Variants) != 2 || len(r.Loads[0].Ratios) != 1 {
				t.Fatalf("%s", out)
			}
			for _, v := range r.Loads[0].Variants {
				for _, key := range []string{"p50Millis", "p99Millis", "maxMillis", "minMillis", "partitionsLed", "checkedReads", "writesPerSecond"} {
					if v.Figures[key].Median <= 0 {
						t.Errorf("%s: %s is %v", v.System, key, v.Figures[key])
					}
				}
				for _, key := range []string{"lostWrites", "staleReads"} {
					if s, ok := v.Figures[key]; !ok || s.Median != 0 {
						t.Errorf("%s: %s is %v", v.System, key, s)
					}
				}
			}
			if _, ok := r.Loads[0].Ratios[0].Figures["p99Millis"]; !ok {
				t.Errorf("ratios %v", r.Loads[0].Ratios)
			}
		})
	}
}

func TestFailoverUsage(t *testing.T) {
	for args, want := range map[string]string{
		"failover -kill magic": "-kill is magic", "failover -hosts 1": "-hosts is 1", "failover -systems raft": "-systems is raft",
		"failover -systems etcd,etcd": "each once", "failover -attempt 0s": "-attempt is 0s", "failover -for 1ms": "-for is 1ms", "failover -rounds 0": "-rounds is 0",
	} {
		if status, _, errs := peers(args); status != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s: %d, %s", args, status, errs)
		}
	}
}

// fixedReach always finds the same write, and has what it is told.
type fixedReach struct {
	seq    int64
	leader int
	err    error
}

func (f fixedReach) put(context.Context, adamant.Key, int64, []byte) (int, error) {
	return f.leader, f.err
}
func (f fixedReach) get(context.Context, adamant.Key) (int64, error) { return f.seq, nil }
func (f fixedReach) close() error                                    { return nil }

// TestClientJudges: what is older than what was acknowledged is stale, and lost in the end.
func TestClientJudges(t *testing.T) {
	s := failoverSettings{settings: defaults(), Attempt: time.Second}
	all := newClients(s, []reach{fixedReach{seq: 3, leader: 1, err: errors.New("not here")}, fixedReach{seq: 5, leader: -1}}, []int{0}, []int{0})
	c := all.list[0]
	for range 4 {
		if err := c.write(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c.host != 1 || c.seq != 5 {
		t.Fatalf("at host %d, seq %d", c.host, c.seq)
	}
	c.look(t.Context(), all.hosts[0])
	c.look(t.Context(), all.hosts[1])
	if c.reads != 2 || c.stale != 1 {
		t.Errorf("%d of %d reads are stale", c.stale, c.reads)
	}
	for host, want := range []int64{2, 0} {
		c.host = host
		if lost, err := all.readBack(t.Context()); lost != want || err != nil {
			t.Errorf("host %d: %d lost, %v", host, lost, err)
		}
	}
}

func TestGap(t *testing.T) {
	begun := time.Now()
	at := func(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }
	c := &client{acks: []time.Time{at(0), at(900), at(1000), at(1500), at(1600)}}
	if got := c.gap(at(1100)); got != 500*time.Millisecond {
		t.Errorf("%v", got)
	}
	if got := c.gap(at(1700)); got != 0 {
		t.Errorf("%v", got)
	}
}

func TestSequencedValues(t *testing.T) {
	filler := []byte(payloadHead + "filler" + payloadTail + payloadUndo)
	var last []byte
	for _, seq := range []int64{2, 9, 10, 99, 1 << 40} {
		v := sequenced(seq, filler)
		if sequenceOf(v) != seq || bytes.Compare(v, last) <= 0 {
			t.Errorf("%d: %s", seq, v)
		}
		last = v
	}
	if sequenceOf(filler) != 1 {
		t.Error("a value that was created has another number than 1")
	}
}

// TestFailoverVerdict: what adamant must not do fails the run, whose rounds are shown nevertheless.
func TestFailoverVerdict(t *testing.T) {
	p, err := parseFailover([]string{"-rounds", "2"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	c, err := compareFailovers(t.Context(), p, func(_ context.Context, s failoverSettings) (*measured, error) {
		order = append(order, s.System)
		f := map[string]float64{"p50Millis": 100, "lostWrites": 0, "staleReads": 0, "writesPerSecond": 1}
		if s.System == "etcd" || len(order) > 3 && s.System == "adamant" {
			f["staleReads"], f["p50Millis"] = 2, 200
		}
		return &measured{figures: f}, nil
	}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "round 2: adamant lost 0 writes and served 2") || strings.Contains(err.Error(), "round 1") {
		t.Errorf("%v", err)
	}
	if c == nil || c.Rounds != 2 || !slices.Equal(c.Loads[0].Ratios[0].Figures["p50Millis"].Rounds, []float64{0.5, 1}) {
		t.Errorf("%+v", c)
	}
	if want := []string{"adamant", "etcd", "etcd-tuned", "etcd", "etcd-tuned", "adamant"}; !slices.Equal(order, want) {
		t.Errorf("%v", order)
	}
	var out bytes.Buffer
	if err := printFailovers(&out, c); err != nil || !strings.Contains(out.String(), "adamant / etcd-tuned") {
		t.Errorf("%v: %s", err, &out)
	}
}
