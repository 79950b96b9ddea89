//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// maxFailures bounds what is kept of them: they tend to come in flocks.
const maxFailures = 50

// counts are what clients did and saw.
type counts struct {
	Writes      atomic.Int64 // acknowledged creations, appends, compactions, replacements and deletions
	Deltas      atomic.Int64 // acknowledged
	Bytes       atomic.Int64 // of their redos
	LeaseReads  atomic.Int64
	QuorumReads atomic.Int64
	StaleReads  atomic.Int64
	Ambiguous   atomic.Int64 // writes of unknown outcome, repeated
	Refused     atomic.Int64 // nothing happened, repeated
	Documents   atomic.Int64 // made
	Deleted     atomic.Int64
	Contested   atomic.Int64 // documents that several clients wrote, checked to be linearizable
	Undecided   atomic.Int64 // checks of them that took too long
	Rechecked   atomic.Int64 // of them, those that were read again in the end
}

// operations are all that clients were answered.
func (c *counts) operations() int64 {
	return c.Writes.Load() + c.LeaseReads.Load() + c.QuorumReads.Load() + c.StaleReads.Load()
}

// record collects what a run is to tell. It may be used concurrently.
type record struct {
	counts
	lost, stale, resurrected, divergent atomic.Int64

	begun   time.Time
	verbose io.Writer // nil for none

	mu       sync.Mutex
	file     *os.File // the timeline
	wrong    error    // with it
	faults   map[string]int
	skipped  map[string]string // faults that can not be done here, and why
	failures []string
	more     int // failures that are not kept
}

func newRecord(dir string, verbose io.Writer) (*record, error) {
	f, err := os.Create(filepath.Join(dir, "timeline.txt"))
	if err != nil {
		return nil, err
	}
	return &record{begun: time.Now(), verbose: verbose, file: f,
		faults: map[string]int{}, skipped: map[string]string{}}, nil
}

// note writes a line of the timeline.
func (r *record) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line(fmt.Sprintf(format, args...))
}

func (r *record) line(text string) {
	text = fmt.Sprintf("%9.3f %s\n", time.Since(r.begun).Seconds(), text)
	if _, err := r.file.WriteString(text); err != nil {
		r.wrong = err
	}
	if r.verbose != nil {
		_, _ = io.WriteString(r.verbose, text)
	}
}

// fail notes that something is as it must never be.
func (r *record) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	r.line("FAILURE: " + text)
	if len(r.failures) == maxFailures {
		r.more++
		return
	}
	r.failures = append(r.failures, fmt.Sprintf("%.3f %s", time.Since(r.begun).Seconds(), text))
}

func (r *record) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *record) did(fault string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[fault]++
}

func (r *record) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.wrong, r.file.Close()); err != nil {
		return fmt.Errorf("timeline: %w", err)
	}
	return nil
}

// summary is what a run says in the end.
type summary struct {
	Seed        uint64            `json:"seed"`
	Network     string            `json:"network"`
	Links       string            `json:"links"`
	Seconds     float64           `json:"seconds"`
	Interrupted bool              `json:"interrupted,omitempty"`
	Faults      map[string]int    `json:"faults"`
	Skipped     map[string]string `json:"skipped,omitempty"`
	Writes      int64             `json:"writes"`     // acknowledged
	Operations  int64             `json:"operations"` // answered: these and reads, stale ones and those that found nothing among them
	Clients     map[string]int64  `json:"clients"`
	Verified    int64             `json:"verified"` // copies of documents read back in the end
	Lost        int64             `json:"lost"`
	Stale       int64             `json:"staleReads"` // of the linearizable ones
	Resurrected int64             `json:"resurrected"`
	Divergent   int64             `json:"divergent"`
	Failures    []string          `json:"failures"`
	Dir         string            `json:"dir,omitempty"` // of logs and timeline; "" when it is gone
}

func (r *record) summarize(f *field, interrupted bool) summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := summary{Seed: f.o.Seed, Network: f.net.name(), Links: f.o.linksName(), Seconds: time.Since(r.begun).Seconds(), Interrupted: interrupted,
		Faults: maps.Clone(r.faults), Skipped: maps.Clone(r.skipped), Writes: r.Writes.Load(), Operations: r.operations(), Verified: f.verified.Load(),
		Lost: r.lost.Load(), Stale: r.stale.Load(), Resurrected: r.resurrected.Load(), Divergent: r.divergent.Load(),
		Failures: append([]string{}, r.failures...),
		Clients: map[string]int64{
			"writes": r.Writes.Load(), "deltas": r.Deltas.Load(), "bytes": r.Bytes.Load(), "lease reads": r.LeaseReads.Load(),
			"quorum reads": r.QuorumReads.Load(), "stale reads": r.StaleReads.Load(), "ambiguous": r.Ambiguous.Load(),
			"refused": r.Refused.Load(), "documents": r.Documents.Load(), "deleted": r.Deleted.Load(),
			"contested": r.Contested.Load(), "undecided": r.Undecided.Load(), "contested, read again": r.Rechecked.Load(),
		}}
	if r.more > 0 {
		s.Failures = append(s.Failures, fmt.Sprintf("and %d more", r.more))
	}
	if f.o.Keep || len(s.Failures) > 0 {
		s.Dir = f.o.Dir
	}
	return s
}

func (s summary) write(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		return e.Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\t\n", name, value) }
	row("seed", s.Seed)
	row("network", s.Network)
	row("links", s.Links)
	row("seconds", int(s.Seconds))
	for _, name := range slices.Sorted(maps.Keys(s.Faults)) {
		row(name, s.Faults[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Skipped)) {
		row(name, "skipped: "+s.Skipped[name])
	}
	row("writes acknowledged", s.Writes)
	row("operations answered", s.Operations)
	for _, name := range slices.Sorted(maps.Keys(s.Clients)) {
		if name == "writes" {
			continue // said above
		}
		row(name, s.Clients[name])
	}
	row("copies read back", s.Verified)
	row("lost", s.Lost)
	row("stale linearizable reads", s.Stale)
	row("resurrected", s.Resurrected)
	row("divergent", s.Divergent)
	row("failures", len(s.Failures))
	if err := t.Flush(); err != nil {
		return err
	}
	for _, text := range s.Failures {
		fmt.Fprintln(w, "FAILURE:", text)
	}
	if s.Dir != "" {
		fmt.Fprintf(w, "timeline and logs are in %s\n", s.Dir)
	}
	return nil
}
