package partition

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestKeeperLooksAtManyAtOnce: the members that beats extend together are looked at together, before their leases end, and the
// keeper's host may stop while they go on.
func TestKeeperLooksAtManyAtOnce(t *testing.T) { synctest.Test(t, testKeeperLooksAtManyAtOnce) }

func testKeeperLooksAtManyAtOnce(t *testing.T) {
	g, h := newLiveGroup(t, 3, 200*time.Millisecond, nil)
	l := g.serving()
	k := l.part.o.Keeper
	kept := func() (end time.Time, ok bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		end, ok = k.ends[l.part]
		return end, ok
	}
	g.wait("the leader to be kept", func() bool { _, ok := kept(); return ok })
	first, _ := kept()
	_, epoch, err := l.part.Epoch()
	must(t, err)
	g.wait("its lease to be extended", func() bool { end, ok := kept(); return ok && end.After(first) })
	if err := epoch.Err(); err != nil && l == g.serving() {
		t.Error("the epoch ended beside a lease that was extended")
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	k.Run(ctx) // it ends at once, and with it all care
	if _, ok := kept(); ok || k.keep(l.part, time.Now()) {
		t.Error("a keeper that ended keeps members")
	}
	h.isolate(g, l)
	g.wait("the epoch to end without the keeper", func() bool { return epoch.Err() != nil })
}
