package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// result is what a command did.
type result struct {
	code      int
	out, errs string
}

func command(t *testing.T, input string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(input), &out, &errs)
	return result{code, out.String(), errs.String()}
}

func (r result) want(t *testing.T, code int, out, errs string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.errs, errs) || errs == "" && r.errs != "" {
		t.Errorf("status %d\nout: %s\nerr: %s\nwant status %d, %q, %q", r.code, r.out, r.errs, code, out, errs)
	}
}

func threeHosts(more ...string) []string {
	return append([]string{"config", "generate", "--host", "h1=127.0.0.1:7401,a", "--host", "h2=127.0.0.1:7402,b", "--host", "h3=127.0.0.1:7403,c"}, more...)
}

func TestConfigCommands(t *testing.T) {
	dir := t.TempDir()
	file, next := filepath.Join(dir, "cluster.json"), filepath.Join(dir, "next.json")
	command(t, "", threeHosts("--partitions", "12", "--out", file, "--gossip-key")...).want(t, 0, "", "")
	command(t, "", threeHosts("--out", file)...).want(t, 1, "", "exists; --force replaces it")
	command(t, "", "config", "validate", file).want(t, 0, "valid: cluster adamant, version 1, 3 hosts, 12 partitions", "")
	command(t, "", "config", "plan", file).want(t, 0, "12 partitions", "")
	command(t, "", "config", "plan", file, "--add-host", "h4=127.0.0.1:7404,a", "--out", next).want(t, 0, "of 36 copies to be made elsewhere; the added hosts take", "")
	command(t, "", "config", "validate", "--successor-of", file, next).want(t, 0, "version 2, 4 hosts", "")
	command(t, "", "config", "validate", "--successor-of", next, file).want(t, 1, "", "version")
	command(t, "", "config", "plan", file, next).want(t, 0, "version 1 → 2", "")
	command(t, "", "config", "plan", next, "--remove-host", "h4").want(t, 0, "the removed hosts hold", "")
	command(t, "", "config", "plan", file, "--remove-host", "h1").want(t, 1, "", "need as many hosts")
	c, err := config.Load(file)
	if err != nil || len(c.GossipKey) != 32 {
		t.Errorf("%+v, %v", c, err)
	}
	command(t, "", threeHosts("--group", "4:3", "--group", "2:1:1", "--insecure")...).want(t, 0, `"insecure": true`, "")
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte("{\n\"cluster\": 5,\n\"hots\": {}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := command(t, "", "config", "validate", bad, file)
	r.want(t, 1, "valid", "adamant: "+bad+":2:")
	if !strings.Contains(r.errs, ":3: hots") {
		t.Errorf("not every problem is named:\n%s", r.errs)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"}, {"--bogus"}, {"demo", "extra"}, {"demo", "--log", "wal"}, {"config", "nonsense"}, {"config", "validate"}, {"config", "plan"},
		{"config", "plan", "a", "b", "c"}, {"config", "plan", "a", "b", "--remove-host", "x"}, {"config", "plan", "a", "--out", "b"},
		{"config", "generate", "--host", "h1"}, {"config", "generate", "--host", "h1=a:1", "--host", "h1=a:2"}, {"config", "generate", "--host", "h1=127.0.0.1:1", "--group", "x"},
		{"serve"}, {"serve", "--dir", "d", "--log-level", "loud"}, {"serve", "--dir", "d", "--log-format", "xml"}, {"serve", "--dir", "d", "--consistency", "x"},
		{"serve", "--dir", "d", "--log-engine", "x"}, {"serve", "--dir", "d", "--cluster-file", "f"}, {"serve", "--dir", "d", "--hand-over", "0s"},
		{"status", "--http", "nowhere"}, {"doc", "get"}, {"doc", "get", "nokey"}, {"doc", "get", "games/g", "--consistency", "x"},
		{"doc", "create", "games/g"}, {"doc", "create", "games/g", "--redo", "{"}, {"doc", "append", "games/g", "--redo", "{}", "--file", "x"},
		{"doc", "compact", "games/g"}, {"doc", "list", "--partition", "x"}, {"partition", "transfer", "x", "h1"}, {"partition", "safe-mode", "1"},
		{"partition", "safe-mode", "1", "--clear", "--reason", "x"}, {"status", "--watch", "--json"}, {"safemode", "compare"}, {"safemode", "clear", "x"}, {"safemode", "show", "x"}, {"routing", "nokey"}, {"routing", "games/g1", "--follow"}, {"version", "x"},
	} {
		r := command(t, "not json", args...)
		if r.code != exitUsage || !strings.Contains(r.errs, "--help") || r.out != "" {
			t.Errorf("%v: status %d\nout: %s\nerr: %s", args, r.code, r.out, r.errs)
		}
	}
}

func TestExitStatus(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
	}{
		{errors.New("some"), exitFailed},
		{&adamant.SeqMismatchError{}, exitFailed},
		{&adamant.AmbiguousError{}, exitAmbiguous},
		{&httpapi.UnreachableError{Sent: true, Err: errors.New("reset")}, exitAmbiguous},
		{&httpapi.UnreachableError{Err: errors.New("refused")}, exitRetry},
		{&adamant.NotLeaderError{}, exitRetry},
		{fmt.Errorf("wrapped: %w", &adamant.UnavailableError{}), exitRetry},
		{&httpapi.Error{Kind: httpapi.KindBusy}, exitRetry},
		{&adamant.SafeModeError{}, exitFailed},
		{usageError{errors.New("x")}, exitUsage},
	} {
		if got := exitStatus(tc.err); got != tc.code {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.code)
		}
	}
}

