package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// The exit status, for scripts.
const (
	exitOK        = 0
	exitFailed    = 1 // refused or failed for good
	exitUsage     = 2 // wrong flags or arguments
	exitAmbiguous = 3 // a write whose outcome is unknown
	exitRetry     = 4 // nothing happened, and trying again or elsewhere may help
)

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	code := exitStatus(err)
	for _, line := range strings.Split(strings.TrimSpace(err.Error()), "\n") {
		fmt.Fprintln(errs, "adamant:", line)
	}
	if code == exitUsage {
		fmt.Fprintf(errs, "adamant: see %q\n", ran.CommandPath()+" --help")
	}
	return code
}

func exitStatus(err error) int {
	var usage usageError
	var unreachable *httpapi.UnreachableError
	var elsewhere *adamant.NotLeaderError
	var unavailable *adamant.UnavailableError
	var ambiguous *adamant.AmbiguousError
	var answer *httpapi.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &ambiguous), errors.As(err, &unreachable) && unreachable.Sent:
		return exitAmbiguous
	case errors.As(err, &unreachable), errors.As(err, &elsewhere), errors.As(err, &unavailable):
		return exitRetry
	case errors.As(err, &answer) && (answer.Kind == httpapi.KindBusy || answer.Kind == httpapi.KindTimeout || answer.Kind == httpapi.KindClosed):
		return exitRetry
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "adamant",
		Short: "A replicated store for documents that outlive their hosts",
		Long: `adamant runs hosts of a cluster, plans and checks cluster files, and asks running hosts about their documents.

Exit status: 0 success; 1 refused or failed; 2 wrong usage; 3 a write whose outcome is unknown (repeating the same
deltas is safe); 4 nothing happened, trying again or at another host may help.`,
		Example: `  adamant demo
  adamant config generate --host h1=127.0.0.1:7401 --host h2=127.0.0.1:7402 --host h3=127.0.0.1:7403 > cluster.json
  adamant serve --cluster-file cluster.json --host h1 --dir data/h1 --http 127.0.0.1:7480
  adamant status --http 127.0.0.1:7480
  adamant doc get games/g1`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newDemo(), newConfig(), newServe(), newStatus(), newHistory(), newRouting(), newPartition(), newSafemode(), newRecover(), newDrain(), newDoc(), newVersion())
	return root
}

// arguments wraps cobra's checks so that their errors count as wrong usage.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command or argument %q", args[0])}
	}
	return nil
}

// group is a command that only has others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(commands...)
	return cmd
}
