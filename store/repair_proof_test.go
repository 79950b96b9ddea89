package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// This file lets the members of a schedule compare at one index, which is the other way to heal: what is equal to a member
// that holds the truth there need not be pulled.

// A document was created and deleted while this member was away, and a peer that has not applied the delete still has it.
// Neither this member nor one that has applied both has the document: equal. Then the lagging peer's copy comes in.
func TestPullVoidsAProof(t *testing.T) {
	s := newScript()
	key := keyInBucket(FullRange(), 9, 1)
	s.create(key, 10)
	s.delete(key)
	x, lagging, complete := newDocsMember(t), newDocsMember(t), newDocsMember(t)
	x.follow(t, s, 2, interval.Range{First: 1, Last: 2})
	lagging.follow(t, s, 1)
	complete.follow(t, s, 2)

	past, ok := x.PastAt(2)
	if theirs, told := complete.SummaryAt(2); !ok || !told || *past.Sums != *theirs {
		t.Fatal("they should be equal")
	}
	if moved := x.pullBucket(t, lagging, 9, 1000); moved.report.Documents != 1 {
		t.Fatalf("%+v", moved.report)
	}
	for b := range merkle.Buckets {
		want := error(nil)
		if b == 9 {
			want = ErrProofLost
		}
		if err := x.MarkProven(uint8(b), past); err != want {
			t.Errorf("bucket %d: %v", b, err)
		}
	}
	if closed, err := x.CloseHoles(); err != nil || closed.Contains(2) || x.Status().Complete {
		t.Errorf("closed %s, %v", closed, err)
	}
	x.pullBucket(t, complete, 9, 1000)
	if _, err := x.CloseHoles(); err != nil || !x.Status().Complete {
		t.Errorf("%+v, %v", x.Status(), err)
	}
	x.mustEqual(t, complete)
}

// proof is what a comparison has shown. What it proves is recorded some time later, with other things in between.
type proof interface{ mark() }

// pureSums is what a member's sums by group were from an index on.
type pureSums struct {
	index  uint64
	groups []merkle.Bucket
}

func (n *pureNode) sums() []merkle.Bucket {
	list := make([]merkle.Bucket, n.groups)
	for i := range n.now.docs {
		if d := &n.now.docs[i]; d.exists {
			sum := &list[i%n.groups]
			*sum = sum.Add(merkle.Bucket{Sum: leaf(n.l.h.keys[i], &d.head), Count: 1})
		}
	}
	return list
}

func (n *pureNode) remember() { n.past = append(n.past, pureSums{n.now.applied, n.sums()}) }

func (n *pureNode) forget() {
	n.past = nil
	n.remember()
}

// learn mirrors what an import does to the tracker.
func (n *pureNode) learn(group int) {
	n.learned[group]++
	if !slices.Equal(n.sums(), n.past[len(n.past)-1].groups) {
		n.forget()
	}
}

// sumsAt mirrors Documents.SummaryAt; nil when it cannot be told.
func (n *pureNode) sumsAt(index uint64) []merkle.Bucket {
	if index < n.now.ahead || index > n.now.applied {
		return nil
	}
	for i := len(n.past) - 1; i >= 0; i-- {
		if n.past[i].index <= index {
			return n.past[i].groups
		}
	}
	return nil
}

// checkPast: what a complete member tells of its past is what the log prescribes.
func (n *pureNode) checkPast() error {
	for i := n.now.applied; ; i-- {
		sums := n.sumsAt(i)
		if sums == nil {
			return nil
		}
		truth := pureNode{l: n.l, groups: n.groups, now: *n.l.states[i]}
		if !slices.Equal(sums, truth.sums()) {
			return fmt.Errorf("its sums at %d, told at %d, are not what the log prescribes", i, n.now.applied)
		}
	}
}

type pureProof struct {
	x       *pureNode
	index   uint64
	groups  []int
	learned []int
}

func (n *pureNode) compare(peer node) proof {
	y := peer.(*pureNode)
	index := min(n.now.applied, y.now.applied)
	mine, theirs := n.sumsAt(index), y.sumsAt(index)
	if mine == nil || theirs == nil || y.now.ahead > index || !y.coverage().Covers(interval.Of(1, index)) {
		return nil
	}
	p := &pureProof{x: n, index: index, learned: slices.Clone(n.learned)}
	for g := range mine {
		if mine[g] == theirs[g] {
			p.groups = append(p.groups, g)
		}
	}
	return p
}

func (p *pureProof) mark() {
	n := p.x
	for _, g := range p.groups {
		if n.sessions[g] != nil || n.learned[g] != p.learned[g] {
			continue
		}
		healed := n.now.healed[g].Union(interval.Of(1, p.index).Intersect(n.now.holes))
		if !healed.Equal(n.now.healed[g]) {
			n.now.healed[g], n.now.ahead = healed, max(n.now.ahead, p.index)
		}
	}
}

type diskProof struct {
	x       *diskNode
	past    *Past
	buckets []uint8
}

func (n *diskNode) compare(peer node) proof {
	y := peer.(*diskNode).d
	index := min(n.d.Applied(), y.Applied())
	mine, ok := n.d.PastAt(index)
	theirs, told := y.SummaryAt(index)
	if !ok || !told || y.Status().Ahead > index || !y.Coverage().Covers(interval.Of(1, index)) {
		return nil
	}
	p := &diskProof{x: n, past: mine}
	differ := merkle.Diff(mine.Sums, theirs)
	for b := range merkle.Buckets {
		if !slices.Contains(differ, uint8(b)) {
			p.buckets = append(p.buckets, uint8(b))
		}
	}
	return p
}

func (p *diskProof) mark() {
	d := p.x.d
	for _, b := range p.buckets {
		d.mu.Lock()
		busy := d.sessions[b] != nil
		d.mu.Unlock()
		if busy {
			continue
		}
		if err := d.MarkProven(b, p.past); err != ErrProofLost {
			try(0, err)
		}
	}
}
