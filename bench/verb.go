package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant/internal/progress"
)

// protocol is how a run measures, whatever it measures.
type protocol struct {
	rounds   int
	warmup   time.Duration
	duration time.Duration
	untimed  bool // the work decides how long it takes
	seed     uint64
	dir      string // where the trials' directories are made; "" for the system's temporary directory
}

func (p protocol) check() error {
	var errs []error
	want := func(ok bool, name string, value any, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("--%s is %v: want %s", name, value, text))
		}
	}
	want(p.rounds >= 1 && p.rounds <= 1000, "rounds", p.rounds, "1 to 1000")
	want(p.untimed || p.warmup >= 0 && p.warmup <= time.Hour, "warmup", p.warmup, "0s to 1h")
	want(p.untimed || p.duration >= time.Millisecond && p.duration <= 24*time.Hour, "duration", p.duration, "1ms to 24h")
	if p.dir != "" {
		if info, err := os.Stat(p.dir); err != nil {
			errs = append(errs, fmt.Errorf("--dir: %w", err))
		} else if !info.IsDir() {
			errs = append(errs, fmt.Errorf("--dir: %s is not a directory", p.dir))
		}
	}
	return errors.Join(errs...)
}

// delivery is where the result goes.
type delivery struct {
	json bool
	out  string
}

// check finds out before the run what would spoil its end.
func (d delivery) check() error {
	if d.out == "" {
		return nil
	}
	if _, err := os.Lstat(d.out); err == nil {
		return fmt.Errorf("--out: %s exists", d.out)
	}
	if info, err := os.Stat(filepath.Dir(d.out)); err != nil {
		return fmt.Errorf("--out: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("--out: %s is not a directory", filepath.Dir(d.out))
	}
	return nil
}

func newVerb(w workload) *cobra.Command {
	common := w.defaults
	p := w.protocol
	var d delivery
	var compare string
	cmd := &cobra.Command{Use: w.verb, Short: w.short, Long: w.long, Example: w.example, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flag := "--compare"
			if w.vary != nil {
				flag, compare = "--values", w.vary.comparison(&common, cmd.Flags().Changed("hosts"))
			}
			if common.Design {
				common = common.designed(cmd.Flags().Changed)
			}
			// The settings' own problems come first: with --compare they are the variants'.
			list, err := variants(common, w.flags, flag, compare)
			if err := errors.Join(err, p.check(), d.check(), checkProfile(list, p.rounds)); err != nil {
				return usageError{err}
			}
			return perform(cmd, w, p, d, list)
		}}
	f := cmd.Flags()
	w.flags(&common, f)
	if w.vary != nil {
		w.vary.flags(f)
	} else {
		f.StringVar(&compare, "compare", "", "measure several values of a setting in turn, and print ratios: NAME=VALUE,VALUE such as log=pebble,bolt")
	}
	f.IntVar(&p.rounds, "rounds", p.rounds, "how often each configuration is measured; medians are printed")
	if !p.untimed {
		f.DurationVar(&p.warmup, "warmup", p.warmup, "time before each measurement that does not count")
		f.DurationVar(&p.duration, "duration", p.duration, "time of each measurement")
	}
	f.Uint64Var(&p.seed, "seed", p.seed, "seed of what is written and in which order")
	f.StringVar(&p.dir, "dir", "", "directory on the disk to measure; the hosts' data in it is removed (default the system's temporary directory)")
	f.BoolVar(&d.json, "json", false, "print one JSON object in place of the table")
	f.StringVar(&d.out, "out", "", "also write the JSON object to this file, which must not exist")
	return cmd
}

// perform runs the experiment and hands its result over.
func perform(cmd *cobra.Command, w workload, p protocol, d delivery, list []variant) error {
	tell := func(time.Duration, time.Duration, string) {}
	if errs := cmd.ErrOrStderr(); progress.IsTerminal(errs) {
		bars := progress.New(errs, true)
		defer bars.Close()
		b := bars.Bar("bench " + w.verb)
		defer b.Finish()
		tell = func(done, total time.Duration, note string) {
			b.Set(int64(done.Seconds()), int64(total.Seconds()), "s "+note)
		}
	}
	r, err := experiment(cmd.Context(), w, p, list, tell)
	if err != nil {
		return err
	}
	if w.vary != nil {
		r.Vary = w.vary.vary
	}
	return deliver(cmd, w, d, r)
}

func deliver(cmd *cobra.Command, w workload, d delivery, r *result) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if d.out != "" {
		if err := writeNew(d.out, text); err != nil {
			return err
		}
	}
	if d.json {
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	if r.Vary != "" {
		return printRows(cmd.OutOrStdout(), w.metrics, r)
	}
	return printTable(cmd.OutOrStdout(), w.metrics, r)
}

func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// temporary makes a directory for one trial and returns what removes it.
func temporary(parent string) (string, func() error, error) {
	dir, err := os.MkdirTemp(parent, "adamant-bench-")
	if err != nil {
		return "", nil, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
