package adamant

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogRooms: members have room by what they wrote lately, none less than the least, and what one that was opened anew wrote before
// does not count.
func TestLogRooms(t *testing.T) {
	const total = 16 << 20
	busy, other, quiet := &logPace{}, &logPace{}, &logPace{}
	rooms := func() (list []int64) {
		all := busy.recent + other.recent + quiet.recent
		for _, p := range []*logPace{busy, other, quiet} {
			list = append(list, logRoom(total, p.recent, all))
		}
		return list
	}
	check := func(when string, want ...int64) {
		t.Helper()
		for i, got := range rooms() {
			if got < want[i]*99/100 || got > want[i]*101/100 {
				t.Errorf("%s: member %d has room for %d bytes, not %d", when, i, got, want[i])
			}
		}
	}
	check("before anything is written", total, total, total)
	for i := range uint64(20) {
		busy.tick(3 * i << 20)
		other.tick(i << 20)
		quiet.tick(i << 8)
	}
	check("three to one", total*3/4, total/4, leastLogRoom)
	for range 20 {
		busy.tick(busy.seen)
		other.tick(other.seen + 1<<20)
		quiet.tick(quiet.seen)
	}
	check("one has stopped", leastLogRoom, total, leastLogRoom)
	busy.tick(1 << 10) // opened anew
	other.tick(other.seen)
	check("opened anew", leastLogRoom, total, leastLogRoom)
}

// TestEntriesAreTruncatedBeforeTheyAreFlushed: what is written for longer than the logs' memory lasts is hardly ever written a second
// time, however many entries the limits of each partition allow for.
func TestEntriesAreTruncatedBeforeTheyAreFlushed(t *testing.T) {
	synctest.Test(t, testEntriesAreTruncatedBeforeTheyAreFlushed)
}

func testEntriesAreTruncatedBeforeTheyAreFlushed(t *testing.T) {
	const partitions, writes, size, tick = 4, 3000, 4 << 10, time.Second
	c := newSimCluster(t, 1, partitions, 1, func(o *Options) {
		o.LogMemoryBytes, o.Limits.InFlight = 4<<20, 8
		o.Timing.TruncationTick = tick
	})
	c.ready()
	host := c.host("h1")
	for i := range writes {
		key := testKey(i)
		if err := host.Create(t.Context(), key, testDelta(1, strings.Repeat("x", size))); err != nil {
			t.Fatal(err)
		}
		if i%(256<<10/size) == 0 {
			time.Sleep(tick)
		}
	}
	// What is alive when the memory is full is written: a quarter of it, and a little of what came since the last markers.
	s := host.logs.Stats()
	t.Logf("of %d bytes of the log, %d were written again", s.WrittenBytes, s.TableBytes)
	if s.WrittenBytes < writes*size || s.TableBytes > s.WrittenBytes*6/10 {
		t.Errorf("of %d bytes of the log, %d were written again", s.WrittenBytes, s.TableBytes)
	}
}
