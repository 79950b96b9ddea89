package adamant

import (
	"fmt"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// goroutinesIn counts the goroutines of the process that wait inside a function.
func goroutinesIn(t *testing.T, function string) int {
	t.Helper()
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, stack := range regexp.MustCompile(`(?m)^(\d+) @ (?:.+\n)+`).FindAllStringSubmatch(all.String(), -1) {
		if strings.Contains(stack[0], function+"+") {
			k, err := strconv.Atoi(stack[1])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
	return n
}

// TestQuietMembersKeepFewGoroutines: a member that nothing happens to has no goroutine of ours, and none of Raft's that only work
// needs; one that is written to serves at once, and others stay as they are.
func TestQuietMembersKeepFewGoroutines(t *testing.T) {
	synctest.Test(t, testQuietMembersKeepFewGoroutines)
}

func testQuietMembersKeepFewGoroutines(t *testing.T) {
	const partitions, heartbeat = 24, 400 * time.Millisecond
	c := newSimCluster(t, 3, partitions, 3, func(o *Options) { o.Timing.Heartbeat, o.Timing.AntiEntropy = heartbeat, time.Hour })
	c.ready()
	c.wait("the preferred leaders", func() error { _, err := c.leaders(true); return err })
	c.healthy()
	count := func() string {
		return fmt.Sprintf("%d decode answers, %d watch, %d are Raft's", goroutinesIn(t, "raft.(*Raft).pipelineDecode"),
			goroutinesIn(t, "partition.(*Partition).watch"), goroutinesIn(t, "raft.(*Raft).runFSM"))
	}
	time.Sleep(40 * heartbeat)
	synctest.Wait()
	if got, want := count(), fmt.Sprintf("0 decode answers, 0 watch, %d are Raft's", 3*partitions); got != want {
		t.Errorf("of a quiet cluster's goroutines %s, not: %s", got, want)
	}

	began := time.Now()
	if err := c.on(testKey(0), func(h *Host) error { return h.Create(testContext(t), testKey(0), testDelta(1, "first")) }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > heartbeat/4 {
		t.Errorf("the first write took %v", took)
	}
	synctest.Wait()
	if got, want := count(), fmt.Sprintf("0 decode answers, 0 watch, %d are Raft's", 3*partitions); got != want {
		t.Errorf("after one write %s, not: %s", got, want)
	}
	seq := int64(1)
	c.wait("the pipelines of that partition, and no others", func() error {
		// One at a time and with a rest after each: the slower follower gets as many requests as the other, not all entries in few.
		seq++
		if err := c.on(testKey(0), func(h *Host) error {
			_, err := h.Append(testContext(t), testKey(0), []Delta{testDelta(seq, "more")})
			return err
		}); err != nil {
			return err
		}
		synctest.Wait()
		if got, want := count(), fmt.Sprintf("2 decode answers, 0 watch, %d are Raft's", 3*partitions); got != want {
			return fmt.Errorf("%s, not: %s, after %d deltas", got, want, seq)
		}
		return nil
	})
}

// TestFollowerCatchesUpAfterAQuietTime: what a member missed is no longer in anybody's memory when it is back, and reaches it from the
// others' disks.
func TestFollowerCatchesUpAfterAQuietTime(t *testing.T) {
	synctest.Test(t, testFollowerCatchesUpAfterAQuietTime)
}

func testFollowerCatchesUpAfterAQuietTime(t *testing.T) {
	const heartbeat, missed = 400 * time.Millisecond, 20
	c := newSimCluster(t, 3, 1, 3, func(o *Options) { o.Timing.Heartbeat, o.Timing.AntiEntropy = heartbeat, time.Hour })
	c.ready()
	c.healthy()
	leaders, err := c.leaders(false)
	if err != nil {
		t.Fatal(err)
	}
	var away string
	for name := range c.live() {
		if name != leaders[0].Leader {
			away = name
		}
	}
	c.kill(away)
	for i := range missed {
		if err := c.on(testKey(i), func(h *Host) error { return h.Create(testContext(t), testKey(i), testDelta(1, "missed")) }); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(60 * heartbeat)
	leader := c.host(leaders[0].Leader)
	before := leader.logs.Stats()
	if before.CacheBytes > 1<<10 {
		t.Errorf("%d bytes of entries are in memory after a quiet time", before.CacheBytes)
	}
	c.open(away)
	c.healthy()
	if s := leader.logs.Stats(); s.ReadsDisk < before.ReadsDisk+missed {
		t.Errorf("%d entries were read from the disk for who missed %d", s.ReadsDisk-before.ReadsDisk, missed)
	}
}
