package store

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestSmoke(t *testing.T) {
	e, err := OpenDocs(DocOptions{Dir: "d", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Member(1, FullRange())
	if err != nil {
		t.Fatal(err)
	}
	key := Key{"space", "k"}
	dl := Delta{SeqBegin: 1, SeqEnd: 1, Redo: []byte("{}")}
	c := SeedChain(key).Next(dl.AppendBinary(nil))
	if err := d.Apply([]Mutation{{Kind: Create, Key: key, Index: 3, Term: 1, Deltas: []Delta{dl}, Chain: c, HeadSeq: 1}}, 4); err != nil {
		t.Fatal(err)
	}
	t.Log(d.Head(key))
	t.Log(d.Status())
	for i, err := range d.Inventory("") {
		t.Log(i, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
