// Package fuzzing lets the ordinary tests try inputs that nobody has written down. `go test` runs the fuzz targets' corpora and
// nothing else; Moment mutates them for a moment, without the guidance of coverage, which would need another build of
// everything. The guided runs are .ci/fuzz (docs/testing.md).
package fuzzing

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Inputs that each target is tried with, and under -short.
const (
	inputs      = "2000x"
	shortInputs = "200x"
)

// Moment tries each fuzz target of the package whose test calls it with some inputs made from its corpus. An input that fails
// is written to the package's testdata/fuzz, and fails in every run from then on.
func Moment(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("finding the test's own program: %v", err)
	}
	listed, err := exec.CommandContext(t.Context(), self, "-test.list=^Fuzz").Output()
	if err != nil {
		t.Fatalf("listing the fuzz targets of %s: %v", self, err)
	}
	targets := strings.Fields(string(listed))
	tried := 0
	for _, target := range targets {
		if !strings.HasPrefix(target, "Fuzz") {
			continue
		}
		tried++
		t.Run(target, func(t *testing.T) { moment(t, self, target) })
	}
	if tried == 0 {
		t.Fatalf("%s has no fuzz targets: it listed %q", self, listed)
	}
}

// moment tries one target with some inputs, in the directory of its package.
func moment(t *testing.T, self, target string) {
	count := inputs
	if testing.Short() {
		count = shortInputs
	}
	if err := try(t.Context(), command{self: self, target: target, count: count, cache: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
}

// A command is one run of a fuzz target in a process of its own: Go's fuzzing takes one target, and works with processes anyhow.
type command struct {
	self   string // the test's program
	target string
	count  string // of inputs, as -test.fuzztime takes it
	cache  string // a directory for what it finds interesting
	dir    string // where it runs, and keeps inputs that fail; empty: here
}

// try returns an error, with what the target said, when an input fails or nothing was tried.
func try(ctx context.Context, c command) error {
	// One worker: other packages are tested at the same time.
	run := exec.CommandContext(ctx, c.self, "-test.run=^$", "-test.fuzz=^"+c.target+"$", "-test.fuzztime="+c.count,
		"-test.parallel=1", "-test.fuzzcachedir="+c.cache)
	run.Dir = c.dir
	// A process that the race detector watches would linger for a second at its end, and these end three times a target.
	run.Env = append(os.Environ(), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	said, err := run.CombinedOutput()
	switch {
	case err != nil:
		return fmt.Errorf("%s with %s inputs: %w\n%s", c.target, c.count, err, said)
	case !strings.Contains(string(said), "now fuzzing"):
		return fmt.Errorf("%s was not fuzzed:\n%s", c.target, said)
	}
	return nil
}