// Every command says what it does, and shows how.
func TestEveryCommandHasAnExample(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || c.Example == "" || c.Args == nil {
			t.Errorf("%s lacks a summary, an example or a check of its arguments", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(sub)
			}
		}
	}
	walk(newRoot())
	command(t, "", "--help").want(t, 0, "Exit status", "")
	command(t, "", "doc").want(t, 0, "Available Commands", "")
	command(t, "", "version").want(t, 0, "adamant ", "")
}

// served runs a host of its own and returns its HTTP address and a function that stops it and gives serve's error.
func served(t *testing.T, dir string, change func(*serveOptions)) (addr string, stop func() error) {
	t.Helper()
	o := serveOptions{http: "127.0.0.1:0", logLevel: "info", logFormat: "json", logEngine: "pebble", reads: "lease", handOver: 5 * time.Second}
	o.host.Dir, o.host.Partitions = dir, 2
	listening := make(chan net.Addr, 1)
	o.listening = func(a net.Addr) { listening <- a }
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	logs := &syncedBuffer{}
	go func() { ended <- serve(ctx, o, logs) }()
	select {
	case a := <-listening:
		addr = a.String()
	case err := <-ended:
		cancel()
		t.Fatalf("serve: %v\n%s", err, logs)
	}
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("serve: %v\n%s", err, logs)
		}
		for line := range strings.Lines(logs.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %s", line)
			}
		}
	})
	return addr, stop
}

type syncedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncedBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncedBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// ready waits until the host serves.
func ready(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r := command(t, "", "doc", "delete", "games/none", "--http", addr)
		r2 := command(t, "", "doc", "delete", "games/other", "--http", addr)
		if r.code == 0 && r2.code == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the host does not serve: %s", r.errs)
		}
	}
}

func TestServeAndDocuments(t *testing.T) {
	dir := t.TempDir()
	addr, stop := served(t, dir, nil)
	ready(t, addr)
	at := func(args ...string) []string { return append(args, "--http", addr) }
	do := func(input string, args ...string) result { t.Helper(); return command(t, input, at(args...)...) }

	do("", "doc", "create", "games/g1", "--redo", `{"turn":"white","n":1}`, "--undo", `{"turn":null,"n":null}`, "--who", "alice").want(t, 0, "1\n", "")
	do("", "doc", "create", "games/g1", "--redo", `{}`).want(t, exitFailed, "", "exists already")
	do("", "doc", "append", "games/g1", "--redo", `{"n":2}`, "--undo", `{"n":1}`).want(t, 0, "2\n", "")
	do("", "doc", "append", "games/g1", "--redo", `{"n":2}`, "--undo", `{"n":1}`, "--seq", "2").want(t, 0, "2\n", "") // the same again
	do("", "doc", "append", "games/g1", "--redo", `{"n":9}`, "--seq", "2").want(t, exitFailed, "", "is at 2")
	do(`{"seqBegin":3,"seqEnd":4,"redo":{"n":3},"undo":{"n":2}} {"seqBegin":5,"seqEnd":5,"redo":{"n":null},"undo":{"n":3}}`, "doc", "append", "games/g1", "--file", "-").want(t, 0, "5\n", "")
	do("", "doc", "get", "games/g1").want(t, 0, `{"turn":"white"}`, "")
	do("", "doc", "get", "games/g1", "--wrap", "--consistency", "stale").want(t, 0, `"staleness":`, "")
	do("", "doc", "head-patch", "games/g1", "--after", "2").want(t, 0, `{"n":null}`, "")
	do("", "doc", "head-patch", "games/g1", "--after", "9").want(t, exitFailed, "", "above its head 5")
	do("", "doc", "rewind", "games/g1", "--to", "1").want(t, 0, `{"n":1}`, "")
	do("", "doc", "log", "games/g1").want(t, 0, `"delta":{"seqBegin":3,"seqEnd":4,"redo":{"n":3},"undo":{"n":2}}`, "")
	do("", "doc", "list", "--space", "games").want(t, 0, `"key":"g1","head":5`, "")
	do(`{"turn":"white"}`, "doc", "compact", "games/g1", "--seq", "5", "--history", "1").want(t, 0, "", "")
	do("", "doc", "rewind", "games/g1", "--to", "1").want(t, exitFailed, "", "only deltas after 4 are kept")
	do("", "doc", "append", "games/g1", "--redo", `{"n":6}`).want(t, 0, "6\n", "")
	do(`{"fresh":true}`, "doc", "replace", "games/g1", "--seq", "2").want(t, 0, "", "")
	do("", "doc", "get", "games/g1").want(t, 0, `{"fresh":true}`, "")

	do("", "status").want(t, 0, "2 members: 2 leading, 2 serving", "")
	do("", "status", "--json").want(t, 0, `"role": "leader"`, "")
	do("", "history", "--partition", "1").want(t, 0, "partition 1 epoch 2: leadership: serving in term 2", "")
	do("", "history", "--json").want(t, 0, `"partition":1,"epoch":2,"kind":"leadership"`, "")
	do("", "history", "--partition", "-1").want(t, exitUsage, "", "want a partition's number")
	do("", "routing").want(t, 0, "local", "")
	do("", "routing", "--json").want(t, 0, `"whole":true`, "")
	do("", "routing", "games/g1").want(t, 0, "is in bucket", "")
	do("", "partition", "safe-mode", "0", "--reason", "a look").want(t, 0, "safe mode on", "")
	do("", "partition", "safe-mode", "1", "--reason", "a look").want(t, 0, "safe mode on", "")
	do("", "doc", "delete", "games/g1").want(t, exitFailed, "", "safe mode")
	do("", "doc", "get", "games/g1", "--consistency", "stale").want(t, 0, "fresh", "")
	do("", "partition", "safe-mode", "0", "--clear").want(t, 0, "safe mode off", "")
	do("", "partition", "safe-mode", "1", "--clear").want(t, 0, "safe mode off", "")

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	do("", "status").want(t, exitRetry, "", "not reachable")
	addr, _ = served(t, dir, nil)
	ready(t, addr)
	do("", "doc", "get", "games/g1").want(t, 0, `{"fresh":true}`, "")
	do("", "doc", "delete", "games/g1").want(t, 0, "", "")
	do("", "doc", "get", "games/g1").want(t, exitFailed, "", "not found")
}

