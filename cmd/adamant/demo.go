package main

import (
	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/cmd/adamant/demo"
	"github.com/adamantdb/adamant/internal/progress"
)

func newDemo() *cobra.Command {
	var o demo.Options
	var log string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Lose a host in mid-load, heal an empty replacement, and check that nothing is lost",
		Long: `demo runs a cluster of five hosts in this process, with real sockets on loopback and real disks in a temporary
directory: 64 partitions, three voters each. It writes documents, kills the host that leads most of them without warning
while the load goes on, starts an empty replacement, shows how anti-entropy heals it, and then reads every document back,
from its leader and from each member alone, and compares it with what was acknowledged. Everything printed is measured.

Without --trace the documents are generated: board games, a few deltas each move. With --trace, recorded editing histories
are replayed, one delta per transaction, and the merged text must equal the recorded one.

The exit status is 0 only if everything that was acknowledged was found everywhere.`,
		Example: `  adamant demo
  adamant demo --dir /tmp/demo --documents 10000 --load 10s
  adamant demo --trace automerge-paper.json.gz --trace rustcode.json.gz --copies 2`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kind, err := adamant.ParseLogKind(log)
			if err != nil {
				return usageError{err}
			}
			o.Log, o.Out = kind, cmd.OutOrStdout()
			o.Terminal = progress.IsTerminal(o.Out)
			return demo.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "keep everything the hosts write in this directory, which must be empty or new")
	f.StringArrayVar(&o.Traces, "trace", nil, "replay this editing trace (repeatable)")
	f.IntVar(&o.Copies, "copies", 0, "documents made of each trace (default 1)")
	f.IntVar(&o.Documents, "documents", 0, "generated documents (default 3000, or none with --trace)")
	f.IntVar(&o.Writers, "writers", 0, "clients that write at a time (default 32)")
	f.IntVar(&o.Batch, "batch", 0, "deltas of a replay that travel in one append (default 100)")
	f.DurationVar(&o.Load, "load", 0, "how long the load runs before the kill, and after it (default 4s)")
	f.DurationVar(&o.Limit, "limit", 0, "give up after this time (default 5m)")
	f.IntVar(&o.Hosts, "hosts", 0, "hosts of the cluster (default 5)")
	f.IntVar(&o.Partitions, "partitions", 0, "partitions of the cluster (default 64)")
	f.StringVar(&log, "log", adamant.LogPebble.String(), "engine of the Raft logs: pebble or bolt")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the generated documents (default 1)")
	return cmd
}
