package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

func newSafemode() *cobra.Command {
	return group("safemode", "Look into a partition whose members contradict each other, and choose a version", `  adamant safemode show
  adamant safemode compare 12 games/g1
  adamant safemode clear 12 --keep h1`,
		newSafemodeShow(), newSafemodeCompare(), newSafemodeClear())
}

func newSafemodeShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [PARTITION]",
		Short: "Show which partitions are in safe mode, and what was reported",
		Long: `show asks every host given with --http and prints, for each partition that is in safe mode on one of them, why, on which
hosts, and what their members reported: who contradicts whom, in which bucket, and about which documents.`,
		Example: `  adamant safemode show --http 127.0.0.1:7481,127.0.0.1:7482`,
		Args:    arguments(cobra.MaximumNArgs(1)),
	}
	return asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		only := int64(-1)
		if len(args) > 0 {
			id, err := partitionOf(args[0])
			if err != nil {
				return err
			}
			only = int64(id)
		}
		return printSafeModes(cmd.OutOrStdout(), c.Statuses(ctx), only)
	})
}

// printSafeModes prints the partitions in safe mode, or the only one asked for. It fails when no host answered.
func printSafeModes(w io.Writer, answers []httpapi.EndpointStatus, only int64) error {
	type mode struct {
		hosts   []string // with the reason of each
		reports []adamant.Divergence
	}
	modes := map[uint32]*mode{}
	var failure error
	answered := 0
	for _, a := range answers {
		if a.Err != nil {
			failure = a.Err
			fmt.Fprintf(w, "the host at %s is not asked: %v\n", a.Addr, a.Err)
			continue
		}
		answered++
		for i := range a.Status.Partitions {
			p := &a.Status.Partitions[i]
			if only >= 0 && only != int64(p.ID) || p.SafeMode == "" && p.Restoring == "" {
				continue
			}
			m := modes[p.ID]
			if m == nil {
				m = &mode{}
				modes[p.ID] = m
			}
			if p.SafeMode != "" {
				m.hosts = append(m.hosts, fmt.Sprintf("on %s: %s", a.Status.Host, p.SafeMode))
			} else {
				m.hosts = append(m.hosts, fmt.Sprintf("on %s: over; it takes over the version of %s", a.Status.Host, p.Restoring))
			}
			for _, d := range p.Divergences {
				same := func(o adamant.Divergence) bool {
					return o.Host == d.Host && o.Peer == d.Peer && o.Bucket == d.Bucket && (o.Lost == nil) == (d.Lost == nil)
				}
				if !slices.ContainsFunc(m.reports, same) {
					m.reports = append(m.reports, d)
				}
			}
		}
	}
	if answered == 0 {
		return failure
	}
	if len(modes) == 0 {
		fmt.Fprintln(w, "no safe mode")
		return nil
	}
	for _, id := range sortedKeys(modes) {
		fmt.Fprintf(w, "partition %d\n", id)
		for _, line := range modes[id].hosts {
			fmt.Fprintf(w, "  %s\n", line)
		}
		printReports(w, modes[id].reports)
	}
	return nil
}

func sortedKeys[V any](m map[uint32]V) []uint32 {
	var keys []uint32
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func printReports(w io.Writer, reports []adamant.Divergence) {
	if len(reports) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "  noticed\tby\tagainst\tindex\tbucket\tdocuments")
	for i := range reports {
		r := &reports[i]
		var names []string
		for k := range r.Documents {
			names = append(names, r.Documents[k].String())
		}
		if r.Lost != nil {
			names = []string{"two histories: " + r.String()}
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%d\t%s\n", r.Time.Format(time.DateTime), r.Host, pick(r.Peer == "", "the log", r.Peer),
			pick(r.Index == 0, "-", fmt.Sprint(r.Index)), r.Bucket, dash(strings.Join(names, "; ")))
	}
	_ = tw.Flush() // what cannot be printed is no reason to fail
}

