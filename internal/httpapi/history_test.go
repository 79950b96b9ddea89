package httpapi

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
)

// TestHistoryIsToldAndWaitedFor: what is kept comes at once; when there is nothing, the first that comes, or nothing in time.
func TestHistoryIsToldAndWaitedFor(t *testing.T) {
	h := &fakeHost{name: "h1"}
	server := httptest.NewServer(New(h, Options{}).Handler())
	defer server.Close()
	c, err := NewClient([]string{strings.TrimPrefix(server.URL, "http://")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(partition string, since time.Time, wait time.Duration) (texts string) {
		t.Helper()
		var list []adamant.Notice
		for n, err := range c.History(context.Background(), partition, since, wait) {
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
			texts += n.Text + ";"
		}
		return texts
	}
	hour := time.Unix(3600, 0)
	for _, tc := range []struct {
		partition string
		since     time.Time
		wait      time.Duration
		want      string
	}{
		{"", time.Time{}, 0, "version 1;h2 leads;"},
		{"", time.Time{}, time.Minute, "version 1;h2 leads;"},
		{"4", time.Time{}, 0, "h2 leads;"},
		{"", time.Unix(0, 1), 0, "h2 leads;"},
		{"", hour, 0, ""},
		{"", hour, time.Minute, "h2 is gone;"},
		{"4", hour, 20 * time.Millisecond, ""},
	} {
		if got := ask(tc.partition, tc.since, tc.wait); got != tc.want {
			t.Errorf("partition %q since %s, waiting %s: %q", tc.partition, tc.since, tc.wait, got)
		}
	}
}
