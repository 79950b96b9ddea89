package jsonmerge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"pgregory.net/rapid"
)

// rfcMerge is the pseudocode of RFC 7396 section 2 on decoded values, and with
// keepNulls its counterpart for patches: slow and obvious.
func rfcMerge(target, patch any, keepNulls bool) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for name, value := range p {
		switch {
		case value != nil:
			t[name] = rfcMerge(t[name], value, keepNulls)
		case keepNulls:
			t[name] = nil
		default:
			delete(t, name)
		}
	}
	return t
}

func decode(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // numbers are compared as written
	err = d.Decode(&v)
	return v, err
}

func mustDecode(t interface{ Fatalf(string, ...any) }, text string) any {
	v, err := decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// shape draws JSON text.
type shape struct {
	names  []string // encoded
	nulls  bool
	arrays bool // with nulls and objects in them
}

var (
	few  = []string{``, `a`, `b`, `c`, `\u0061`, `\"`, `é`}
	many = func() []string {
		var n []string
		for i := range 3 * indexFrom {
			n = append(n, strconv.Itoa(i))
		}
		return n
	}()
	leafTexts = []string{`0`, `-0`, `1.0`, `1e400`, `12345678901234567890`, `"s"`, `" [{\"\\ "`, `"\u00e9"`, `true`, `false`, `[]`}
)

func (s shape) value(t *rapid.T, depth int) string {
	n := rapid.IntRange(0, 9).Draw(t, "kind")
	switch {
	case n < 3 && depth > 0:
		return s.object(t, depth-1)
	case n < 5 && s.nulls:
		return "null"
	case n < 6 && s.arrays:
		return rapid.SampledFrom([]string{`[null]`, `[ {"a" : null} , "]" ]`, `[[{"b":[null,1.50]}]]`}).Draw(t, "array")
	}
	return rapid.SampledFrom(leafTexts).Draw(t, "leaf")
}

func (s shape) object(t *rapid.T, depth int) string {
	var b strings.Builder
	space := rapid.SampledFrom([]string{"", "", " ", "\n\t"}).Draw(t, "space")
	b.WriteString("{" + space)
	for i, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(s.names), 0, min(len(s.names), 20), rapid.ID).Draw(t, "names") {
		if i > 0 {
			b.WriteString("," + space)
		}
		fmt.Fprintf(&b, `"%s"%s:%s%s`, name, space, space, s.value(t, depth))
	}
	b.WriteString(space + "}")
	return b.String()
}

func (s shape) top(t *rapid.T, label string) string {
	if rapid.IntRange(0, 9).Draw(t, label) == 0 {
		return s.value(t, 2)
	}
	return s.object(t, 3)
}

// Both modes against the pseudocode, on any JSON.
func TestAgainstPseudocode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := shape{names: rapid.SampledFrom([][]string{few, many}).Draw(t, "names"), nulls: true, arrays: true}
		base := s.top(t, "base")
		document, merged := New(Document), New(Patch)
		if err := document.Base([]byte(base)); err != nil {
			t.Fatalf("%s: %v", base, err)
		}
		wantDocument, wantMerged := mustDecode(t, base), any(map[string]any{})
		for range rapid.IntRange(1, 8).Draw(t, "patches") {
			patch := s.top(t, "patch")
			if err := document.Add([]byte(patch)); err != nil {
				t.Fatalf("%s: %v", patch, err)
			}
			if err := merged.Add([]byte(patch)); err != nil {
				t.Fatalf("%s: %v", patch, err)
			}
			wantDocument = rfcMerge(wantDocument, mustDecode(t, patch), false)
			wantMerged = rfcMerge(wantMerged, mustDecode(t, patch), true)
			checkResult(t, document, wantDocument)
			checkResult(t, merged, wantMerged)
		}
	})
}

func checkResult(t interface{ Fatalf(string, ...any) }, a *Accumulator, want any) {
	b, err := a.Result()
	if err != nil {
		t.Fatalf("%v", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, b); err != nil || compact.String() != string(b) {
		t.Fatalf("%s is not compact JSON: %v", b, err)
	}
	if got := mustDecode(t, string(b)); !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %s\nwant %v", b, want)
	}
	checkTree(t, a.root)
}

func checkTree(t interface{ Fatalf(string, ...any) }, n node) {
	if (n.leaf == "") == (n.object == nil) {
		t.Fatalf("a node is a leaf or an object: %+v", n)
	}
	if n.object == nil {
		return
	}
	live, names := 0, map[string]bool{}
	for i, m := range n.object.members {
		if !m.live() {
			continue
		}
		live++
		if names[m.name] || n.object.place(m.name) != i {
			t.Fatalf("member %q twice, or not found at %d", m.name, i)
		}
		names[m.name] = true
		checkTree(t, m.value)
	}
	if n.object.dead != len(n.object.members)-live || n.object.dead > live {
		t.Fatalf("%d members, %d live, %d dead", len(n.object.members), live, n.object.dead)
	}
	if len(n.object.members) >= indexFrom && n.object.index == nil {
		t.Fatalf("%d members and no index", len(n.object.members))
	}
	if n.object.index != nil && len(n.object.index) != live {
		t.Fatalf("%d indexed, %d live", len(n.object.index), live)
	}
}

