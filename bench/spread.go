package main

import (
	"context"
	"fmt"
	"time"
)

// fillWriters is how many writers of one crew make documents.
const fillWriters = 64

// spread gives every crew the order for those of the documents whose partitions its hosts lead now.
func (f *fleet) spread(ctx context.Context, do orderKind, list []placed, o prepareOrder) error {
	if len(list) == 0 {
		return nil
	}
	leaders, err := f.led(ctx)
	if err != nil {
		return err
	}
	parts := make([][]placed, len(f.crews))
	for _, p := range list {
		p.Host = leaders[f.cluster.Partitions[f.cluster.Locate(documentKey(p.Number).Hash())].ID]
		i := f.byHost[p.Host]
		parts[i] = append(parts[i], p)
	}
	return each(f.crews, func(i int, c crew) error {
		if len(parts[i]) == 0 {
			return nil
		}
		o := o
		o.Documents, o.Writers = parts[i], min(fillWriters, len(parts[i]))
		o.Seed += uint64(i) << 32
		_, err := c.do(ctx, order{Do: do, Prepare: o})
		return err
	})
}

// led says who leads each partition, as soon as all are led by hosts that run.
func (f *fleet) led(ctx context.Context) (map[uint32]string, error) {
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	for {
		states, err := f.states(ctx)
		if err != nil {
			return nil, err
		}
		runs := map[string]bool{}
		for _, list := range states {
			for _, m := range list {
				runs[m.Host] = true
			}
		}
		leaders := map[uint32]string{}
		for i, c := range f.crews {
			if !f.runsAny(i, runs) {
				continue
			}
			a, err := c.do(ctx, order{Do: doLeaders})
			if err != nil {
				return nil, err
			}
			for id, name := range a.Leaders {
				if runs[name] {
					leaders[id] = name
				}
			}
		}
		if len(leaders) == len(f.cluster.Partitions) {
			return leaders, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, fmt.Errorf("only %d of %s are led by hosts that run: %w", len(leaders), quantity(len(f.cluster.Partitions), "partition"), err)
		}
	}
}

func (f *fleet) runsAny(crew int, runs map[string]bool) bool {
	for name, i := range f.byHost {
		if i == crew && runs[name] {
			return true
		}
	}
	return false
}

// states lists the members of all hosts that run, by partition.
func (f *fleet) states(ctx context.Context) (map[uint32][]memberState, error) {
	answers, err := f.all(ctx, func(int) order { return order{Do: doMembers} })
	if err != nil {
		return nil, err
	}
	states := map[uint32][]memberState{}
	for _, a := range answers {
		for _, m := range a.Members {
			states[m.Partition] = append(states[m.Partition], m)
		}
	}
	return states, nil
}

// replaceCrew ends the process of a host that was killed and starts another one, which runs nothing yet.
func (f *fleet) replaceCrew(host string) error {
	i := f.byHost[host]
	old, ok := f.crews[i].(*process)
	if !ok {
		return nil
	}
	if err := old.close(); err != nil {
		return err
	}
	p, err := startProcess()
	if err != nil {
		return err // the old one stays: it may be closed again
	}
	f.crews[i] = p
	return nil
}
