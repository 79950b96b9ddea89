package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit status, for scripts.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // wrong flags or arguments
)

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(longFlags(args))
	root.SetOut(out)
	root.SetErr(errs)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	for _, line := range strings.Split(strings.TrimSpace(err.Error()), "\n") {
		fmt.Fprintln(errs, "bench:", line)
	}
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(errs, "bench: see %q\n", ran.CommandPath()+" --help")
		return exitUsage
	}
	return exitFailed
}

// longFlags lets flags be written with one dash too, as "go test" has them: there are no short ones but -h.
func longFlags(args []string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		if a == "--" {
			break
		}
		if len(a) > 2 && a[0] == '-' && a[1] >= 'a' && a[1] <= 'z' {
			args[i] = "-" + a
		}
	}
	return args
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "bench",
		Short: "Measure Adamant on this machine",
		Long: `bench runs clusters of real hosts on loopback and measures them. Everything printed is measured, on the disk that holds
--dir. Exit status: 0 success; 1 failed; 2 wrong usage.`,
		Example: `  bench write
  bench write --writers 512 --compare log=pebble,bolt --rounds 5
  bench idle --partitions 1000 --json`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(settingName(name))
	})
	for _, w := range workloads() {
		root.AddCommand(newVerb(w))
	}
	root.AddCommand(newReport())
	return root
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command or argument %q", args[0])}
	}
	return nil
}
