package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/store"
)

var game = adamant.Key{Space: "games", Key: "g1"}

func TestDocumentsOverHTTP(t *testing.T) {
	h := newFakeHost("h1")
	c, ctx := start(t, Options{}, h), t.Context()
	first := adamant.Delta{SeqBegin: 1, SeqEnd: 1, Redo: []byte(`{"a":"<&>"}`), Undo: []byte(`{"a":null}`), Who: "alice", Request: []byte(`{"r":1}`), AssetBytes: 5, RequiresFutureInvalidation: true, WhenToInvalidate: -7}
	binary := adamant.Delta{SeqBegin: 2, SeqEnd: 4, Redo: []byte{0, 1, 0xff}, Undo: []byte("\"\xff\""), Request: []byte("not json")}
	if head, err := c.Create(ctx, game, first); err != nil || head != 1 {
		t.Fatalf("create: %d, %v", head, err)
	}
	if head, err := c.Append(ctx, game, []adamant.Delta{binary}); err != nil || head != 4 {
		t.Fatalf("append: %d, %v", head, err)
	}
	if want := []adamant.Delta{first, binary}; !reflect.DeepEqual(h.docs[game], want) {
		t.Errorf("the host got %+v, want %+v", h.docs[game], want)
	}
	var entries []adamant.Delta
	for e, err := range c.Log(ctx, game, "") {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, adamant.Delta(e.Delta))
	}
	if want := []adamant.Delta{first, binary}; !reflect.DeepEqual(entries, want) {
		t.Errorf("log %+v, want %+v", entries, want)
	}
	d, err := c.Get(ctx, game, "stale")
	if err != nil || string(d.JSON) != `{"text":"<ü>"}` || d.Head != 7 || d.Reads != 3 || *d.Staleness != (adamant.Staleness{Index: 9, Age: 5, Complete: true}) {
		t.Errorf("get: %+v, %v", d, err)
	}
	if want := []adamant.ReadOption{adamant.WithConsistency(adamant.ReadStale)}; !reflect.DeepEqual(h.lastOpts, want) {
		t.Errorf("read options %v, want %v", h.lastOpts, want)
	}
	for _, step := range []struct {
		do   func() error
		call string
	}{
		{func() error { _, err := c.HeadPatch(ctx, game, -1, ""); return err }, "headpatch games/g1 -1"},
		{func() error { _, err := c.Rewind(ctx, game, 3, "quorum"); return err }, "rewind games/g1 3"},
		{func() error { return c.Compact(ctx, game, 3, []byte(`{"x":1}`), 2) }, `compact games/g1 3 {"x":1} 2`},
		{func() error { return c.Replace(ctx, game, 0, []byte(`null`)) }, `replace games/g1 0 null`},
		{func() error { return c.Delete(ctx, game) }, "delete games/g1"},
		{func() error { return c.Transfer(ctx, 3, "h2") }, "transfer 3 h2"},
		{func() error { return c.SetSafeMode(ctx, 3, "look at it") }, `safemode 3 "look at it"`},
		{func() error { _, err := c.ClearSafeMode(ctx, 3, "h2"); return err }, `clear 3 "h2"`},
		{func() error { _, err := c.Compare(ctx, 3, game); return err }, `compare 3 games/g1`},
		{func() error { return c.Drain(ctx) }, "drain"},
	} {
		if err := step.do(); err != nil || h.lastCall() != step.call {
			t.Errorf("%s: %v, the host saw %q", step.call, err, h.lastCall())
		}
	}
}

func TestKeysOfDotsReachTheHost(t *testing.T) {
	h := newFakeHost("h1")
	c := start(t, Options{}, h)
	for _, key := range []adamant.Key{{Space: "games", Key: ".."}, {Space: "games", Key: "."}, {Space: "...", Key: "log"}, {Space: "a.b-c_D", Key: "append"}} {
		if _, err := c.Get(t.Context(), key, ""); err != nil || h.lastCall() != "get "+key.String() {
			t.Errorf("%s: %v, the host saw %q", key, err, h.lastCall())
		}
	}
}