// A merged patch does what the patches do in turn, as long as no object follows
// something that is not one (the limit the package describes): names here
// always hold objects, or never.
func TestMergedPatchDoesTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		patches := make([]string, rapid.IntRange(1, 6).Draw(t, "patches"))
		base := drawTyped(t, 3, rapid.Bool().Draw(t, "nulls in base"))
		for i := range patches {
			patches[i] = drawTyped(t, 3, true)
		}
		inTurn, err := apply(base, patches...)
		if err != nil {
			t.Fatal(err)
		}
		merged, err := compose(patches...)
		if err != nil {
			t.Fatal(err)
		}
		atOnce, err := apply(base, merged)
		if err != nil || !reflect.DeepEqual(mustDecode(t, inTurn), mustDecode(t, atOnce)) {
			t.Fatalf("in turn %s\nat once %s (%v)\nmerged %s", inTurn, atOnce, err, merged)
		}
		// And merging is associative: patches merged by halves are the same.
		cut := rapid.IntRange(0, len(patches)).Draw(t, "cut")
		first, _ := compose(patches[:cut]...)
		second, _ := compose(patches[cut:]...)
		if halves, err := compose(first, second); err != nil || !reflect.DeepEqual(mustDecode(t, halves), mustDecode(t, merged)) {
			t.Fatalf("halves %s (%v)\nmerged %s", halves, err, merged)
		}
	})
}

// drawTyped draws an object whose members o1, o2 are objects and l1..l3 not.
func drawTyped(t *rapid.T, depth int, nulls bool) string {
	var parts []string
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"o1", "o2", "l1", "l2", "l3"}), rapid.ID).Draw(t, "names") {
		value := rapid.SampledFrom(leafTexts).Draw(t, "leaf")
		switch {
		case name[0] == 'o' && depth == 0:
			continue
		case name[0] == 'o':
			value = drawTyped(t, depth-1, nulls)
		case nulls && rapid.Bool().Draw(t, "null"):
			value = "null"
		}
		parts = append(parts, strconv.Quote(name)+":"+value)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// The library agrees on objects without nulls in arrays; see
// TestLibraryDiffers for the rest.
func TestAgainstLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := shape{names: rapid.SampledFrom([][]string{{"a", "b", "c"}, many}).Draw(t, "names"), nulls: true}
		plain := shape{names: s.names}
		base := plain.object(t, 3)
		patches := make([]string, rapid.IntRange(1, 5).Draw(t, "patches"))
		want := []byte(base)
		for i := range patches {
			patches[i] = s.object(t, 3)
			var err error
			if want, err = jsonpatch.MergePatch(want, []byte(patches[i])); err != nil {
				t.Fatal(err)
			}
		}
		got, err := apply(base, patches...)
		if err != nil || !reflect.DeepEqual(mustDecode(t, got), mustDecode(t, string(want))) {
			t.Fatalf("got  %s (%v)\nwant %s", got, err, want)
		}

		wantMerged := []byte(`{}`)
		typed := []string{drawTyped(t, 2, true), drawTyped(t, 2, true), drawTyped(t, 2, true)}
		for _, p := range typed {
			if wantMerged, err = jsonpatch.MergeMergePatches(wantMerged, []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		merged, err := compose(typed...)
		if err != nil || !reflect.DeepEqual(mustDecode(t, merged), mustDecode(t, string(wantMerged))) {
			t.Fatalf("got  %s (%v)\nwant %s", merged, err, wantMerged)
		}
	})
}

// Where the library used as an oracle departs from RFC 7396, or from what
// merging patches needs; what is right is what this package answers.
func TestLibraryDiffers(t *testing.T) {
	for _, tt := range []struct {
		name          string
		library       func(a, b []byte) ([]byte, error)
		ours          func(a, b string) (string, error)
		first, second string
		theirs, right string
	}{
		{"a null inside an array is none of the patch's business", jsonpatch.MergePatch, applyTwo,
			`{}`, `{"a":[{"b":null}]}`, `{"a":[{}]}`, `{"a":[{"b":null}]}`},
		{"a null in an object on a scalar has to reach the receiver", jsonpatch.MergeMergePatches, composeTwo,
			`{"a":1}`, `{"a":{"b":null}}`, `{"a":{}}`, `{"a":{"b":null}}`},
		{"null replaces a document that is no object", jsonpatch.MergePatch, applyTwo,
			`null`, `{"a":1}`, ``, `{"a":1}`},
	} {
		theirs, err := tt.library([]byte(tt.first), []byte(tt.second))
		if string(theirs) != tt.theirs || (err != nil) != (tt.theirs == "") {
			t.Errorf("%s: the library now answers %s, %v", tt.name, theirs, err)
		}
		if ours, err := tt.ours(tt.first, tt.second); err != nil || ours != tt.right {
			t.Errorf("%s: %s, %v; want %s", tt.name, ours, err, tt.right)
		}
	}
}

func applyTwo(base, patch string) (string, error)     { return apply(base, patch) }
func composeTwo(first, second string) (string, error) { return compose(first, second) }
