package store

import (
	"reflect"
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
)

// view makes a DocView of a living document: marks of one seq each, [first, last], brought by the indexes from gen on.
func view(gen, last uint64, first, head int64) *DocView {
	v := &DocView{Exists: true, Head: Head{Generation: gen, LastIndex: last, HeadSeq: head, Chain: Chain{byte(head)}, Floor: 0, FloorKnown: true}}
	for seq := first; seq <= head; seq++ {
		v.Entries = append(v.Entries, Mark{Begin: seq, End: seq, Index: gen + uint64(seq), Chain: Chain{byte(seq)}})
	}
	return v
}

func (v *DocView) change(f func(*DocView)) *DocView {
	f(v)
	return v
}

func TestMergeDocument(t *testing.T) {
	absent := &DocView{}
	deleted := func(index uint64) *DocView { return &DocView{Deleted: index} }
	covers := func(first, last uint64) Knowledge {
		return Knowledge{Mine: interval.Of(first, last), Theirs: interval.Of(first, last), TheirHighest: 100}
	}
	base := func(v *DocView, seq int64, index, hash uint64) *DocView {
		v.Head.HasBase, v.Head.BaseSeq, v.Head.BaseIndex, v.BaseHash = true, seq, index, hash
		return v
	}
	floor := func(v *DocView, floor int64) *DocView {
		v.Head.Floor, v.Head.Dropped = floor, true
		return v
	}
	tests := []struct {
		name         string
		mine, theirs *DocView
		know         Knowledge
		action       Action
		deleted      uint64
		take         []int
		head         *Head
		takeBase     bool
		reason       DivergenceReason
	}{
		{name: "both absent", mine: absent, theirs: absent, action: ActionKeep},
		{name: "both absent, they remember more", mine: deleted(3), theirs: deleted(5), action: ActionRecord, deleted: 5},
		{name: "both absent, I remember more", mine: deleted(5), theirs: deleted(3), action: ActionKeep},

		{name: "they never heard of it", mine: view(3, 7, 1, 2), theirs: absent, know: covers(1, 6), action: ActionKeep},
		{name: "they had my last change", mine: view(3, 7, 1, 2), theirs: absent, know: covers(7, 7), action: ActionDelete, deleted: 7},
		{name: "they remember the delete", mine: view(3, 7, 1, 2), theirs: deleted(9), action: ActionDelete, deleted: 9},
		{name: "they remember that my generation is dead", mine: view(3, 7, 1, 2), theirs: deleted(3), action: ActionDelete, deleted: 7},
		{name: "they remember the delete of an older generation", mine: view(3, 7, 1, 2), theirs: deleted(2), action: ActionKeep},

		{name: "news", mine: absent, theirs: view(3, 7, 1, 2), know: covers(1, 6), action: ActionInstall, take: []int{0, 1}},
		{name: "I had their last change", mine: absent, theirs: view(3, 7, 1, 2), know: covers(7, 7), action: ActionKeep},
		{name: "I had it, and remember an older delete", mine: deleted(2), theirs: view(3, 7, 1, 2), know: covers(7, 7), action: ActionKeep},
		{name: "I remember the delete", mine: deleted(9), theirs: view(3, 7, 1, 2), action: ActionKeep},
		{name: "I remember that the generation is dead", mine: deleted(3), theirs: view(3, 7, 1, 2), action: ActionKeep},
		{name: "created again after the delete", mine: deleted(9), theirs: view(10, 11, 1, 2), action: ActionInstall, take: []int{0, 1}},
		{name: "install without what their floor drops", mine: absent, theirs: floor(view(3, 7, 1, 4), 2), action: ActionInstall, take: []int{2, 3}},

		{name: "mine is newer", mine: view(9, 9, 1, 1), theirs: view(3, 12, 1, 5), action: ActionKeep},
		{name: "theirs is newer", mine: view(3, 12, 1, 5), theirs: view(9, 9, 1, 1), action: ActionInstall, take: []int{0}},

		{name: "the same", mine: view(3, 7, 1, 3), theirs: view(3, 7, 1, 3), action: ActionKeep},
		{name: "they have more", mine: view(3, 4, 1, 2), theirs: view(3, 7, 1, 4), action: ActionUnion, take: []int{2, 3},
			head: &Head{Generation: 3, LastIndex: 7, HeadSeq: 4, Chain: Chain{4}, FloorKnown: true}},
		{name: "they have less", mine: view(3, 7, 1, 4), theirs: view(3, 4, 1, 2), action: ActionKeep},
		{name: "they fill my gap", mine: view(3, 7, 3, 4), theirs: view(3, 7, 1, 4), action: ActionUnion, take: []int{0, 1},
			head: &Head{Generation: 3, LastIndex: 7, HeadSeq: 4, Chain: Chain{4}, FloorKnown: true}},
		{name: "only their index is higher", mine: view(3, 6, 1, 2), theirs: view(3, 7, 1, 2), action: ActionUnion,
			head: &Head{Generation: 3, LastIndex: 7, HeadSeq: 2, Chain: Chain{2}, FloorKnown: true}},
		{name: "they know the floor", mine: view(3, 7, 2, 2).change(func(v *DocView) { v.Head.FloorKnown, v.Head.Floor = false, -1 }),
			theirs: view(3, 7, 1, 2), action: ActionUnion, take: []int{0},
			head: &Head{Generation: 3, LastIndex: 7, HeadSeq: 2, Chain: Chain{2}, FloorKnown: true}},
		{name: "their base is newer", mine: base(view(3, 7, 1, 2), 1, 5, 0), theirs: base(floor(view(3, 8, 1, 2), 1), 2, 8, 0), action: ActionUnion, takeBase: true,
			head: &Head{Generation: 3, LastIndex: 8, HeadSeq: 2, Chain: Chain{2}, HasBase: true, BaseSeq: 2, BaseIndex: 8, Floor: 1, Dropped: true, FloorKnown: true}},
		{name: "their base is older", mine: base(view(3, 7, 1, 2), 2, 7, 0), theirs: base(view(3, 6, 1, 2), 1, 6, 0), action: ActionKeep},
		{name: "my floor drops their entries", mine: floor(view(3, 9, 3, 4), 2), theirs: view(3, 7, 1, 4), action: ActionKeep},

		{name: "one head, two histories", mine: view(3, 7, 1, 2), theirs: view(3, 7, 1, 2).change(func(v *DocView) { v.Head.Chain[5]++ }),
			action: ActionDiverged, reason: DivergedChain},
		{name: "one seq, two chains", mine: view(3, 7, 1, 3), theirs: view(3, 7, 1, 4).change(func(v *DocView) { v.Entries[1].Chain[5]++ }),
			action: ActionDiverged, reason: DivergedChain},
		{name: "one seq, no chain, two indexes", mine: view(3, 7, 1, 3),
			theirs: view(3, 7, 1, 4).change(func(v *DocView) { v.Entries[1].Chain = Chain{}; v.Entries[1].Index++ }), action: ActionDiverged, reason: DivergedChain},
		{name: "one seq, no chain, one index", mine: view(3, 7, 1, 4), theirs: view(3, 7, 1, 4).change(func(v *DocView) { v.Entries[1].Chain = Chain{} }),
			action: ActionKeep},
		{name: "their head contradicts my entry", mine: view(3, 7, 1, 4),
			theirs: view(3, 7, 1, 2).change(func(v *DocView) { v.Head.Chain[5]++; v.Entries = nil }), action: ActionDiverged, reason: DivergedChain},
		{name: "my head contradicts their entry", mine: view(3, 7, 1, 2).change(func(v *DocView) { v.Head.Chain[5]++; v.Entries = nil }),
			theirs: view(3, 7, 1, 4), action: ActionDiverged, reason: DivergedChain},
		{name: "overlap", mine: view(3, 7, 1, 3), theirs: view(3, 7, 1, 4).change(func(v *DocView) { v.Entries[2].Begin = 2; v.Entries = v.Entries[2:] }),
			action: ActionDiverged, reason: DivergedOverlap},
		{name: "a delta over my head", mine: view(3, 7, 1, 3),
			theirs: view(3, 7, 1, 5).change(func(v *DocView) { v.Entries[4].Begin = 3; v.Entries = v.Entries[4:] }), action: ActionDiverged, reason: DivergedOverlap},
		{name: "one index, two bases", mine: base(view(3, 7, 1, 2), 1, 5, 8), theirs: base(view(3, 7, 1, 2), 1, 5, 9), action: ActionDiverged, reason: DivergedBase},
		{name: "one index, bases at two seqs", mine: base(view(3, 7, 1, 2), 1, 5, 0), theirs: base(view(3, 7, 1, 2), 2, 5, 0), action: ActionDiverged, reason: DivergedBase},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.know.TheirHighest == 0 {
				test.know.TheirHighest = 100
			}
			d := MergeDocument(test.mine, test.theirs, &test.know)
			if d.Action != test.action || d.Deleted != test.deleted || d.Reason != test.reason || !reflect.DeepEqual(d.Take, test.take) || d.TakeBase != test.takeBase {
				t.Fatalf("got %+v", d)
			}
			if test.head != nil && d.Head != *test.head {
				t.Fatalf("head %+v, want %+v", d.Head, *test.head)
			}
			if test.action == ActionInstall && d.Head != test.theirs.Head {
				t.Fatalf("installs the head %+v", d.Head)
			}
		})
	}
}

