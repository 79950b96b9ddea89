package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run returns the exit status: 0 when every mutant was caught, 1 when one survived, 2 for everything else.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(errOut)
	only := flags.String("run", "", "try only mutants whose names match this regular expression")
	list := flags.Bool("list", false, "print the table for docs/testing.md and try nothing")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	chosen, err := choose(*only)
	if err != nil {
		fmt.Fprintln(errOut, err)
		return 2
	}
	if *list {
		fmt.Fprint(out, document(chosen))
		return 0
	}
	survived, err := tryAll(ctx, chosen, out)
	switch {
	case err != nil:
		fmt.Fprintln(errOut, err)
		return 2
	case survived > 0:
		return 1
	}
	return 0
}

// choose returns the mutants whose names match.
func choose(expr string) ([]mutant, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	var chosen []mutant
	for _, m := range mutants() {
		if re.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no mutant matches %q", expr)
	}
	return chosen, nil
}

// tryAll tries mutants in a copy of the tree and counts those that survive.
func tryAll(ctx context.Context, list []mutant, out io.Writer) (survived int, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return 0, err
	}
	b, err := newBench(root, list)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.remove()) }()
	began := time.Now()
	var broken []error
	for i := range list {
		m := &list[i]
		r, err := b.try(ctx, m)
		switch {
		case ctx.Err() != nil:
			return survived, ctx.Err()
		case errors.As(err, new(*compileError)):
			return survived, err
		case err != nil:
			broken = append(broken, err)
			fmt.Fprintf(out, "BROKEN    %s\n", m.name)
		case r.caught:
			fmt.Fprintf(out, "caught    %s, by %s (%s)\n", m.name, r.by, r.took.Round(time.Second))
		default:
			survived++
			fmt.Fprintf(out, "SURVIVED  %s: %s passes without it (%s)\n", m.name, m.test, r.took.Round(time.Second))
		}
	}
	fmt.Fprintf(out, "%d mutants: %d caught, %d survived, %d broken, in %s\n", len(list), len(list)-survived-len(broken), survived, len(broken),
		time.Since(began).Round(time.Second))
	return survived, errors.Join(broken...)
}

// moduleRoot is where the module's go.mod is.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}
