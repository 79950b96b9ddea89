package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/loopback"
)

// adamantSystem is this project's, as "go run ./bench write" runs it.
type adamantSystem struct {
	settings settings
	dir      string
	names    []string // of the hosts that run here
	cluster  *config.Cluster
	hosts    map[string]*adamant.Host
	docs     []adamantDocument // by number; each belongs to its writer
	doors    []func() error    // what ends them
}

// adamantDocument is what the only writer of a document knows of it.
type adamantDocument struct {
	key  adamant.Key
	host string // leads it, as far as is known
	head int64
}

func (a *adamantSystem) clusterFile() string { return filepath.Join(a.dir, "cluster.json") }

// prepare plans the cluster where its first host runs. The others find it in the file.
func (a *adamantSystem) prepare(s settings, dir string, hosts []int) (AddressBook, error) {
	a.settings, a.dir = s, dir
	for _, host := range hosts {
		a.names = append(a.names, hostName(host))
	}
	if !slices.Contains(hosts, 0) {
		return nil, nil
	}
	_, err := loopback.Plan(loopback.Spec{Name: "peers", Hosts: s.Hosts, Partitions: s.Partitions, Voters: s.Hosts}, a.clusterFile())
	return nil, err
}

func (a *adamantSystem) open(ctx context.Context, _ AddressBook) (err error) {
	if a.cluster, err = config.Load(a.clusterFile()); err != nil {
		return err
	}
	a.hosts = map[string]*adamant.Host{}
	for _, name := range a.names {
		if err := a.openHost(name); err != nil {
			return err
		}
	}
	for name, h := range a.hosts {
		if err := h.WaitReady(ctx); err != nil {
			return fmt.Errorf("host %s does not become ready: %w", name, err)
		}
	}
	for n := range a.settings.Documents {
		a.docs = append(a.docs, adamantDocument{key: documentKey(n)})
	}
	return nil
}

func (a *adamantSystem) openHost(name string) error {
	h, err := adamant.Open(adamant.Options{Dir: filepath.Join(a.dir, name), Host: name, ClusterFile: a.clusterFile()})
	if err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	a.hosts[name] = h
	return nil
}

// homes are the hosts that lead the documents' partitions.
func (a *adamantSystem) homes() ([]int, error) {
	leaders := map[uint32]int{}
	for _, l := range a.hosts[a.names[0]].Routing() {
		for host := range a.settings.Hosts {
			if hostName(host) == l.Leader {
				leaders[l.Partition] = host
			}
		}
	}
	var all []int
	for _, d := range a.docs {
		id := a.cluster.Partitions[a.cluster.Locate(d.key.Hash())].ID
		home, ok := leaders[id]
		if !ok {
			return nil, fmt.Errorf("partition %d has no leader", id)
		}
		all = append(all, home)
	}
	return all, nil
}

func (a *adamantSystem) create(ctx context.Context, document Placed, value []byte) error {
	d := &a.docs[document.Number]
	d.host = hostName(document.Home)
	delta := d.delta(value)
	unsure := false
	_, err := retry(ctx, func() (verdict, error) {
		err := a.hosts[d.host].Create(ctx, d.key, delta)
		if unsure && errors.As(err, new(*adamant.ExistsError)) {
			return giveUp, nil
		}
		return a.judge(d, err, &unsure), err
	})
	if err != nil {
		return fmt.Errorf("create %s: %w", d.key, err)
	}
	d.head = delta.SeqEnd
	return nil
}

func (a *adamantSystem) write(ctx context.Context, document int, value []byte) (int, error) {
	d := &a.docs[document]
	deltas := []adamant.Delta{d.delta(value)}
	want := deltas[0].SeqEnd
	unsure := false
	retries, err := retry(ctx, func() (verdict, error) {
		head, err := a.hosts[d.host].Append(ctx, d.key, deltas)
		var mismatch *adamant.SeqMismatchError
		switch {
		case unsure && errors.As(err, &mismatch) && mismatch.Head == want:
			return giveUp, nil
		case err == nil && head != want:
			return giveUp, fmt.Errorf("acknowledged at %d instead of %d", head, want)
		}
		return a.judge(d, err, &unsure), err
	})
	if err != nil {
		return retries, fmt.Errorf("append to %s: %w", d.key, err)
	}
	d.head = want
	return retries, nil
}

// delta is the document's next one.
func (d *adamantDocument) delta(value []byte) adamant.Delta {
	redo, undo := value[:len(value)-len(payloadUndo)], value[len(value)-len(payloadUndo):]
	return adamant.Delta{SeqBegin: d.head + 1, SeqEnd: d.head + 1, Redo: redo, Undo: undo}
}

// judge says whether to try again, and where; unsure is set when the attempt may have taken effect.
func (a *adamantSystem) judge(d *adamantDocument, err error, unsure *bool) verdict {
	var elsewhere *adamant.NotLeaderError
	switch {
	case errors.As(err, &elsewhere):
		// A leader in another process is out of reach. Hosts hand leaderships back to where the cluster file wants them,
		// so the writer waits, and its latency says so.
		if elsewhere.Leader != d.host && a.hosts[elsewhere.Leader] != nil {
			d.host = elsewhere.Leader
			return atOnce
		}
		return again
	case errors.As(err, new(*adamant.AmbiguousError)):
		*unsure = true
		return again
	case errors.As(err, new(*adamant.UnavailableError)):
		return again
	}
	return giveUp
}

// close stops every host. Nobody will use them again, so leaderships are not handed over.
func (a *adamantSystem) close() error {
	var hosts []*adamant.Host
	for _, h := range a.hosts {
		hosts = append(hosts, h)
	}
	return errors.Join(a.closeDoors(), each(hosts, func(_ int, h *adamant.Host) error { return h.Kill() }))
}
