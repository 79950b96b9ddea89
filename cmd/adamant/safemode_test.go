package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

func TestSafemodeCommands(t *testing.T) {
	addr, stop := served(t, filepath.Join(t.TempDir(), "data"), nil)
	defer stop()
	ready(t, addr)
	do := func(args ...string) result { return command(t, "", append(args, "--http", addr)...) }
	do("doc", "create", "games/g1", "--redo", `{"x":1}`).want(t, 0, "", "")
	do("safemode", "show").want(t, 0, "no safe mode", "")
	do("partition", "safe-mode", "0", "--reason", "look at it").want(t, 0, "on", "")
	do("safemode", "show", "0").want(t, 0, ": look at it", "")
	do("safemode", "show", "1").want(t, 0, "no safe mode", "")
	do("safemode", "compare", "1", "games/g1").want(t, 0, "the same wherever it was read", "")
	do("safemode", "compare", "1", "games/g1", "--json").want(t, 0, `"firstSeq":-1`, "")
	do("safemode", "compare", "0", "games/g1").want(t, 1, "", "belongs to partition 1")
	do("safemode", "compare", "0").want(t, 1, "", "no document of partition 0 is reported by name")
	do("safemode", "clear", "0", "--keep", "h9").want(t, 1, "", "is not a member")
	do("safemode", "clear", "0").want(t, 0, "safe mode off", "")
	do("safemode", "clear", "0").want(t, 1, "", "has not diverged")
	do("safemode", "clear", "9").want(t, 1, "", "not a member")
	do("doc", "append", "games/g1", "--redo", `{"x":2}`).want(t, 0, "", "")
}

func TestPrintSafeModes(t *testing.T) {
	report := adamant.Divergence{Host: "h2", Peer: "h3", Bucket: 77, Index: 812, Time: time.Unix(0, 0),
		Documents: []adamant.DivergedDocument{{Key: "games/g1", Seq: 4, Reason: "different at one index"}}}
	status := func(host, mode, restoring string) httpapi.EndpointStatus {
		return httpapi.EndpointStatus{Addr: host, Status: adamant.Status{Host: host, Partitions: []adamant.PartitionStatus{
			{ID: 12, SafeMode: mode, Restoring: restoring, Divergences: []adamant.Divergence{report}}, {ID: 13}}}}
	}
	down := httpapi.EndpointStatus{Addr: "h9", Err: errors.New("refused")}
	var b strings.Builder
	if err := printSafeModes(&b, []httpapi.EndpointStatus{status("h1", "two histories", ""), status("h2", "", "h1"), down}, -1); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the host at h9 is not asked: refused", "partition 12\n  on h1: two histories\n  on h2: over; it takes over the version of h1\n",
		"h2  h3       812    77      games/g1 at seq 4: different at one index"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if n := strings.Count(b.String(), "games/g1"); n != 1 {
		t.Errorf("one report is shown %d times", n)
	}
	if err := printSafeModes(&b, []httpapi.EndpointStatus{down}, -1); err == nil {
		t.Error("nobody answered, and all is well")
	}
}

func TestPrintComparison(t *testing.T) {
	c := adamant.Comparison{Partition: 12, Document: "games/g1", Differ: true, FirstSeq: 4, Searched: 3, Versions: []adamant.Version{
		{Host: "h1", Applied: 9, Exists: true, Head: 4, Chain: "91c2", Floor: -1, Base: "77", BaseSeq: 2, Delta: &adamant.VersionDelta{SeqBegin: 4, SeqEnd: 4, Chain: "91c2", Redo: `{"turn":"black"}`, Cut: true}},
		{Host: "h2", Error: "not reached"}, {Host: "h3", Applied: 9, Complete: true}}}
	var b strings.Builder
	if err := printComparison(&b, &c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"document games/g1 of partition 12: different from seq 4 on", "h2    not reached", "h3    9  not there\n", "77 at 2",
		`redo {"turn":"black"}`, ", cut", "h3 has no delta there"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