func newSafemodeCompare() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compare PARTITION [SPACE/KEY]",
		Short: "Show how each member holds a document, and where they part",
		Long: `compare asks every member of a partition for its version of a document and prints them side by side: heads, chain hashes, bases,
the first sequence number at which deltas differ, and these deltas. Without a document it takes those that were reported, 16 at most.`,
		Example: "  adamant safemode compare 12 games/g1",
		Args:    arguments(cobra.RangeArgs(1, 2)),
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		id, err := partitionOf(args[0])
		if err != nil {
			return err
		}
		keys, err := compared(ctx, c, id, args[1:])
		if err != nil {
			return err
		}
		for _, key := range keys {
			cmp, err := c.Compare(ctx, id, key)
			switch {
			case err != nil:
				return err
			case asJSON:
				err = printLine(cmd.OutOrStdout(), cmp)
			default:
				err = printComparison(cmd.OutOrStdout(), &cmp)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per document")
	return cmd
}

// mostCompared bounds the documents that are compared without being asked for.
const mostCompared = 16

// compared is the document of the arguments, or those that were reported.
func compared(ctx context.Context, c *httpapi.Client, id uint32, args []string) ([]adamant.Key, error) {
	if len(args) > 0 {
		key, err := keyOf(args[0])
		return []adamant.Key{key}, err
	}
	s, err := c.SafeMode(ctx, id)
	if err != nil {
		return nil, err
	}
	var keys []adamant.Key
	for _, r := range s.Divergences {
		for _, d := range r.Documents {
			key, err := adamant.ParseKey(d.Key)
			if err == nil && !slices.Contains(keys, key) && len(keys) < mostCompared {
				keys = append(keys, key)
			}
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no document of partition %d is reported by name; name one", id)
	}
	return keys, nil
}

func printComparison(w io.Writer, c *adamant.Comparison) error {
	fmt.Fprintf(w, "document %s of partition %d: ", c.Document, c.Partition)
	switch {
	case c.FirstSeq >= 0:
		fmt.Fprintf(w, "different from seq %d on\n", c.FirstSeq)
	case c.Differ:
		fmt.Fprintf(w, "different, but not in the deltas up to seq %d\n", c.Searched)
	default:
		fmt.Fprintln(w, "the same wherever it was read")
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "host\tapplied\thead\tchain\tgeneration\tlast index\tkept from\tbase\tdeltas\tbytes")
	for i := range c.Versions {
		v := &c.Versions[i]
		switch {
		case v.Error != "":
			fmt.Fprintf(tw, "%s\t%s\n", v.Host, v.Error)
		case !v.Exists:
			fmt.Fprintf(tw, "%s\t%d\tnot there%s\n", v.Host, v.Applied, pick(v.Complete, "", ", but this member has holes"))
		default:
			base := "-"
			if v.Base != "" {
				base = fmt.Sprintf("%s at %d", v.Base, v.BaseSeq)
			}
			fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%d\t%d\t%d\t%s\t%d\t%d\n", v.Host, v.Applied, v.Head, v.Chain, v.Generation, v.LastIndex, v.Floor+1, base, v.Entries, v.Bytes)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for i := range c.Versions {
		v := &c.Versions[i]
		d := v.Delta
		if c.FirstSeq < 0 || v.Error != "" {
			continue
		}
		if d == nil {
			fmt.Fprintf(w, "\n%s has no delta there\n", v.Host)
			continue
		}
		fmt.Fprintf(w, "\n%s: delta %d to %d, by %s, index %d of term %d, chain %s%s\n  redo %s\n  undo %s\n", v.Host, d.SeqBegin, d.SeqEnd, dash(d.Who), d.Index,
			d.Term, d.Chain, pick(d.Cut, ", cut", ""), d.Redo, d.Undo)
	}
	_, err := fmt.Fprintln(w)
	return err
}

func newSafemodeClear() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "clear PARTITION",
		Short: "End the safe mode of a partition, with or without choosing a version",
		Long: `clear ends safe mode on all members of a partition.

With --keep HOST every other member discards its version of the documents that were reported, or of their whole buckets when not
all of them were named, and heals from that host. The host is trusted: what only others held of these documents is lost.
Compare the versions first. Without --keep nothing else changes, and what is still different is reported again. Where committed
entries are lost there are two histories, and --keep is refused: docs/recovery.md says how one is chosen.`,
		Example: `  adamant safemode clear 12 --keep h1
  adamant safemode clear 12`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	asking(cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		id, err := partitionOf(args[0])
		if err != nil {
			return err
		}
		waiting, err := c.ClearSafeMode(ctx, id, keep)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "partition %d: safe mode off%s\n", id, pick(keep == "", "", ", the version of "+keep+" is taken over"))
		if len(waiting) > 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "not reached, to follow when they are back: %s\n", strings.Join(waiting, ", "))
		}
		return nil
	})
	cmd.Flags().StringVar(&keep, "keep", "", "the host whose version all others take over")
	return cmd
}
