package config

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deeply a value that is only skipped may be nested, and so the recursion.
const maxDepth = 64

// scanner reads JSON text (RFC 8259) value by value and knows the line it is at. The standard decoder would keep
// neither lines nor duplicate keys. A syntax error is reported once and makes the scanner dead: what follows it in the
// text has no certain meaning.
type scanner struct {
	data []byte
	pos  int // next byte, ≤ len(data)
	line int // 1-based line of pos
	dead bool
	out  problems
	// lines holds where each key and element that was read begins, by path.
	lines map[string]int
	// broken holds the paths whose values are not what the file says, because a problem was reported for them.
	// Validation leaves them alone: one mistake, one problem.
	broken map[string]bool
}

func newScanner(data []byte) *scanner {
	return &scanner{data: data, line: 1, lines: map[string]int{root: 1}, broken: map[string]bool{}}
}

// report records a problem of the value at path.
func (s *scanner) report(path string, line int, format string, args ...any) {
	s.broken[path] = true
	s.out.add(path, line, format, args...)
}

// lineOf returns where the value at path, or the nearest thing around it that was read, begins.
func (s *scanner) lineOf(path string) int {
	for {
		if line, known := s.lines[path]; known {
			return line
		}
		path = parent(path)
	}
}

// syntax records a problem that ends the reading.
func (s *scanner) syntax(path, format string, args ...any) {
	if !s.dead {
		s.dead = true
		s.report(path, s.line, format, args...)
	}
}

// peek skips white space and returns the next byte, 0 at the end or when dead.
func (s *scanner) peek() byte {
	for ; s.pos < len(s.data) && !s.dead; s.pos++ {
		switch s.data[s.pos] {
		case '\n':
			s.line++
		case ' ', '\t', '\r':
		default:
			return s.data[s.pos]
		}
	}
	return 0
}

// expected reports a syntax error at the next byte.
func (s *scanner) expected(path, what string) {
	if s.peek(); s.pos >= len(s.data) {
		s.syntax(path, "the file ends where %s is expected", what)
		return
	}
	s.syntax(path, "expected %s, found %s", what, describe(s.data[s.pos:]))
}

func describe(rest []byte) string {
	r, size := utf8.DecodeRune(rest)
	if r == utf8.RuneError && size == 1 {
		return fmt.Sprintf("the byte 0x%02x", rest[0])
	}
	return fmt.Sprintf("%q", r)
}

// accept consumes the next byte if it is c.
func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// wrongType reports a value that is not what its place wants, and skips it.
func (s *scanner) wrongType(path, want string) {
	c := s.peek()
	names := map[byte]string{'{': "an object", '[': "an array", '"': "a string", 't': "a boolean", 'f': "a boolean", 'n': "null"}
	got, known := names[c]
	if c == '-' || '0' <= c && c <= '9' {
		got, known = "a number", true
	}
	if s.skip(path, 0); known && !s.dead { // otherwise the syntax is what is wrong
		s.report(path, s.lineOf(path), "must be %s, not %s", want, got)
	}
}

// object reads an object and calls field for each key; field must consume the value. Duplicate keys are reported and
// their values skipped. It returns false when the value is no object or the scanner died.
func (s *scanner) object(path string, field func(key, path string)) bool {
	if s.peek() != '{' {
		s.wrongType(path, "an object")
		return false
	}
	s.pos++
	if s.accept('}') {
		return true
	}
	seen := map[string]int{}
	for {
		key, line, ok := s.key(path)
		if !ok {
			return false
		}
		child := member(path, key)
		if first, duplicate := seen[key]; duplicate {
			// Not through report: the first value stands and is still to be judged.
			s.out.add(child, line, "duplicate key, first on line %d", first)
			s.skip(child, 0)
		} else {
			seen[key], s.lines[child] = line, line
			field(key, child)
		}
		if more, ok := s.more(path, '}'); !more {
			return ok
		}
	}
}

// key reads a key and its colon.
func (s *scanner) key(path string) (key string, line int, ok bool) {
	if s.peek() != '"' {
		s.expected(path, "a key in double quotes")
		return "", 0, false
	}
	line = s.line
	if key, ok = s.text(path); !ok {
		return "", 0, false
	}
	if !s.accept(':') {
		s.expected(member(path, key), "':'")
		return "", 0, false
	}
	return key, line, true
}

// more consumes what follows a member or an element: a comma, or the closing bracket.
func (s *scanner) more(path string, closing byte) (more, ok bool) {
	switch {
	case s.dead:
		return false, false
	case s.accept(','):
		return true, true
	case s.accept(closing):
		return false, true
	}
	s.expected(path, fmt.Sprintf("',' or '%c'", closing))
	return false, false
}

