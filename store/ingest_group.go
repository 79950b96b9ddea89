package store

import (
	"cmp"
	"sync"
)

// installGroup lets concurrent runs of one member share what giving tables to the engine costs: two fsyncs and an edit of
// its manifest, all under the writers' lock. What waits while one group is being installed makes up the next one:
//
//	installing ├─────────┤
//	waiting       a  b  c ├─────────┤   one call of Ingest, and one batch of heads, for all three
type installGroup struct {
	mu      sync.Mutex
	running bool
	waiting []*installation // not empty only while running
}

// installation is what one run has written and wants shown.
type installation struct {
	r      *bulkRun
	tables []*table

	fits bool // no command has come in between; set under the writers' lock

	turn chan bool // true: lead the next group; closed: it is done
	done bool
	err  error
}

// do installs a run's tables and shows its documents, unless something came in between: false then.
func (g *installGroup) do(r *bulkRun, tables []*table) (bool, error) {
	one := &installation{r: r, tables: tables, turn: make(chan bool, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, one)
	lead := !g.running
	g.running = true
	g.mu.Unlock()
	if !lead && !<-one.turn {
		return one.done, one.err
	}
	g.lead(r.d)
	return one.done, one.err
}

// lead installs all that waits, the caller's among it, and hands on to one of those that came meanwhile.
func (g *installGroup) lead(d *Documents) {
	var group []*installation
	err := d.install(func() []*installation {
		g.mu.Lock()
		defer g.mu.Unlock()
		group, g.waiting = g.waiting, nil
		return group
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	if group == nil { // the lock was not to be had, for any of them
		group, g.waiting = g.waiting, nil
	}
	for _, i := range group {
		i.err = cmp.Or(i.err, err)
		i.done = i.done && i.err == nil
		close(i.turn)
	}
	if g.running = len(g.waiting) > 0; g.running {
		g.waiting[0].turn <- true
	}
}

// install gives the tables of several runs to the engine and then shows their documents; the runs are asked for under the
// writers' lock. One that something came in between for is left out, and what fails for one alone is in its err.
func (d *Documents) install(runs func() []*installation) error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	b := d.beginLarge()
	defer b.close()
	b.learned = true
	changed := false
	var tables []*table
	group := runs()
	for _, i := range group {
		if d.sessions[i.r.s.bucket] != i.r.s {
			changed = i.r.withdraw(b) || changed
			i.err = ErrSessionLost
			continue
		}
		if i.fits, i.err = i.check(b); i.fits && i.err == nil {
			tables = append(tables, i.tables...)
		}
	}
	if len(tables) > 0 {
		if err := d.engine.ingest(tables); err != nil {
			return err
		}
	}
	for _, i := range group {
		if i.err != nil || !i.fits {
			continue
		}
		if err := i.r.show(b); err != nil {
			return err
		}
		i.r.withdraw(b)
		i.done, changed = true, true
	}
	if !changed {
		return nil
	}
	return b.commit(false)
}

// check reports whether the documents can still be installed, and the engine holds nothing where their tables belong.
func (i *installation) check(b *docBatch) (bool, error) {
	fits, err := i.r.fit(b)
	if err != nil || !fits {
		return false, err
	}
	for _, t := range i.tables {
		if free, err := i.r.free(t); err != nil || !free {
			return false, err
		}
	}
	return true, nil
}

// fit takes out the documents that have come to be here, or that are known to be dead by now; false then.
func (r *bulkRun) fit(b *docBatch) (bool, error) {
	if err := b.documents(r.s.bucket, len(r.docs), func(i int) place { return r.docs[i].place }); err != nil {
		return false, err
	}
	know := Knowledge{Mine: r.d.meta.bucketCoverage(r.s.bucket), MineComplete: r.d.meta.complete()}
	fit := r.docs[:0]
	touched := 0
	for _, m := range r.docs {
		st, err := b.document(m.place)
		if err != nil {
			return false, err
		}
		know.TheirHighest = m.highest
		mine := DocView{Deleted: st.deleted, Exists: st.head != nil}
		if st.head != nil || MergeDocument(&mine, &DocView{Exists: true, Head: m.head}, &know).Action != ActionInstall {
			r.merged = append(r.merged, m)
			touched++
			continue
		}
		if lacking(&m.head, m.theirs) {
			return false, lackingError(r.s.bucket, m.key, &m.head)
		}
		fit = append(fit, m)
	}
	r.docs = fit
	return touched == 0, nil
}

// show puts the documents' heads into a batch.
func (r *bulkRun) show(b *docBatch) error {
	for _, m := range r.docs {
		st, err := b.document(m.place)
		if err != nil {
			return err
		}
		if err := b.restart(st, m.head); err != nil {
			return err
		}
		b.sawAhead(m.highest)
		b.settle(st, 0)
	}
	return nil
}
