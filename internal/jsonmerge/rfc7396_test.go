package jsonmerge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// apply merges patches into a base document; "" is no base.
func apply(base string, patches ...string) (string, error) {
	a := New(Document)
	if base != "" {
		if err := a.Base([]byte(base)); err != nil {
			return "", err
		}
	}
	return addAll(a, patches)
}

// compose merges patches into one.
func compose(patches ...string) (string, error) { return addAll(New(Patch), patches) }

func addAll(a *Accumulator, patches []string) (string, error) {
	for _, p := range patches {
		if err := a.Add([]byte(p)); err != nil {
			return "", err
		}
	}
	b, err := a.Result()
	return string(b), err
}

// The table of RFC 7396 appendix A, in its order, and its section 3 example.
func TestRFC7396(t *testing.T) {
	for _, tt := range []struct{ original, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{
			`{"title":"Goodbye!","author":{"givenName":"John","familyName":"Doe"},"tags":["example","sample"],"content":"This will be unchanged"}`,
			`{"title":"Hello!","phoneNumber":"+01-123-456-7890","author":{"familyName":null},"tags":["example"]}`,
			`{"title":"Hello!","author":{"givenName":"John"},"tags":["example"],"content":"This will be unchanged","phoneNumber":"+01-123-456-7890"}`,
		},
	} {
		if got, err := apply(tt.original, tt.patch); err != nil || got != tt.want {
			t.Errorf("%s + %s = %s, %v; want %s", tt.original, tt.patch, got, err, tt.want)
		}
	}
}

