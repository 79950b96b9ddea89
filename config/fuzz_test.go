package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: no input panics; what is accepted is JSON, valid and round-trips; what is refused names places in the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte(canonical))
	f.Add([]byte(strings.Replace(valid, `"insecure": false`, `"tls": {"cert": "a", "key": "b", "ca": "c"}, "gossipKey": "AAECAwQFBgcICQoLDA0ODw=="`, 1)))
	f.Add([]byte(`{"cluster":"c","version":1,"hosts":{"l":{}},"partitions":[{"id":0,"from":"0000000000000000","voters":["l"]}]}`))
	f.Add([]byte(strings.Replace(canonical, `"zone": "a"`, `"http": "127.0.0.1:7480"`, 1)))
	f.Add([]byte(`{"a b":[1,-2.5e+7,{"\u00e9\ud83d\ude00":null}],"":true}`))
	f.Add([]byte(`{"cluster": "x", "cluster": "y"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, "fuzz")
		if err != nil {
			var invalid *InvalidError
			if c != nil || !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatalf("Parse returned %v, %v", c, err)
			}
			lines, last := bytes.Count(data, []byte("\n"))+1, 1
			for _, p := range invalid.Problems {
				if p.Line < last || p.Line > lines || p.Path == "" || p.Message == "" || !utf8.ValidString(p.String()) {
					t.Fatalf("problem %+v in a file of %d lines", p, lines)
				}
				last = p.Line
			}
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		text := c.Marshal()
		again, err := Parse(text, "again")
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !bytes.Equal(again.Marshal(), text) {
			t.Fatalf("wrote %s, then %s", text, again.Marshal())
		}
	})
}

// FuzzScan compares the scanner with encoding/json, which is laxer about text and has no limits.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5,-0,1e9,"x\n\u00ff"],"b":{}}`, `[]`, ` null `, `"\ud834\udd1e"`, `01`, `-`, `1.`, `.5`, `1e`, `tru`, `[1,]`, `{"a"}`, "\"\t\"", `"\q"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newScanner(data)
		s.skip(root, 0)
		s.peek()
		accepted := !s.dead && s.pos == len(data)
		if accepted && !json.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		stricter := !utf8.Valid(data) || bytes.Contains(data, []byte(`\u`)) || len(data) > maxDepth
		if !accepted && !stricter && json.Valid(data) {
			t.Fatalf("refused %q: %v", data, s.out.list)
		}
	})
}
