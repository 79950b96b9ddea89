package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/adamantdb/adamant"
)

// site is the crew in this process: some hosts, and writers for the documents they lead. One caller at a time.
type site struct {
	hosts   map[string]*adamant.Host
	writers []*writer
	doors   []*door
	losses  losses
	retired usage // counters of hosts that were stopped
	procs   int   // GOMAXPROCS to restore, 0 if it was left alone
}

func (s *site) open(ctx context.Context, o openOrder) error {
	kind, err := adamant.ParseLogKind(o.Log)
	if err != nil {
		return err
	}
	if o.Procs > 0 {
		s.procs = runtime.GOMAXPROCS(o.Procs)
	}
	s.hosts = map[string]*adamant.Host{}
	var mu sync.Mutex
	err = each(o.Hosts, func(_ int, name string) error {
		options := o.options(name, kind)
		options.Events.CatastrophicFailure = func(c adamant.Catastrophe) { s.losses.note(name, c.Key) }
		h, err := adamant.Open(options)
		if err != nil {
			return fmt.Errorf("host %s: %w", name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		s.hosts[name] = h
		return nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	for name, h := range s.hosts {
		if err := h.WaitReady(ctx); err != nil {
			return fmt.Errorf("host %s does not become ready: %w", name, err)
		}
	}
	return nil
}

// leaders says who leads which partition, as any of the hosts knows it.
func (s *site) leaders() (map[uint32]string, error) {
	for _, h := range s.hosts {
		table := map[uint32]string{}
		for _, l := range h.Routing() {
			table[l.Partition] = l.Leader
		}
		return table, nil
	}
	return nil, errors.New("no host runs here")
}

// close stops every host. Nobody will use them again, so leaderships are not handed over.
func (s *site) close() error {
	doors := each(s.doors, func(_ int, d *door) error { return d.close() })
	s.doors = nil
	hosts := make([]*adamant.Host, 0, len(s.hosts))
	for _, h := range s.hosts {
		hosts = append(hosts, h)
	}
	s.hosts, s.writers = nil, nil
	err := each(hosts, func(_ int, h *adamant.Host) error { return h.Kill() })
	if s.procs > 0 {
		runtime.GOMAXPROCS(s.procs)
		s.procs = 0
	}
	return errors.Join(doors, err)
}

// openDoors lets clients of other processes in.
func (s *site) openDoors() (map[string]string, error) {
	addrs := map[string]string{}
	for name, h := range s.hosts {
		d, err := openDoor(h, name)
		if err != nil {
			return nil, err
		}
		s.doors = append(s.doors, d)
		addrs[name] = d.listener.Addr().String()
	}
	return addrs, nil
}

func (o openOrder) options(name string, kind adamant.LogKind) adamant.Options {
	out := adamant.Options{Dir: filepath.Join(o.Dir, name), Host: name, ClusterFile: o.ClusterFile, Log: kind}
	if own := o.ClusterFiles[name]; own != "" {
		out.ClusterFile = own
	}
	out.Repair.BytesPerSecond = o.Throttle
	if o.Forget {
		forgetful(&out)
	}
	return out
}

// stop ends a host. To clients that still have a line to it, it says that it is closed.
func (s *site) stop(name string, how func(*adamant.Host) error) error {
	h := s.hosts[name]
	if h == nil {
		return fmt.Errorf("host %s does not run here", name)
	}
	delete(s.hosts, name)
	s.retired.count(h.Metrics())
	if err := how(h); err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	return nil
}

// each does something with all elements at the same time.
func each[T any](list []T, do func(int, T) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, e := range list {
		wg.Go(func() { errs[i] = do(i, e) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
