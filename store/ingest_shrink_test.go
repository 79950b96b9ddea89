package store

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// Tables of what does not get smaller are written without trying to compress it, those of text are compressed; and entries have
// no filter, which no read would ask.
func TestTablesAreCompressedWhenItPays(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(b []byte) {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
	}
	for _, c := range []struct {
		name  string
		fill  func([]byte)
		packs bool
	}{{"random", noise, false}, {"text", func(b []byte) { copy(b, bytes.Repeat([]byte("a delta of a document "), 100)) }, true}} {
		for _, size := range []int{64, 1000} {
			s := newScript()
			for i := range 60 {
				key := keyInBucket(FullRange(), 9, i)
				s.create(key, 20)
				h := s.heads[key]
				m := Mutation{Kind: Append, Key: key, Generation: h.Generation, Prior: h.Chain}
				for range 20 {
					h.HeadSeq++
					d := Delta{SeqBegin: h.HeadSeq, SeqEnd: h.HeadSeq, Redo: make([]byte, size)}
					c.fill(d.Redo)
					h.Chain = h.Chain.Next(d.AppendBinary(nil))
					m.Deltas = append(m.Deltas, d)
				}
				m.Chain, m.HeadSeq = h.Chain, h.HeadSeq
				s.add(m)
			}
			x, y := newDocsMember(t), newDocsMember(t)
			y.follow(t, s, s.last())
			must(t, x.RecordHole(1, s.last()))
			x.e.bulk.limits = bulkLimits{chunk: 1, table: 1 << 30, least: 1, total: 1 << 30}
			session := x.BeginSession(9)
			answer := pageOf(t, y.Documents, 9, ListQuery{})
			wants, err := x.Wants(9, answer.Hashes(), Cursor{})
			must(t, err)
			_, err = session.Import(exportOver(t, y.Documents, 9, &ExportQuery{Wants: wants, Budget: 1 << 30}, &traffic{}))
			must(t, err)
			_, err = session.Finish()
			must(t, err)
			levels, err := x.e.db.SSTables(pebble.WithProperties())
			must(t, err)
			tables := 0
			for _, level := range levels {
				for i := range level {
					p := level[i].Properties
					if tables++; (p.CompressionName != "NoCompression") != c.packs || p.FilterPolicyName != "" {
						t.Errorf("%s of %d bytes: compression %q, filter %q", c.name, size, p.CompressionName, p.FilterPolicyName)
					}
				}
			}
			if tables != 1 {
				t.Errorf("%d tables", tables)
			}
			if got, want := x.Status().Bytes, y.Status().Bytes; got != want {
				t.Errorf("%d bytes of %d", got, want)
			}
		}
	}
}
