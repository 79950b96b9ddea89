package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/merkle"
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

	Sources   int           `json:"sources,omitempty"`        // other hosts that hold what is missing
	RoundTrip time.Duration `json:"rttNanos,omitempty"`       // between hosts, 0 for that of loopback
	Load      float64       `json:"load,omitempty"`           // of a closed loop's rate, while repair runs; 0 for none
	Calibrate time.Duration `json:"calibrateNanos,omitempty"` // to find that rate, and latencies without repair
	Text      bool          `json:"text,omitempty"`           // deltas can be compressed
	Throttle  int64         `json:"throttle,omitempty"`       // bytes a second that repair may pull, 0 for no bound
	Kills     bool          `json:"kills,omitempty"`          // repair again and kill the host in the middle
	Design    bool          `json:"design,omitempty"`         // measure the source design's own figures: see design.go
	Scale     int           `json:"scale,omitempty"`          // one in so many of the buckets of the design's partition

	Kill  string        `json:"kill,omitempty"`       // how a host is lost: see kills
	Think time.Duration `json:"thinkNanos,omitempty"` // what a client waits after a write

	Idle      bool          `json:"idle,omitempty"`      // nobody writes or reads until the loss
	For       time.Duration `json:"forNanos,omitempty"`  // how long a loss that passes lasts
	BusyCPU   int           `json:"busyCPU,omitempty"`   // other processes that use the processor
	ReadEvery time.Duration `json:"readNanos,omitempty"` // what a reader waits after a read, 0 for no readers

	Parts   bool   `json:"parts,omitempty"`      // divide processor time among parts: see profile.go
	Profile string `json:"cpuprofile,omitempty"` // file for a CPU profile of the measured time, "" for none

	load loadKind
}

// loadKind is how a workload writes, which says what of its settings must make sense.
type loadKind uint8

const (
	loadNone    loadKind = iota
	loadFree             // writers, each with documents of its own
	loadEach             // one writer for each partition
	loadFill             // documents, made before anything is measured
	loadQuiet            // one writer for each partition if they are to think, none otherwise
	loadHealthy          // writers as in loadFree, in a cluster of which a host is damaged afterwards
)

// minSize is that of a delta with nothing in it: see document.delta.
const minSize = len(payloadHead) + len(payloadTail) + len(payloadUndo)

func clusterFlags(s *settings, f *pflag.FlagSet) {
	f.IntVar(&s.Hosts, "hosts", s.Hosts, "hosts of the cluster")
	f.IntVar(&s.Voters, "voters", s.Voters, "voters of each partition: 1, 3, 5 or 7")
	engineFlags(s, f)
}