func TestInventoryAndRouting(t *testing.T) {
	h := newFakeHost("h1")
	c := start(t, Options{}, h)
	var got []string
	for i, err := range c.Inventory(t.Context(), "games", "3", "stale") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, i.Space+"/"+i.Key)
	}
	if fmt.Sprint(got) != "[games/g0 games/g1 games/g2]" || h.lastCall() != `inventory "games" 3` {
		t.Errorf("got %v, the host saw %q", got, h.lastCall())
	}
	table, err := c.Routing(t.Context())
	if err != nil || len(table.Routes) != 1 || table.Routes[0].Leader != "h1" || !table.Whole {
		t.Errorf("routing: %+v, %v", table, err)
	}
	if l, err := c.Locate(t.Context(), game); err != nil || l.Bucket != 7 {
		t.Errorf("locate: %+v, %v", l, err)
	}
	s, raw, err := c.Status(t.Context())
	if err != nil || s.Host != "h1" || !strings.Contains(string(raw), `"incarnation":"i1"`) {
		t.Errorf("status: %+v, %s, %v", s, raw, err)
	}
}

// A stream that fails after its first line cannot have a status of its own: the error is the last line.
func TestStreamThatBreaksOff(t *testing.T) {
	for at := range 3 {
		h := newFakeHost("h1")
		h.fail, h.failAt = &adamant.SafeModeError{Partition: 3, Reason: "divergence"}, at
		c := start(t, Options{}, h)
		lines := 0
		var last error
		for _, err := range c.Inventory(t.Context(), "", "", "") {
			if last = err; err == nil {
				lines++
			}
		}
		if !reflect.DeepEqual(last, h.fail) || lines != at {
			t.Errorf("failing at %d: %d lines, then %v", at, lines, last)
		}
	}
}

func TestErrorsKeepTheirTypeAndNumber(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		kind   Kind
		code   int
	}{
		{&adamant.ExistsError{Key: game}, 409, KindExists, 667658},
		{&adamant.SeqMismatchError{Key: game, Head: 12}, 409, KindSeqMismatch, 621580},
		{&adamant.NotFoundError{Key: game}, 404, KindNotFound, 625676},
		{&adamant.FutureError{Key: game, Op: store.OpCompact, Seq: 9, Head: 4}, 422, KindFuture, 729311},
		{&adamant.FutureError{Key: game, Op: store.OpHeadPatch, Seq: 9, Head: 4}, 422, KindFuture, 787507},
		{&adamant.FutureError{Key: game, Op: store.OpRewind, Seq: 9, Head: 0}, 422, KindFuture, 791602},
		{&adamant.HorizonError{Key: game, Op: store.OpHeadPatch, Seq: 0, Horizon: 4}, 410, KindHorizon, 787507},
		{&adamant.HorizonError{Key: game, Op: store.OpRewind, Seq: 1, Horizon: 4}, 410, KindHorizon, 791602},
		{&adamant.HistoryError{Key: game, History: 0}, 422, KindHistory, 734263},
		{&adamant.TooLargeError{Key: game, What: "delta", Size: 9, Limit: 8}, 413, KindTooLarge, adamant.CodeTooLarge},
		{&adamant.InvalidError{Key: game, Reason: "append of an empty list"}, 400, KindInvalid, adamant.CodeInvalid},
		{&adamant.NotLeaderError{Partition: 3, Leader: "h9", Addr: "10.0.0.9:7400", HTTP: "10.0.0.9:7480", Epoch: 5}, 421, KindNotLeader, adamant.CodeNotLeader},
		{&adamant.AmbiguousError{Partition: 3, Key: game, Reason: "leadership lost"}, 504, KindAmbiguous, adamant.CodeAmbiguous},
		{&adamant.UnavailableError{Partition: 3, Reason: "no lease"}, 503, KindUnavailable, adamant.CodeUnavailable},
		{&adamant.SafeModeError{Partition: 3, Reason: "divergence"}, 503, KindSafeMode, adamant.CodeSafeMode},
		{&adamant.EpochError{Partition: 3, Epoch: 9}, 409, KindEpoch, adamant.CodeEpoch},
	} {
		h := newFakeHost("h1")
		h.fail = fmt.Errorf("wrapped: %w", tc.err)
		w := httptest.NewRecorder()
		New(h, Options{}).Handler().ServeHTTP(w, httptest.NewRequest("DELETE", "/v1/documents/games/g1", nil))
		if w.Code != tc.status || !strings.Contains(w.Body.String(), fmt.Sprintf(`"code":%d,"kind":"%s"`, tc.code, tc.kind)) {
			t.Errorf("%T: status %d, body %s", tc.err, w.Code, w.Body)
		}
		c := start(t, Options{}, h)
		if err := c.Delete(t.Context(), game); !reflect.DeepEqual(err, tc.err) {
			t.Errorf("the client got %#v, want %#v", err, tc.err)
		}
	}
}

