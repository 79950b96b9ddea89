package demo

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/adamantdb/adamant"
)

// Options of the demo. The zero value of a field means its default.
type Options struct {
	// Dir keeps everything the hosts write. Default: a temporary directory that is removed after a good end.
	Dir string
	// Hosts, Partitions: the size of the cluster. Defaults 5 and 64; each partition has three voters.
	Hosts, Partitions int
	// Documents is the number of generated documents. Default 3000, or none when there are traces.
	Documents int
	// Writers is how many clients write at a time. Default 32.
	Writers int
	// Traces are files of editing traces to replay, Copies how many documents are made of each. Default 1.
	Traces []string
	Copies int
	// Batch is how many deltas of a replay travel in one append. Default 100.
	Batch int
	// Load is how long the load runs before the kill, and again after it; replays are killed by progress. Default 4 s.
	Load time.Duration
	// Limit bounds the whole demo. Default 5 minutes.
	Limit time.Duration
	// Log chooses the log engine.
	Log adamant.LogKind
	// Seed of the generated documents. Default 1.
	Seed uint64

	// Out gets the story; Terminal says whether it can draw bars.
	Out      io.Writer
	Terminal bool
}

func (o Options) withDefaults() (Options, error) {
	set := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	set(&o.Hosts, 5)
	set(&o.Partitions, 64)
	if len(o.Traces) == 0 {
		set(&o.Documents, 3000)
	}
	set(&o.Writers, 32)
	set(&o.Copies, 1)
	set(&o.Batch, 100)
	if o.Load == 0 {
		o.Load = 4 * time.Second
	}
	if o.Limit == 0 {
		o.Limit = 5 * time.Minute
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Hosts >= 4 && o.Hosts <= 32, "hosts: want 4 to 32, so that three voters are left on live hosts, got %d", o.Hosts)
	check(o.Partitions >= 1 && o.Partitions <= 1024, "partitions: want 1 to 1024, got %d", o.Partitions)
	check(o.Documents >= 0 && o.Documents <= 1_000_000, "documents: want up to 1000000, got %d", o.Documents)
	check(o.Writers >= 1 && o.Writers <= 1024, "writers: want 1 to 1024, got %d", o.Writers)
	check(o.Copies >= 1 && o.Copies <= 1000, "copies: want 1 to 1000, got %d", o.Copies)
	check(o.Batch >= 1 && o.Batch <= 1000, "batch: want 1 to 1000, got %d", o.Batch)
	check(o.Load > 0, "load: want a positive duration, got %v", o.Load)
	check(o.Limit > 0, "limit: want a positive duration, got %v", o.Limit)
	return o, errors.Join(errs...)
}
