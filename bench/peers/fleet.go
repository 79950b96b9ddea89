package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// fleet is a trial's cluster: sites that run its hosts and its writers.
type fleet struct {
	settings settings
	sites    []*remote
	hosts    [][]int // by site
}

// AddressBook is where hosts listen: each has a list that means something to its system.
type AddressBook map[int][]string

// assemble starts sites that do not run anything yet: one here, or for each host one in a process of its own.
func assemble(ctx context.Context, s settings) (*fleet, error) {
	f := &fleet{settings: s}
	var all []int
	for host := range s.Hosts {
		all = append(all, host)
	}
	if !s.Processes {
		f.sites, f.hosts = []*remote{here(ctx)}, [][]int{all}
		return f, nil
	}
	for host := range all {
		site, err := child(ctx)
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.sites, f.hosts = append(f.sites, site), append(f.hosts, []int{host})
	}
	return f, nil
}

func (f *fleet) close() error {
	return each(f.sites, func(_ int, r *remote) error { return r.close() })
}

// ask calls a method of every site at the same time.
func ask[Q, A any](f *fleet, method string, question func(site int) Q) ([]A, error) {
	answers := make([]A, len(f.sites))
	err := each(f.sites, func(i int, r *remote) error { return r.Call("Site."+method, question(i), &answers[i]) })
	return answers, err
}

// same is one question for all sites.
func same[Q any](q Q) func(int) Q { return func(int) Q { return q } }

// open starts all hosts and returns when writes can be made.
func (f *fleet) open(dir string) error {
	books, err := ask[PrepareOrder, AddressBook](f, "Prepare", func(i int) PrepareOrder {
		return PrepareOrder{Settings: f.settings, Dir: dir, Hosts: f.hosts[i]}
	})
	if err != nil {
		return err
	}
	all := AddressBook{}
	for _, book := range books {
		for host, list := range book {
			all[host] = list
		}
	}
	_, err = ask[AddressBook, bool](f, "Open", same(all))
	return err
}

// create makes the documents, each where it is written, and shares the writers out as the documents are.
func (f *fleet) create() error {
	var homes []int
	if err := f.sites[0].Call("Site.Homes", false, &homes); err != nil {
		return err
	}
	orders, err := f.share(homes)
	if err != nil {
		return err
	}
	_, err = ask[CreateOrder, bool](f, "Create", func(i int) CreateOrder { return orders[i] })
	return err
}

func (f *fleet) share(homes []int) ([]CreateOrder, error) {
	at := map[int]int{} // which site runs a host
	for i, list := range f.hosts {
		for _, host := range list {
			at[host] = i
		}
	}
	orders := make([]CreateOrder, len(f.sites))
	for n, home := range homes {
		i, ok := at[home]
		if !ok {
			return nil, fmt.Errorf("document %d is to be written at host %d, which there is none", n, home)
		}
		orders[i].Documents = append(orders[i].Documents, Placed{Number: n, Home: home})
	}
	documents, writers := 0, 0 // of the sites before
	for i := range orders {
		documents += len(orders[i].Documents)
		// There are at least as many documents as writers, so no share has more writers than documents.
		until := documents * f.settings.Writers / len(homes)
		orders[i].FirstWriter, orders[i].Writers = writers, until-writers
		writers = until
	}
	return orders, nil
}

// load lets all writers write, and adds up what came of it.
func (f *fleet) load(length time.Duration) (LoadReport, *hdrhistogram.Histogram, error) {
	reports, err := ask[time.Duration, LoadReport](f, "Load", same(length))
	if err != nil {
		return LoadReport{}, nil, err
	}
	var sum LoadReport
	latency := newHistogram()
	for _, r := range reports {
		sum.Writes += r.Writes
		sum.Retries += r.Retries
		sum.Elapsed = max(sum.Elapsed, r.Elapsed)
		latency.Merge(hdrhistogram.Import(r.Latency))
	}
	return sum, latency, nil
}

// usage is that of all sites' processes.
func (f *fleet) usage() (Usage, error) {
	list, err := ask[bool, Usage](f, "Usage", same(false))
	sum := Usage{Told: true}
	for _, u := range list {
		sum.CPU += u.CPU
		sum.Told = sum.Told && u.Told
	}
	return sum, err
}