func TestOtherErrors(t *testing.T) {
	for _, tc := range []struct {
		err    error
		method string
		status int
		kind   Kind
	}{
		{&adamant.ClosedError{Host: "h1"}, "GET", 503, KindClosed},
		{&adamant.NotJSONError{Key: game, Seq: 5}, "GET", 422, KindNotJSON},
		{&adamant.CorruptionError{Partition: 3, Key: game, Kind: "base", Err: errors.New("checksum")}, "GET", 500, KindCorruption},
		{&adamant.EngineFailedError{Engine: "log", Err: errors.New("EIO")}, "GET", 500, KindInternal},
		{errors.New("surprise"), "GET", 500, KindInternal},
		{context.DeadlineExceeded, "GET", 503, KindTimeout},
		// A write whose deadline passed may have happened: that must show, whatever the host said.
		{context.DeadlineExceeded, "DELETE", 504, KindAmbiguous},
		{fmt.Errorf("stopped: %w", context.Canceled), "DELETE", 504, KindAmbiguous},
	} {
		h := newFakeHost("h1")
		h.fail = tc.err
		w := httptest.NewRecorder()
		New(h, Options{}).Handler().ServeHTTP(w, httptest.NewRequest(tc.method, "/v1/documents/games/g1", nil))
		if w.Code != tc.status || !strings.Contains(w.Body.String(), `"kind":"`+string(tc.kind)+`"`) {
			t.Errorf("%s %v: status %d, body %s", tc.method, tc.err, w.Code, w.Body)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	const doc = "/v1/documents/games/g1"
	long := `{"seqBegin":1,"seqEnd":1,"who":"` + strings.Repeat("x", 300) + `"}`
	for _, tc := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/v1/nothing", "", 404, "no such route"},
		{"GET", "/v1/documents/games/g1/more/of/it", "", 404, "no such route"},
		{"PUT", doc, "", 405, "PUT is not served here"},
		{"GET", "/v1/documents/ga/g1", "", 400, "space has 2 bytes"},
		{"GET", "/v1/documents/games/" + strings.Repeat("k", 600), "", 400, "key has 600 bytes"},
		{"GET", doc + "?consistency=maybe", "", 400, "unknown consistency"},
		{"GET", doc + "?wait=1", "", 400, `unknown parameter \"wait\"`},
		{"GET", doc + "?consistency=stale&consistency=lease", "", 400, "given 2 times"},
		{"GET", doc + "?timeout=1h", "", 400, "timeout"},
		{"GET", doc + "?timeout=-1s", "", 400, "timeout"},
		{"GET", doc + "?%zz", "", 400, "query"},
		{"GET", doc + "/headpatch", "", 400, `parameter \"after\"`},
		{"GET", doc + "/rewind?to=9999999999999999999", "", 400, `parameter \"to\"`},
		{"GET", "/v1/inventory?partition=x", "", 400, "not a number"},
		{"GET", "/v1/history?partition=x", "", 400, "not a number"},
		{"GET", "/v1/history?since=yesterday", "", 400, "RFC 3339"},
		{"GET", "/v1/history?wait=-1s", "", 400, "want a duration"},
		{"GET", "/v1/history?follow=true", "", 400, "unknown parameter"},
		{"GET", "/v1/routing?key=nokey", "", 400, "no slash"},
		{"POST", doc, "", 400, "body"},
		{"POST", doc, "{}", 400, `delta without \"seqBegin\"`},
		{"POST", doc, `{"seqBegin":1}`, 400, `delta without \"seqEnd\"`},
		{"POST", doc, `{"seqBegin":null,"seqEnd":1}`, 400, `\"seqBegin\" is null`},
		{"POST", doc, `{"seqBegin":1.5,"seqEnd":2}`, 400, "seqBegin"},
		{"POST", doc, `{"SeqBegin":1,"seqEnd":1}`, 400, `unknown key \"SeqBegin\"`},
		{"POST", doc, `{"seqBegin":1,"seqEnd":1,"seqEnd":2}`, 400, `\"seqEnd\" twice`},
		{"POST", doc, `{"seqBegin":1,"seqEnd":1,"redo":1,"redoBytes":"AA=="}`, 400, "both"},
		{"POST", doc, `{"seqBegin":1,"seqEnd":1,"redoBytes":"!"}`, 400, "redoBytes"},
		{"POST", doc, `{"seqBegin":1,"seqEnd":1} {}`, 400, "follows"},
		{"POST", doc, `[1]`, 400, "want a JSON object"},
		{"POST", doc, "{\"seqBegin\":1,\"seqEnd\":1,\"who\":\"\xff\"}", 400, "UTF-8"},
		{"POST", doc, long, 413, "over the limit of 256"},
		{"POST", doc + "/append", `{"delta":[]}`, 400, `unknown key \"delta\"`},
		{"POST", doc + "/append", `{"deltas":{}}`, 400, "deltas"},
		{"POST", doc + "/compact", `{"seq":1,"json":{}}`, 400, `\"history\" is missing`},
		{"POST", doc + "/compact", `{"history":1,"json":{}}`, 400, `\"seq\" is missing`},
		{"POST", doc + "/replace", `{"seq":1,"json":{},"history":1}`, 400, "history"},
		{"POST", doc + "/replace", `{"seq":1}`, 400, `\"json\" is missing`},
		{"POST", "/v1/partitions/x/transfer", `{"host":"h2"}`, 400, "not a number"},
		{"POST", "/v1/partitions/3/transfer", `{}`, 400, `\"host\" is missing`},
		{"POST", "/v1/partitions/9/safemode", `{"reason":"x"}`, 404, "not a member"},
		{"GET", "/v1/partitions/9/safemode", ``, 404, "not a member"},
		{"POST", "/v1/partitions/9/safemode/clear", `{}`, 404, "not a member"},
		{"POST", "/v1/partitions/3/safemode/clear", `{"kept":"h2"}`, 400, `unknown key`},
		{"GET", "/v1/partitions/3/versions?key=x", ``, 400, "no slash"},
		{"POST", "/v1/partitions/3/safemode", `{}`, 400, `\"reason\" is missing`},
	} {
		h := newFakeHost("h1")
		r := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body))
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		w := httptest.NewRecorder()
		New(h, Options{MaxBody: 256}).Handler().ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %.60s: status %d, body %s", tc.method, tc.path, tc.body, w.Code, w.Body)
		}
		if h.lastCall() != "" {
			t.Errorf("%s %s reached the host: %s", tc.method, tc.path, h.lastCall())
		}
	}
	w := httptest.NewRecorder()
	New(newFakeHost("h1"), Options{}).Handler().ServeHTTP(w, httptest.NewRequest("POST", doc, strings.NewReader(`{"seqBegin":1,"seqEnd":1}`)))
	if w.Code != 415 {
		t.Errorf("a body without a content type: status %d, body %s", w.Code, w.Body)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	check := func(h *fakeHost, path string, status int, says string) {
		t.Helper()
		w := httptest.NewRecorder()
		New(h, Options{}).Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != status || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: status %d, body %s", path, w.Code, w.Body)
		}
	}
	h := newFakeHost("h1")
	check(h, "/v1/health", 200, `"ok":true`)
	check(h, "/v1/ready", 200, `"ok":true`)
	h.status.Partitions[0].Leader = ""
	check(h, "/v1/health", 200, `"ok":true`)
	check(h, "/v1/ready", 503, "1 partition without a leader")
	h.status.Draining = true
	check(h, "/v1/ready", 503, "draining")
	h.status.Failed = "fsync: EIO"
	check(h, "/v1/health", 503, "fsync: EIO")
}

