package demo

import (
	"bytes"
	"context"
	"iter"
	"sync"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/jsonmerge"
)

// fakeCluster is one correct store behind several fake hosts. before and after may break it: before sees a call that has
// not happened yet, after one that has; what they return is the answer.
type fakeCluster struct {
	mu     sync.Mutex
	docs   map[adamant.Key][]adamant.Delta
	leader string
	before func(host, op string) error
	after  func(host, op string) error
	calls  int
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{docs: map[adamant.Key][]adamant.Delta{}, leader: "h1"}
}

func (f *fakeCluster) nodes(names ...string) func() map[string]node {
	m := map[string]node{}
	for _, n := range names {
		m[n] = &fakeNode{name: n, cluster: f}
	}
	return func() map[string]node { return m }
}

type fakeNode struct {
	node    // what the tests do not use
	name    string
	cluster *fakeCluster
}

// do runs an operation of the leader between the two hooks.
func (n *fakeNode) do(op string, change func() error) error {
	f := n.cluster
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.before != nil {
		if err := f.before(n.name, op); err != nil {
			return err
		}
	}
	if n.name != f.leader {
		return &adamant.NotLeaderError{Leader: f.leader}
	}
	if err := change(); err != nil {
		return err
	}
	if f.after != nil {
		return f.after(n.name, op)
	}
	return nil
}

func (n *fakeNode) Create(_ context.Context, key adamant.Key, d adamant.Delta) error {
	return n.do("create", func() error {
		if _, exists := n.cluster.docs[key]; exists {
			return &adamant.ExistsError{Key: key}
		}
		n.cluster.docs[key] = []adamant.Delta{d}
		return nil
	})
}

func (n *fakeNode) Append(_ context.Context, key adamant.Key, deltas []adamant.Delta) (head int64, err error) {
	err = n.do("append", func() error {
		have := n.cluster.docs[key]
		if len(have) == 0 {
			return &adamant.NotFoundError{Key: key}
		}
		head = have[len(have)-1].SeqEnd
		if deltas[0].SeqBegin != head+1 {
			if tail := have[max(0, len(have)-len(deltas)):]; len(tail) == len(deltas) && sameDeltas(tail, deltas) {
				return nil
			}
			return &adamant.SeqMismatchError{Key: key, Head: head}
		}
		n.cluster.docs[key] = append(have[:len(have):len(have)], deltas...)
		head = deltas[len(deltas)-1].SeqEnd
		return nil
	})
	return head, err
}

func sameDeltas(a, b []adamant.Delta) bool {
	for i := range a {
		if !sameDelta(&a[i], &b[i]) {
			return false
		}
	}
	return true
}

func (n *fakeNode) Get(_ context.Context, key adamant.Key, opts ...adamant.ReadOption) (d adamant.Document, err error) {
	read := func() error {
		have := n.cluster.docs[key]
		if len(have) == 0 {
			return &adamant.NotFoundError{Key: key}
		}
		merged := jsonmerge.New(jsonmerge.Document)
		for i := range have {
			if err := merged.Add(have[i].Redo); err != nil {
				return err
			}
		}
		d.Head = have[len(have)-1].SeqEnd
		d.JSON, err = merged.Result()
		return err
	}
	if len(opts) > 0 { // stale: any member
		n.cluster.mu.Lock()
		defer n.cluster.mu.Unlock()
		d.Staleness = &adamant.Staleness{Complete: true}
		return d, read()
	}
	return d, n.do("get", read)
}

func (n *fakeNode) Log(_ context.Context, key adamant.Key, _ ...adamant.ReadOption) iter.Seq2[adamant.LogEntry, error] {
	return func(yield func(adamant.LogEntry, error) bool) {
		var have []adamant.Delta
		err := n.do("log", func() error {
			if have = n.cluster.docs[key]; len(have) == 0 {
				return &adamant.NotFoundError{Key: key}
			}
			return nil
		})
		if err != nil {
			yield(adamant.LogEntry{}, err)
			return
		}
		for _, d := range have {
			d.Redo = bytes.Clone(d.Redo)
			if !yield(adamant.LogEntry{Delta: d}, nil) {
				return
			}
		}
	}
}

func (n *fakeNode) Locate(adamant.Key) adamant.Location {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return adamant.Location{Leader: n.cluster.leader}
}
