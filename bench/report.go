package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant/bench/internal/report"
	"github.com/adamantdb/adamant/bench/internal/saved"
)

// newReport is the verb that measures nothing.
func newReport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "report FILE…",
		Short: "One page with the figures and plots of saved results",
		Long: `report reads JSON objects that bench or bench/peers have printed with --json or saved with --out, and makes one HTML
page of them, with tables and plots. The page loads nothing from anywhere.`,
		Example: `  bench write --compare log=pebble,bolt --rounds 5 --out log.json
  bench report log.json --out log.html`,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				return usageError{errors.New("want files that were saved with --out or --json")}
			}
			page, err := reportPage(files)
			if err != nil {
				return err
			}
			if out == "-" {
				_, err := cmd.OutOrStdout().Write(page)
				return err
			}
			return os.WriteFile(out, page, 0o644)
		},
	}
	cmd.Flags().StringVar(&out, "out", "report.html", `file to write, "-" for standard output; one that exists is replaced`)
	return cmd
}

// reportPage reports everything that is wrong with any of the files.
func reportPage(files []string) ([]byte, error) {
	var inputs []report.Input
	var errs []error
	for _, file := range files {
		r, err := saved.ReadFile(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("report: %w", err))
			continue
		}
		inputs = append(inputs, report.Input{File: filepath.Base(file), Result: r})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err := report.Write(&page, inputs, reportMetrics())
	return page.Bytes(), err
}

// reportMetrics are those of all verbs. What bench/peers measures has the names that write gives it.
func reportMetrics() []report.Metric {
	var all []report.Metric
	for _, w := range workloads() {
		for _, m := range w.metrics {
			all = append(all, report.Metric{Key: m.key, Label: m.label, Scale: m.scale})
		}
	}
	return all
}
