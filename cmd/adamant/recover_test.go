package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adamantdb/adamant"
)

// TestRecoverCommands: a host that is the last of three, by what its survey is made to say. The files that one command writes are what
// the next one reads.
func TestRecoverCommands(t *testing.T) {
	dir := t.TempDir()
	data, surveyed, planned := filepath.Join(dir, "data"), filepath.Join(dir, "h1.json"), filepath.Join(dir, "plan.json")
	addr, stop := served(t, data, nil)
	command(t, "", "doc", "create", "games/g1", "--redo", `{"x":1}`, "--http", addr).want(t, 0, "", "")
	command(t, "", "recover", "survey", "--dir", data).want(t, 1, "", "in use by another process")
	stop()

	r := command(t, "", "recover", "survey", "--dir", data)
	r.want(t, 0, `"founding"`, "partition 0: founding ")
	write(t, surveyed, r.out)
	command(t, "", "recover", "survey").want(t, 2, "", "--dir is required")
	command(t, "", "recover", "plan", surveyed).want(t, 2, "", "--lost is required")
	command(t, "", "recover", "plan", "--lost", "h2,h3", surveyed).want(t, 1, "", "no partition has lost its majority")
	command(t, "", "recover", "plan", "--lost", "local", surveyed).want(t, 1, "", "it is not lost")
	command(t, "", "recover", "plan", "--lost", "h2", surveyed, surveyed).want(t, 1, "", "two surveys of host local")

	var s adamant.HostSurvey
	if err := json.Unmarshal([]byte(r.out), &s); err != nil {
		t.Fatal(err)
	}
	for i := range s.Partitions {
		s.Partitions[i].Voters = append(s.Partitions[i].Voters, "h2@0011223344556677", "h3@0011223344556688")
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	write(t, surveyed, string(b))
	command(t, "", "recover", "plan", "--lost", "h2", surveyed).want(t, 1, "", "with h3 its voters have a majority")
	r = command(t, "", "recover", "plan", "--lost", "h2,h3", surveyed)
	r.want(t, 0, `"partitions"`, "nothing is known to be lost")
	write(t, planned, r.out)
	_, digest, ok := strings.Cut(r.errs, "--confirm ")
	if digest = strings.TrimSpace(digest); !ok || len(digest) != 16 {
		t.Fatalf("no digest in %s", r.errs)
	}
	apply := func(args ...string) result {
		return command(t, "", append([]string{"recover", "apply", "--dir", data, "--plan", planned}, args...)...)
	}
	apply().want(t, 2, "in place of", "add --confirm "+digest)
	apply("--confirm", "0011223344556677").want(t, 1, "", "the plan's digest is "+digest)
	apply("--confirm", digest).want(t, 0, "recovered here: partitions 0", "")
	apply("--confirm", digest).want(t, 0, "recovered here: partitions 0", "")

	addr, stop = served(t, data, nil)
	defer stop()
	command(t, "", "doc", "get", "games/g1", "--http", addr).want(t, 0, `{"x":1}`, "")
	command(t, "", "doc", "append", "games/g1", "--redo", `{"x":2}`, "--http", addr).want(t, 0, "", "")
	command(t, "", "history", "--partition", "0", "--http", addr).want(t, 0, "plan "+digest, "")
	write(t, planned, strings.Replace(r.out, `"term"`, `"therm"`, 1))
	apply("--confirm", digest).want(t, 1, "", "unknown field")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
