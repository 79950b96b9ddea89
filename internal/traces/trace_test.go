package traces

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/adamantdb/adamant/internal/jsonmerge"
)

// file writes a gzipped file and returns its path.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, zipped(t, content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t testing.TB, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// generate makes up a trace of n transactions, applied the slow way.
func generate(n int, seed uint64) *Trace {
	r := rand.New(rand.NewPCG(seed, seed))
	pieces := []string{"a", "b", " ", "\n", "é", "日本", "😀", "e\u0301", `"\`, "<&>", "word "}
	t := &Trace{Name: "made-up", Start: "Zürich 😀\n"}
	text := []rune(t.Start)
	for range n {
		txn := Txn{}
		for range 1 + r.IntN(3) {
			at := r.IntN(len(text) + 1)
			p := Patch{Position: at, Deleted: r.IntN(min(4, len(text)-at+1))}
			if r.IntN(4) > 0 {
				p.Inserted = pieces[r.IntN(len(pieces))]
			}
			text = slices.Replace(text, at, at+p.Deleted, []rune(p.Inserted)...)
			txn = append(txn, p)
		}
		t.Txns = append(t.Txns, txn)
	}
	t.End = string(text)
	return t
}

// encode is the file format, written independently of the reader.
func (t *Trace) encode() string {
	type txn struct {
		Time    string   `json:"time"`
		Patches [][3]any `json:"patches"`
	}
	f := struct {
		Start string `json:"startContent"`
		End   string `json:"endContent"`
		Kind  any    `json:"kind"`
		Txns  []txn  `json:"txns"`
	}{Start: t.Start, End: t.End, Kind: map[string]any{"x": []int{1}}, Txns: []txn{}}
	for _, x := range t.Txns {
		w := txn{Time: "2021-03-04T05:06:07Z", Patches: [][3]any{}}
		for _, p := range x {
			w.Patches = append(w.Patches, [3]any{p.Position, p.Deleted, p.Inserted})
		}
		f.Txns = append(f.Txns, w)
	}
	b, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestOpen(t *testing.T) {
	want := generate(500, 1)
	got, err := Open(file(t, "made-up.json.gz", want.encode()))
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != want.Name || got.Start != want.Start || got.End != want.End || len(got.Txns) != len(want.Txns) {
		t.Fatalf("read %q, %d transactions", got.Name, len(got.Txns))
	}
	for i := range want.Txns {
		if !slices.Equal(got.Txns[i], want.Txns[i]) {
			t.Fatalf("transaction %d: %v, want %v", i+1, got.Txns[i], want.Txns[i])
		}
	}
	checkThroughMerging(t, got)
}

func TestDelta(t *testing.T) {
	tr := &Trace{Txns: []Txn{{{0, 0, "a"}}, {{1, 0, "<\"\n😀"}, {0, 1, ""}}, {}}}
	for n, want := range []string{
		`{"changes":{"1":[[0,0,"a"]]}} {"changes":{"1":null}}`,
		`{"changes":{"2":[[1,0,"<\"\n😀"],[0,1,""]]}} {"changes":{"2":null}}`,
		`{"changes":{"3":[]}} {"changes":{"3":null}}`,
	} {
		redo, undo := tr.Delta(n + 1)
		if got := string(redo) + " " + string(undo); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The four traces every measurement uses, where they are at hand: they are not
// part of the repository.
func TestRealTraces(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds of merging")
	}
	const folder = "../../../shared/data/traces" // beside the module
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no traces beside the module")
	}
	for name, txns := range map[string]int{
		"automerge-paper": 259778, "clownschool_flat": 23136, "rustcode": 36981, "sveltecomponent": 18335,
	} {
		t.Run(name, func(t *testing.T) {
			if raceDetector && txns > 100_000 {
				t.Skip("nothing here is concurrent, and it takes a minute")
			}
			tr, err := Open(filepath.Join(folder, name+".json.gz"))
			if err != nil {
				t.Fatal(err)
			}
			if tr.Name != name || len(tr.Txns) != txns {
				t.Fatalf("%s: %d transactions, want %d", tr.Name, len(tr.Txns), txns)
			}
			checkThroughMerging(t, tr)
		})
	}
}

// checkThroughMerging merges all deltas, as a document and as one patch, and
// replays: the end, and after undoing the last third the text of that moment.
func checkThroughMerging(t *testing.T, tr *Trace) {
	t.Helper()
	document, patch := jsonmerge.New(jsonmerge.Document), jsonmerge.New(jsonmerge.Patch)
	for n := 1; n <= len(tr.Txns); n++ {
		redo, _ := tr.Delta(n)
		add(t, document, redo)
		add(t, patch, redo)
	}
	for _, a := range []*jsonmerge.Accumulator{document, patch} {
		checkReplay(t, tr, result(t, a), tr.End)
	}

	to := 2 * len(tr.Txns) / 3
	undos := jsonmerge.New(jsonmerge.Patch)
	for n := len(tr.Txns); n > to; n-- {
		_, undo := tr.Delta(n)
		add(t, undos, undo)
	}
	add(t, document, result(t, undos))
	earlier := &Trace{Start: tr.Start, Txns: tr.Txns[:to]}
	want, err := earlier.replayAll()
	if err != nil {
		t.Fatal(err)
	}
	checkReplay(t, tr, result(t, document), want)
}

func add(t *testing.T, a *jsonmerge.Accumulator, patch []byte) {
	t.Helper()
	if err := a.Add(patch); err != nil {
		t.Fatal(err)
	}
}

func result(t *testing.T, a *jsonmerge.Accumulator) []byte {
	t.Helper()
	b, err := a.Result()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkReplay(t *testing.T, tr *Trace, document []byte, want string) {
	t.Helper()
	got, err := tr.Replay(document)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("a text of %d bytes, want another one of %d", len(got), len(want))
	}
}

func TestReplay(t *testing.T) {
	tr := &Trace{Start: "Zürich"}
	for _, tt := range []struct{ document, want, fails string }{
		{`{}`, "Zürich", ""},
		{`{"other":[1,{"a":null}],"changes":{}}`, "Zürich", ""},
		{` {"changes" : {"1":[[6,0,"!"]]} } `, "Zürich!", ""},
		{`{"changes":{"2":[[0,1,"N"]],"1":[[0,2,"Z"]]}}`, "Nrich", ""},
		{`{"changes":{"10":[[9,0,"j"]],"9":[[8,0,"i"]],"8":[],"7":[],"6":[],"5":[],"4":[],"3":[],"2":[[0,0,"ab"]],"1":[]}}`, "abZürichij", ""},
		{`{"changes":{"1":[[2,0,"😀"],[3,0,"x"],[2,1,""]]}}`, "Züxrich", ""},
		{`{"changes":{"1":[],"3":[]}}`, "", "change 2 is missing; the last one is 3"},
		{`{"changes":{"1":[],"1":[]}}`, "", "change 1 is there twice"},
		{`{"changes":{"0":[]}}`, "", `called "0" is not a number from 1`},
		{`{"changes":{"01":[]}}`, "", `called "01"`},
		{`{"changes":{"1":null}}`, "", "change 1: no patches"},
		{`{"changes":{"1":[[0,0]]}}`, "", `change 1: byte 23: patch [0,0] is not [position,deleted,"inserted"]`},
		{`{"changes":{"1":[[0,0,"a"],[7,1,""]]}}`, "", "change 1: patch 2: deletes 1 at 7 in a text of 7 code points"},
		{`{"changes":{"1":[[8,0,"a"]]}}`, "", "change 1: patch 1: deletes 0 at 8 in a text of 6"},
		{`{"changes":{"1":[]}`, "", "unexpected EOF"},
		{`{"changes":{}}{}`, "", "more text after the end"},
		{`[]`, "", "byte 1: [ instead of {"},
		{``, "", "unexpected EOF"},
	} {
		got, err := tr.Replay([]byte(tt.document))
		if tt.fails == "" && (err != nil || got != tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.document, got, err, tt.want)
		}
		if tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
			t.Errorf("%s: %q, %v; want %q", tt.document, got, err, tt.fails)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := generate(20, 2)
	whole := zipped(t, good.encode())
	cut := filepath.Join(t.TempDir(), "cut.json.gz")
	damaged := filepath.Join(t.TempDir(), "damaged.json.gz")
	plain := filepath.Join(t.TempDir(), "plain.json")
	wrong := bytes.Clone(whole)
	wrong[len(wrong)-6] ^= 1 // in the checksum
	for path, b := range map[string][]byte{cut: whole[:len(whole)-20], damaged: wrong, plain: []byte(good.encode())} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := *good
	other.End += "x"
	trace := func(txns string) string {
		return file(t, "t.json.gz", `{"startContent":"","endContent":"","txns":`+txns+`}`)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"missing", filepath.Join(t.TempDir(), "none.json.gz"), "none.json.gz: no such file"},
		{"a folder", t.TempDir(), "is a directory"},
		{"not gzipped", plain, "plain.json: not gzipped"},
		{"cut", cut, "cut.json.gz: "},
		{"checksum", damaged, "invalid checksum"},
		{"empty", file(t, "t.json.gz", ""), "unexpected EOF"},
		{"not an object", file(t, "t.json.gz", "[]"), "byte 1: [ instead of {"},
		{"no transactions", file(t, "t.json.gz", `{"startContent":"","endContent":""}`), `no "txns"`},
		{"two values", file(t, "t.json.gz", good.encode()+" {}"), "more text after the end"},
		{"wrong end", file(t, "t.json.gz", other.encode()), "that is not its endContent"},
		{"no list", trace(`{}`), "txns: byte 43: { instead of ["},
		{"no patches", trace(`[{"time":"x"}]`), "txns: transaction 1: no patches"},
		{"negative", trace(`[{"patches":[]},{"patches":[[-1,0,""]]}]`), `transaction 2: byte 81: patch [-1,0,""]: position: not a number of code points`},
		{"fraction", trace(`[{"patches":[[0.5,0,""]]}]`), "position: not a number"},
		{"huge", trace(`[{"patches":[[0,9999999999,""]]}]`), "deleted: not a number"},
		{"long patch", trace(`[{"patches":[[0,0,"",1]]}]`), "does not end with one string"},
		{"null patch", trace(`[{"patches":[null]}]`), `patch null is not`},
		{"null text", trace(`[{"patches":[[0,0,null]]}]`), "does not end with one string"},
		{"null patches", trace(`[{"patches":null}]`), "transaction 1: no patches"},
		{"list in a patch", trace(`[{"patches":[[[0,0],0,""]]}]`), "does not end with one string"},
		{"empty patch", trace(`[{"patches":[[]]}]`), `patch [] is not`},
		{"object for a patch", trace(`[{"patches":[{"a":1,"b":2,"c":""}]}]`), "is not [position"},
		{"beyond the text", trace(`[{"patches":[[0,1,""]]}]`), "transaction 1: patch 1: deletes 1 at 0 in a text of 0 code points"},
		{"no JSON", trace(`[{"patches":[[0,,""]]}]`), "transaction 1: byte "},
	} {
		tr, err := Open(tt.path)
		if err == nil || tr != nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), filepath.Base(tt.path)) {
			t.Errorf("%s: %v, want %q and the file's name", tt.name, err, tt.want)
		}
	}
}

func TestSizeIsBounded(t *testing.T) {
	content := generate(50, 3).encode()
	size := int64(len(content))
	if _, err := read(bytes.NewReader(zipped(t, content)), size); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	_, err := read(bytes.NewReader(zipped(t, content)), size-1)
	if want := fmt.Sprintf("more than %d bytes of JSON", size-1); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}
