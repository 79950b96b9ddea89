package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/adamantdb/adamant"
)

// settings are what a trial depends on, and what can be compared.
type settings struct {
	Hosts      int    `json:"hosts"`
	Partitions int    `json:"partitions"`
	Voters     int    `json:"voters"`
	Log        string `json:"log"`
	Processes  bool   `json:"processes"`           // each host in a process of its own
	Procs      int    `json:"gomaxprocs"`          // of each process, 0 for Go's choice
	Writers    int    `json:"writers,omitempty"`   // these three are 0 in workloads that do not write
	Documents  int    `json:"documents,omitempty"` //
	Size       int    `json:"size,omitempty"`      // bytes of a delta

	Busy   int    `json:"busy,omitempty"`   // only so many partitions are written to; 0 for all
	Deltas int    `json:"deltas,omitempty"` // of each document before the measurement
	Of     string `json:"of,omitempty"`     // what is measured of a cluster that grows: see scale.go

	Missing string `json:"missing,omitempty"` // what repair finds missing: see missing.go
	Kind    string `json:"kind,omitempty"`    //

	Kill  string        `json:"kill,omitempty"`       // how a host is lost: killHard or killStop
	Think time.Duration `json:"thinkNanos,omitempty"` // what a client waits after a write

	load loadKind
}

// loadKind is how a workload writes, which says what of its settings must make sense.
type loadKind uint8

const (
	loadNone loadKind = iota
	loadFree          // writers, each with documents of its own
	loadEach          // one writer for each partition
	loadFill          // documents, made before anything is measured
)

// minSize is that of a delta with nothing in it: see document.delta.
const minSize = len(payloadHead) + len(payloadTail) + len(payloadUndo)

func clusterFlags(s *settings, f *pflag.FlagSet) {
	f.IntVar(&s.Hosts, "hosts", s.Hosts, "hosts of the cluster")
	f.IntVar(&s.Partitions, "partitions", s.Partitions, "partitions of the cluster")
	f.IntVar(&s.Voters, "voters", s.Voters, "voters of each partition: 1, 3, 5 or 7")
	f.StringVar(&s.Log, "log", s.Log, "engine of the Raft logs: pebble or bolt (also --log-engine)")
	f.BoolVar(&s.Processes, "processes", s.Processes, "run each host in a process of its own, with its share of the writers")
	f.IntVar(&s.Procs, "procs", s.Procs, "GOMAXPROCS of each process, 0 for Go's choice")
}

func loadFlags(s *settings, f *pflag.FlagSet) {
	clusterFlags(s, f)
	f.IntVar(&s.Writers, "writers", s.Writers, "writers, each with one write in flight")
	f.IntVar(&s.Documents, "documents", s.Documents, "documents, each written by one writer")
	f.IntVar(&s.Size, "size", s.Size, "bytes of a delta: redo and undo together")
	f.IntVar(&s.Busy, "busy", s.Busy, "write to the first so many partitions only, 0 for all")
	f.IntVar(&s.Deltas, "deltas", s.Deltas, "deltas that each document has before anything is measured")
}

// settingName maps other names of a flag to the one it has here.
func settingName(name string) string {
	if name == "log-engine" {
		return "log"
	}
	return name
}

// check reports everything that is wrong.
func (s settings) check() error {
	var errs []error
	want := func(ok bool, name string, value any, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("--%s is %v: want %s", name, value, text))
		}
	}
	want(s.Hosts >= 1 && s.Hosts <= 32, "hosts", s.Hosts, "1 to 32")
	want(s.Partitions >= 1 && s.Partitions <= 4096, "partitions", s.Partitions, "1 to 4096")
	want(s.Voters == 1 || s.Voters == 3 || s.Voters == 5 || s.Voters == 7, "voters", s.Voters, "1, 3, 5 or 7")
	want(s.Voters <= s.Hosts, "voters", s.Voters, fmt.Sprintf("at most --hosts, which is %d", s.Hosts))
	if _, err := adamant.ParseLogKind(s.Log); err != nil {
		errs = append(errs, fmt.Errorf("--log: %w", err))
	}
	want(s.Procs >= 0 && s.Procs <= 1024, "procs", s.Procs, "0 to 1024")
	switch s.load {
	case loadFree:
		want(s.Writers >= 1 && s.Writers <= 65536, "writers", s.Writers, "1 to 65536")
		want(s.Documents >= 1 && s.Documents <= 10_000_000, "documents", s.Documents, "1 to 10000000")
		want(s.Documents >= s.Writers, "documents", s.Documents, fmt.Sprintf("at least one for each of the %d writers", s.Writers))
		want(s.Busy >= 0 && s.Busy <= s.Partitions, "busy", s.Busy, fmt.Sprintf("0 to --partitions, which is %d", s.Partitions))
		want(s.Deltas >= 1 && s.Deltas <= 1_000_000, "deltas", s.Deltas, "1 to 1000000")
	case loadFill:
		want(s.Documents >= 1 && s.Documents <= 10_000_000, "docs", s.Documents, "1 to 10000000")
		want(s.Deltas >= 1 && s.Deltas <= 1_000_000, "deltas", s.Deltas, "1 to 1000000")
		if err := s.checkMissing(); err != nil {
			errs = append(errs, err)
		}
	case loadEach:
		want(s.Think >= 0 && s.Think <= time.Minute, "think", s.Think, "0s to 1m")
	}
	if s.load != loadNone {
		want(s.Size >= minSize && s.Size <= 1_000_000, "size", s.Size, fmt.Sprintf("%d to 1000000", minSize))
	}
	if s.Kill != "" {
		want(s.Voters >= 3, "voters", s.Voters, "at least 3: nobody else could lead what is lost")
	}
	return errors.Join(errs...)
}

// String says it in a line, for people.
func (s settings) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s × %s, %s log", quantity(s.Hosts, "host"), quantity(s.Partitions, "partition"), quantity(s.Voters, "voter"), s.Log)
	if s.Writers > 0 {
		fmt.Fprintf(&b, ", %s, %s, deltas of %d bytes", quantity(s.Writers, "writer"), quantity(s.Documents, "document"), s.Size)
	}
	if s.Busy > 0 {
		fmt.Fprintf(&b, " in %s", quantity(s.Busy, "partition"))
	}
	if s.load == loadFill {
		fmt.Fprintf(&b, ", %s × %s of %d bytes, missing %s", quantity(s.Documents, "document"), quantity(s.Deltas, "delta"), s.Size, s.Missing)
		if s.Missing != missingAll {
			fmt.Fprintf(&b, " (%s)", s.Kind)
		}
	} else if s.Deltas > 1 {
		fmt.Fprintf(&b, ", %d of them in each document before", s.Deltas)
	}
	if s.load == loadEach {
		fmt.Fprintf(&b, ", a writer for each partition, deltas of %d bytes", s.Size)
	}
	if s.Think > 0 {
		fmt.Fprintf(&b, " every %v", s.Think)
	}
	if s.Kill != "" {
		fmt.Fprintf(&b, ", a host lost by %q", s.Kill)
	}
	if s.Processes {
		b.WriteString(", a process for each host")
	}
	if s.Procs > 0 {
		fmt.Fprintf(&b, ", GOMAXPROCS %d", s.Procs)
	}
	return b.String()
}

func quantity(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
