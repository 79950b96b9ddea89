package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
)

// verdict is what reading everything back showed.
type verdict struct {
	documents int // with at least one acknowledged write
	writes    int // acknowledged operations
	deltas    int // acknowledged deltas
	lost      int // acknowledged deltas that are missing or differ
	uncertain int // deltas whose outcome was unknown to the client and that are there
	copies    int // reads of single members that were compared with the leader's
	roots     int // members whose summary root equals the others'
	problems  []string
}

// maxProblems bounds what is listed; all are counted.
const maxProblems = 20

func (v *verdict) problem(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

func (v *verdict) add(w verdict) {
	v.documents += w.documents
	v.writes += w.writes
	v.deltas += w.deltas
	v.lost += w.lost
	v.uncertain += w.uncertain
	v.copies += w.copies
	v.roots += w.roots
	v.problems = append(v.problems, w.problems...)
}

// verifier reads every document back and compares it with what its script says.
type verifier struct {
	client  *client
	members func(adamant.Key) []string // hosts that hold the document
}

// documents checks all records, several at a time. done is told after each.
func (v *verifier) documents(ctx context.Context, records []*record, done func()) verdict {
	var all verdict
	var mu sync.Mutex
	var wg sync.WaitGroup
	work := make(chan *record)
	for range 8 {
		wg.Go(func() {
			for r := range work {
				w := v.document(ctx, r)
				mu.Lock()
				all.add(w)
				mu.Unlock()
				done()
			}
		})
	}
	for _, r := range records {
		work <- r
	}
	close(work)
	wg.Wait()
	return all
}

// document compares one document's log and its merged content, at the leader and at each member.
func (v *verifier) document(ctx context.Context, r *record) (w verdict) {
	key := r.script.key()
	script := r.script.again()
	want := script.next(r.deltas)
	w.writes, w.deltas = r.writes, r.deltas
	if r.deltas > 0 {
		w.documents = 1
	}
	got, err := v.client.log(ctx, key)
	var missing *adamant.NotFoundError
	switch {
	case errors.As(err, &missing) && r.deltas == 0:
		return w
	case err != nil:
		w.lost += r.deltas
		w.problem("document %s cannot be read: %v", key, err)
		return w
	}
	w.compareLog(key, want, got, r.unknown)
	if len(got) == len(want)+len(r.unknown) {
		script.next(len(r.unknown))
	}
	v.content(ctx, &w, script, got)
	return w
}

// compareLog compares what is stored with what was acknowledged; beyond that there may be the writes whose outcome nobody
// told, all or none.
func (w *verdict) compareLog(key adamant.Key, want, got, unknown []adamant.Delta) {
	for i := range want {
		switch {
		case i >= len(got):
			w.lost++
			w.problem("document %s: acknowledged delta [%d, %d] is missing", key, want[i].SeqBegin, want[i].SeqEnd)
		case !sameDelta(&want[i], &got[i]):
			w.lost++
			w.problem("document %s: acknowledged delta [%d, %d] differs", key, want[i].SeqBegin, want[i].SeqEnd)
		}
	}
	if len(got) <= len(want) {
		return
	}
	extra := got[len(want):]
	if len(extra) != len(unknown) {
		w.problem("document %s: %d deltas are stored that nobody acknowledged", key, len(extra))
		return
	}
	for i := range extra {
		if !sameDelta(&extra[i], &unknown[i]) {
			w.problem("document %s: delta [%d, %d] was never written", key, extra[i].SeqBegin, extra[i].SeqEnd)
			return
		}
	}
	w.uncertain += len(extra)
}

func sameDelta(a, b *adamant.Delta) bool {
	return bytes.Equal(a.AppendBinary(nil), b.AppendBinary(nil))
}

// content compares the merged document with the script's own idea of it, and each member's with the leader's.
func (v *verifier) content(ctx context.Context, w *verdict, s script, log []adamant.Delta) {
	key := s.key()
	doc, err := v.client.get(ctx, key)
	if err != nil {
		w.problem("document %s cannot be merged: %v", key, err)
		return
	}
	if head := log[len(log)-1].SeqEnd; doc.Head != head {
		w.problem("document %s: its head is %d, its last delta ends at %d", key, doc.Head, head)
	}
	if err := s.check(doc.JSON); err != nil {
		w.problem("document %s: %v", key, err)
	}
	nodes := v.client.nodes()
	for _, host := range v.members(key) {
		n := nodes[host]
		if n == nil {
			w.problem("host %s does not run", host)
			continue
		}
		copy, err := n.Get(ctx, key, adamant.WithConsistency(adamant.ReadStale))
		switch {
		case err != nil:
			w.problem("document %s on %s: %v", key, host, err)
		case !bytes.Equal(copy.JSON, doc.JSON) || copy.Head != doc.Head:
			w.problem("document %s on %s differs from the leader's: head %d, %d bytes; the leader has head %d, %d bytes", key, host, copy.Head, len(copy.JSON), doc.Head, len(doc.JSON))
		default:
			w.copies++
		}
	}
}

// settle waits until all members of every partition have applied the same index and compares their summary roots.
func (c *cluster) settle(ctx context.Context) verdict {
	for {
		var v verdict
		all := map[string]adamant.Status{}
		for name, n := range c.nodes() {
			all[name] = n.Status()
		}
		waiting := compareRoots(c.config, all, &v)
		if waiting == "" {
			return v
		}
		select {
		case <-ctx.Done():
			v.problem("the members do not come to rest: %s", waiting)
			return v
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// compareRoots compares the members of each partition; what it returns is not there yet: a member that is behind.
func compareRoots(c *config.Cluster, all map[string]adamant.Status, v *verdict) (waiting string) {
	members := map[uint32]map[string]*adamant.PartitionStatus{}
	for host, s := range all {
		for i := range s.Partitions {
			p := &s.Partitions[i]
			if members[p.ID] == nil {
				members[p.ID] = map[string]*adamant.PartitionStatus{}
			}
			members[p.ID][host] = p
		}
	}
	for i := range c.Partitions {
		want := &c.Partitions[i]
		var first *adamant.PartitionStatus
		for _, host := range want.Members() {
			p := members[want.ID][host]
			switch {
			case p == nil:
				return fmt.Sprintf("partition %d has no member on %s", want.ID, host)
			case first == nil:
				first = p
			case p.RootIndex != first.RootIndex || !p.Complete || !first.Complete:
				return fmt.Sprintf("partition %d: %s is at index %d, another member at %d", want.ID, host, p.RootIndex, first.RootIndex)
			}
			if p.Root != first.Root {
				v.problem("partition %d: the summary root on %s is %s, on another member %s, both at index %d", want.ID, host, p.Root, first.Root, p.RootIndex)
				continue
			}
			v.roots++
		}
	}
	return ""
}
