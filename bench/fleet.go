package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/loopback"
)

// fleet is a trial's cluster: crews that run its hosts and writers.
type fleet struct {
	settings settings
	cluster  *config.Cluster
	crews    []crew
	byHost   map[string]int // which crew runs a host
}

// launch starts a cluster on empty disks and waits until every partition is led.
func launch(ctx context.Context, t trial) (*fleet, error) {
	file := filepath.Join(t.dir, "cluster.json")
	c, err := loopback.Plan(loopback.Spec{Name: "bench", Hosts: t.settings.Hosts, Partitions: t.settings.Partitions, Voters: t.settings.Voters}, file)
	if err != nil {
		return nil, err
	}
	f := &fleet{settings: t.settings, cluster: c, byHost: map[string]int{}}
	var orders []openOrder
	base := openOrder{ClusterFile: file, Dir: t.dir, Log: t.settings.Log, Procs: t.settings.Procs}
	if !t.settings.Processes {
		base.Hosts = c.HostNames()
		f.crews, orders = append(f.crews, &siteCrew{}), append(orders, base)
	} else {
		for _, name := range c.HostNames() {
			o := base
			o.Hosts = []string{name}
			p, err := startProcess()
			if err != nil {
				return nil, errors.Join(err, f.close())
			}
			f.crews, orders = append(f.crews, p), append(orders, o)
		}
	}
	for i, o := range orders {
		for _, name := range o.Hosts {
			f.byHost[name] = i
		}
	}
	if _, err := f.all(ctx, func(i int) order { return order{Do: doOpen, Open: orders[i]} }); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// all gives every crew its order at the same time.
func (f *fleet) all(ctx context.Context, orders func(i int) order) ([]answer, error) {
	answers := make([]answer, len(f.crews))
	err := each(f.crews, func(i int, c crew) error {
		a, err := c.do(ctx, orders(i))
		answers[i] = a
		return err
	})
	return answers, err
}

func (f *fleet) close() error {
	return each(f.crews, func(_ int, c crew) error { return c.close() })
}

// prepare makes the writers and their documents, each at the crew that runs the leader of its partition.
func (f *fleet) prepare(ctx context.Context, seed uint64) error {
	leaders, err := f.crews[0].do(ctx, order{Do: doLeaders})
	if err != nil {
		return err
	}
	orders := make([]prepareOrder, len(f.crews))
	for n := range f.settings.Documents {
		id := f.cluster.Partitions[f.cluster.Locate(documentKey(n).Hash())].ID
		i, ok := f.byHost[leaders.Leaders[id]]
		if !ok {
			return fmt.Errorf("partition %d has no leader", id)
		}
		orders[i].Documents = append(orders[i].Documents, placed{Number: n, Host: leaders.Leaders[id]})
	}
	for i := range orders {
		// As many writers as the crew's share of the documents, and one at least where there are any.
		share := len(orders[i].Documents) * f.settings.Writers / f.settings.Documents
		orders[i].Writers = max(share, min(1, len(orders[i].Documents)))
		orders[i].Size, orders[i].Seed = f.settings.Size, seed+uint64(i)<<32
	}
	spare := f.settings.Writers
	for _, o := range orders {
		spare -= o.Writers
	}
	for i := range orders { // what rounding down has left
		if spare > 0 && orders[i].Writers < len(orders[i].Documents) {
			orders[i].Writers++
			spare--
		}
	}
	_, err = f.all(ctx, func(i int) order { return order{Do: doPrepare, Prepare: orders[i]} })
	return err
}

// documentKey names the documents that are written.
func documentKey(n int) adamant.Key { return adamant.Key{Space: "bench", Key: fmt.Sprintf("d%d", n)} }

// usage sums the counters of all crews.
func (f *fleet) usage(ctx context.Context) (usage, error) {
	answers, err := f.all(ctx, func(int) order { return order{Do: doUsage} })
	if err != nil {
		return usage{}, err
	}
	sum := answers[0].Usage
	for _, a := range answers[1:] {
		sum = sum.add(a.Usage)
	}
	return sum, nil
}

// load lets all crews write at the same time and adds up what came of it.
func (f *fleet) load(ctx context.Context, o order) (loadReport, error) {
	answers, err := f.all(ctx, func(int) order { return o })
	if err != nil {
		return loadReport{}, err
	}
	var sum loadReport
	var latencies []*hdrhistogram.Snapshot
	for _, a := range answers {
		sum.Writes += a.Load.Writes
		sum.Bytes += a.Load.Bytes
		sum.Retries += a.Load.Retries
		sum.Elapsed = max(sum.Elapsed, a.Load.Elapsed)
		latencies = append(latencies, a.Load.Latency)
	}
	sum.Latency = merged(latencies).Export()
	return sum, nil
}

// members counts the members of all partitions on all hosts.
func (f *fleet) members() int {
	n := 0
	for _, p := range f.cluster.Partitions {
		n += len(slices.Concat(p.Voters, p.Replicas))
	}
	return n
}

// siteCrew is a crew in this process.
type siteCrew struct{ site site }

func (c *siteCrew) do(ctx context.Context, o order) (answer, error) { return c.site.do(ctx, o) }

func (c *siteCrew) close() error { return c.site.close() }
