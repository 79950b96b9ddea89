package main

import (
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

func newRouting() *cobra.Command {
	var flags clientFlags
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "routing [SPACE/KEY]",
		Short: "Show which host leads each partition, or where a document lives",
		Long: `routing shows where the asked host believes each partition to be led, and how its members are. Members that are not well are
followed by what they lack: voters without mark; (replica), (gone), (sick), (safe mode), (draining).`,
		Example: `  adamant routing
  adamant routing games/g1
  adamant routing --follow --json`,
		Args: arguments(cobra.MaximumNArgs(1)),
	}
	askingWith(&flags, cmd, func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error {
		out := cmd.OutOrStdout()
		switch {
		case len(args) > 0 && (follow || asJSON):
			return usageError{errors.New("--follow and --json are for the whole table")}
		case len(args) > 0:
			return locate(ctx, c, out, args[0])
		case follow:
			return followRouting(cmd.Context(), c, out, asJSON)
		}
		u, err := c.Routing(ctx)
		if err != nil {
			return err
		}
		return printRoutes(out, u, asJSON)
	})
	cmd.Flags().BoolVar(&follow, "follow", false, "print what changes until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per update, as docs/http.md describes it")
	return cmd
}

// locate prints where a document lives.
func locate(ctx context.Context, c *httpapi.Client, out io.Writer, text string) error {
	key, err := keyOf(text)
	if err != nil {
		return err
	}
	l, err := c.Locate(ctx, key)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "document %s is in bucket %d\n", key, l.Bucket)
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "partition\tleader\taddress\tHTTP\tterm\tmembers")
	fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%d\t%s\n", l.Partition, dash(l.Leader), dash(l.Addr), dash(l.HTTP), l.Epoch, strings.Join(l.Members, ", "))
	return tw.Flush()
}

// followAgain is the pause before another host is asked when one has stopped.
const followAgain = 200 * time.Millisecond

// followRouting prints changes as they come. A host that stops is left for the next one that answers.
func followRouting(ctx context.Context, c *httpapi.Client, out io.Writer, asJSON bool) error {
	var after adamant.RoutingVersion
	for {
		for u, err := range c.FollowRouting(ctx, after) {
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				if after == (adamant.RoutingVersion{}) {
					return err
				}
				break // it told something before: others may know more
			}
			after = u.Version
			if err := printRoutes(out, u, asJSON); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followAgain):
		}
	}
}

func printRoutes(out io.Writer, u adamant.RoutingUpdate, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(u)
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if u.Whole {
		fmt.Fprintln(tw, "partition\tleader\taddress\tHTTP\tterm\tserves\tmembers")
	}
	for _, r := range u.Routes {
		members := make([]string, 0, len(r.Members))
		for _, m := range r.Members {
			members = append(members, memberText(m))
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%d\t%s\t%s\n", r.Partition, dash(r.Leader), dash(r.Addr), dash(r.HTTP), r.Epoch,
			pick(r.Serving, "yes", "no"), strings.Join(members, ", "))
	}
	return tw.Flush()
}

func memberText(m adamant.RouteMember) string {
	s := m.Host
	for _, mark := range []struct {
		on   bool
		text string
	}{{!m.Voter, "replica"}, {!m.Alive, "gone"}, {m.Alive && !m.Complete, "sick"}, {m.SafeMode, "safe mode"}, {m.Draining, "draining"}} {
		if mark.on {
			s += " (" + mark.text + ")"
		}
	}
	return s
}
