package jsonmerge

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// Whatever is taken is merged as the pseudocode does; whatever is refused is
// not JSON, not UTF-8 or too deep.
func FuzzAdd(f *testing.F) {
	for _, seed := range [][2]string{
		{`{}`, `{}`},
		{`{"a":{"b":[1,{"c":null}]},"\u0061b":1e400}`, `{"a":{"b":null,"c":{"d":null}}}`},
		{`{"changes":{"1":[[0,0,"x"]]}}`, `{"changes":{"2":[[1,0,"\n"]],"1":null}}`},
		{` [ 1 , "\\" , null ] `, `null`},
		{`{"a":1,"a":{"x":1},"a":{"y":2}}`, "{\"a\":\"\xff\"}"},
		{`{"\ud83d\ude00":1}`, `{"😀":{"":""}}`},
		{`{`, `{"a":01}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		// Names with half a surrogate pair are the same name to
		// encoding/json, so the oracle cannot tell.
		lone := bytes.Contains(bytes.ToLower(append(first[:len(first):len(first)], second...)), []byte(`\ud`))
		document, merged := New(Document), New(Patch)
		var wantDocument, wantMerged any = map[string]any{}, map[string]any{}
		for _, text := range [][]byte{first, second} {
			before := bytes.Clone(text)
			errDocument, errMerged := document.Add(text), merged.Add(text)
			if !bytes.Equal(before, text) {
				t.Fatal("the patch is changed")
			}
			valid := json.Valid(text) && utf8.Valid(text)
			if (errDocument == nil) != (errMerged == nil) || errDocument == nil && !valid ||
				errDocument != nil && valid && bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) <= MaxDepth {
				t.Fatalf("%q: %v, %v", text, errDocument, errMerged)
			}
			if errDocument != nil {
				if _, err := document.Result(); err == nil {
					t.Fatal("a result without the patch")
				}
				return
			}
			for _, want := range []struct {
				value *any
				nulls bool
			}{{&wantDocument, false}, {&wantMerged, true}} {
				patch, err := decode(text)
				if err != nil {
					t.Fatal(err)
				}
				*want.value = rfcMerge(*want.value, patch, want.nulls)
			}
			if !lone {
				checkResult(t, document, wantDocument)
				checkResult(t, merged, wantMerged)
			}
		}
	})
}

func FuzzUnescape(f *testing.F) {
	f.Add(`a\u0062\n\"\\\/😀`)
	f.Add(`\ud83d\ude00\ud83d`)
	f.Add(`\ud83d\u0041`)
	f.Fuzz(func(t *testing.T, s string) {
		quoted := `"` + s + `"`
		var want string
		if !utf8.ValidString(s) || json.Unmarshal([]byte(quoted), &want) != nil {
			return
		}
		// Lone halves come out as what is not UTF-8; encoding/json has
		// U+FFFD instead.
		got := unescape(s)
		if utf8.ValidString(got) && got != want {
			t.Fatalf("%s: %q, want %q", quoted, got, want)
		}
		if !utf8.ValidString(got) && !bytes.Contains(bytes.ToLower([]byte(s)), []byte(`\ud`)) {
			t.Fatalf("%s: %q", quoted, got)
		}
	})
}
