package adamant

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// collect reads a host's history as far as it goes.
func collect(t *testing.T, h *Host, q HistoryQuery) (list []Notice) {
	t.Helper()
	for n, err := range h.History(testContext(t), q) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

// TestHistoryOutlivesTheHost: what happened before a restart is told, in order, with host, partition and epoch; and what
// happens is told to who follows.
func TestHistoryOutlivesTheHost(t *testing.T) {
	c := newTestCluster(t, 3, 2, 3, nil)
	c.ready()
	h1 := c.host("h1")
	zero := uint32(0)
	before := collect(t, h1, HistoryQuery{Partition: &zero})
	if len(before) == 0 {
		t.Fatal("nothing happened")
	}
	c.kill("h1")
	h1 = c.open("h1")
	c.ready()
	after := collect(t, h1, HistoryQuery{})
	led, last := false, time.Time{}
	for _, n := range after {
		if !n.Time.After(last) || n.Host != "h1" || n.Kind == "" {
			t.Fatalf("%+v after %s", n, last)
		}
		last = n.Time
		led = led || n.Partition != nil && n.Kind == "leader" && n.Epoch > 0 && strings.HasSuffix(n.Text, " leads")
	}
	if !led {
		t.Error("no leader was noted")
	}
	found := 0
	for _, n := range after {
		if n.Partition != nil && *n.Partition == 0 && found < len(before) && n.Time.Equal(before[found].Time) {
			found++
		}
	}
	if found != len(before) {
		t.Errorf("%d of %d notices from before the restart", found, len(before))
	}
	if rest := collect(t, h1, HistoryQuery{Since: after[len(after)/2].Time}); len(rest) == 0 || !rest[0].Time.Equal(after[len(after)/2+1].Time) {
		t.Errorf("since the middle: %d notices", len(rest))
	}
	var seen []string
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	if err := h1.SetSafeMode(0, "to be seen"); err != nil {
		t.Fatal(err)
	}
	for n, err := range h1.History(ctx, HistoryQuery{Since: last, Follow: true, Partition: &zero}) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Kind != "safe-mode" {
			continue
		}
		seen = append(seen, n.Text)
		if n.Text == "off" {
			cancel() // which ends it
			continue
		}
		if err := h1.SetSafeMode(0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"to be seen", "off"}; !slices.Equal(seen, want) {
		t.Errorf("who follows was told %q, want %q", seen, want)
	}
}