func TestDocument(t *testing.T) {
	for _, tt := range []struct {
		name    string
		base    string
		patches []string
		want    string
	}{
		{"nothing", "", nil, `{}`},
		{"no base: nulls find nothing", "", []string{`{"a":null,"b":{"c":null}}`}, `{"b":{}}`},
		{"object on scalar, nested nulls", `{"a":1}`, []string{`{"a":{"b":null,"c":{"d":null,"e":2}}}`}, `{"a":{"c":{"e":2}}}`},
		{"nulls of the base stay", `{"a":{"b":null}}`, []string{`{"a":{"c":1}}`}, `{"a":{"b":null,"c":1}}`},
		{"nulls of the base can be removed", `{"a":{"b":null}}`, []string{`{"a":{"b":null}}`}, `{"a":{}}`},
		{"object on a null of the base", `{"a":null}`, []string{`{"a":{"x":1,"y":null}}`}, `{"a":{"x":1}}`},
		{"nulls in arrays stay", `{}`, []string{`{"a":[null,{"b":null}]}`}, `{"a":[null,{"b":null}]}`},
		{"removed and recreated", `{"a":{"x":1}}`, []string{`{"a":null}`, `{"a":{"y":2}}`}, `{"a":{"y":2}}`},
		{"everything replaced and begun again", `{"a":1}`, []string{`7`, `{"b":{"c":null}}`}, `{"b":{}}`},
		{"places", `{"a":1,"b":2,"c":3}`, []string{`{"a":9,"b":null}`, `{"b":4}`}, `{"a":9,"c":3,"b":4}`},
		{"leaves as written", ` { "n" : 1e400 } `, []string{`{"i":12345678901234567890,"f":1.0,"z":-0,"s":"\u00e9\/é"}`},
			`{"n":1e400,"i":12345678901234567890,"f":1.0,"z":-0,"s":"\u00e9\/é"}`},
		{"white space", "", []string{"\n{ \"a\" :\t[ 1 , \" \\\" ] \" , { } ] ,\r\n\"b\" : true }\n"}, `{"a":[1," \" ] ",{}],"b":true}`},
		{"the last of equal names", `{"a":{"z":0}}`, []string{`{"a":{"x":1},"a":{"y":2}}`}, `{"a":{"z":0,"y":2}}`},
		{"equal names, other escapes", `{"ab":1}`, []string{`{"\u0061b":2}`, `{"a\u0062":{"c":3}}`}, `{"ab":{"c":3}}`},
		{"names as first written", "", []string{`{"\u0061":1}`, `{"a":2}`}, `{"\u0061":2}`},
		{"empty name", `{"":1}`, []string{`{"":{"":null,"x":""}}`}, `{"":{"x":""}}`},
		{"empty name after a removal", `{"a":1,"b":2}`, []string{`{"a":null,"":3}`}, `{"b":2,"":3}`},
		{"lone surrogates are different names", "", []string{`{"\ud800":1,"\udc00":2,"\ufffd":3}`, `{"\uD800":null}`}, `{"\udc00":2,"\ufffd":3}`},
		{"a pair is one character", `{"😀":1}`, []string{`{"\ud83d\ude00":null}`}, `{}`},
		{"all escapes", `{"\"\\/\b\f\n\r\t":1}`, []string{`{"\u0022\u005c\/\u0008\u000c\u000a\u000D\u0009":2}`}, `{"\"\\/\b\f\n\r\t":2}`},
	} {
		if got, err := apply(tt.base, tt.patches...); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestPatch(t *testing.T) {
	for _, tt := range []struct {
		name    string
		patches []string
		want    string
	}{
		{"nothing", nil, `{}`},
		{"null stays", []string{`{"a":1}`, `{"a":null}`}, `{"a":null}`},
		{"null for a member never seen", []string{`{"b":1}`, `{"a":null}`}, `{"b":1,"a":null}`},
		{"value after null", []string{`{"a":null}`, `{"a":2}`}, `{"a":2}`},
		{"nested null stays", []string{`{"a":{"x":1}}`, `{"a":{"x":null}}`}, `{"a":{"x":null}}`},
		{"nested null in a new object", []string{`{"a":{"b":{"c":null}}}`}, `{"a":{"b":{"c":null}}}`},
		{"nested null on a scalar", []string{`{"a":1}`, `{"a":{"b":null}}`}, `{"a":{"b":null}}`},
		{"null forgets what was inside", []string{`{"a":{"b":1}}`, `{"a":null}`}, `{"a":null}`},
		{"not an object", []string{`{"a":1}`, `[1]`}, `[1]`},
		{"null", []string{`{"a":1}`, `null`}, `null`},
		{"an object after that", []string{`5`, `{"a":null,"b":1}`}, `{"a":null,"b":1}`},
		{"an empty object is not nothing", []string{`{"a":{}}`}, `{"a":{}}`},
		{"undos, newest first", []string{`{"changes":{"3":null}}`, `{"changes":{"2":null}}`}, `{"changes":{"3":null,"2":null}}`},
	} {
		if got, err := compose(tt.patches...); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

// The limit that the package describes, so that it is known when it changes:
// no merge patch is right for both receivers.
func TestPatchesAreNotClosed(t *testing.T) {
	patches := []string{`{"x":null}`, `{"x":{"a":1}}`}
	merged, err := compose(patches...)
	if err != nil || merged != `{"x":{"a":1}}` {
		t.Fatal(merged, err)
	}
	for _, tt := range []struct{ receiver, inTurn, atOnce string }{
		{`{}`, `{"x":{"a":1}}`, `{"x":{"a":1}}`},
		{`{"x":5}`, `{"x":{"a":1}}`, `{"x":{"a":1}}`},
		{`{"x":{"a":0}}`, `{"x":{"a":1}}`, `{"x":{"a":1}}`},
		{`{"x":{"old":1}}`, `{"x":{"a":1}}`, `{"x":{"old":1,"a":1}}`},
	} {
		inTurn, err1 := apply(tt.receiver, patches...)
		atOnce, err2 := apply(tt.receiver, merged)
		if inTurn != tt.inTurn || atOnce != tt.atOnce || err1 != nil || err2 != nil {
			t.Errorf("%s: in turn %s, at once %s", tt.receiver, inTurn, atOnce)
		}
	}
}

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
}

func TestRefused(t *testing.T) {
	deepArray := `{"a":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + "}"
	for _, tt := range []struct {
		name, text, want string
	}{
		{"nothing", ``, "byte 0: unexpected end"},
		{"white space", ` `, "byte 1: unexpected end"},
		{"cut", `{"a":{"b":1}`, "byte 12: unexpected end"},
		{"stray", `{"a":1,}`, "byte 8: invalid character '}'"},
		{"two values", `{} {}`, "byte 4: invalid character '{'"},
		{"leading zero", `{"a":01}`, "byte 7: "},
		{"NaN", `{"a":NaN}`, "byte 6: invalid character 'N'"},
		{"half a surrogate escape", `{"\ud8":1}`, "byte 7: "},
		{"control character", "{\"a\":\"\x01\"}", "byte 7: "},
		{"not UTF-8", "{\"a\":\"\xff\"}", "byte 7: not UTF-8"},
		{"overlong UTF-8", "{\"\xc0\x80\":1}", "byte 3: not UTF-8"},
		{"encoded surrogate", "{\"a\":\"é\xed\xa0\x80\"}", "byte 9: not UTF-8"},
		{"deep objects", nested(MaxDepth + 1), "byte 5001: nested deeper than 1000"},
		{"deep array", deepArray, fmt.Sprintf("byte %d: nested deeper than 1000", 5+MaxDepth)},
		{"deeper than encoding/json goes", nested(20000), "exceeded max depth"},
	} {
		for _, mode := range []Mode{Document, Patch} {
			a := New(mode)
			err := a.Add([]byte(tt.text))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
			}
			if again := a.Add([]byte(`{}`)); !errors.Is(again, err) {
				t.Errorf("%s: the next patch is taken: %v", tt.name, again)
			}
			if b, again := a.Result(); !errors.Is(again, err) || b != nil {
				t.Errorf("%s: result %s, %v", tt.name, b, again)
			}
		}
		if _, err := apply(tt.text); err == nil && tt.text != "" {
			t.Errorf("%s: taken as a base", tt.name)
		}
	}
	if got, err := apply("", nested(MaxDepth), nested(MaxDepth)); err != nil || got != nested(MaxDepth) {
		t.Errorf("the deepest allowed: %v", err)
	}
}

func TestBase(t *testing.T) {
	if err := New(Patch).Base([]byte(`{}`)); err == nil {
		t.Error("a merged patch takes a base")
	}
	a := New(Document)
	if err := a.Add([]byte(`{`)); err == nil {
		t.Error("taken")
	}
	if err := a.Base([]byte(`{"a":1}`)); err != nil {
		t.Error(err)
	}
	if b, err := a.Result(); err != nil || string(b) != `{"a":1}` {
		t.Errorf("%s, %v: a base starts over", b, err)
	}
}

// Neither the patches nor the results are shared with the accumulator.
func TestNothingShared(t *testing.T) {
	a := New(Document)
	patch := []byte(`{"name":"value","list":[1,2]}`)
	if err := a.Add(patch); err != nil {
		t.Fatal(err)
	}
	clear(patch)
	first, _ := a.Result()
	want := string(first)
	clear(first)
	if second, err := a.Result(); err != nil || string(second) != want || want != `{"name":"value","list":[1,2]}` {
		t.Fatalf("%s, %v", second, err)
	}
}
