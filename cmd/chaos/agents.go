//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// agent does one fault after the other.
type agent struct {
	*field
	ctx context.Context // ends when the faults are to end; what was begun is taken back then
	r   *rand.Rand
}

// fault is a way to break things.
type fault struct {
	name   string
	weight float64 // how often, relative to the others
	do     func(*agent) error
	alone  bool // no other fault may be going on when it begins
	disks  bool // needs disks of the hosts' own
	others bool // needs programs of other versions
}

var faults = []fault{
	{name: "kill", weight: 6, do: (*agent).kill},
	{name: "kill-many", weight: 1, do: (*agent).killMany},
	{name: "pause", weight: 1.2, do: (*agent).stopAndGo},
	{name: "restart", weight: 1, do: (*agent).restart},
	{name: "rolling-restart", weight: 0.3, do: (*agent).rolling},
	{name: "version", weight: 1, do: (*agent).otherVersion, others: true},
	{name: "full-disk", weight: 1, do: (*agent).fullDisk, disks: true},
	{name: "wipe", weight: 0.7, do: (*agent).wipe, alone: true},
	{name: "split", weight: 1.2, do: (*agent).split},
	{name: "one-way", weight: 1.2, do: (*agent).oneWay},
	{name: "flap", weight: 1, do: (*agent).flap},
	{name: "slow", weight: 1, do: (*agent).slow},
	{name: "move", weight: 1, do: (*agent).move},
	{name: "replica", weight: 1, do: (*agent).replica},
	{name: "prefer", weight: 1, do: (*agent).prefer},
	{name: "bad-file", weight: 1, do: (*agent).badFile},
	{name: "drain", weight: 1, do: (*agent).drain},
	{name: "transfer", weight: 1, do: (*agent).transfer},
}

// chosen reads a list of names.
func chosen(list string) ([]fault, error) {
	if list == "all" {
		return faults, nil
	}
	var out []fault
	for _, name := range strings.Split(list, ",") {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		if i < 0 {
			var names []string
			for _, f := range faults {
				names = append(names, f.name)
			}
			return nil, fmt.Errorf("-faults: no fault %q; there are %s", name, strings.Join(names, ", "))
		}
		out = append(out, faults[i])
	}
	return out, nil
}

// plan says which fault is next: the one that was done least, for its weight.
type plan struct {
	mu   sync.Mutex
	r    *rand.Rand
	list []fault
	done []float64
}

func (f *field) newPlan() *plan {
	list, _ := chosen(f.o.Faults) // checked with the flags
	p := &plan{r: rand.New(rand.NewPCG(f.o.Seed, 1))}
	for _, one := range list {
		if one.disks && !f.net.disks() {
			f.skipped[one.name] = "hosts have no disks of their own here"
			continue
		}
		if one.others && f.o.Others == "" {
			f.skipped[one.name] = "no program of another version is given (-others)"
			continue
		}
		f.faults[one.name] = 0
		p.list = append(p.list, one)
		p.done = append(p.done, p.r.Float64())
	}
	return p
}

func (p *plan) next() fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := 0
	for i := range p.list {
		if p.done[i]/p.list[i].weight < p.done[best]/p.list[best].weight {
			best = i
		}
	}
	p.done[best] += 2 * p.r.Float64()
	return p.list[best]
}

// agents break things until the context ends, and return when all is taken back.
func (f *field) agents(ctx context.Context) {
	plan := f.newPlan()
	if len(plan.list) == 0 || f.o.Agents == 0 {
		<-ctx.Done()
		return
	}
	var all sync.WaitGroup
	for i := range f.o.Agents {
		a := &agent{field: f, ctx: ctx, r: rand.New(rand.NewPCG(f.o.Seed, uint64(100+i)))}
		all.Go(func() {
			for ctx.Err() == nil {
				a.one(plan.next())
				pause(ctx, a.millis(0, 300))
			}
		})
	}
	all.Wait()
}

// one does a fault.
func (a *agent) one(x fault) {
	if x.alone {
		a.calm.Lock()
		defer a.calm.Unlock()
	} else {
		a.calm.RLock()
		defer a.calm.RUnlock()
	}
	if a.ctx.Err() != nil {
		return
	}
	if err := x.do(a); err != nil && a.ctx.Err() == nil {
		a.fail("%s: %v", x.name, err)
	} else if err != nil {
		a.note("%s, given up at the end: %v", x.name, err)
	}
}
