package jsonmerge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parse makes a tree of text. Nothing of it is retained.
func parse(text []byte) (node, error) {
	if !json.Valid(text) {
		return node{}, explain(text)
	}
	if !utf8.Valid(text) {
		return node{}, &SyntaxError{invalidUTF8(text), "not UTF-8"}
	}
	r := reader{text: text}
	return r.value()
}

// explain asks encoding/json again, this time for what is wrong and where.
func explain(text []byte) error {
	var raw json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(text, &raw); errors.As(err, &syntax) {
		return &SyntaxError{syntax.Offset, syntax.Error()}
	}
	return &SyntaxError{int64(len(text)), "not valid"}
}

func invalidUTF8(text []byte) int64 {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return int64(i + 1)
		}
		i += size
	}
	return int64(len(text))
}

// reader walks text that is valid JSON; only the depth can be wrong with it.
type reader struct {
	text  []byte
	at    int
	depth int
}

func (r *reader) value() (node, error) {
	r.space()
	start := r.at
	switch r.text[r.at] {
	case '{':
		return r.object()
	case '[':
		return r.array()
	case '"':
		r.skipString()
	default:
		r.skipLiteral()
	}
	return node{leaf: string(r.text[start:r.at])}, nil
}

func (r *reader) object() (node, error) {
	if err := r.enter(); err != nil {
		return node{}, err
	}
	o := &object{}
	for first := true; ; first = false {
		r.space()
		if r.text[r.at] == '}' {
			r.at++
			r.depth--
			return node{object: o}, nil
		}
		if !first {
			r.at++ // the comma
			r.space()
		}
		m := r.name()
		r.space()
		r.at++ // the colon
		var err error
		if m.value, err = r.value(); err != nil {
			return node{}, err
		}
		o.put(m)
	}
}

// name reads a member's name; its value is not set yet.
func (r *reader) name() member {
	start := r.at
	r.skipString()
	raw := string(r.text[start:r.at])
	name := raw[1 : len(raw)-1]
	if strings.IndexByte(name, '\\') >= 0 {
		name = unescape(name)
	}
	return member{name: name, raw: raw}
}

// array reads an array as one leaf, without the white space between tokens.
func (r *reader) array() (node, error) {
	start, outer, spaced := r.at, r.depth, false
	for {
		switch r.text[r.at] {
		case '[', '{':
			if err := r.enter(); err != nil {
				return node{}, err
			}
		case ']', '}':
			r.at++
			r.depth--
		case '"':
			r.skipString()
		case ' ', '\t', '\n', '\r':
			spaced = true
			r.at++
		default:
			r.at++
		}
		if r.depth == outer {
			break
		}
	}
	leaf := r.text[start:r.at]
	if !spaced {
		return node{leaf: string(leaf)}, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, leaf); err != nil {
		return node{}, fmt.Errorf("compact an array: %w", err)
	}
	return node{leaf: compact.String()}, nil
}

// enter steps over an opening bracket.
func (r *reader) enter() error {
	r.at++
	if r.depth++; r.depth > MaxDepth {
		return &SyntaxError{int64(r.at), "nested deeper than " + strconv.Itoa(MaxDepth)}
	}
	return nil
}

func (r *reader) space() {
	for {
		switch r.text[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// skipString steps over a string, quotes included.
func (r *reader) skipString() {
	r.at++
	for r.text[r.at] != '"' {
		if r.text[r.at] == '\\' {
			r.at++
		}
		r.at++
	}
	r.at++
}

// skipLiteral steps over a number, true, false or null.
func (r *reader) skipLiteral() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			return
		}
		r.at++
	}
}

// unescape decodes the inside of a valid JSON string. Surrogates without their
// other half become three bytes each instead of U+FFFD, as encoding/json makes
// of them: names that differ must go on differing.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			u := unit(s, i-1)
			i += 4
			if pair := utf16.DecodeRune(u, unit(s, i+1)); pair != utf8.RuneError {
				u, i = pair, i+6
			}
			b = appendUnit(b, u)
		default: // quote, slash and backslash stand for themselves
			b = append(b, c)
		}
	}
	return string(b)
}

// unit is the UTF-16 unit that the escape \uXXXX at s[i] spells, -1 when there
// is no such escape there.
func unit(s string, i int) rune {
	if i+6 > len(s) || s[i] != '\\' || s[i+1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(s[i+2:i+6], 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

func appendUnit(b []byte, u rune) []byte {
	if utf16.IsSurrogate(u) {
		return append(b, 0xe0|byte(u>>12), 0x80|byte(u>>6)&0x3f, 0x80|byte(u)&0x3f)
	}
	return utf8.AppendRune(b, u)
}