func TestServeRefuses(t *testing.T) {
	dir := t.TempDir()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(dir, "cluster.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"--http", "0.0.0.0:7480"}, "reachable from other machines"},
		{[]string{"--http", busy.Addr().String()}, "in use"},
		{[]string{"--http", "127.0.0.1:0", "--http-cert", "x.pem"}, "needs all three"},
		{[]string{"--http", "unix:" + filepath.Join(dir, "s"), "--cluster-file", file, "--host", "h1"}, "cluster.json:1:"},
	} {
		r := command(t, "", append([]string{"serve", "--dir", filepath.Join(dir, "data")}, tc.args...)...)
		if r.code != exitFailed || !strings.Contains(r.errs, tc.says) {
			t.Errorf("%v: status %d, %s", tc.args, r.code, r.errs)
		}
	}
}

func TestStatusTable(t *testing.T) {
	id := uint32(7)
	now := time.Unix(1_000_000, 0)
	s := adamant.Status{Host: "h1", Incarnation: "i", Cluster: "c", ConfigVersion: 3, ConfigRejected: 2, ConfigError: "version went back", Draining: true,
		SafeMode: "operator", Failed: "fsync", Started: now.Add(-time.Minute), Addr: "127.0.0.1:1",
		Peers: []adamant.PeerStatus{{Host: "h2", Alive: true, LinkUp: true, RoundTrip: 123 * time.Microsecond, Zone: "b"}, {Host: "h3"}},
		Partitions: []adamant.PartitionStatus{
			{ID: 7, Role: adamant.RoleFollower, Leader: "h2", Holes: "[3,9]", Repair: &adamant.RepairStatus{BucketsDone: 5, BucketsTotal: 256}, SafeMode: "divergence",
				Members: []adamant.MemberStatus{{Host: "h1", Voter: true}, {Host: "h3", State: "joining"}}},
			{ID: 8, Role: adamant.RoleLeader, Leader: "h1", Complete: true, NotServing: "no lease"}},
		History: []adamant.Notice{{Time: now, Kind: "hole", Partition: &id, Text: "holes [3,9]"}, {Time: now, Kind: "config", Text: "refused"}}}
	var b strings.Builder
	if err := printStatus(&b, &s, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host h1@i of cluster c, version 3, at 127.0.0.1:1, up 1m0s", "FAILED: fsync", "SAFE MODE: operator", "REFUSED (2 times): version went back", "DRAINING",
		"h2    alive  up    123µs", "h3    DEAD   down", "holes [3,9], healing 5/256, SAFE MODE: divergence", "h1, (h3) joining", "not serving: no lease",
		"hole: partition 7: holes [3,9]", "config: refused"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
