package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/store"
)

// loseDisk takes a host's directory away and returns how long it took from its opening until each of its members had
// reported that it lacks what the others have. It waits until all is well again.
func (r *repairTrial) loseDisk(ctx context.Context) (time.Duration, error) {
	f := r.fleet
	if err := r.gone(ctx); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(filepath.Join(r.dir, r.victim)); err != nil {
		return 0, err
	}
	wanted, err := f.applied(ctx)
	if err != nil {
		return 0, err
	}
	return r.reported(ctx, wanted)
}

// gone kills the host and makes room for its next life. An earlier one that lost its disk has to be replaced everywhere
// before: to lose two voters at once is another experiment.
func (r *repairTrial) gone(ctx context.Context) error {
	if err := r.settled(ctx); err != nil {
		return err
	}
	if err := r.fleet.lose(ctx, r.victim, killHard); err != nil {
		return err
	}
	return r.fleet.replaceCrew(r.victim)
}

// reported opens the host and waits until each member that is wanted has reported a hole.
func (r *repairTrial) reported(ctx context.Context, wanted indexes) (time.Duration, error) {
	i := r.fleet.byHost[r.victim]
	o := r.fleet.orders[i]
	o.Hosts = []string{r.victim}
	a, err := r.fleet.crews[i].do(ctx, order{Do: doReport, Open: o, Applied: wanted})
	return a.Report, err
}

// reportPatience is how long a fault may stay unreported before the trial fails.
const reportPatience = time.Minute

// report opens a host and waits until its status has named a hole of each member that is wanted, one that begins with the first
// index: it has nothing. The host notes when it did, so that a hole that is healed at once is not overlooked.
func (s *site) report(ctx context.Context, o openOrder, wanted indexes) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	begun := time.Now()
	h, err := s.reopen(o)
	if err != nil {
		return 0, err
	}
	for {
		if last, ok := holesNoted(h.Status().History, wanted); ok {
			return max(last.Sub(begun), 0), nil
		}
		if err := pause(ctx, healPoll); err != nil {
			return 0, fmt.Errorf("host %s does not report what it lacks, but %v: %w", o.Hosts[0], h.Status().History, err)
		}
	}
}

// holesNoted is when the last of the members that are wanted had noted its hole.
func holesNoted(history []adamant.Notice, wanted indexes) (last time.Time, ok bool) {
	seen := map[uint32]bool{}
	for _, n := range history {
		if n.Kind != "hole" || n.Partition == nil || seen[*n.Partition] || !strings.HasPrefix(n.Text, "holes [1,") {
			continue
		}
		if _, is := wanted[*n.Partition]; !is {
			continue
		}
		seen[*n.Partition] = true
		if n.Time.After(last) {
			last = n.Time
		}
	}
	return last, len(seen) == len(wanted)
}

// forgery says which partition of a host gets a command that its log does not have.
type forgery struct {
	Incarnation string
	Partition   uint32
	Range       store.Range
}

