package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// readFlags are those of every read.
type readFlags struct {
	consistency string
	wrap        bool
}

func (r *readFlags) register(cmd *cobra.Command, wrap bool) {
	cmd.Flags().StringVar(&r.consistency, "consistency", "", "lease, quorum or stale (default: the host's own)")
	if wrap {
		cmd.Flags().BoolVar(&r.wrap, "wrap", false, "print the head, the number of records read and the staleness around the JSON")
	}
}

func (r *readFlags) check() error {
	if r.consistency == "" {
		return nil
	}
	if _, err := adamant.ParseConsistency(r.consistency); err != nil {
		return usageError{err}
	}
	return nil
}

func (r *readFlags) print(w io.Writer, d httpapi.Document) error {
	if !r.wrap {
		_, err := fmt.Fprintf(w, "%s\n", d.JSON)
		return err
	}
	return printLine(w, d)
}

func printLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// reading builds a command that prints what a read of one document answers.
func reading(cmd *cobra.Command, read func(ctx context.Context, c *httpapi.Client, key adamant.Key, consistency string) (httpapi.Document, error)) *cobra.Command {
	var flags readFlags
	cmd.Args = arguments(cobra.ExactArgs(1))
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		key, err := keyOf(args[0])
		if err != nil {
			return err
		}
		if err := flags.check(); err != nil {
			return err
		}
		d, err := read(ctx, c, key, flags.consistency)
		if err != nil {
			return err
		}
		return flags.print(cmd.OutOrStdout(), d)
	})
	flags.register(cmd, true)
	return cmd
}

func newDocGet() *cobra.Command {
	return reading(&cobra.Command{
		Use:     "get SPACE/KEY",
		Short:   "Print a document",
		Example: "  adamant doc get games/g1\n  adamant doc get games/g1 --consistency stale --wrap",
	}, func(ctx context.Context, c *httpapi.Client, key adamant.Key, consistency string) (httpapi.Document, error) {
		return c.Get(ctx, key, consistency)
	})
}

func newDocHeadPatch() *cobra.Command {
	var after int64
	cmd := reading(&cobra.Command{
		Use:     "head-patch SPACE/KEY",
		Short:   "Print the merge of what was appended after a sequence number",
		Example: "  adamant doc head-patch games/g1 --after 12",
	}, func(ctx context.Context, c *httpapi.Client, key adamant.Key, consistency string) (httpapi.Document, error) {
		return c.HeadPatch(ctx, key, after, consistency)
	})
	cmd.Flags().Int64Var(&after, "after", 0, "the sequence number the reader is at")
	return cmd
}

func newDocRewind() *cobra.Command {
	var to int64
	cmd := reading(&cobra.Command{
		Use:     "rewind SPACE/KEY",
		Short:   "Print the patch that brings a document back to a sequence number",
		Example: "  adamant doc rewind games/g1 --to 12",
	}, func(ctx context.Context, c *httpapi.Client, key adamant.Key, consistency string) (httpapi.Document, error) {
		return c.Rewind(ctx, key, to, consistency)
	})
	cmd.Flags().Int64Var(&to, "to", 0, "the sequence number to go back to")
	return cmd
}

func newDocLog() *cobra.Command {
	var flags readFlags
	cmd := &cobra.Command{
		Use:     "log SPACE/KEY",
		Short:   "Print the stored deltas of a document, one JSON object per line",
		Example: "  adamant doc log games/g1 | jq .delta.redo",
		Args:    arguments(cobra.ExactArgs(1)),
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		key, err := keyOf(args[0])
		if err != nil {
			return err
		}
		if err := flags.check(); err != nil {
			return err
		}
		for e, err := range c.Log(ctx, key, flags.consistency) {
			if err != nil {
				return err
			}
			if err := printLine(cmd.OutOrStdout(), e); err != nil {
				return err
			}
		}
		return nil
	})
	flags.register(cmd, false)
	return cmd
}

func newDocList() *cobra.Command {
	var flags readFlags
	var space, partition string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the documents that the asked host serves, one JSON object per line",
		Long: `list prints the documents of the partitions that the asked host leads; with --consistency stale, of every partition it is a
member of. Ask each host to see all documents.`,
		Example: "  adamant doc list --space games\n  adamant doc list --partition 12 --consistency stale",
		Args:    noArguments,
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, _ []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		if partition != "" {
			if _, err := partitionOf(partition); err != nil {
				return err
			}
		}
		for i, err := range c.Inventory(ctx, space, partition, flags.consistency) {
			if err != nil {
				return err
			}
			if err := printLine(cmd.OutOrStdout(), i); err != nil {
				return err
			}
		}
		return nil
	})
	flags.register(cmd, false)
	cmd.Flags().StringVar(&space, "space", "", "only documents of this space")
	cmd.Flags().StringVar(&partition, "partition", "", "only documents of this partition")
	return cmd
}
