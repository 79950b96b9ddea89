package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant/internal/httpapi"
)

func newPartition() *cobra.Command {
	return group("partition", "Operate one partition", `  adamant partition transfer 12 h3
  adamant partition safe-mode 12 --reason "comparing two histories of games/g1"`,
		newTransfer(), newSafeMode())
}

func newTransfer() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "transfer PARTITION HOST",
		Short:   "Hand the leadership of a partition to another host",
		Long:    "transfer asks the leader of a partition to hand it to another voter; writes in flight finish first.",
		Example: "  adamant partition transfer 12 h3 --http 127.0.0.1:7481,127.0.0.1:7482",
		Args:    arguments(cobra.ExactArgs(2)),
	}
	return asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		id, err := partitionOf(args[0])
		if err != nil {
			return err
		}
		if err := c.Transfer(ctx, id, args[1]); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "partition %d is led by %s\n", id, args[1])
		return nil
	})
}

func newSafeMode() *cobra.Command {
	var reason string
	var clear bool
	cmd := &cobra.Command{
		Use:   "safe-mode PARTITION",
		Short: "Put a host's member of a partition in safe mode, or take it out",
		Long: `safe-mode makes the asked host's member of a partition serve stale reads only, for a reason that its status shows and that
survives restarts. --clear ends it: look at what put it there first, because serving may spread a divergence.`,
		Example: `  adamant partition safe-mode 12 --reason "comparing two histories of games/g1"
  adamant partition safe-mode 12 --clear`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		id, err := partitionOf(args[0])
		if err != nil {
			return err
		}
		if clear == (reason != "") {
			return usageError{errors.New("give either --reason or --clear")}
		}
		if err := c.SetSafeMode(ctx, id, reason); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "partition %d: safe mode %s\n", id, pick(clear, "off", "on"))
		return nil
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	cmd.Flags().BoolVar(&clear, "clear", false, "end it")
	return cmd
}

func newDrain() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "drain",
		Short:   "Have a host give its leaderships away, before it is stopped",
		Long:    "drain hands every leadership of the asked host to other hosts. It takes no new ones on purpose until it is restarted.",
		Example: "  adamant drain --http 127.0.0.1:7480 --timeout 30s",
		Args:    noArguments,
	}
	return asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, _ []string) error {
		if err := c.Drain(ctx); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "the host leads nothing any more")
		return nil
	})
}

func partitionOf(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, usageError{fmt.Errorf("partition %q is not a number", text)}
	}
	return uint32(n), nil
}