func TestClientFollowsTheLeader(t *testing.T) {
	follower, leader := newFakeHost("h1"), newFakeHost("h2")
	follower.fail = &adamant.NotLeaderError{Partition: 3, Leader: "h2", Addr: "10.0.0.2:7400", Epoch: 4}
	c := start(t, Options{}, follower, leader)
	if err := c.Delete(t.Context(), game); err != nil || leader.lastCall() != "delete games/g1" {
		t.Errorf("%v, the leader saw %q", err, leader.lastCall())
	}
	for _, err := range c.Log(t.Context(), game, "") {
		if err != nil {
			t.Error(err)
		}
	}
	if leader.lastCall() != "log games/g1" {
		t.Errorf("the leader saw %q", leader.lastCall())
	}
	alone := start(t, Options{}, follower)
	if err := alone.Delete(t.Context(), game); !reflect.DeepEqual(err, follower.fail) {
		t.Errorf("without the leader's endpoint: %v", err)
	}
	// The leader's address came with the answer. In the clear it is not followed to another machine.
	addr := c.endpoints[1].addr
	follower.fail = &adamant.NotLeaderError{Partition: 3, Leader: "h2", Addr: "10.0.0.2:7400", HTTP: addr, Epoch: 4}
	if err := alone.Replace(t.Context(), game, 1, []byte("{}")); err != nil || leader.lastCall() != "replace games/g1 1 {}" {
		t.Errorf("%v, the leader saw %q", err, leader.lastCall())
	}
	follower.fail = &adamant.NotLeaderError{Partition: 3, Leader: "h2", HTTP: "192.0.2.1:7480"}
	if err := alone.Delete(t.Context(), game); !reflect.DeepEqual(err, follower.fail) {
		t.Errorf("an address elsewhere: %v", err)
	}
}

