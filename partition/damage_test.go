package partition

import (
	"sync/atomic"
	"testing"

	"github.com/adamantdb/adamant/store"
)

// racingDocs is what a scrub does to a leader that nobody takes over from: the document goes between the serving rule's look at
// Complete and the evaluation's look at the head.
type racingDocs struct {
	Documents
	docs  *store.Documents
	armed *atomic.Pointer[store.Key]
}

func (d racingDocs) Complete() bool {
	complete := d.Documents.Complete()
	if k := d.armed.Load(); k != nil && complete && d.armed.CompareAndSwap(k, nil) {
		if _, err := d.docs.Damage(d.docs.Range().Bucket(k.Hash()), store.Damaged{Documents: []store.Key{*k}}); err != nil {
			panic(err)
		}
	}
	return complete
}

// A leader from which a scrub takes a document decides nothing by its absence: it is not complete any more.
func TestDamageBetweenServingAndEvaluation(t *testing.T) {
	for name, op := range map[string]Operation{
		"create": {Kind: store.Create, Key: key("a"), Deltas: []store.Delta{delta(1, `{"new":true}`)}},
		"delete": {Kind: store.Delete, Key: key("a")},
		"append": {Kind: store.Append, Key: key("a"), Deltas: []store.Delta{delta(3, `{"x":3}`)}},
	} {
		t.Run(name, simulated(func(t *testing.T) {
			var armed atomic.Pointer[store.Key]
			g := newGroup(t, 3, func(o *Options) {
				o.Documents = racingDocs{o.Documents, o.Documents.(engineDocs).Documents, &armed}
			})
			l := g.serving()
			must(t, l.create("a"))
			_, err := l.append("a", 2, `{"x":2}`)
			must(t, err)
			var other *node
			for _, nd := range g.nodes {
				g.wait("all to apply", func() bool { return nd.head("a") == 2 })
				if nd != l {
					other = nd
				}
			}
			l = g.serving()
			k := key("a")
			armed.Store(&k) // (another look at Complete may come first: then this proves nothing)
			_, err = l.part.Do(t.Context(), op)
			was, there, headErr := other.docs.Head(k)
			must(t, headErr)
			t.Logf("%s of a document that was there and whole: %v; another member now has it: %v, head %d", name, err, there, was.HeadSeq)
			if err == nil && op.Kind != store.Append {
				t.Errorf("%s was acknowledged by what a scrub had taken away; another member: there %v, head %d", name, there, was.HeadSeq)
			}
			if _, missing := err.(*store.NotFoundError); missing {
				t.Errorf("an append was told that the document, which was acknowledged, does not exist: %v", err)
			}
		}))
	}
}