// A member that knows all there is to know is never changed by a peer: one of the two is damaged, and it may be the peer.
func TestMergeKnowsEverything(t *testing.T) {
	absent := &DocView{}
	for name, test := range map[string]struct{ mine, theirs *DocView }{
		"lost there":             {view(3, 7, 1, 2), absent},
		"deleted there":          {view(3, 7, 1, 2), &DocView{Deleted: 9}},
		"longer there":           {view(3, 7, 1, 2), view(3, 8, 1, 3)},
		"a new generation there": {view(3, 7, 1, 2), view(8, 8, 1, 1)},
		"my gap":                 {view(3, 7, 2, 2), view(3, 7, 1, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			know := Knowledge{Mine: interval.Of(1, 20), MineComplete: true, Theirs: interval.Of(1, 20), TheirHighest: 20}
			if d := MergeDocument(test.mine, test.theirs, &know); d.Action != ActionDiverged || d.Reason != DivergedKnown {
				t.Errorf("complete and as far as the peer: %+v", d)
			}
			for _, less := range []Knowledge{
				{Mine: interval.Of(1, 20), Theirs: interval.Of(1, 20), TheirHighest: 20},
				{Mine: interval.Of(1, 20), MineComplete: true, Theirs: interval.Of(1, 20), TheirHighest: 21},
			} {
				if d := MergeDocument(test.mine, test.theirs, &less); d.Action == ActionDiverged {
					t.Errorf("not sure to know everything, %+v: %+v", less, d)
				}
			}
		})
	}
	// A document that I deleted is no news, and no damage either.
	know := Knowledge{Mine: interval.Of(1, 20), MineComplete: true, TheirHighest: 20}
	if d := MergeDocument(absent, view(3, 7, 1, 2), &know); d.Action != ActionKeep {
		t.Errorf("deleted here: %+v", d)
	}
}