// What was refused while leadership moves is asked again, as long as the client has patience; nothing else is.
func TestClientPatience(t *testing.T) {
	for _, moving := range []error{&adamant.NotLeaderError{Partition: 3}, &adamant.UnavailableError{Partition: 3, Reason: "no lease"}} {
		h := newFakeHost("h1")
		h.setFail(moving)
		c := start(t, Options{}, h)
		if err := c.Delete(t.Context(), game); !reflect.DeepEqual(err, moving) || len(h.calls) != 1 {
			t.Errorf("without patience: %v after %d calls", err, len(h.calls))
		}
		c.Patience = time.Minute
		done := make(chan error, 1)
		go func() { done <- c.Delete(t.Context(), game) }()
		waitFor(t, func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.calls) >= 3 })
		h.setFail(nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	h := newFakeHost("h1")
	h.fail = &adamant.AmbiguousError{Partition: 3, Key: game, Reason: "leadership lost"}
	c := start(t, Options{}, h)
	c.Patience = time.Minute
	if err := c.Delete(t.Context(), game); !reflect.DeepEqual(err, h.fail) || len(h.calls) != 1 {
		t.Errorf("an unknown outcome: %v after %d calls", err, len(h.calls))
	}
}

func TestClientTriesTheNextEndpoint(t *testing.T) {
	h := newFakeHost("h1")
	server := httptest.NewServer(New(h, Options{}).Handler())
	defer server.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	c, err := NewClient([]string{dead.Listener.Addr().String(), server.Listener.Addr().String()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), game); err != nil {
		t.Error(err)
	}
	if _, err := NewClient(nil, nil); err == nil {
		t.Error("a client without addresses")
	}
	if _, err := NewClient([]string{"nowhere"}, nil); err == nil {
		t.Error("an address without a port")
	}
	only, _ := NewClient([]string{dead.Listener.Addr().String()}, nil)
	var gone *UnreachableError
	if err := only.Delete(t.Context(), game); !errors.As(err, &gone) || gone.Sent {
		t.Errorf("a dead host: %v", err)
	}
}

