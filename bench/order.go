package main

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/adamantdb/adamant"
)

// order is what a crew is told to do; answer is what it says. They cross a pipe when the crew is another process.
type order struct {
	Do orderKind

	Open     openOrder     // of doOpen and doHeal
	Prepare  prepareOrder  // of doPrepare and doChurn
	Applied  indexes       // of doHeal
	Until    int64         // of doHeal: bytes imported at which to stop watching, 0 to watch until all is well
	Duration time.Duration // of doLoad
	Host     string        // of doStop and doIncarnation
	Forged   forgery       // of doForge
}

type orderKind uint8

const (
	doOpen        orderKind = iota + 1 // open the hosts and wait until every partition is led
	doLeaders                          // who leads which partition?
	doPrepare                          // create documents
	doLoad                             // write to them for a time
	doUsage                            // counters, now
	doMemory                           // collect garbage, then memory and goroutines
	doDoors                            // let clients in, and say where
	doStop                             // close a host, which hands its leaderships over
	doKill                             // stop a host as a crash would
	doMembers                          // what do the hosts' members hold?
	doChurn                            // create documents and delete them, again and again
	doHeal                             // open a host and wait until its members are complete
	doRead                             // read everything that the hosts hold
	doRepairs                          // what do the hosts' counters of repair say?
	doReport                           // open a host and wait until it reports what is wrong with it: see fault.go
	doForge                            // let a host that does not run hold what was never written
	doIncarnation                      // of a host's directory
	doLosses                           // of which documents were writes lost in flight?
)

type openOrder struct {
	ClusterFile  string
	ClusterFiles map[string]string // of hosts that have one of their own
	Dir          string
	Hosts        []string // to run in this crew
	Log          string
	Procs        int   // GOMAXPROCS, 0 to leave it
	Forget       bool  // truncate logs soon: see forgetful
	Throttle     int64 // bytes a second that repair may pull, 0 for no bound
}

type prepareOrder struct {
	Documents []placed
	Writers   int
	Size      int
	Deltas    int // of each document
	Seed      uint64
	Noise     bool // deltas are random bytes, which can not be compressed
}

// placed is a document and the host that leads it.
type placed struct {
	Number int
	Host   string
	Head   int64 // 0 for one that is to be created
}

type answer struct {
	Error   string
	Leaders map[uint32]string
	Load    loadReport
	Usage   usage
	Memory  memory
	Doors   map[string]string // address by host
	Members []memberState
	Heal    healReport
	Census  map[string]census                // by host
	Repairs map[string]adamant.RepairMetrics // by host
	Report  time.Duration                    // until the host reported what is wrong with it

	Incarnation string
	Done        bool                       // of doForge
	Losses      map[string]map[string]bool // by host, also of hosts that were stopped: keys of documents
}

// loadReport is what came of one load.
type loadReport struct {
	Writes  uint64
	Bytes   uint64        // of the deltas acknowledged
	Elapsed time.Duration // until the last acknowledgement
	Latency *hdrhistogram.Snapshot
	Retries uint64 // attempts that were refused or ambiguous, and repeated
}

// crew runs some of a trial's hosts and their writers.
type crew interface {
	// do carries out one order at a time.
	do(context.Context, order) (answer, error)
	// close ends the crew and everything it runs, whatever came before.
	close() error
}

// do is a site's side of an order.
func (s *site) do(ctx context.Context, o order) (a answer, err error) {
	switch o.Do {
	case doOpen:
		err = s.open(ctx, o.Open)
	case doLeaders:
		a.Leaders, err = s.leaders()
	case doPrepare:
		err = s.prepare(ctx, o.Prepare)
	case doLoad:
		a.Load, err = s.load(ctx, o.Duration)
	case doUsage:
		a.Usage = s.usage()
	case doMemory:
		a.Memory = measureMemory()
	case doDoors:
		a.Doors, err = s.openDoors()
	case doStop:
		err = s.stop(o.Host, (*adamant.Host).Close)
	case doKill:
		err = s.stop(o.Host, (*adamant.Host).Kill)
	case doMembers:
		a.Members = s.members()
	case doChurn:
		err = s.churn(ctx, o.Prepare)
	case doHeal:
		a.Heal, err = s.heal(ctx, o.Open, o.Applied, o.Until)
	case doRead:
		a.Census, err = s.read(ctx)
	case doRepairs:
		a.Repairs = s.repairs()
	case doReport:
		a.Report, err = s.report(ctx, o.Open, o.Applied)
	case doForge:
		a.Done, err = s.forge(o.Open, o.Forged)
	case doIncarnation:
		a.Incarnation, err = s.incarnation(o.Host)
	case doLosses:
		a.Losses = s.losses.list()
	default:
		err = fmt.Errorf("unknown order %d", o.Do)
	}
	return a, err
}
