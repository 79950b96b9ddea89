package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// historyWait is how long a host is asked to wait for news.
const historyWait = 20 * time.Second

func newHistory() *cobra.Command {
	var flags clientFlags
	var asJSON, follow bool
	var partition int64
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show what happened to hosts, in the order of time",
		Long: `history asks every host given with --http for what it remembers: leaderships, health, membership, safe mode, configurations,
peers, failures. Their answers are put in the order of their clocks, which may differ.`,
		Example: `  adamant history --http h1:7480,h2:7480,h3:7480 --partition 4
  adamant history --follow`,
		Args: noArguments,
	}
	flags.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		which := ""
		if cmd.Flags().Changed("partition") {
			if partition < 0 || partition > 1<<32-2 {
				return usageError{fmt.Errorf("--partition %d: want a partition's number", partition)}
			}
			which = strconv.FormatInt(partition, 10)
		}
		p := historyPrinter{out: cmd.OutOrStdout(), json: asJSON}
		if follow {
			return followHistories(cmd, &flags, which, &p)
		}
		list, err := histories(cmd, &flags, which)
		if err != nil {
			return err
		}
		for _, n := range list {
			if err := p.print(n); err != nil {
				return err
			}
		}
		return nil
	}
	cmd.Flags().Int64Var(&partition, "partition", 0, "of this partition only")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return cmd
}

// each runs a function for every host, each with a client of its own, all at once, and returns the first failure.
func (c *clientFlags) each(cmd *cobra.Command, do func(client *httpapi.Client, ctx context.Context) error) error {
	errs := make([]error, len(c.addrs))
	var wg sync.WaitGroup
	for i, addr := range c.addrs {
		one := *c
		one.addrs = []string{addr}
		wg.Go(func() {
			client, ctx, cancel, err := one.connect(cmd)
			if err == nil {
				defer cancel()
				err = do(client, ctx)
			}
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", addr, err)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// histories reads what every host has kept, in the order of time.
func histories(cmd *cobra.Command, flags *clientFlags, partition string) (list []adamant.Notice, err error) {
	var mu sync.Mutex
	err = flags.each(cmd, func(client *httpapi.Client, ctx context.Context) error {
		for n, err := range client.History(ctx, partition, time.Time{}, 0) {
			if err != nil {
				return err
			}
			mu.Lock()
			list = append(list, n)
			mu.Unlock()
		}
		return nil
	})
	slices.SortStableFunc(list, func(a, b adamant.Notice) int { return a.Time.Compare(b.Time) })
	return list, err
}

// followHistories prints what every host has kept, and what comes as it comes.
func followHistories(cmd *cobra.Command, flags *clientFlags, partition string, p *historyPrinter) error {
	ctx := cmd.Context()
	return flags.each(cmd, func(client *httpapi.Client, _ context.Context) error {
		var since time.Time
		for ctx.Err() == nil {
			for n, err := range client.History(ctx, partition, since, historyWait) {
				if err != nil && ctx.Err() != nil {
					return nil
				}
				if err == nil {
					since = n.Time
					err = p.print(n)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// historyPrinter writes a line for each notice.
type historyPrinter struct {
	mu   sync.Mutex
	out  io.Writer
	json bool
}

func (p *historyPrinter) print(n adamant.Notice) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json {
		return json.NewEncoder(p.out).Encode(n)
	}
	where := ""
	if n.Partition != nil {
		where = fmt.Sprintf(" partition %d", *n.Partition)
	}
	if n.Epoch > 0 {
		where += fmt.Sprintf(" epoch %d", n.Epoch)
	}
	_, err := fmt.Fprintf(p.out, "%s %s%s: %s: %s\n", n.Time.Format("2006-01-02T15:04:05.000Z07:00"), n.Host, where, n.Kind, n.Text)
	return err
}