func TestTooManyRequests(t *testing.T) {
	h := newFakeHost("h1")
	h.block = make(chan struct{})
	server := httptest.NewServer(New(h, Options{MaxRequests: 1}).Handler())
	defer server.Close()
	first := make(chan error, 1)
	go func() {
		resp, err := http.Get(server.URL + "/v1/documents/games/g1")
		if err == nil {
			resp.Body.Close()
		}
		first <- err
	}()
	<-h.entered
	resp, err := http.Get(server.URL + "/v1/documents/games/g2")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"kind":"busy"`) {
		t.Errorf("status %d, %s", resp.StatusCode, body)
	}
	if resp, err := http.Get(server.URL + "/v1/status"); err != nil || resp.StatusCode != 200 {
		t.Errorf("status is refused when busy: %v", err)
	} else {
		resp.Body.Close()
	}
	close(h.block)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestRequestDeadline(t *testing.T) {
	h := newFakeHost("h1")
	h.block = make(chan struct{})
	w := httptest.NewRecorder()
	start := time.Now()
	New(h, Options{}).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/documents/games/g1?timeout=20ms", nil))
	if w.Code != 503 || time.Since(start) > time.Minute/2 {
		t.Errorf("status %d after %v", w.Code, time.Since(start))
	}
}

func TestMetricsAreConsistent(t *testing.T) {
	h := newFakeHost("h1")
	h.status.Peers = []adamant.PeerStatus{{Host: "h2", Alive: true, RoundTrip: time.Millisecond}, {Host: "h3"}}
	h.status.Partitions = append(h.status.Partitions, adamant.PartitionStatus{ID: 4, Repair: &adamant.RepairStatus{BucketsDone: 5, BucketsTotal: 256}})
	h.metrics = adamant.Metrics{Operations: map[string]adamant.OperationMetrics{"append": {Errors: map[int]uint64{621580: 2},
		Latency: adamant.Histogram{Count: 3, Sum: time.Second, Buckets: [adamant.LatencyBuckets]uint64{1, 1, adamant.LatencyBuckets - 1: 1}}}}}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(h, "v1"))
	if _, err := registry.Gather(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	New(h, Options{Version: "v1"}).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`adamant_info{cluster="test",host="h1",incarnation="i1",version="v1"} 1`,
		`adamant_operation_errors_total{code="621580",operation="append"} 2`,
		`adamant_operation_seconds_bucket{operation="append",le="0.000128"} 2`,
		`adamant_operation_seconds_bucket{operation="append",le="+Inf"} 3`,
		`adamant_operation_seconds_count{operation="append"} 3`,
		`adamant_partition_repair_buckets_done{partition="4"} 5`,
		`adamant_peer_alive{peer="h3"} 0`,
		`adamant_members_leading 1`,
	} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
}

func FuzzDelta(f *testing.F) {
	for _, seed := range []string{`{"seqBegin":1,"seqEnd":2,"redo":{"a":[1, 2]},"undo":null,"who":"x","assetBytes":-1}`,
		`{"seqBegin":0,"seqEnd":0,"redoBytes":"AAH/","requiresFutureInvalidation":true}`, `{}`, `{"seqEnd":1,"seqBegin":1,"redo":`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Delta
		if decodeStrict(data, &d) != nil {
			return
		}
		text, err := marshal(d)
		if err != nil {
			t.Fatalf("%s does not encode: %v", data, err)
		}
		var again Delta
		if err := decodeStrict(text, &again); err != nil {
			t.Fatalf("%s became %s: %v", data, text, err)
		}
		second, err := marshal(again)
		if err != nil || string(text) != string(second) {
			t.Fatalf("%s became %s, then %s: %v", data, text, second, err)
		}
	})
}

// FuzzBodies: whatever is posted to the routes that take JSON is answered, by an error that says so or by having done it.
func FuzzBodies(f *testing.F) {
	const doc = "/v1/documents/games/g1"
	routes := []string{doc + "/append", doc + "/compact", doc + "/replace", doc, "/v1/partitions/3/transfer", "/v1/partitions/3/safemode",
		"/v1/partitions/3/safemode/clear"}
	for i, body := range []string{`{"deltas":[{"seqBegin":1,"seqEnd":1,"redo":{}}]}`, `{"seq":1,"history":2,"json":{"a":1}}`, `{"seq":1,"json":null}`,
		`{"seqBegin":1,"seqEnd":1,"redo":{}}`, `{"host":"h2"}`, `{"reason":""}`, `{"keep":"h1"}`} {
		f.Add(byte(i), []byte(body))
		f.Add(byte(i), []byte(body+"}"))
	}
	f.Fuzz(func(t *testing.T, route byte, body []byte) {
		h := newFakeHost("h1")
		r := httptest.NewRequest("POST", routes[int(route)%len(routes)], bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		New(h, Options{}).Handler().ServeHTTP(w, r)
		var failure struct{ Error string }
		switch done := w.Code < 300; {
		case !done && (w.Code < 400 || json.Unmarshal(w.Body.Bytes(), &failure) != nil || failure.Error == ""):
			t.Fatalf("%s of %q: %d %s", r.URL, body, w.Code, w.Body)
		case !(json.Valid(body) && utf8.Valid(body)) && (done || len(h.calls) > 0):
			t.Fatalf("%s of %q was done: %q", r.URL, body, h.calls)
		}
	})
}

// The reference names every route, and only routes there are.
func TestReferenceMatchesTheRoutes(t *testing.T) {
	text, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)(?:^### |, )(GET|POST|DELETE) (/[^ ?,\n]+)`).FindAllStringSubmatch(string(text), -1) {
		route := m[1] + " " + strings.NewReplacer("SPACE", "{space}", "KEY", "{key}", "ID", "{id}").Replace(m[2])
		documented[route] = true
	}
	source, err := os.ReadFile("routes.go")
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, m := range regexp.MustCompile(`mux\.Handle\("(GET|POST|DELETE) ([^"]*)"(\+document(?:\+"([^"]*)")?)?`).FindAllStringSubmatch(string(source), -1) {
		path := m[2]
		if m[3] != "" {
			path += "/v1/documents/{space}/{key}" + m[4]
		}
		served[m[1]+" "+path] = true
	}
	if len(served) < 15 || !reflect.DeepEqual(served, documented) {
		t.Errorf("served %v\ndocumented %v", served, documented)
	}
}

