//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// The exit status.
const (
	exitOK          = 0
	exitFailed      = 1 // a promise was broken
	exitUsage       = 2 // wrong flags, or nothing could be started
	exitInterrupted = 3 // before the end: nothing was verified
	exitForbidden   = 4 // of the inner process: the namespaces are no use
)

// options are the flags.
type options struct {
	Seed       uint64
	Duration   time.Duration
	Hosts      int
	Partitions int
	Writers    int
	Agents     int
	Faults     string
	Traces     string // a directory; "" for texts made up
	Dir        string
	Net        string // auto, namespaces or proxies
	Binary     string // the adamant command; "" to build it and others
	Others     string // adamant commands of other versions, separated by commas
	Race       bool
	Disk       int // MiB
	JSON       bool
	Verbose    bool
	Keep       bool
	TLS        string // auto, on or off
}

func (o *options) register(f *flag.FlagSet) {
	f.Uint64Var(&o.Seed, "seed", 0, "chooses the cluster and the faults; 0 for a random one")
	f.DurationVar(&o.Duration, "duration", time.Minute, "how long there are faults; what comes after takes as long as it takes")
	f.IntVar(&o.Hosts, "hosts", 5, "hosts, 3 to 9")
	f.IntVar(&o.Partitions, "partitions", 12, "partitions, 1 to 256")
	f.IntVar(&o.Writers, "writers", 12, "writers, each with some documents of its own")
	f.IntVar(&o.Agents, "agents", 3, "faults at the same time, at the most")
	f.StringVar(&o.Faults, "faults", "all", "list of faults, separated by commas, or all")
	f.StringVar(&o.Traces, "traces", "", "directory of recorded editing histories (*.json.gz); without it, they are made up")
	f.StringVar(&o.Dir, "dir", "", "where logs and sockets are, kept in the end; without it, a temporary directory that stays only after a failure")
	f.StringVar(&o.Net, "net", "auto", "namespaces, proxies, or auto for the first that is permitted")
	f.StringVar(&o.Binary, "adamant", "", "adamant command to run; without it, one is built")
	f.StringVar(&o.Others, "others", "", "adamant commands of other versions, separated by commas; without -adamant, two are built whose links or whose repair nobody else understands")
	f.BoolVar(&o.Race, "race", false, "build it with the race detector")
	f.IntVar(&o.Disk, "disk", 1024, "size of each host's disk in MiB, in namespaces")
	f.StringVar(&o.TLS, "tls", "auto", "mutual TLS between hosts, as in generated files of several machines: on, off, or auto for one time of two, by the seed")
	f.BoolVar(&o.JSON, "json", false, "write the summary as one JSON object")
	f.BoolVar(&o.Verbose, "v", false, "write the timeline as it happens")
}

func (o *options) check() error {
	var errs []error
	want := func(ok bool, name string, value any, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("-%s is %v: want %s", name, value, text))
		}
	}
	want(o.Duration >= time.Second && o.Duration <= 24*time.Hour, "duration", o.Duration, "1s to 24h")
	want(o.Hosts >= 3 && o.Hosts <= 9, "hosts", o.Hosts, "3 to 9")
	want(o.Partitions >= 1 && o.Partitions <= 256, "partitions", o.Partitions, "1 to 256")
	want(o.Writers >= 1 && o.Writers <= 256, "writers", o.Writers, "1 to 256")
	want(o.Agents >= 0 && o.Agents <= o.Hosts, "agents", o.Agents, "0 to the number of hosts")
	want(o.Disk >= 64 && o.Disk <= 1<<20, "disk", o.Disk, "64 MiB to 1 TiB")
	want(o.Net == "auto" || o.Net == "namespaces" || o.Net == "proxies", "net", o.Net, "auto, namespaces or proxies")
	want(o.TLS == "auto" || o.TLS == "on" || o.TLS == "off", "tls", o.TLS, "on, off or auto")
	if _, err := chosen(o.Faults); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func main() {
	if isInner(os.Args) {
		os.Exit(runInner(os.Args[2]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once, and with it the namespaces
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	o := options{}
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.SetOutput(errs)
	o.register(f)
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	code, err := start(ctx, o, f.Args(), out, errs)
	if err != nil {
		fmt.Fprintln(errs, "chaos:", err)
	}
	return code
}

func start(ctx context.Context, o options, rest []string, out, errs io.Writer) (int, error) {
	if len(rest) > 0 {
		return exitUsage, fmt.Errorf("unknown argument %q", rest[0])
	}
	if err := o.check(); err != nil {
		return exitUsage, err
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64N(1<<32) + 1
	}
	if err := o.place(); err != nil {
		return exitUsage, err
	}
	defer func() {
		if !o.Keep {
			_ = os.RemoveAll(o.Dir) // what stays is no harm
		}
	}()
	if err := o.build(ctx, errs); err != nil {
		return exitUsage, err
	}
	code, err := exitForbidden, error(nil)
	if o.Net != "proxies" {
		code, err = enter(ctx, o, out, errs)
	}
	if code == exitForbidden && o.Net == "namespaces" {
		return exitUsage, errors.Join(errors.New("namespaces are not permitted here"), err)
	}
	if code == exitForbidden {
		code, err = operate(ctx, o, nil, out, errs)
	}
	o.Keep = o.Keep || code == exitFailed
	return code, err
}

// place finds the directory. Paths of sockets may have 107 bytes.
func (o *options) place() (err error) {
	if o.Dir == "" {
		o.Dir, err = os.MkdirTemp("", "chaos-")
		return err
	}
	o.Keep = true
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if len(o.Dir) > 80 {
		return fmt.Errorf("-dir: %s is too long for sockets in it", o.Dir)
	}
	if list, err := os.ReadDir(o.Dir); err == nil && len(list) > 0 {
		return fmt.Errorf("-dir: %s is not empty", o.Dir)
	}
	return os.MkdirAll(o.Dir, 0o700)
}

// innerArgument makes this program the first process of its namespaces; the next argument is its options.
const innerArgument = "first-of-a-chaos"

func isInner(args []string) bool { return len(args) == 3 && args[1] == innerArgument }

// runInner is main of the inner process.
func runInner(text string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return exitUsage
	}
	n, err := furnish(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return exitForbidden
	}
	code, err := operate(ctx, o, n, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	return code
}
