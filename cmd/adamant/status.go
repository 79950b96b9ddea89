package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

func newStatus() *cobra.Command {
	var asJSON, follow bool
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what a running host knows of itself and its cluster",
		Long:  "status asks a running host and prints its peers, its members of partitions with their health, and what happened lately.",
		Example: `  adamant status
  adamant status --watch
  adamant status --http unix:/run/adamant.sock --json | jq '.partitions[] | select(.complete | not)'`,
		Args: noArguments,
	}
	askingWith(&flags, cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, _ []string) error {
		if follow && asJSON {
			return usageError{errors.New("give either --watch or --json")}
		}
		if follow {
			return watch(cmd, &flags, watchEvery)
		}
		s, raw, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), raw)
		}
		return printStatus(cmd.OutOrStdout(), &s, time.Now())
	})
	cmd.Flags().BoolVar(&follow, "watch", false, "show how repairs go on until interrupted: bars on a terminal, lines elsewhere")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the JSON of GET /v1/status")
	return cmd
}

func printJSON(w io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// printStatus prints tables for people; what is empty is left out.
func printStatus(w io.Writer, s *adamant.Status, now time.Time) error {
	var b bytes.Buffer
	t := s.Totals()
	fmt.Fprintf(&b, "host %s@%s of cluster %s, version %d", s.Host, s.Incarnation, s.Cluster, s.ConfigVersion)
	if s.Addr != "" {
		fmt.Fprintf(&b, ", at %s", s.Addr)
	}
	fmt.Fprintf(&b, ", up %s\n", now.Sub(s.Started).Round(time.Second))
	fmt.Fprintf(&b, "%s: %d leading, %d serving, %d sick, %d without a leader, %d in safe mode; %s, %d bytes\n",
		quantity(t.Members, "member"), t.Leading, t.Serving, t.Sick, t.Leaderless, t.SafeMode, quantity(int(t.Documents), "document"), t.Bytes)
	warn := func(what, why string) {
		if why != "" {
			fmt.Fprintf(&b, "%s: %s\n", what, why)
		}
	}
	warn("FAILED", s.Failed)
	warn("SAFE MODE", s.SafeMode)
	if s.ConfigError != "" {
		fmt.Fprintf(&b, "CLUSTER FILE REFUSED (%d times): %s\n", s.ConfigRejected, s.ConfigError)
	}
	if s.Draining {
		fmt.Fprintln(&b, "DRAINING: leaderships are given away")
	}
	peerTable(&b, s)
	partitionTable(&b, s)
	if len(s.History) > 0 {
		fmt.Fprintln(&b, "\nlately")
	}
	const lines = 10
	for _, n := range s.History[max(0, len(s.History)-lines):] {
		where := ""
		if n.Partition != nil {
			where = fmt.Sprintf("partition %d: ", *n.Partition)
		}
		fmt.Fprintf(&b, "  %s  %s: %s%s\n", n.Time.Format(time.DateTime), n.Kind, where, n.Text)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func peerTable(w io.Writer, s *adamant.Status) {
	if len(s.Peers) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\npeer\tstate\tlink\tround trip\tzone\taddress\tincarnation")
	for _, p := range s.Peers {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Host, pick(p.Alive, "alive", "DEAD"), pick(p.LinkUp, "up", "down"), roundTrip(p.RoundTrip), dash(p.Zone), dash(p.Addr), dash(p.Incarnation))
	}
	_ = tw.Flush() // into memory
}

func partitionTable(w io.Writer, s *adamant.Status) {
	if len(s.Partitions) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\npartition\trole\tleader\tterm\tapplied\tlag\tdocuments\tbytes\thealth\tmembers")
	for i := range s.Partitions {
		p := &s.Partitions[i]
		fmt.Fprintf(tw, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", p.ID, p.Role, dash(p.Leader), p.Term, p.Applied, p.Lag, p.Documents, p.Bytes, health(p), members(p))
	}
	_ = tw.Flush() // into memory
}

// health says in a few words what is the matter with a member.
func health(p *adamant.PartitionStatus) string {
	var words []string
	if !p.Complete {
		words = append(words, "holes "+p.Holes)
	}
	if r := p.Repair; r != nil {
		words = append(words, fmt.Sprintf("healing %d/%d", r.BucketsDone, r.BucketsTotal))
	}
	if p.SafeMode != "" {
		words = append(words, "SAFE MODE: "+p.SafeMode)
	}
	if p.NotServing != "" {
		words = append(words, "not serving: "+p.NotServing)
	}
	if len(words) == 0 {
		return pick(p.Serving, "serving", "complete")
	}
	return strings.Join(words, ", ")
}

// members lists hosts: plain for a voter, in parentheses for a non-voter, with what moves next.
func members(p *adamant.PartitionStatus) string {
	var words []string
	for _, m := range p.Members {
		name := m.Host
		if !m.Voter {
			name = "(" + name + ")"
		}
		if m.State != "" {
			name += " " + m.State
		}
		words = append(words, name)
	}
	return strings.Join(words, ", ")
}

func pick(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

func dash(s string) string { return pick(s == "", "-", s) }

func roundTrip(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(time.Microsecond).String()
}
