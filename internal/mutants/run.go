package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// bench is a copy of the tree with all mutants in it, of which none or one is chosen when a test runs.
type bench struct {
	root     string            // of the copy
	bin      string            // where test binaries go
	binaries map[string]string // by package, as far as they are compiled
}

// newBench copies the module at root and puts mutants into the copy. The caller removes it.
func newBench(root string, list []mutant) (*bench, error) {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return nil, err
	}
	b := &bench{root: filepath.Join(dir, "tree"), bin: filepath.Join(dir, "bin"), binaries: map[string]string{}}
	err = errors.Join(os.Mkdir(b.bin, 0o755), copyTree(b.root, root))
	if err == nil {
		err = putIn(b.root, list)
	}
	if err != nil {
		return nil, errors.Join(err, b.remove())
	}
	return b, nil
}

func (b *bench) remove() error { return os.RemoveAll(filepath.Dir(b.root)) }

// copyTree copies regular files and directories, all but version control's.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case e.Name() == ".git" && e.IsDir():
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(target, 0o755)
		case !e.Type().IsRegular() || e.Name() == ".git":
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}

// binary compiles a package's tests, once, and returns where they are. A mutant that does not compile fails all of them.
func (b *bench) binary(ctx context.Context, pkg string) (string, error) {
	if bin := b.binaries[pkg]; bin != "" {
		return bin, nil
	}
	bin := filepath.Join(b.bin, fmt.Sprintf("%d.test", len(b.binaries)))
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags=-s -w", "-o", bin, "./"+pkg)
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &compileError{pkg, out, err}
	}
	b.binaries[pkg] = bin
	return bin, nil
}

// compileError says that a package's tests do not compile: a mutant is to blame, and none can be tried.
type compileError struct {
	pkg string
	out []byte
	err error
}

func (e *compileError) Error() string {
	return fmt.Sprintf("compile the tests of %s: %v\n%s", e.pkg, e.err, e.out)
}
func (e *compileError) Unwrap() error { return e.err }

// patience is how long a test may take: many times as long as the slowest does.
const patience = "1m"

// test runs the mutant's test, with the mutant or without, and returns what it wrote; the error is that of a test that fails.
func (b *bench) test(ctx context.Context, bin string, m *mutant, chosen string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, "-test.v", "-test.failfast", "-test.short", "-test.run", "^"+m.test+"$", "-test.timeout", patience)
	cmd.Dir = filepath.Join(b.root, m.pkg)
	cmd.Env = append(os.Environ(), environment+"="+chosen)
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// result is what became of one mutant.
type result struct {
	caught bool
	by     string // the test that failed, or how its process ended
	took   time.Duration
}

// attempts is how often a test without a mutant may fail, on a busy machine, before it counts as failing.
const attempts = 3

// try runs a mutant's test without the mutant, until it passes, and with it: a test that fails twice in a row has caught it,
// one that fails now and then says nothing. An error means that the mutant could not be tried.
func (b *bench) try(ctx context.Context, m *mutant) (r result, err error) {
	bin, err := b.binary(ctx, m.pkg)
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := b.passes(ctx, bin, m); err != nil {
		return r, fmt.Errorf("%s: without the mutant: %w", m.name, err)
	}
	r.caught = true
	for range 2 {
		out, failed := b.test(ctx, bin, m, m.name)
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if r.caught = failed != nil; !r.caught {
			break
		}
		if r.by = failing(out); r.by == endless {
			break
		}
	}
	r.took = time.Since(began)
	return r, nil
}

func (b *bench) passes(ctx context.Context, bin string, m *mutant) error {
	var out string
	var err error
	for range attempts {
		if out, err = b.test(ctx, bin, m, ""); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", m.test, err, tail(out))
	}
	if !strings.Contains(out, "--- PASS: "+m.test+" ") {
		return fmt.Errorf("%s did not run\n%s", m.test, tail(out))
	}
	return nil
}

var failLine = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// endless is what a test is called by that does not end.
const endless = "its end, which did not come"

// failing names the innermost test that failed first; a process may also end without a word about a test.
func failing(out string) string {
	best := ""
	for _, n := range failLine.FindAllStringSubmatch(out, -1) {
		if strings.HasPrefix(n[1], best) {
			best = n[1]
		}
	}
	switch {
	case strings.Contains(out, "panic: test timed out"):
		return endless
	case best != "":
		return best
	case strings.Contains(out, "panic: "):
		return "a panic"
	}
	return "its exit status"
}

// tail is the end of what a test wrote.
func tail(out string) string {
	const most = 4 << 10
	return out[max(0, len(out)-most):]
}
