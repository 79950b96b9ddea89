package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant/config"
)

func newConfigValidate() *cobra.Command {
	var successorOf string
	cmd := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Report everything that is wrong with cluster files",
		Long: `validate reads cluster files as hosts do and reports every problem with its line and JSON path. With --successor-of it
also checks that running hosts would take the file over after the one in force.`,
		Example: `  adamant config validate cluster.json
  adamant config validate --successor-of cluster.json next.json`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var before *config.Cluster
			if successorOf != "" {
				var err error
				if before, err = config.Load(successorOf); err != nil {
					return err
				}
			}
			var errs []error
			for _, path := range args {
				c, err := config.Load(path)
				if err == nil && before != nil {
					err = before.CheckSuccessor(c)
				}
				if err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: valid: cluster %s, version %d, %s, %s\n", path, c.Name, c.Version,
					quantity(len(c.Hosts), "host"), quantity(len(c.Partitions), "partition"))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().StringVar(&successorOf, "successor-of", "", "the cluster file in force")
	return cmd
}

// quantity is a number of things.
func quantity(n int, noun string) string {
	switch stem, y := strings.CutSuffix(noun, "y"); {
	case n == 1:
	case y:
		noun = stem + "ies"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
