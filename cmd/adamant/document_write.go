package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// deltaFlags describe one delta on the command line, or name a file with deltas.
type deltaFlags struct {
	redo, undo, who, request, file string
	seq                            int64
}

func (d *deltaFlags) register(cmd *cobra.Command, many bool) {
	f := cmd.Flags()
	f.StringVar(&d.redo, "redo", "", "merge patch that does it")
	f.StringVar(&d.undo, "undo", "{}", "merge patch that takes it back")
	f.StringVar(&d.who, "who", "", "who did it")
	f.StringVar(&d.request, "request", "", "the request that caused it, as JSON")
	if many {
		f.Int64Var(&d.seq, "seq", -1, "its sequence number (default: the one after the head)")
		f.StringVar(&d.file, "file", "", `take deltas from this file, or the input for "-": JSON objects as doc log prints in "delta", one after the other`)
	} else {
		f.Int64Var(&d.seq, "seq", 1, "its sequence number")
		f.StringVar(&d.file, "file", "", `take the delta from this file, or the input for "-"`)
	}
}

// deltas returns what the flags describe. The seq of a single delta is −1 when it is to be found out.
func (d *deltaFlags) deltas(cmd *cobra.Command) ([]adamant.Delta, error) {
	if d.file == "" {
		if d.redo == "" {
			return nil, usageError{errors.New("give --redo or --file")}
		}
		for _, text := range []string{d.redo, d.undo, d.request} {
			if text != "" && !json.Valid([]byte(text)) {
				return nil, usageError{fmt.Errorf("not JSON: %.60s", text)}
			}
		}
		return []adamant.Delta{{SeqBegin: d.seq, SeqEnd: d.seq, Redo: []byte(d.redo), Undo: []byte(d.undo), Who: d.who, Request: []byte(d.request)}}, nil
	}
	if d.redo != "" {
		return nil, usageError{errors.New("--redo and --file exclude each other")}
	}
	data, err := inputOf(cmd, d.file)
	if err != nil {
		return nil, err
	}
	var list []adamant.Delta
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var delta httpapi.Delta
		err := dec.Decode(&delta)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("delta %d of %s: %w", len(list)+1, d.file, err)
		}
		list = append(list, adamant.Delta(delta))
	}
}

func newDocCreate() *cobra.Command {
	var flags deltaFlags
	cmd := &cobra.Command{
		Use:   "create SPACE/KEY",
		Short: "Make a document with its first delta, and print its head",
		Example: `  adamant doc create games/g1 --redo '{"turn":"white"}' --undo '{"turn":null}'
  echo '{"seqBegin":1,"seqEnd":1,"redo":{"turn":"white"},"undo":{"turn":null}}' | adamant doc create games/g1 --file -`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		key, err := keyOf(args[0])
		if err != nil {
			return err
		}
		deltas, err := flags.deltas(cmd)
		if err != nil {
			return err
		}
		if len(deltas) != 1 {
			return usageError{fmt.Errorf("create takes one delta, got %d", len(deltas))}
		}
		head, err := c.Create(ctx, key, deltas[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), head)
		return err
	})
	flags.register(cmd, false)
	return cmd
}

func newDocAppend() *cobra.Command {
	var flags deltaFlags
	cmd := &cobra.Command{
		Use:   "append SPACE/KEY",
		Short: "Append deltas to a document, and print its head",
		Long: `append adds one delta given by flags, or all deltas of a file, all or none. A single delta without --seq goes after the
present head; to repeat an append whose outcome is unknown, give the same --seq again: it takes effect once.`,
		Example: `  adamant doc append games/g1 --redo '{"turn":"black"}' --undo '{"turn":"white"}' --seq 2
  adamant doc log games/g1 | jq -c .delta > deltas; adamant doc append games/copy --file deltas`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		key, err := keyOf(args[0])
		if err != nil {
			return err
		}
		deltas, err := flags.deltas(cmd)
		if err != nil {
			return err
		}
		if flags.file == "" && flags.seq < 0 {
			head, err := headOf(ctx, c, key)
			if err != nil {
				return err
			}
			deltas[0].SeqBegin, deltas[0].SeqEnd = head+1, head+1
		}
		head, err := c.Append(ctx, key, deltas)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), head)
		return err
	})
	flags.register(cmd, true)
	return cmd
}

// headOf asks for a document's head without reading the document: a head patch above it is refused with the head.
func headOf(ctx context.Context, c *httpapi.Client, key adamant.Key) (int64, error) {
	d, err := c.HeadPatch(ctx, key, math.MaxInt64, "")
	var future *adamant.FutureError
	if errors.As(err, &future) {
		return future.Head, nil
	}
	return d.Head, err
}

func newDocCompact() *cobra.Command {
	var seq int64
	var history int
	var file string
	cmd := &cobra.Command{
		Use:   "compact SPACE/KEY",
		Short: "Put a snapshot under a document and drop old deltas",
		Long: `compact stores a snapshot of the document at a sequence number and keeps the newest --history deltas that end at or before
it, for head patches and rewinds.`,
		Example: `  adamant doc get games/g1 > state.json; adamant doc compact games/g1 --seq 120 --history 10 --file state.json`,
		Args:    arguments(cobra.ExactArgs(1)),
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		key, base, err := baseOf(cmd, args[0], file)
		if err != nil {
			return err
		}
		return c.Compact(ctx, key, seq, base, history)
	})
	cmd.Flags().Int64Var(&seq, "seq", 0, "the sequence number that the snapshot is the state at")
	cmd.Flags().IntVar(&history, "history", 0, "deltas to keep before the snapshot, at least 1")
	cmd.Flags().StringVar(&file, "file", "-", `the snapshot's JSON; "-" is the input`)
	return cmd
}

func newDocReplace() *cobra.Command {
	var seq int64
	var file string
	cmd := &cobra.Command{
		Use:     "replace SPACE/KEY",
		Short:   "Start a document anew from a snapshot; the sequence number may go back",
		Example: `  echo '{"turn":"white"}' | adamant doc replace games/g1 --seq 1`,
		Args:    arguments(cobra.ExactArgs(1)),
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		key, base, err := baseOf(cmd, args[0], file)
		if err != nil {
			return err
		}
		return c.Replace(ctx, key, seq, base)
	})
	cmd.Flags().Int64Var(&seq, "seq", 0, "the sequence number of the snapshot")
	cmd.Flags().StringVar(&file, "file", "-", `the snapshot's JSON; "-" is the input`)
	return cmd
}

func baseOf(cmd *cobra.Command, text, file string) (adamant.Key, []byte, error) {
	key, err := keyOf(text)
	if err != nil {
		return key, nil, err
	}
	base, err := inputOf(cmd, file)
	if err != nil {
		return key, nil, err
	}
	if base = bytes.TrimSpace(base); !json.Valid(base) {
		return key, nil, usageError{fmt.Errorf("%s holds no JSON value", file)}
	}
	return key, base, nil
}

func newDocDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete SPACE/KEY",
		Short:   "Delete a document; a missing one is no error",
		Example: "  adamant doc delete games/g1",
		Args:    arguments(cobra.ExactArgs(1)),
	}
	return asking(cmd, func(ctx context.Context, c *httpapi.Client, _ *cobra.Command, args []string) error {
		key, err := keyOf(args[0])
		if err != nil {
			return err
		}
		return c.Delete(ctx, key)
	})
}
