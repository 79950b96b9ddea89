package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// The exit status, for scripts.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // wrong flags or arguments
)

const usageText = `peers measures Adamant beside other systems, under the same load on this machine.

  go run . write [flags]     one system, once
  go run . compare [flags]   systems in turn, round by round, with ratios
  go run . failover [flags]  how long writes wait when a host is gone, likewise
  go run . rebuild [flags]   how fast a member that is replaced holds everything again, likewise
  go run . idle [flags]      what groups of hashicorp/raft cost that nobody uses

"go run . VERB -h" shows the flags. Exit status: 0 success; 1 failed; 2 wrong usage.
`

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	err := command(ctx, args, out, errs)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	for _, line := range strings.Split(strings.TrimSpace(err.Error()), "\n") {
		fmt.Fprintln(errs, "peers:", line)
	}
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

func command(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 {
		return usageError{errors.New("want a verb: write, compare, failover, rebuild or idle")}
	}
	switch verb, rest := args[0], args[1:]; verb {
	case "write":
		return writeVerb(ctx, rest, out)
	case "compare":
		return compareVerb(ctx, rest, out, errs)
	case "failover":
		return failoverVerb(ctx, rest, out, errs)
	case "rebuild":
		return rebuildVerb(ctx, rest, out, errs)
	case "idle":
		return idleVerb(ctx, rest, out)
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(out, usageText)
		return err
	default:
		return usageError{fmt.Errorf("unknown verb %q: want write, compare, failover, rebuild or idle", verb)}
	}
}

func writeVerb(ctx context.Context, args []string, out io.Writer) error {
	s, d, err := parseWrite(args, out)
	if err != nil {
		return err
	}
	return deliver(d, out, printTrial, func() (*trialResult, error) { return measure(ctx, s) })
}

func idleVerb(ctx context.Context, args []string, out io.Writer) error {
	s, d, err := parseIdle(args, out)
	if err != nil {
		return err
	}
	return deliver(d, out, printIdle, func() (*idleResult, error) { return measureIdle(ctx, s) })
}

// compareVerb reports the rounds that were completed even when a later one fails: they took a while.
func compareVerb(ctx context.Context, args []string, out, errs io.Writer) error {
	p, err := parseCompare(args, out)
	if err != nil {
		return err
	}
	return deliver(p.delivery, out, printComparison, func() (*comparison, error) { return compare(ctx, p, childTrial, errs) })
}

// rebuildVerb does as compareVerb does.
func rebuildVerb(ctx context.Context, args []string, out, errs io.Writer) error {
	p, err := parseRebuild(args, out)
	if err != nil {
		return err
	}
	return deliver(p.delivery, out, printRebuilds, func() (*rebuildComparison, error) { return compareRebuilds(ctx, p, rebuildTrial, errs) })
}

func failoverVerb(ctx context.Context, args []string, out, errs io.Writer) error {
	p, err := parseFailover(args, out)
	if err != nil {
		return err
	}
	return deliver(p.delivery, out, printFailovers, func() (*failoverComparison, error) { return compareFailovers(ctx, p, measureFailover, errs) })
}
