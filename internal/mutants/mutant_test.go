package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// TestAnchors: each anchor is in its file, once, and what it becomes is Go; each test that is to fail exists.
func TestAnchors(t *testing.T) {
	names, sources := map[string]bool{}, map[string]string{}
	for _, m := range mutants() {
		if names[m.name] {
			t.Errorf("two mutants are called %q", m.name)
		}
		names[m.name] = true
		content, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Error(err)
			continue
		}
		spliced, _, err := splice(string(content), []mutant{m}, []int{0})
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, spliced, 0); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if !hasTest(t, sources, m.pkg, m.test) {
			t.Errorf("%s: there is no %s in %s", m.name, m.test, m.pkg)
		}
	}
}

// hasTest reports whether a package has a test; sources keeps what was read.
func hasTest(t *testing.T, sources map[string]string, pkg, test string) bool {
	t.Helper()
	source, ok := sources[pkg]
	if !ok {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source += string(b)
		}
		sources[pkg] = source
	}
	return strings.Contains(source, "func "+test+"(t ")
}

// TestDocument: docs/testing.md has the table as it is.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "\n"+document(mutants())) {
		t.Error("docs/testing.md does not have the table of mutants; `go run ./internal/mutants -list` prints it")
	}
}

// TestSplice: the function asks which it is to be, the mutant stands beside it, and what can not be spliced is an error.
func TestSplice(t *testing.T) {
	const source = `package p

// f is documented.
func (r *T) f(a int, b ...string) (int, error) {
	if a > 0 && len(b) > 0 {
		return 1, nil
	}
	return a, nil
}

func g() {
	println("once")
	println("twice")
}

func (*T) h(a int) int { return a + 7 }
`
	list := []mutant{{name: "one", old: "a > 0 && ", new: ""}, {name: "two", old: "return a, nil", new: "return 0, nil"}, {name: "three", old: "	println(\"once\")\n", new: ""}}
	spliced, pkg, err := splice(source, list, []int{4, 5, 6})
	if err != nil || pkg != "p" {
		t.Fatal(pkg, err)
	}
	for _, want := range []string{
		"(int, error) {\nif chosenMutant == \"one\" {\nreturn r.fMutant4(a, b...)\n}\n\nif chosenMutant == \"two\" {\nreturn r.fMutant5(a, b...)\n}\n\n	if a > 0 && len(b)",
		"func (r *T) fMutant4(a int, b ...string) (int, error) {\n	if len(b) > 0 {", "func (r *T) fMutant5(", "\n	return 0, nil\n}",
		"{\nif chosenMutant == \"three\" {\ngMutant6()\nreturn\n}\n\n	println(\"once\")", "func gMutant6() {\n	println(\"twice\")\n}",
	} {
		if !strings.Contains(spliced, want) {
			t.Errorf("lacks %q:\n%s", want, spliced)
		}
	}
	for _, bad := range []mutant{{old: "none"}, {old: "println"}, {old: "package p"}, {old: "a + 7"}, {old: "a > 0", new: "a > 0"}} {
		if _, _, err := splice(source, []mutant{bad}, []int{0}); err == nil {
			t.Errorf("%q was replaced", bad.old)
		}
	}
}

// TestFailing: the innermost of the first failing tests is named.
func TestFailing(t *testing.T) {
	for out, want := range map[string]string{
		"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/b (0s)\n--- FAIL: TestC": "TestA/b",
		"panic: test timed out after 1m0s\n":                                  "its end, which did not come",
		"panic: index out of range\n":                                         "a panic",
		"exit":                                                                "its exit status",
	} {
		if got := failing(out); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}