// damage lets a host hold what was never written, and returns how long it took from its opening until some host says of its
// partition that members differ.
func (r *repairTrial) damage(ctx context.Context) (time.Duration, error) {
	partition, err := r.forgeSome(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	begun := time.Now()
	if _, err := r.reported(ctx, nil); err != nil {
		return 0, err
	}
	for {
		states, err := r.fleet.states(ctx)
		if err != nil {
			return 0, err
		}
		for _, m := range states[partition] {
			if strings.Contains(m.SafeMode, "contradict") {
				return time.Since(begun), nil
			}
		}
		if err := pause(ctx, healPoll); err != nil {
			return 0, fmt.Errorf("nobody reports that partition %d of host %s is damaged, but %+v: %w", partition, r.victim, states[partition], err)
		}
	}
}

// forgeSome kills the host and damages one of its partitions. What was applied lately is in the log and not yet among the
// documents, so that a forged command can take the place of the next one. A host that happens to have written everything is
// opened again, and killed again.
func (r *repairTrial) forgeSome(ctx context.Context) (partition uint32, err error) {
	const tries = 10
	for range tries {
		identity, err := r.incarnation(ctx)
		if err != nil {
			return 0, err
		}
		if err := r.settled(ctx); err != nil {
			return 0, err
		}
		if _, err := r.fleet.load(ctx, order{Do: doLoad, Duration: 300 * time.Millisecond}); err != nil {
			return 0, err
		}
		if err := r.gone(ctx); err != nil {
			return 0, err
		}
		partition, done, err := r.forge(ctx, identity)
		if done || err != nil {
			return partition, err
		}
		if _, err := r.reported(ctx, nil); err != nil {
			return 0, err
		}
		if _, err := r.quiet(ctx); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("host %s had written everything it applied, %d times", r.victim, tries)
}

// incarnation is that of the host's directory.
func (r *repairTrial) incarnation(ctx context.Context) (string, error) {
	a, err := r.fleet.crews[r.fleet.byHost[r.victim]].do(ctx, order{Do: doIncarnation, Host: r.victim})
	return a.Incarnation, err
}

func (s *site) incarnation(name string) (string, error) {
	h := s.hosts[name]
	if h == nil {
		return "", fmt.Errorf("host %s does not run here", name)
	}
	return h.Status().Incarnation, nil
}

// forge damages the first partition that can be.
func (r *repairTrial) forge(ctx context.Context, incarnation string) (partition uint32, done bool, err error) {
	i := r.fleet.byHost[r.victim]
	o := r.fleet.orders[i]
	o.Hosts = []string{r.victim}
	for at, p := range r.fleet.cluster.Partitions {
		first, last := r.fleet.cluster.HashRange(at)
		forged := forgery{Incarnation: incarnation, Partition: p.ID, Range: store.Range{First: first, Last: last}}
		a, err := r.fleet.crews[i].do(ctx, order{Do: doForge, Open: o, Forged: forged})
		if err != nil || a.Done {
			return p.ID, a.Done, err
		}
	}
	return 0, false, nil
}

// forge writes a document into a host's directory that was never written, in place of the next command of its log. It
// returns false when there is no such command.
func (s *site) forge(o openOrder, f forgery) (done bool, err error) {
	name := o.Hosts[0]
	dir := filepath.Join(o.Dir, name)
	engine, err := store.OpenDocs(store.DocOptions{Dir: filepath.Join(dir, "documents"), Cluster: clusterName, Host: name, Incarnation: f.Incarnation})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	docs, err := engine.Member(f.Partition, f.Range)
	if err != nil {
		return false, err
	}
	last, err := lastLogged(o, f)
	index := docs.Applied() + 1
	if err != nil || index > last {
		return false, err
	}
	key := adamant.Key{Space: "forged"}
	for n := 0; key.Key == "" || !f.Range.Contains(key.Hash()); n++ {
		key.Key = fmt.Sprintf("d%d", n)
	}
	d := store.Delta{SeqBegin: 1, SeqEnd: 1, Redo: []byte(`{"forged":true}`), Undo: []byte(`{"forged":null}`)}
	m := store.Mutation{Kind: store.Create, Key: key, Index: index, Term: 1, Deltas: []store.Delta{d}, HeadSeq: 1,
		Chain: store.SeedChain(key).Next(d.AppendBinary(nil))}
	return true, errors.Join(docs.Apply([]store.Mutation{m}, index), engine.Sync())
}

// lastLogged is the last index in the log of a host that does not run.
func lastLogged(o openOrder, f forgery) (last uint64, err error) {
	open := store.OpenPebbleLog
	if o.Log == adamant.LogBolt.String() {
		open = store.OpenBoltLog
	}
	logs, err := open(store.LogOptions{Dir: filepath.Join(o.Dir, o.Hosts[0], "log"), Cluster: clusterName, Host: o.Hosts[0], Incarnation: f.Incarnation})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	log, err := logs.Group(f.Partition)
	if err != nil {
		return 0, err
	}
	return log.LastIndex()
}
