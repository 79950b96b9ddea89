package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/lincheck"
)

// overlapEvery is how often hosts are asked what they serve.
const overlapEvery = 20 * time.Millisecond

// watch looks at the cluster all the time: two hosts must never serve a partition at once. All hosts are asked at the same
// moment of simulated time.
func (w *world) watch(stop <-chan struct{}) {
	for w.wait(stop, overlapEvery, 100*overlapEvery) {
		w.pulse.Add(1)
		leaders := map[uint32][]string{}
		for n, h := range w.live() {
			for id := range w.plan.Voters {
				if l, err := h.Lease(uint32(id)); err == nil {
					leaders[uint32(id)] = append(leaders[uint32(id)], fmt.Sprintf("%s in term %d", n, l.Epoch))
				}
			}
		}
		for id, list := range leaders {
			if len(list) > 1 && !w.plan.Wild {
				slices.Sort(list)
				w.complain("partition %d is served by %s", id, strings.Join(list, " and "))
			}
		}
	}
}

// even waits until every member has applied all that its partition's log holds: followers learn of the last commit though nobody
// writes any more.
func (w *world) even() {
	within := max(evenWithin, 10*w.plan.Heartbeat)
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		doubt := w.uneven()
		if doubt == "" {
			return
		}
		if time.Now().After(end) {
			w.complain("%s after nobody wrote: %s", within, doubt)
			return
		}
	}
}

// evenWithin is how long followers may take to learn of the last commit, at the most: ten heartbeats.
const evenWithin = 4 * time.Second

// uneven names a member that lacks something.
func (w *world) uneven() string {
	type end struct {
		last uint64
		host string
	}
	ends := map[uint32]end{}
	for _, name := range w.plan.Hosts {
		h, _ := w.up(w.machines[name])
		if h == nil {
			continue
		}
		for _, p := range h.Status().Partitions {
			if p.Applied != p.LastIndex {
				return fmt.Sprintf("%s has applied %d of %d of partition %d", name, p.Applied, p.LastIndex, p.ID)
			}
			if e, ok := ends[p.ID]; ok && e.last != p.LastIndex {
				return fmt.Sprintf("%s has %d entries of partition %d, %s has %d", name, p.LastIndex, p.ID, e.host, e.last)
			}
			ends[p.ID] = end{p.LastIndex, name}
		}
	}
	return ""
}

// scrubbed waits until all that was damaged is found and healed.
func (w *world) scrubbed() {
	if w.flipped.IsZero() {
		return
	}
	time.Sleep(time.Until(w.flipped.Add(3 * w.scrubWithin())))
	if err := w.settle(true, healWithin); err != nil {
		w.complain("damage is not healed: %v", err)
	}
}

// finalReads asks for every document where it is served.
func (w *world) finalReads() []op {
	var list []op
	for doc := range w.plan.Documents {
		for _, level := range []adamant.Consistency{adamant.ReadLease, adamant.ReadQuorum} {
			o, err := w.finalRead(doc, level)
			if err != nil {
				w.complain("document %d can not be read in the end: %v", doc, err)
				continue
			}
			w.history.add(o)
			if level == adamant.ReadQuorum {
				list = append(list, o)
			}
		}
	}
	return list
}

