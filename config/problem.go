package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// MaxProblems bounds how many problems one error lists; the rest is counted.
const MaxProblems = 1000

// Problem is one thing wrong with a cluster file.
type Problem struct {
	Path    string // where in the JSON, such as partitions[3].voters[1]; "$" is the whole file
	Line    int    // 1-based; 0 when the cluster did not come from a file
	Message string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Message
	}
	return fmt.Sprintf("%d: %s: %s", p.Line, p.Path, p.Message)
}

// InvalidError says everything that is wrong with a cluster file, in the order of the lines.
type InvalidError struct {
	Name     string // the file's name as given to Parse; "" when the cluster did not come from a file
	Problems []Problem
	Omitted  int // problems beyond MaxProblems
}

// Error has one line per problem, as compilers write them: name:line: path: message.
func (e *InvalidError) Error() string {
	prefix := e.Name + ":"
	if e.Name == "" {
		prefix = "cluster: "
	}
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(prefix)
		b.WriteString(p.String())
	}
	if e.Omitted > 0 {
		fmt.Fprintf(&b, "\n%sand %d more problems", prefix, e.Omitted)
	}
	return b.String()
}

// problems collects what is wrong, up to MaxProblems.
type problems struct {
	list    []Problem
	omitted int
}

func (ps *problems) add(path string, line int, format string, args ...any) {
	if len(ps.list) >= MaxProblems {
		ps.omitted++
		return
	}
	ps.list = append(ps.list, Problem{Path: path, Line: line, Message: fmt.Sprintf(format, args...)})
}

// err returns nil or an *InvalidError with the problems sorted by line.
func (ps *problems) err(name string) error {
	if len(ps.list) == 0 {
		return nil
	}
	slices.SortStableFunc(ps.list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &InvalidError{Name: name, Problems: ps.list, Omitted: ps.omitted}
}

const root = "$"

// member returns the path of a key in the object at path. Keys that would be ambiguous or unreadable are quoted.
func member(path, key string) string {
	plain := key != ""
	for i := range len(key) {
		if c := key[i]; !isAlphanumeric(c) && c != '_' && c != '-' {
			plain = false
			break
		}
	}
	switch {
	case !plain:
		key = "[" + quote(key) + "]"
		if path == root {
			return root + key
		}
		return path + key
	case path == root:
		return key
	}
	return path + "." + key
}

// element returns the path of the i-th element of the array at path.
func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// parent returns the path of what holds the value at path; it is only exact for keys that need no quotes, which is
// enough for finding the nearest known line.
func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return root
}

// quote makes text from a file safe and short enough for a message.
func quote(s string) string {
	const longest = 64
	if len(s) > longest {
		return fmt.Sprintf("%q…", s[:longest])
	}
	return fmt.Sprintf("%q", s)
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
