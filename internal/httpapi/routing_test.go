package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
)

// fakeRouting is a table with one partition whose leader is the newest of a list; each has a version.
type fakeRouting struct {
	mu      sync.Mutex
	leaders []string
	changed chan struct{}
	waiting chan struct{} // told when somebody begins to wait
}

func (f *fakeRouting) version(n int) (v adamant.RoutingVersion) {
	if err := v.UnmarshalText(fmt.Appendf(nil, "000000000000000a-%d", n)); err != nil {
		panic(err)
	}
	return v
}

func (f *fakeRouting) lead(host string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaders = append(f.leaders, host)
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeRouting) WatchRouting(ctx context.Context, after adamant.RoutingVersion) (adamant.RoutingUpdate, error) {
	for {
		f.mu.Lock()
		n, changed := len(f.leaders), f.changed
		f.mu.Unlock()
		u := adamant.RoutingUpdate{Host: "h1", Version: f.version(n), Routes: []adamant.Route{}}
		if after != u.Version {
			u.Whole = after == adamant.RoutingVersion{}
			u.Routes = append(u.Routes, adamant.Route{Partition: 3, Leader: f.leaders[n-1], HTTP: "127.0.0.1:7481", Serving: true, Members: []adamant.RouteMember{}})
			return u, nil
		}
		select {
		case f.waiting <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return u, ctx.Err()
		}
	}
}

func newFakeRouting() *fakeRouting {
	return &fakeRouting{leaders: []string{"h1"}, changed: make(chan struct{}), waiting: make(chan struct{}, 1)}
}

// TestRoutingLongPoll: at once what is new to the caller, otherwise what comes, or nothing when the wait is over.
func TestRoutingLongPoll(t *testing.T) {
	h := newFakeHost("h1")
	c, ctx := start(t, Options{}, h), t.Context()
	first, err := c.NextRouting(ctx, adamant.RoutingVersion{}, 0)
	if err != nil || !first.Whole || first.Routes[0].Leader != "h1" || first.Routes[0].HTTP != "127.0.0.1:7481" {
		t.Fatalf("%+v, %v", first, err)
	}
	none, err := c.NextRouting(ctx, first.Version, time.Millisecond)
	if err != nil || none.Version != first.Version || none.Whole || len(none.Routes) > 0 {
		t.Errorf("without news: %+v, %v", none, err)
	}
	got := make(chan adamant.RoutingUpdate, 1)
	<-h.waiting // of the one before
	go func() {
		u, err := c.NextRouting(ctx, first.Version, time.Minute)
		if err != nil {
			t.Error(err)
		}
		got <- u
	}()
	<-h.waiting
	h.lead("h2")
	if u := <-got; u.Whole || len(u.Routes) != 1 || u.Routes[0].Leader != "h2" {
		t.Errorf("%+v", u)
	}
	var text map[string]any
	if err := c.call(ctx, http.MethodGet, "/v1/routing?after="+first.Version.String(), nil, &text); err != nil || text["version"] != h.version(2).String() {
		t.Errorf("without a wait: %v, %v", text, err)
	}
	for _, query := range []string{"after=7", "after=x&wait=1s", "wait=2m", "wait=-1s", "wait=", "key=games/g1&wait=1s", "key=games/g1&after=000000000000000a-1", "wait=1s&wait=2s"} {
		err := c.call(ctx, http.MethodGet, "/v1/routing?"+query, nil, nil)
		if query == "wait=" {
			if err != nil {
				t.Errorf("%s: %v", query, err)
			}
		} else if e, ok := err.(*Error); !ok || e.Kind != KindBadRequest {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestRoutingStream: a line at once for what is new, one for each change, and one without news now and then; the shutdown of
// the endpoint ends it without waiting for anything.
func TestRoutingStream(t *testing.T) {
	h := newFakeHost("h1")
	l, err := Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, h, Options{KeepAlive: 5 * time.Millisecond, Grace: time.Minute}, l)
	resp, err := http.Get("http://" + l.Addr().String() + "/v1/routing/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("type %q", resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewReader(resp.Body)
	next := func() (u adamant.RoutingUpdate) {
		t.Helper()
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &u)
		}
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return u
	}
	if u := next(); !u.Whole || u.Routes[0].Leader != "h1" {
		t.Errorf("the first line: %+v", u)
	}
	if u := next(); u.Whole || len(u.Routes) > 0 || u.Version != h.version(1) {
		t.Errorf("a line without news: %+v", u)
	}
	h.lead("h2")
	u := next()
	for len(u.Routes) == 0 {
		u = next()
	}
	if u.Whole || u.Routes[0].Leader != "h2" || u.Version != h.version(2) {
		t.Errorf("the change: %+v", u)
	}
	if err := stop(); err != nil {
		t.Errorf("the endpoint did not end in an orderly way: %v", err)
	}
	if _, err := io.ReadAll(lines); err != nil {
		t.Errorf("the stream broke off: %v", err)
	}
}

// TestWatchersHaveABoundOfTheirOwn: they take nobody's slot, and nobody takes theirs.
func TestWatchersHaveABoundOfTheirOwn(t *testing.T) {
	h := newFakeHost("h1")
	server := httptest.NewServer(New(h, Options{MaxWatchers: 1, MaxRequests: 1}).Handler())
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/routing?wait=1m&after="+h.version(1).String(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-h.waiting
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"/v1/routing/stream", "/v1/routing?wait=1s"} {
		if status, body := get(path); status != 503 || !strings.Contains(body, `"kind":"busy"`) {
			t.Errorf("%s beside another watcher: %d %s", path, status, body)
		}
	}
	for _, path := range []string{"/v1/routing", "/v1/routing?key=games/g1", "/v1/documents/games/g1"} {
		if status, body := get(path); status != 200 {
			t.Errorf("%s beside a watcher: %d %s", path, status, body)
		}
	}
	cancel() // a client that leaves gives its place back
	<-ended
	for deadline := time.Now().Add(time.Minute); ; {
		if status, _ := get("/v1/routing?wait=1ms"); status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a client that left stays taken")
		}
		time.Sleep(time.Millisecond)
	}
}
