package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

func scaleWorkload() workload {
	return workload{
		verb:  "scale",
		short: "How cost grows with partitions, hosts, voters, sizes or writers",
		long: `scale measures writes, or an idle cluster, for several values of one setting and prints a row for each. The values take
turns within each round, so that a machine that drifts does so for all of them. Memory per member is what members add: that
of a cluster with one partition that nobody uses is subtracted; what the hosts cache and the writers keep is included.`,
		example: `  bench scale --vary partitions --values 16,64,256,1000 --writers 512
  bench scale --vary document --values 1,100,10000
  bench scale --of idle --vary partitions`,
		defaults: scaleDefaults(),
		protocol: writeWorkload().protocol,
		flags:    scaleFlags,
		vary:     &axis{},
		metrics: []metric{
			{"writesPerSecond", "writes/s", 1}, {"p50Micros", "p50 µs", 1}, {"p99Micros", "p99 µs", 1}, {"cpuMicrosPerWrite", "CPU µs/write", 1},
			{"fsyncsPerWrite", "fsyncs/write", 1},
			{"coresPerHost", "cores/host", 1}, {"bytesPerSecondPerHost", "bytes/s/host", 1}, {"bytesPerSecondPerPair", "bytes/s/pair", 1}, {"fsyncsPerSecondPerHost", "fsyncs/s/host", 1},
			{"memoryPerMemberBytes", "KB/member", 1.0 / 1024}, {"goroutinesPerMember", "goroutines/member", 1},
		},
		measure: measureScale,
	}
}

func scaleDefaults() settings {
	s := loadDefaults()
	s.Of = ofWrite
	return s
}

// What scale measures for each value.
const (
	ofWrite = "write"
	ofIdle  = "idle"
)

func scaleFlags(s *settings, f *pflag.FlagSet) {
	loadFlags(s, f)
	f.Var(choice{&s.Of, []string{ofWrite, ofIdle}}, "of", "what is measured: write or idle")
}

func measureScale(ctx context.Context, t trial) (figures, error) {
	if t.settings.Of == ofIdle {
		return t.perMember(ctx, t.watch)
	}
	return t.perMember(ctx, t.write)
}

// choice is a flag with one of a few values.
type choice struct {
	to     *string
	values []string
}

func (c choice) String() string {
	if c.to == nil {
		return ""
	}
	return *c.to
}
func (c choice) Type() string { return strings.Join(c.values, "|") }
func (c choice) Set(s string) error {
	if !slices.Contains(c.values, s) {
		return fmt.Errorf("want %s", strings.Join(c.values, " or "))
	}
	*c.to = s
	return nil
}

// axis is the one setting that a run varies.
type axis struct {
	vary   string
	values string // "" for the usual ones
}

// usualValues are the settings that can be varied; document is for deltas, of which a document consists.
var usualValues = []struct{ vary, setting, values string }{
	{"partitions", "partitions", "16,64,256,1000"},
	{"hosts", "hosts", "3,5,7"},
	{"voters", "voters", "1,3,5"},
	{"size", "size", "64,256,1024,4096"},
	{"document", "deltas", "1,100,10000"},
	{"writers", "writers", "1,8,64,512"},
}

func (a *axis) flags(f *pflag.FlagSet) {
	var all []string
	for _, u := range usualValues {
		all = append(all, u.vary)
	}
	a.vary = all[0]
	f.Var(choice{&a.vary, all}, "vary", "the setting that differs; document varies --deltas, size the bytes of a delta")
	f.StringVar(&a.values, "values", "", "its values, separated by commas (default some that tell: 16,64,256,1000 partitions)")
}

// comparison is what to compare, as --compare has it. Hosts that nobody chose are as many as there are voters.
func (a *axis) comparison(s *settings, hostsChosen bool) string {
	for _, u := range usualValues {
		if u.vary != a.vary {
			continue
		}
		if a.values == "" {
			a.values = u.values
		}
		if a.vary == "voters" && !hostsChosen {
			for _, v := range strings.Split(a.values, ",") {
				n, _ := strconv.Atoi(v) // what is no number is refused where it is set
				s.Hosts = max(s.Hosts, min(n, 32))
			}
		}
		return u.setting + "=" + a.values
	}
	return ""
}

// printRows shows a row for each value: medians, with the whole spread where there were several rounds.
func printRows(out io.Writer, metrics []metric, r *result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	printMachine(w, r)
	fmt.Fprintln(w, "first row:", r.Variants[0].Settings)
	known := slices.DeleteFunc(slices.Clone(metrics), func(m metric) bool {
		return !slices.ContainsFunc(r.Variants, func(v variantResult) bool { _, ok := v.Figures[m.key]; return ok })
	})
	head := []string{r.Vary}
	for _, m := range known {
		head = append(head, m.label)
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, v := range r.Variants {
		_, value, _ := strings.Cut(v.Name, "=")
		row := []string{value}
		for _, m := range known {
			s, ok := v.Figures[m.key]
			row = append(row, cell(s, ok, m.scale))
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