// TestSafeModeAtAMember: an endpoint whose host is not a member of the partition is passed over.
func TestSafeModeAtAMember(t *testing.T) {
	other, member := newFakeHost("h1"), newFakeHost("h2")
	other.status.Partitions = nil
	member.status.Partitions[0].SafeMode = "two histories"
	member.status.Partitions[0].Divergences = []adamant.Divergence{{Host: "h2", Peer: "h3", Bucket: 7}}
	c := start(t, Options{}, other, member)
	s, err := c.SafeMode(t.Context(), 3)
	if err != nil || s.Host != "h2" || s.Reason != "two histories" || !reflect.DeepEqual(s.Divergences, member.status.Partitions[0].Divergences) {
		t.Errorf("%+v, %v", s, err)
	}
	waiting, err := c.ClearSafeMode(t.Context(), 3, "h2")
	if err != nil || len(waiting) != 1 || member.lastCall() != `clear 3 "h2"` {
		t.Errorf("%v, %v, the host saw %q", waiting, err, member.lastCall())
	}
	if cmp, err := c.Compare(t.Context(), 3, game); err != nil || cmp.FirstSeq != 5 {
		t.Errorf("%+v, %v", cmp, err)
	}
	if _, err := c.SafeMode(t.Context(), 9); err == nil || !strings.Contains(err.Error(), "not a member") {
		t.Errorf("partition without a member: %v", err)
	}
	if list := c.Statuses(t.Context()); len(list) != 2 || list[1].Status.Host != "h2" || list[0].Err != nil {
		t.Errorf("%+v", list)
	}
}
