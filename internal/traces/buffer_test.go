package traces

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestBufferAgainstSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.StringN(0, 20, -1).Draw(t, "start")
		b, slow := newBuffer(start), []rune(start)
		for range rapid.IntRange(1, 30).Draw(t, "edits") {
			p := Patch{
				Position: rapid.IntRange(0, len(slow)+1).Draw(t, "position"),
				Deleted:  rapid.IntRange(0, 5).Draw(t, "deleted"),
				Inserted: rapid.StringN(0, 8, -1).Draw(t, "inserted"),
			}
			err := b.edit(p)
			if wrong := p.Position+p.Deleted > len(slow); wrong != (err != nil) {
				t.Fatalf("%+v in %d: %v", p, len(slow), err)
			}
			if err == nil {
				slow = slices.Replace(slow, p.Position, p.Position+p.Deleted, []rune(p.Inserted)...)
			}
			if b.String() != string(slow) || b.len() != len(slow) {
				t.Fatalf("%q, want %q", b.String(), string(slow))
			}
		}
	})
}

func TestEditRefusesNegative(t *testing.T) {
	for _, p := range []Patch{{-1, 0, ""}, {0, -1, ""}} {
		if err := newBuffer("abc").edit(p); err == nil {
			t.Errorf("%+v is applied", p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(generate(3, 4).encode()))
	f.Add([]byte(`{"startContent":"","endContent":"","txns":[{"patches":[[0,0,"a"]]}]}`))
	f.Add([]byte(`{"txns":[{"patches":[[0,-1,null]]}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := parse(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := parse(strings.NewReader(tr.encode()))
		if err != nil || again.Start != tr.Start || again.End != tr.End || !slices.EqualFunc(again.Txns, tr.Txns, slices.Equal) {
			t.Fatalf("%q: %+v, then %+v (%v)", b, tr, again, err)
		}
		for n := range tr.Txns {
			redo, undo := tr.Delta(n + 1)
			if !json.Valid(redo) || !json.Valid(undo) {
				t.Fatalf("transaction %d: %s %s", n+1, redo, undo)
			}
		}
		_, _ = tr.replayAll()
	})
}

func FuzzReplay(f *testing.F) {
	f.Add([]byte(`{"changes":{"2":[[0,1,"N"]],"1":[[0,2,"Z"],[2,0,"😀"]]}}`))
	f.Add([]byte(`{"changes":{"1":null},"x":[]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := (&Trace{Start: "abc"}).Replay(b)
		if err == nil && (!utf8.ValidString(text) || !json.Valid(b)) {
			t.Fatalf("%q gives %q", b, text)
		}
	})
}

func BenchmarkReplay(b *testing.B) {
	tr := &Trace{}
	var document bytes.Buffer
	document.WriteString(`{"changes":{`)
	for i := range 260_000 { // typing, with a jump each hundred keys
		tr.Txns = append(tr.Txns, Txn{{i/100*7919%(i+1) + min(i%100, i-i/100*7919%(i+1)), 0, "x"}})
		redo, _ := tr.Delta(i + 1)
		if i > 0 {
			document.WriteByte(',')
		}
		document.Write(redo[len(`{"changes":{`) : len(redo)-2])
	}
	document.WriteString("}}")
	b.SetBytes(int64(document.Len()))
	for b.Loop() {
		if _, err := tr.Replay(document.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
