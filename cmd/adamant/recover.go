package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
)

// maxRecoveryFile bounds the files that are carried between hosts.
const maxRecoveryFile = 256 << 20

func newRecover() *cobra.Command {
	cmd := group("recover", "Recover partitions that have lost their majority for good", `  adamant recover survey --dir /var/lib/adamant > h1.json
  adamant recover plan --lost h3,h4,h5 h1.json h2.json > plan.json
  adamant recover apply --dir /var/lib/adamant --plan plan.json --confirm 0123456789abcdef`,
		newRecoverSurvey(), newRecoverPlan(), newRecoverApply())
	cmd.Long = `recover brings partitions back of which more than half of the voters are gone for good. Acknowledged writes may be lost by it;
the plan says which. As long as the hosts that are missing can be brought back, do that instead.

Stop the hosts that are left. Survey each one where its data directory is, make one plan of all surveys, read what it says may be
lost, and apply it on each of these hosts. Then start them. docs/recovery.md has the whole story.`
	return cmd
}

func newRecoverSurvey() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "survey",
		Short: "Print what a stopped host holds of each partition, as JSON",
		Long: `survey opens the data directory of a stopped host and prints what it holds of each partition: founding, coverage, holes, the end of
its log, its marker, the configuration, and what other hosts last reported. It changes nothing.`,
		Example: "  adamant recover survey --dir /var/lib/adamant > h1.json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "dir"); err != nil {
				return err
			}
			s, err := adamant.Survey(dir, adamant.RecoveryOptions{})
			if err != nil {
				return err
			}
			for i := range s.Partitions {
				m := &s.Partitions[i]
				fmt.Fprintf(cmd.ErrOrStderr(), "partition %d: founding %s, applied %d, holes %s, log to %d of term %d, marker %d, voters %s\n", m.Partition, m.Founding,
					m.Applied, m.Holes, m.Last, m.LastTerm, m.Marker, dash(strings.Join(m.Voters, ", ")))
			}
			return printIndented(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "data directory of the stopped host (required)")
	return cmd
}

func newRecoverPlan() *cobra.Command {
	var o adamant.PlanOptions
	var only []int64
	cmd := &cobra.Command{
		Use:   "plan SURVEY...",
		Short: "Plan a recovery, and say what may be lost",
		Long: `plan reads the surveys of all hosts that are left, and prints a plan for each partition that has lost its majority without the hosts
given up with --lost. On standard error it says in words what the plan does, what may be lost, and the digest to confirm.

It refuses when a host that is given up reported to a survivor just before that was stopped, or still answers at its address; when
a voter was neither surveyed nor given up; and when surveys contradict each other. --force skips the first two.`,
		Example: "  adamant recover plan --lost h3,h4,h5 h1.json h2.json > plan.json",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "lost"); err != nil {
				return err
			}
			surveys := make([]adamant.HostSurvey, len(args))
			for i, path := range args {
				if err := readJSON(path, &surveys[i]); err != nil {
					return err
				}
			}
			for _, id := range only {
				if id < 0 || id >= 1<<32-1 {
					return usageError{fmt.Errorf("partition %d", id)}
				}
				o.Partitions = append(o.Partitions, uint32(id))
			}
			plan, err := adamant.PlanRecovery(surveys, o)
			if err != nil {
				return err
			}
			for _, line := range plan.Describe() {
				fmt.Fprintln(cmd.ErrOrStderr(), line)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "to apply it on %s: --confirm %s\n", strings.Join(plan.Hosts, ", "), plan.Digest())
			return printIndented(cmd.OutOrStdout(), plan)
		},
	}
	cmd.Flags().StringSliceVar(&o.Lost, "lost", nil, "hosts that are gone for good (required)")
	cmd.Flags().Int64SliceVar(&only, "partition", nil, "plan for these partitions only")
	cmd.Flags().BoolVar(&o.Force, "force", false, "plan although hosts that are given up show signs of life")
	return cmd
}

func newRecoverApply() *cobra.Command {
	var dir, path, confirm string
	var o adamant.RecoveryOptions
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Carry out a stopped host's part of a plan",
		Long: `apply changes the data directory of a stopped host as the plan says. Without --confirm it prints what the plan does and changes
nothing. Once begun, the host can not be started before apply has succeeded; after a crash call it again. Twice does no harm.`,
		Example: "  adamant recover apply --dir /var/lib/adamant --plan plan.json --confirm 0123456789abcdef",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "dir", "plan"); err != nil {
				return err
			}
			var plan adamant.RecoveryPlan
			if err := readJSON(path, &plan); err != nil {
				return err
			}
			if confirm == "" {
				for _, line := range plan.Describe() {
					fmt.Fprintln(cmd.OutOrStdout(), line)
				}
				return usageError{fmt.Errorf("nothing was done: to carry this out add --confirm %s", plan.Digest())}
			}
			done, err := adamant.ApplyRecovery(dir, &plan, confirm, o)
			if err != nil {
				return err
			}
			slices.Sort(done)
			fmt.Fprintf(cmd.OutOrStdout(), "recovered here: partitions %s\n", strings.Trim(fmt.Sprint(done), "[]"))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "data directory of the stopped host (required)")
	f.StringVar(&path, "plan", "", "the plan's file (required)")
	f.StringVar(&confirm, "confirm", "", "the plan's digest, as plan printed it")
	f.BoolVar(&o.Force, "force", false, "apply although hosts that are given up answer")
	return cmd
}

// required refuses a call without one of its flags.
func required(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if !cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s is required", name)}
		}
	}
	return nil
}

// readJSON reads a file that another call of this command has written.
func readJSON(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	d := json.NewDecoder(io.LimitReader(f, maxRecoveryFile))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func printIndented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(v)
}
