package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// site runs some hosts of a system, and writers for the documents that are written there. Its exported methods are called
// by net/rpc: from this process, or from the one that started it for a host. They are called in the order they stand here.
type site struct {
	ctx      context.Context // of everything it does
	settings settings
	system   system
	writers  []*writer
	procs    int // GOMAXPROCS to restore, 0 if it was left alone
}

// PrepareOrder says what a site is for.
type PrepareOrder struct {
	Settings settings
	Dir      string // of the trial, for all its sites
	Hosts    []int  // by number, to run here
}

// Prepare opens what can be opened before all hosts are known, and tells where this site's listen.
func (s *site) Prepare(o PrepareOrder, addresses *AddressBook) (err error) {
	s.settings = o.Settings
	if o.Settings.Procs > 0 {
		s.procs = runtime.GOMAXPROCS(o.Settings.Procs)
	}
	if s.system, err = newSystem(o.Settings.System); err != nil {
		return err
	}
	*addresses, err = s.system.prepare(o.Settings, o.Dir, o.Hosts)
	return err
}

// Open returns when writes can be made to the hosts that run here.
func (s *site) Open(all AddressBook, _ *bool) error {
	ctx, cancel := context.WithTimeout(s.ctx, openPatience)
	defer cancel()
	return s.system.open(ctx, all)
}

// Homes says of each document at which host it is written.
func (s *site) Homes(_ bool, homes *[]int) (err error) {
	*homes, err = s.system.homes()
	return err
}

// CreateOrder is a site's share of the documents and of the writers.
type CreateOrder struct {
	Documents   []Placed
	Writers     int
	FirstWriter int // the number of the first; no two sites' writers have the same
}

// Placed is a document and the host at which it is written.
type Placed struct{ Number, Home int }

// Create makes documents and writers.
func (s *site) Create(o CreateOrder, _ *bool) error {
	s.writers = newWriters(s.settings, o)
	return createAll(s.ctx, s.system, s.settings, o)
}

// LoadReport is what came of a load.
type LoadReport struct {
	Writes, Retries uint64
	Elapsed         time.Duration // until the last write was acknowledged
	Latency         *hdrhistogram.Snapshot
}

// Load lets all writers write for a time.
func (s *site) Load(length time.Duration, r *LoadReport) (err error) {
	*r, err = load(s.ctx, s.system, s.writers, length)
	return err
}

// Door lets clients in to a host that runs here, and says where.
func (s *site) Door(host int, addr *string) (err error) {
	f, ok := s.system.(fallible)
	if !ok {
		return fmt.Errorf("clients can not reach %s", s.settings.System)
	}
	*addr, err = f.door(host)
	return err
}

// Stop closes a host that runs here in an orderly way. Door came before.
func (s *site) Stop(host int, _ *bool) error { return s.system.(fallible).stop(host) }

// Usage is the CPU time of a process until now.
type Usage struct {
	CPU  time.Duration
	Told bool // by the operating system
}

// Usage tells what this process has used.
func (s *site) Usage(_ bool, u *Usage) error {
	u.CPU, u.Told = processCPU()
	return nil
}

// close stops the hosts that run here, however far things went.
func (s *site) close() (err error) {
	if s.system != nil {
		if err = s.system.close(); err != nil {
			err = fmt.Errorf("close %s: %w", s.settings.System, err)
		}
	}
	if s.procs > 0 {
		runtime.GOMAXPROCS(s.procs)
	}
	return errors.Join(err)
}
