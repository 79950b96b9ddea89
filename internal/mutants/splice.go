package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
)

// All mutants of a file are put into one program, so that a package is compiled once and not once for each mutant. Beside
// the function that has a guard stands another one without it, and the first thing the function does is to ask which to be:
//
//	func (p *promise) forbids(candidate raft.ServerID, now time.Time) bool {
//		if chosenMutant == "voter's promise" {
//			return p.forbidsMutant8(candidate, now)
//		}
//		…
//
// chosenMutant is a variable of the package, from the environment.

// chooser is the file that each package with mutants gets.
const chooser = `package %s

import "os"

var chosenMutant = os.Getenv("` + environment + `")
`

// environment names the mutant in the environment of a test.
const environment = "ADAMANT_MUTANT"

// splice returns a file's content with mutants beside what they replace, and the name of its package. numbers are of the
// mutants, and in the order of list.
func splice(content string, list []mutant, numbers []int) (spliced, pkg string, err error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "file.go", content, parser.SkipObjectResolution)
	if err != nil {
		return "", "", err
	}
	offset := func(p token.Pos) int { return files.Position(p).Offset }
	inserts := map[int]string{} // by offset
	for i, m := range list {
		if _, err := m.mutated(content); err != nil {
			return "", "", err
		}
		at := strings.Index(content, m.old)
		fn := enclosing(f, func(n ast.Node) bool { return offset(n.Pos()) <= at && at+len(m.old) <= offset(n.End()) })
		if fn == nil {
			return "", "", fmt.Errorf("%s: the anchor is not within the body of a function", m.name)
		}
		call, err := callOf(fn, numbers[i])
		if err != nil {
			return "", "", fmt.Errorf("%s: %w", m.name, err)
		}
		whole := content[offset(fn.Pos()):offset(fn.End())]
		name := offset(fn.Name.End()) - offset(fn.Pos())
		inserts[offset(fn.End())] += "\n\n" + whole[:name] + suffix(numbers[i]) + strings.Replace(whole[name:], m.old, m.new, 1)
		inserts[offset(fn.Body.Lbrace)+1] += fmt.Sprintf("\nif chosenMutant == %q {\n%s\n}\n", m.name, call)
	}
	var b strings.Builder
	last := 0
	for _, at := range sortedKeys(inserts) {
		b.WriteString(content[last:at])
		b.WriteString(inserts[at])
		last = at
	}
	b.WriteString(content[last:])
	return b.String(), f.Name.Name, nil
}

func suffix(number int) string { return fmt.Sprintf("Mutant%d", number) }

// enclosing is the function whose body holds a place.
func enclosing(f *ast.File, holds func(ast.Node) bool) *ast.FuncDecl {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil && holds(fn.Body) {
			return fn
		}
	}
	return nil
}

// callOf is the statements by which a function becomes its mutant.
func callOf(fn *ast.FuncDecl, number int) (string, error) {
	call := fn.Name.Name + suffix(number)
	switch {
	case fn.Type.TypeParams != nil:
		return "", fmt.Errorf("%s has type parameters", fn.Name.Name)
	case fn.Recv != nil:
		names := fn.Recv.List[0].Names
		if len(names) != 1 || names[0].Name == "_" {
			return "", fmt.Errorf("the receiver of %s has no name", fn.Name.Name)
		}
		call = names[0].Name + "." + call
	}
	var args []string
	for _, field := range fn.Type.Params.List {
		dots := ""
		if _, variadic := field.Type.(*ast.Ellipsis); variadic {
			dots = "..."
		}
		for _, n := range field.Names {
			if n.Name == "_" {
				return "", fmt.Errorf("a parameter of %s has no name", fn.Name.Name)
			}
			args = append(args, n.Name+dots)
		}
		if len(field.Names) == 0 {
			return "", fmt.Errorf("a parameter of %s has no name", fn.Name.Name)
		}
	}
	call += "(" + strings.Join(args, ", ") + ")"
	if fn.Type.Results == nil {
		return call + "\nreturn", nil
	}
	return "return " + call, nil
}

func sortedKeys(m map[int]string) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// chooserOf is where the chooser of a file's package goes.
func chooserOf(file string) string { return path.Join(path.Dir(file), "chosen_mutant.go") }