// array reads an array and calls item for each element; item must consume the value.
func (s *scanner) array(path string, item func(i int, path string)) bool {
	if s.peek() != '[' {
		s.wrongType(path, "an array")
		return false
	}
	s.pos++
	if s.accept(']') {
		return true
	}
	for i := 0; ; i++ {
		s.peek()
		child := element(path, i)
		s.lines[child] = s.line
		item(i, child)
		if more, ok := s.more(path, ']'); !more {
			return ok
		}
	}
}

// skip consumes any value.
func (s *scanner) skip(path string, depth int) {
	if depth > maxDepth {
		s.syntax(path, "nested deeper than %d levels", maxDepth)
		return
	}
	c := s.peek()
	switch {
	case c == '{' || c == '[':
		s.skipNested(path, c, depth)
	case c == '"':
		s.text(path)
	case c == '-' || '0' <= c && c <= '9':
		s.number(path)
	default:
		for _, word := range []string{"true", "false", "null"} {
			if s.word(word) {
				return
			}
		}
		s.expected(path, "a value")
	}
}

func (s *scanner) skipNested(path string, opening byte, depth int) {
	closing := opening + 2 // '{' and '}', '[' and ']' are two apart
	s.pos++
	if s.accept(closing) {
		return
	}
	for more := true; more; more, _ = s.more(path, closing) {
		if opening == '{' {
			if _, _, ok := s.key(path); !ok {
				return
			}
		}
		s.skip(path, depth+1)
	}
}

// word consumes a literal name that is next and complete.
func (s *scanner) word(word string) bool {
	s.peek()
	rest, found := bytes.CutPrefix(s.data[s.pos:], []byte(word))
	if s.dead || !found || len(rest) > 0 && isAlphanumeric(rest[0]) {
		return false
	}
	s.pos += len(word)
	return true
}

// number consumes a number and returns its text.
func (s *scanner) number(path string) string {
	s.peek()
	start := s.pos
	run := func() int {
		n := digits(string(s.data[s.pos:min(len(s.data), s.pos+maxNumber)]))
		s.pos += n
		return n
	}
	s.optional("-")
	leadingZero := s.pos < len(s.data) && s.data[s.pos] == '0'
	n := run()
	ok := n > 0 && (!leadingZero || n == 1)
	if s.optional(".") {
		ok = run() > 0 && ok
	}
	if s.optional("eE") {
		s.optional("+-")
		ok = run() > 0 && ok
	}
	if !ok || s.pos-start >= maxNumber {
		s.syntax(path, "malformed number %s", quote(string(s.data[start:s.pos])))
	}
	return string(s.data[start:s.pos])
}

// maxNumber bounds a number's length in bytes; no value of the file needs more than 20.
const maxNumber = 256

// optional consumes the next byte if it is one of set, without skipping white space.
func (s *scanner) optional(set string) bool {
	if s.pos < len(s.data) && bytes.IndexByte([]byte(set), s.data[s.pos]) >= 0 {
		s.pos++
		return true
	}
	return false
}

// text consumes a string, whose opening quote is next, and returns it unescaped.
func (s *scanner) text(path string) (string, bool) {
	s.pos++
	var out []byte
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case c == '"':
			s.pos++
			if !utf8.Valid(out) {
				s.syntax(path, "string is not valid UTF-8")
				return "", false
			}
			return string(out), true
		case c < 0x20:
			s.syntax(path, "string is not closed before the end of the line, or holds the control character 0x%02x", c)
			return "", false
		case c == '\\':
			r, ok := s.escape()
			if !ok {
				s.syntax(path, "malformed escape in a string")
				return "", false
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
			s.pos++
		}
	}
	s.syntax(path, "the file ends inside a string")
	return "", false
}

// escape consumes a backslash and what it escapes.
func (s *scanner) escape() (rune, bool) {
	if s.pos+1 >= len(s.data) {
		return 0, false
	}
	c := s.data[s.pos+1]
	if c != 'u' {
		i := bytes.IndexByte([]byte(`"\/bfnrt`), c)
		if i < 0 {
			return 0, false
		}
		s.pos += 2
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	r, ok := s.hex4()
	if ok && utf16.IsSurrogate(r) {
		low, found := s.hex4()
		if r = utf16.DecodeRune(r, low); !found || r == utf8.RuneError {
			return 0, false
		}
	}
	return r, ok
}

// hex4 consumes \uXXXX.
func (s *scanner) hex4() (rune, bool) {
	if s.pos+6 > len(s.data) || s.data[s.pos] != '\\' || s.data[s.pos+1] != 'u' {
		return 0, false
	}
	v, ok := parseHex(string(s.data[s.pos+2 : s.pos+6]))
	s.pos += 6
	return rune(v), ok
}

// parseHex reads hex digits of either case, at most 16.
func parseHex(digits string) (v uint64, ok bool) {
	for i := range len(digits) {
		c := digits[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v, true
}
