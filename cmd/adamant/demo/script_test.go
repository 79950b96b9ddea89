package demo

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"compress/gzip"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/jsonmerge"
	"github.com/adamantdb/adamant/internal/traces"
)

func merged(t *testing.T, deltas []adamant.Delta) []byte {
	t.Helper()
	m := jsonmerge.New(jsonmerge.Document)
	for i := range deltas {
		if err := m.Add(deltas[i].Redo); err != nil {
			t.Fatal(err)
		}
	}
	b, err := m.Result()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A script's deltas follow each other, amount to its own state, can be undone, and come out the same again.
func TestGame(t *testing.T) {
	for number := range 20 {
		g := newGame(number, 7)
		var deltas []adamant.Delta
		for i := 1; len(deltas) < 200; i++ {
			deltas = append(deltas, g.next(1+i%3)...)
			if err := g.check(merged(t, deltas)); err != nil {
				t.Fatal(err)
			}
		}
		last := int64(0)
		for _, d := range deltas {
			if d.SeqBegin != last+1 || d.SeqEnd < d.SeqBegin || d.Who == "" || len(d.Request) == 0 {
				t.Fatalf("delta %+v after %d", d, last)
			}
			last = d.SeqEnd
		}
		if again := g.again().next(len(deltas)); !sameDeltas(again, deltas) {
			t.Fatal("the script is not the same again")
		}
		back := jsonmerge.New(jsonmerge.Document)
		if err := back.Base(merged(t, deltas)); err != nil {
			t.Fatal(err)
		}
		const rest = 120
		for i := len(deltas) - 1; i >= rest; i-- {
			if err := back.Add(deltas[i].Undo); err != nil {
				t.Fatal(err)
			}
		}
		undone, err := back.Result()
		if err != nil {
			t.Fatal(err)
		}
		early := g.again()
		early.next(rest)
		if err := early.check(undone); err != nil {
			t.Fatalf("the undos do not lead back: %v", err)
		}
		if g.check(merged(t, deltas[:len(deltas)-1])) == nil || g.check([]byte("{")) == nil {
			t.Fatal("a missing delta was not noticed")
		}
	}
	if a, b := newGame(1, 7).next(50), newGame(2, 7).next(50); sameDeltas(a, b) {
		t.Error("two games are the same")
	}
}

// writeTrace makes a small trace file.
func writeTrace(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(`{"startContent":"","endContent":"hällo!","txns":[
		{"time":"","patches":[[0,0,"hallo"]]},{"time":"","patches":[[1,1,"ä"],[5,0,"?"]]},{"time":"","patches":[[5,1,"!"]]}]}`)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTyped(t *testing.T) {
	trace, err := traces.Open(writeTrace(t, "a b.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	s := newTyped(trace, 2)
	if s.key().String() != "traces/a_b-2" || s.key().Validate() != nil || s.length() != 3 {
		t.Errorf("%s, %d", s.key(), s.length())
	}
	deltas := append(s.next(2), s.next(5)...)
	if len(deltas) != 3 || len(s.next(1)) != 0 {
		t.Fatalf("%d deltas", len(deltas))
	}
	if err := s.check(merged(t, deltas)); err != nil {
		t.Error(err)
	}
	if err := s.check(merged(t, deltas[:2])); err == nil || !strings.Contains(err.Error(), "differs") {
		t.Errorf("a missing delta: %v", err)
	}
	if again := s.again().next(3); !sameDeltas(again, deltas) {
		t.Error("the script is not the same again")
	}
}

func TestScriptsOfOptions(t *testing.T) {
	path := writeTrace(t, "a.json.gz")
	o, err := Options{Traces: []string{path, path}, Copies: 2, Documents: 3}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	list, err := o.scripts()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[adamant.Key]bool{}
	for _, s := range list {
		seen[s.key()] = true
	}
	if len(list) != 7 || len(seen) != 7 {
		t.Errorf("%d scripts, %d keys", len(list), len(seen))
	}
	o.Traces = []string{filepath.Join(t.TempDir(), "missing")}
	if _, err := o.scripts(); err == nil {
		t.Error("a missing trace file")
	}
}
