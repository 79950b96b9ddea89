package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/faultproxy"
)

// fleet is a trial's cluster: crews that run its hosts and writers.
type fleet struct {
	settings settings
	cluster  *config.Cluster
	crews    []crew
	orders   []openOrder     // one for each of them
	byHost   map[string]int  // which crew runs a host
	net      *faultproxy.Net // between the hosts, nil for none
}

// openPatience is how long a cluster may take until every partition is led. Crews in other processes bound it themselves:
// they would not hear of this one's end before.
const openPatience = 5 * time.Minute

// plan makes a cluster for an empty directory, and its crews, which do not run it yet.
func plan(t trial) (*fleet, error) {
	file := filepath.Join(t.dir, "cluster.json")
	c, err := t.shape(file)
	if err != nil {
		return nil, err
	}
	f := &fleet{settings: t.settings, cluster: c, byHost: map[string]int{}}
	files, err := f.distance(t)
	if err != nil {
		return nil, err
	}
	base := openOrder{ClusterFile: file, ClusterFiles: files, Dir: t.dir, Log: t.settings.Log, Procs: t.settings.Procs,
		Forget: t.settings.load == loadFill, Throttle: t.settings.Throttle}
	if !t.settings.Processes {
		base.Hosts = c.HostNames()
		f.crews, f.orders = append(f.crews, &site{}), append(f.orders, base)
	} else {
		for _, name := range c.HostNames() {
			o := base
			o.Hosts = []string{name}
			p, err := startProcess()
			if err != nil {
				return nil, errors.Join(err, f.close())
			}
			f.crews, f.orders = append(f.crews, p), append(f.orders, o)
		}
	}
	for i, o := range f.orders {
		for _, name := range o.Hosts {
			f.byHost[name] = i
		}
	}
	return f, nil
}

// open starts the hosts and waits until every partition is led.
func (f *fleet) open(ctx context.Context) error {
	_, err := f.all(ctx, func(i int) order { return order{Do: doOpen, Open: f.orders[i]} })
	return err
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
	err := each(f.crews, func(_ int, c crew) error { return c.close() })
	if f.net != nil {
		err = errors.Join(err, f.net.Close())
	}
	return err
}

// prepare makes the writers and their documents, each at the crew that runs the leader of its partition.
func (f *fleet) prepare(ctx context.Context, seed uint64) error {
	leaders, err := f.crews[0].do(ctx, order{Do: doLeaders})
	if err != nil {
		return err
	}
	orders := make([]prepareOrder, len(f.crews))
	for _, n := range f.documents() {
		id := f.cluster.Partitions[f.cluster.Locate(documentKey(n).Hash())].ID
		i, ok := f.byHost[leaders.Leaders[id]]
		if !ok {
			return fmt.Errorf("partition %d has no leader", id)
		}
		orders[i].Documents = append(orders[i].Documents, placed{Number: n, Host: leaders.Leaders[id]})
	}
	before := 0 // documents of the crews before this one
	for i := range orders {
		n := len(orders[i].Documents)
		orders[i].Writers = f.writersOf(before+n) - f.writersOf(before)
		orders[i].Size, orders[i].Deltas, orders[i].Seed = f.settings.Size, f.settings.Deltas, seed+uint64(i)<<32
		before += n
	}
	_, err = f.all(ctx, func(i int) order { return order{Do: doPrepare, Prepare: orders[i]} })
	return err
}

// writersOf is how many writers the first so many documents get. Shares made of it add up to all writers, and none has more
// writers than documents, as there are at least as many documents as writers.
func (f *fleet) writersOf(documents int) int {
	return documents * f.settings.Writers / f.settings.Documents
}

// documents numbers the documents: all of the busy partitions.
func (f *fleet) documents() []int {
	list := make([]int, 0, f.settings.Documents)
	for n := 0; len(list) < cap(list); n++ {
		if f.settings.Busy == 0 || f.cluster.Locate(documentKey(n).Hash()) < f.settings.Busy {
			list = append(list, n)
		}
	}
	return list
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

// usages are the counters of each crew that is left, by its number.
func (f *fleet) usages(ctx context.Context) (map[int]usage, error) {
	out := map[int]usage{}
	for i, c := range f.crews {
		if p, ok := c.(*process); ok && p.killed {
			continue
		}
		a, err := c.do(ctx, order{Do: doUsage})
		if err != nil {
			return nil, err
		}
		out[i] = a.Usage
	}
	return out, nil
}

// memory sums what all crews hold.
func (f *fleet) memory(ctx context.Context) (memory, error) {
	answers, err := f.all(ctx, func(int) order { return order{Do: doMemory} })
	var sum memory
	for _, a := range answers {
		sum.Bytes += a.Memory.Bytes
		sum.Goroutines += a.Memory.Goroutines
	}
	return sum, err
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
