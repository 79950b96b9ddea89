package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant/config"
)

func newConfigPlan() *cobra.Command {
	var (
		add    []string
		change config.Change
		out    string
		force  bool
	)
	cmd := &cobra.Command{
		Use:   "plan FILE [NEXT]",
		Short: "Show the figures of a cluster file, and what another one would move",
		Long: `plan prints how a cluster file spreads members, leaders and links, how the loss of each host is spread over the others,
and how likely random failures are to cost some partition its majority or all its copies.

With a second file, or with hosts to add or remove, it also prints the figures afterwards and what would have to be copied.
Hosts are added and removed with as few moves as balance permits; --out writes the new file.`,
		Example: `  adamant config plan cluster.json
  adamant config plan cluster.json next.json
  adamant config plan cluster.json --add-host h10=10.0.0.10:7400,c --out next.json
  adamant config plan cluster.json --remove-host h3`,
		Args: arguments(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if change.Add, err = parseHosts(add); err != nil {
				return err
			}
			changes := len(change.Add) > 0 || len(change.Remove) > 0
			if changes && len(args) > 1 {
				return usageError{errors.New("a second file and hosts to add or remove exclude each other")}
			}
			if out != "" && !changes {
				return usageError{errors.New("--out needs hosts to add or remove")}
			}
			before, err := config.Load(args[0])
			if err != nil {
				return err
			}
			after := before
			switch {
			case changes:
				after, _, err = config.Replan(before, change)
			case len(args) > 1:
				if after, err = config.Load(args[1]); err == nil {
					err = before.CheckSuccessor(after)
				}
			}
			if err != nil {
				return err
			}
			if err := plan(cmd.OutOrStdout(), before, after); err != nil || out == "" {
				return err
			}
			return output(cmd, out, after.Marshal(), force)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&add, "add-host", nil, "NAME=ADDR or NAME=ADDR,ZONE (repeatable)")
	f.StringArrayVar(&change.Remove, "remove-host", nil, "name of a host to remove (repeatable)")
	f.IntVar(&change.MaxPeers, "max-peers", 0, "most other hosts that one host shares partitions with (default no bound)")
	f.StringVarP(&out, "out", "o", "", "write the new cluster file here")
	f.BoolVar(&force, "force", false, "replace the file")
	return cmd
}

// plan prints the figures of one file, or of two and the way from one to the other.
func plan(w io.Writer, before, after *config.Cluster) error {
	f := before.Figures()
	if err := f.Write(w); err != nil || after == before {
		return err
	}
	fmt.Fprintln(w)
	if err := after.Figures().Write(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	d := config.Diff(before, after)
	if err := d.Write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", movesText(&f, after, &d))
	return err
}

// movesText puts the number of copies to be made beside what no plan can do without: what removed hosts held, and beside
// an even share of the added hosts, which zones may forbid.
func movesText(before *config.Figures, after *config.Cluster, d *config.Difference) string {
	text := fmt.Sprintf("%d of %s to be made elsewhere", d.Moves, quantity(before.Copies, "copy"))
	if len(d.HostsRemoved) > 0 {
		held := 0
		for _, h := range before.Hosts {
			if _, stays := after.Hosts[h.Name]; !stays {
				held += h.Members
			}
		}
		text += fmt.Sprintf("; the removed hosts hold %d", held)
	}
	if len(d.HostsAdded) > 0 {
		taken := 0
		for i := range after.Partitions {
			for _, name := range d.HostsAdded {
				if after.Partitions[i].HasMember(name) {
					taken++
				}
			}
		}
		text += fmt.Sprintf("; the added hosts take %d, an even share is %d", taken, len(d.HostsAdded)*before.Copies/len(after.Hosts))
	}
	return text
}
