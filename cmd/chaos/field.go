//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/adamantdb/adamant/config"
)

// healPatience is how long the cluster may take, once there are no faults, until every member is whole and in its place.
const healPatience = 120 * time.Second

// field is a cluster that is being broken.
type field struct {
	*record
	undisturbed
	o     options
	net   network
	wires *wires
	hosts []*host
	docs  *library
	work  sync.WaitGroup // everything that watches a process

	calm sync.RWMutex // faults hold it shared, what must be alone holds it alone

	editing sync.Mutex // one edit of the cluster file at a time
	cluster atomic.Pointer[config.Cluster]

	verified atomic.Int64

	judgedMu sync.Mutex
	judged   []judged // documents of contests that have ended, guarded by judgedMu
}

// operate runs the cluster, breaks it, and checks it. Without a network it makes one of proxies.
func operate(ctx context.Context, o options, n network, out, errs io.Writer) (code int, err error) {
	if n == nil {
		if n, err = newProxies(hostNames(o.Hosts), o.Dir); err != nil {
			return exitUsage, err
		}
	}
	defer func() { err = errors.Join(err, n.close()) }()
	verbose := errs
	if !o.Verbose {
		verbose = nil
	}
	r, err := newRecord(o.Dir, verbose)
	if err != nil {
		return exitUsage, err
	}
	f := &field{record: r, o: o, net: n, wires: newWires(n)}
	interrupted, err := f.run(ctx)
	if err != nil && !interrupted {
		f.fail("%v", err)
	}
	for _, h := range f.hosts {
		if err := h.readLog(); err != nil && !interrupted {
			f.fail("log of %s: %v", h.name, err)
		}
	}
	if f.failed() {
		f.keepData()
	}
	s := f.summarize(f, interrupted)
	if err := errors.Join(f.end(), s.write(out, o.JSON)); err != nil {
		return exitFailed, err
	}
	switch {
	case len(s.Failures) > 0:
		return exitFailed, nil
	case interrupted:
		return exitInterrupted, nil
	}
	return exitOK, nil
}

// run is everything between the first start of the hosts and their last end.
func (f *field) run(ctx context.Context) (interrupted bool, err error) {
	defer func() { err = errors.Join(err, f.killAll()) }()
	counting, stopCounting := context.WithCancel(context.Background())
	defer stopCounting()
	go f.undisturbed.run(counting)
	if err := f.open(ctx); err != nil {
		return ctx.Err() != nil, err
	}
	if f.docs, err = newLibrary(f); err != nil {
		return false, err
	}
	watching, stopWatching := context.WithCancel(context.Background())
	var watchers sync.WaitGroup
	watchers.Go(func() { f.watch(watching) })
	defer watchers.Wait()
	defer stopWatching()

	broken, over := context.WithTimeout(ctx, f.o.Duration)
	defer over()
	clients := f.clients(broken)
	f.agents(broken)
	f.note("no more faults")
	clients.Wait()
	if ctx.Err() != nil {
		f.note("interrupted")
		return true, nil
	}
	if err := f.settle(ctx, healPatience); err != nil {
		return ctx.Err() != nil, err
	}
	f.verify(ctx)
	stopWatching()
	watchers.Wait()
	return ctx.Err() != nil, f.stopAll()
}

// open makes the cluster file, starts the hosts, and waits until the cluster serves.
func (f *field) open(ctx context.Context) error {
	names := hostNames(f.o.Hosts)
	spec := config.Spec{Cluster: "chaos", Hosts: map[string]config.Host{}, Groups: groups(f.o)}
	for _, name := range names {
		spec.Hosts[name] = config.Host{Addr: f.net.addr(name)}
	}
	if err := f.o.secure(&spec); err != nil {
		return err
	}
	c, err := config.Generate(spec)
	if err != nil {
		return err
	}
	for _, name := range names {
		h, err := newHost(f, name)
		if err != nil {
			return err
		}
		f.hosts = append(f.hosts, h)
	}
	if err := f.publish(c, f.hosts); err != nil {
		return err
	}
	for _, h := range f.hosts {
		if err := h.begin(); err != nil {
			return err
		}
	}
	f.note("seed %d, %d hosts, %s, %s links", f.o.Seed, len(f.hosts), f.net.name(), f.o.linksName())
	return f.settle(ctx, healPatience)
}

// groups are of different sizes: three voters, three and a replica, five.
func groups(o options) []config.Group {
	large, wide := o.Partitions/4, o.Partitions/4
	if o.Hosts < 5 {
		large = 0
	}
	if o.Hosts < 4 {
		wide = 0
	}
	list := []config.Group{{Partitions: o.Partitions - large - wide, Voters: 3}, {Partitions: wide, Voters: 3, Replicas: 1}, {Partitions: large, Voters: 5}}
	return slices.DeleteFunc(list, func(g config.Group) bool { return g.Partitions == 0 })
}

// publish puts a version of the cluster file in force at hosts.
func (f *field) publish(c *config.Cluster, at []*host) error {
	f.cluster.Store(c)
	for _, h := range at {
		if err := h.configure(f.net.view(c, h.name).Marshal()); err != nil {
			return err
		}
	}
	return nil
}

// configure replaces the host's cluster file; the host reads it at any time.
func (h *host) configure(text []byte) error {
	if err := os.WriteFile(h.file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(h.file+".new", h.file)
}

// host finds one by its name, nil if there is none.
func (f *field) host(name string) *host {
	i := slices.IndexFunc(f.hosts, func(h *host) bool { return h.name == name })
	if i < 0 {
		return nil
	}
	return f.hosts[i]
}

// stopAll asks all hosts to end.
func (f *field) stopAll() error {
	errs := make([]error, len(f.hosts))
	var all sync.WaitGroup
	for i, h := range f.hosts {
		all.Go(func() { errs[i] = h.stop(syscall.SIGTERM) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// killAll leaves no process, whatever has happened.
func (f *field) killAll() error {
	var errs []error
	for _, h := range f.hosts {
		errs = append(errs, h.stop(syscall.SIGKILL))
	}
	f.work.Wait()
	return errors.Join(errs...)
}

// keepData copies what disks hold that end with the namespaces.
func (f *field) keepData() {
	if !f.net.disks() {
		return
	}
	for _, h := range f.hosts {
		if err := os.CopyFS(filepath.Join(f.o.Dir, "kept", h.name), os.DirFS(h.dir)); err != nil {
			f.note("%s: data are not kept: %v", h.name, err)
		}
	}
}

// pause waits, or returns early when the faults are to end.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// settle waits until nothing is missing anywhere.
func (f *field) settle(ctx context.Context, patience time.Duration) error {
	ctx, cancel := f.patience(ctx, patience)
	defer cancel()
	begun := time.Now()
	look := &survey{f: f}
	for {
		lacks := look.lacks(ctx)
		if lacks == "" {
			f.note("whole after %.1f s", time.Since(begun).Seconds())
			return nil
		}
		pause(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("not whole after %.0f s: %s", time.Since(begun).Seconds(), lacks)
		}
	}
}