func (w *world) finalRead(doc int, level adamant.Consistency) (o op, err error) {
	for range 200 {
		for n, h := range w.live() {
			if h.Locate(keyOf(doc)).Leader != n {
				continue
			}
			ctx, cancel := within(time.Second)
			o, err = w.get(ctx, doc, w.machines[n], h, level)
			cancel()
			if err == nil {
				return o, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return o, errors.Join(err, errors.New("nobody serves it"))
}

// acknowledgedIsThere compares what writers were told with the end; linearizability covers this too, but says less clearly
// what is missing.
func (w *world) acknowledgedIsThere(final []op) {
	for _, f := range final {
		if mortal(f.doc) {
			continue
		}
		for _, o := range w.history.of(f.doc) {
			for i, id := range o.ids {
				if at := o.seq + int64(i) - f.seq; o.known && o.writes() && (at < 0 || at >= int64(len(f.ids)) || f.ids[at] != id) {
					w.complain("document %d has lost the acknowledged %s at seq %d: %s", f.doc, id, o.seq+int64(i), o)
				}
			}
		}
	}
}

// staleReadsWereTrue: what a stale read of a growing document showed is a beginning of what is there in the end.
func (w *world) staleReadsWereTrue(final []op) {
	ends := map[int]op{}
	for _, f := range final {
		ends[f.doc] = f
	}
	for _, o := range w.history.stale {
		f := ends[o.doc]
		if o.found && !mortal(o.doc) && (o.seq != f.seq || len(o.ids) > len(f.ids) || !slices.Equal(o.ids, f.ids[:len(o.ids)])) {
			w.complain("a stale read showed what never was: %s; in the end %v", o, f.ids)
		}
	}
}

// copyOf is all that a member holds of a document.
type copyOf struct {
	info adamant.Info
	json []byte
	log  []adamant.LogEntry
}

func (c copyOf) differs(o copyOf) string {
	switch {
	case c.info != o.info:
		return fmt.Sprintf("%+v and %+v", c.info, o.info)
	case !bytes.Equal(c.json, o.json):
		return fmt.Sprintf("%s and %s", c.json, o.json)
	case len(c.log) != len(o.log):
		return fmt.Sprintf("%d and %d entries", len(c.log), len(o.log))
	}
	for i, a := range c.log {
		b := o.log[i]
		if a.Index != b.Index || a.Term != b.Term || a.Chain != b.Chain || a.Delta.SeqBegin != b.Delta.SeqBegin || !bytes.Equal(a.Delta.Redo, b.Delta.Redo) {
			return fmt.Sprintf("entry %d: %+v and %+v", i, a, b)
		}
	}
	return ""
}

// membersAgree reads back every document of every member, and compares them with each other and with what is served.
func (w *world) membersAgree(final []op) {
	served := map[adamant.Key]op{}
	for _, f := range final {
		if f.found {
			served[keyOf(f.doc)] = f
		}
	}
	first, copies := map[uint32]string{}, map[uint32]map[adamant.Key]copyOf{}
	for _, name := range w.plan.Hosts {
		h, _ := w.up(w.machines[name])
		if h == nil {
			continue
		}
		for _, p := range h.Status().Partitions {
			held, err := readBack(h, p.ID)
			if err != nil {
				w.complain("%s: partition %d can not be read back: %v", name, p.ID, err)
				continue
			}
			for key, c := range held {
				if f, ok := served[key]; !ok || c.info.Head != f.seq+int64(len(f.ids))-1 || !bytes.Contains(c.json, []byte(f.ids[len(f.ids)-1])) {
					w.complain("%s holds %s at %d, served is %s", name, key, c.info.Head, f)
				}
			}
			if other, ok := copies[p.ID]; ok {
				w.compare(p.ID, first[p.ID], other, name, held)
			} else {
				first[p.ID], copies[p.ID] = name, held
			}
		}
	}
	total := 0
	for _, held := range copies {
		total += len(held)
	}
	if total != len(served) {
		w.complain("members hold %d documents, %d are served", total, len(served))
	}
}

func (w *world) compare(id uint32, one string, a map[adamant.Key]copyOf, two string, b map[adamant.Key]copyOf) {
	for key, c := range a {
		if other, ok := b[key]; !ok {
			w.complain("partition %d: %s holds %s, %s does not", id, one, key, two)
		} else if d := c.differs(other); d != "" {
			w.complain("partition %d: %s differs at %s and %s: %s", id, key, one, two, d)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			w.complain("partition %d: %s holds %s, %s does not", id, two, key, one)
		}
	}
}

// readBack is everything that a host's member of a partition holds.
func readBack(h *adamant.Host, id uint32) (map[adamant.Key]copyOf, error) {
	stale, ctx, held := adamant.WithConsistency(adamant.ReadStale), context.Background(), map[adamant.Key]copyOf{}
	for info, err := range h.Inventory(ctx, adamant.Scope{Partition: &id}, stale) {
		if err != nil {
			return nil, err
		}
		info.Staleness = nil
		c := copyOf{info: info}
		for e, err := range h.Log(ctx, info.Key, stale) {
			if err != nil {
				return nil, err
			}
			c.log = append(c.log, e)
		}
		d, err := h.Get(ctx, info.Key, stale)
		if err != nil {
			return nil, err
		}
		c.json = d.JSON
		held[info.Key] = c
	}
	return held, nil
}

// checkHistory is the part that needs real time: it runs outside of the bubble.
func (w *world) checkHistory(patience time.Duration) (unknown int) {
	for doc := range w.plan.Documents {
		ops := w.history.of(doc)
		switch linearizable(ops, patience) {
		case lincheck.Illegal:
			w.wrong = append(w.wrong, fmt.Sprintf("document %d: what clients saw has no order that explains it", doc))
			var b strings.Builder
			for _, o := range ops {
				fmt.Fprintln(&b, o)
			}
			w.lines = append(w.lines, fmt.Sprintf("operations on document %d:\n%s", doc, &b))
		case lincheck.Unknown:
			unknown++
		}
	}
	return unknown
}

// left waits for every goroutine of the cluster to end and returns those that don't, but for the storage engine's own of a
// disk that failed: such an engine is never closed, for what it would write then can not be trusted.
func (w *world) left() []string {
	var left []string
	for range 600 { // what is on its way may still wait for its time
		w.pulse.Add(1)
		left = left[:0]
		for _, s := range goroutines() {
			if w.engines.Load() == 0 || !strings.Contains(s, "cockroachdb/pebble/v2") && !strings.Contains(s, "store.(*failStop).Fatalf") {
				left = append(left, s)
			}
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(time.Second)
	}
	return left
}

// goroutines lists what still runs in this bubble, besides the caller.
func goroutines() []string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	all := strings.Split(string(buf), "\n\n")
	_, bubble, _ := strings.Cut(strings.SplitN(all[0], "\n", 2)[0], "synctest bubble ")
	bubble = "synctest bubble " + bubble
	var left []string
	for _, s := range all[1:] {
		if head, _, _ := strings.Cut(s, "\n"); strings.HasSuffix(head, bubble) && !strings.Contains(s, "testing/synctest.") {
			left = append(left, s)
		}
	}
	return left
}
