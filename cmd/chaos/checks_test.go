//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/httpapi"
	"github.com/adamantdb/adamant/internal/lincheck"
)

func testField(t *testing.T) *field {
	t.Helper()
	r, err := newRecord(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
	return &field{record: r}
}

// merged is a document as the store shows it.
func merged(d *document, after, head int64) map[string]json.RawMessage {
	changes := map[string]json.RawMessage{}
	for _, x := range d.deltas(after+1, head) {
		var one struct{ Changes map[string]json.RawMessage }
		if err := json.Unmarshal(x.Redo, &one); err != nil {
			panic(err)
		}
		maps.Copy(changes, one.Changes)
	}
	return changes
}

func text(changes map[string]json.RawMessage) []byte {
	b, err := json.Marshal(map[string]any{"changes": changes})
	if err != nil {
		panic(err)
	}
	return b
}

// TestWhatReadersNotice: every way in which an answer can be wrong is a failure of its kind.
func TestWhatReadersNotice(t *testing.T) {
	d := &document{key: adamant.Key{Space: space, Key: "d"}, trace: madeUp(3), from: 100, limit: 50}
	d.proposed.Store(12)
	right := func(after, head int64) httpapi.Document {
		return httpapi.Document{Head: head, JSON: text(merged(d, after, head))}
	}
	without := merged(d, 5, 10)
	delete(without, "107")
	other := merged(d, 5, 10)
	other["107"] = other["108"]
	for _, c := range []struct {
		name string
		s    sight
		got  httpapi.Document
		err  error
		want string
	}{
		{"as acknowledged", sight{acked: 10, after: 5}, right(5, 10), nil, ""},
		{"what was not acknowledged yet", sight{acked: 10, after: 5}, right(5, 12), nil, ""},
		{"old", sight{acked: 10, after: 5}, right(5, 9), nil, "stale"},
		{"old, and says so", sight{acked: 10, after: 5, stale: true}, right(5, 9), nil, ""},
		{"old, by its error", sight{acked: 10, after: 10}, httpapi.Document{}, &adamant.FutureError{Seq: 10, Head: 9}, "stale"},
		{"missing", sight{acked: 10, after: 5}, httpapi.Document{}, &adamant.NotFoundError{}, "stale"},
		{"compacted", sight{acked: 10, after: 5}, httpapi.Document{}, &adamant.HorizonError{}, ""},
		{"from the future", sight{acked: 10, after: 5}, right(5, 13), nil, "failure"},
		{"one lost", sight{acked: 10, after: 5}, httpapi.Document{Head: 10, JSON: text(without)}, nil, "lost"},
		{"one changed", sight{acked: 10, after: 5}, httpapi.Document{Head: 10, JSON: text(other)}, nil, "lost"},
		{"one changed, in a stale read", sight{acked: 10, after: 5, stale: true}, httpapi.Document{Head: 10, JSON: text(other)}, nil, "lost"},
		{"deleted, and back", sight{acked: 10, after: 5, deleted: true}, right(5, 10), nil, "resurrected"},
		{"deleted, not everywhere", sight{acked: 10, after: 5, deleted: true, stale: true}, right(5, 10), nil, ""},
	} {
		f := testField(t)
		f.compare(d, "h1", c.s, c.got, c.err)
		got := ""
		switch {
		case f.stale.Load() > 0:
			got = "stale"
		case f.lost.Load() > 0:
			got = "lost"
		case f.resurrected.Load() > 0:
			got = "resurrected"
		case f.failed():
			got = "failure"
		}
		if got != c.want || f.failed() != (c.want != "") {
			t.Errorf("%s: %q, want %q: %v", c.name, got, c.want, f.failures)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err  error
		want verdict
	}{
		{nil, done},
		{&adamant.NotLeaderError{}, refused},
		{&adamant.UnavailableError{}, refused},
		{&adamant.SafeModeError{}, refused},
		{&httpapi.Error{Kind: httpapi.KindClosed}, refused},
		{&httpapi.UnreachableError{Err: errors.New("refused")}, refused},
		{&httpapi.UnreachableError{Err: context.DeadlineExceeded, Sent: true}, unknown},
		{&adamant.AmbiguousError{}, unknown},
		{&httpapi.Error{Kind: httpapi.KindInternal}, unknown},
		{fmt.Errorf("append: %w", &adamant.SeqMismatchError{}), answered},
		{&adamant.NotFoundError{}, answered},
		{&httpapi.Error{Kind: httpapi.KindCorruption}, broken},
		{errors.New("something else"), broken},
	} {
		if got := judge(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// TestAlarms: a host whose log tells of a race or a panic fails the run.
func TestAlarms(t *testing.T) {
	f := testField(t)
	f.o.Dir = t.TempDir()
	h, err := newHost(f, "h1")
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{"level=INFO msg=well\n", "level=INFO msg=well\nWARNING: DATA RACE\n", "panic: at the end"} {
		if err := os.WriteFile(h.log(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f.failures = nil
		if err := h.readLog(); err != nil || f.failed() != (i > 0) {
			t.Errorf("%q: failed %t, %v", text, f.failed(), err)
		}
	}
}

// TestBadTexts: each of the bad files has to be refused, and would show if it were not.
func TestBadTexts(t *testing.T) {
	spec := config.Spec{Cluster: "chaos", Hosts: map[string]config.Host{}, Insecure: true, Groups: []config.Group{{Partitions: 4, Voters: 3}}}
	for i, name := range hostNames(4) {
		spec.Hosts[name] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7001+i)}
	}
	good, err := config.Generate(spec)
	if err != nil {
		t.Fatal(err)
	}
	for kind := range badTexts {
		what, text := badText(good, "h2", "mark", kind)
		bad, err := config.Parse(text, "bad")
		if err == nil {
			err = good.CheckSuccessor(bad)
		}
		if err == nil {
			t.Errorf("%s is good", what)
		}
		if bad != nil && bad.Hosts["h2"].Zone == good.Hosts["h2"].Zone {
			t.Errorf("%s could not be told from what is in force", what)
		}
		f := testField(t)
		a := &agent{field: f}
		a.judgeBadFile(&host{name: "h2"}, good, "mark", what, inForce{version: good.Version, zones: map[string]string{"h2": ""}})
		if f.failed() {
			t.Errorf("%s was refused: %v", what, f.failures)
		}
		a.judgeBadFile(&host{name: "h2"}, good, "mark", what, inForce{version: good.Version, zones: map[string]string{"h2": "mark"}})
		if !f.failed() {
			t.Errorf("nobody sees that %s was taken", what)
		}
	}
}

// TestContestsAreJudgedAgain: what is lost of a contest's document after it was judged, or comes back, is seen; what had an unknown
// outcome may come late.
func TestContestsAreJudgedAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	read := func(ids ...string) lincheck.Op {
		return lincheck.Op{Kind: lincheck.Read, Known: true, Found: ids != nil, Seq: 1, IDs: ids}
	}
	late := lincheck.Op{Kind: lincheck.Append, Seq: 3, IDs: []string{"c"}}
	for _, c := range []struct {
		name              string
		then, now         lincheck.Op
		unknown           []lincheck.Op
		lost, resurrected int64
	}{
		{"the same", read("a", "b"), read("a", "b"), nil, 0, 0},
		{"deleted, and still", read(), read(), nil, 0, 0},
		{"late", read("a", "b"), read("a", "b", "c"), []lincheck.Op{late}, 0, 0},
		{"never", read("a", "b"), read("a", "b"), []lincheck.Op{late}, 0, 0},
		{"shorter", read("a", "b"), read("a"), []lincheck.Op{late}, 1, 0},
		{"gone", read("a", "b"), read(), nil, 1, 0},
		{"back", read(), read("a", "b"), nil, 0, 1},
		{"longer", read("a", "b"), read("a", "b", "c"), nil, 0, 1},
	} {
		f := testField(t)
		f.remember(adamant.Key{Space: contestSpace, Key: "1-1"}, c.unknown, c.then, r)
		f.judgeAgain(f.judged[0], c.now)
		if f.lost.Load() != c.lost || f.resurrected.Load() != c.resurrected || f.failed() != (c.lost+c.resurrected > 0) {
			t.Errorf("%s: %d lost, %d back, %v", c.name, f.lost.Load(), f.resurrected.Load(), f.failures)
		}
	}
}