// engineFlags are those of clusterFlags that do not shape the cluster.
func engineFlags(s *settings, f *pflag.FlagSet) {
	f.IntVar(&s.Partitions, "partitions", s.Partitions, "partitions of the cluster")
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
		want(s.Sources >= 1 && s.Sources <= 7, "sources", s.Sources, "1 to 7")
		want(s.RoundTrip >= 0 && s.RoundTrip <= 100*time.Millisecond, "rtt", s.RoundTrip, "0s to 100ms: elections would time out")
		want(s.Load >= 0 && s.Load <= 2, "load", s.Load, "0 to 2")
		want(s.Load == 0 || s.Calibrate >= time.Millisecond && s.Calibrate <= time.Hour, "calibrate", s.Calibrate, "1ms to 1h")
		want(s.Throttle >= 0 && s.Throttle <= 1<<40, "throttle", s.Throttle, "0 to a terabyte")
		want(s.Scale >= 1 && merkle.Buckets%s.Scale == 0, "design-scale", s.Scale, fmt.Sprintf("a divisor of the %d buckets", merkle.Buckets))
		if err := s.checkMissing(); err != nil {
			errs = append(errs, err)
		}
	case loadHealthy:
		want(s.Writers >= 1 && s.Writers <= 65536, "writers", s.Writers, "1 to 65536")
		want(s.Documents >= s.Writers && s.Documents <= 10_000_000, "documents", s.Documents, "as many as --writers to 10000000")
		want(s.Voters >= 3, "voters", s.Voters, "at least 3: the others go on without the one that is damaged")
		want(s.Voters == s.Hosts, "voters", s.Voters, "as many as --hosts: any host can be damaged")
		want(s.Calibrate >= time.Millisecond && s.Calibrate <= time.Hour, "idle", s.Calibrate, "1ms to 1h")
	case loadQuiet:
		want(s.BusyCPU >= 0 && s.BusyCPU <= 1024, "busy-cpu", s.BusyCPU, "0 to 1024")
		want(s.Think == 0 || s.Think >= time.Millisecond && s.Think <= time.Minute, "think", s.Think, "1ms to 1m, or 0s for no writers")
	case loadEach:
		want(s.Think >= 0 && s.Think <= time.Minute, "think", s.Think, "0s to 1m")
	}
	if s.load != loadNone {
		want(s.Size >= minSize && s.Size <= 1_000_000, "size", s.Size, fmt.Sprintf("%d to 1000000", minSize))
	}
	if passes(s.Kill) {
		want(s.For >= time.Second && s.For <= time.Hour, "for", s.For, "1s to 1h")
	}
	if s.Kill != "" {
		want(s.ReadEvery >= 0 && s.ReadEvery <= time.Minute, "read", s.ReadEvery, "0s to 1m")
		want(s.Kill != killPause || s.Processes, "kill", s.Kill, "another one without --processes: all hosts would stand still")
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
		s.describeRepair(&b)
	} else if s.Deltas > 1 {
		fmt.Fprintf(&b, ", %d of them in each document before", s.Deltas)
	}
	if s.load == loadEach || s.load == loadQuiet && s.Think > 0 {
		fmt.Fprintf(&b, ", a writer for each partition, deltas of %d bytes", s.Size)
	}
	if s.Think > 0 {
		fmt.Fprintf(&b, " every %v", s.Think)
	}
	if s.Idle {
		b.WriteString(" once the host is lost")
	}
	if s.BusyCPU > 0 {
		fmt.Fprintf(&b, ", %s busy beside them", quantity(s.BusyCPU, "processor"))
	}
	if s.Kill != "" {
		fmt.Fprintf(&b, ", a host lost by %q", s.Kill)
		if passes(s.Kill) {
			fmt.Fprintf(&b, " for %v", s.For)
		}
		if s.ReadEvery > 0 {
			fmt.Fprintf(&b, ", reads of every document at every host every %v", s.ReadEvery)
		}
	}
	if s.Processes {
		b.WriteString(", a process for each host")
	}
	if s.Procs > 0 {
		fmt.Fprintf(&b, ", GOMAXPROCS %d", s.Procs)
	}
	return b.String()
}

func (s settings) describeRepair(b *strings.Builder) {
	if s.Design {
		fmt.Fprintf(b, ", the source design's bucket and 1/%d of its partition", s.Scale)
	} else {
		fmt.Fprintf(b, ", %s × %s of %d bytes, missing %s", quantity(s.Documents, "document"), quantity(s.Deltas, "delta"), s.Size, s.Missing)
	}
	if s.Missing != missingAll {
		fmt.Fprintf(b, " (%s)", s.Kind)
	}
	if s.Text {
		b.WriteString(", text")
	}
	fmt.Fprintf(b, ", %s", quantity(s.Sources, "source"))
	if s.RoundTrip > 0 {
		fmt.Fprintf(b, ", round trips of %v", s.RoundTrip)
	}
	if s.Load > 0 && !s.Design {
		fmt.Fprintf(b, ", writes at %.3g of a closed loop's rate", s.Load)
	}
	if s.Throttle > 0 {
		fmt.Fprintf(b, ", at most %d bytes a second", s.Throttle)
	}
}

func quantity(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
