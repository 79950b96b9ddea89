package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is one guard taken out of the code.
type mutant struct {
	name   string // short and unique
	guards string // what must not happen; a fragment of a sentence
	file   string // from the root of the module
	old    string // the anchor: occurs exactly once in file
	new    string // what takes its place
	pkg    string // directory of the package whose test is run
	test   string // name of a test of that package, the quickest that shows the loss
}

// mutants are all of them.
func mutants() []mutant {
	return slices.Concat(leadershipMutants, logMutants, membershipMutants, storeMutants, hostMutants, networkMutants)
}

// mutated is the file's content without the guard.
func (m *mutant) mutated(content string) (string, error) {
	switch n := strings.Count(content, m.old); {
	case m.old == m.new:
		return "", fmt.Errorf("%s: the replacement changes nothing", m.name)
	case n != 1:
		return "", fmt.Errorf("%s: the anchor occurs %d times in %s, not once", m.name, n, m.file)
	}
	return strings.Replace(content, m.old, m.new, 1), nil
}

// putIn puts mutants into the tree at root, none of them chosen.
func putIn(root string, list []mutant) error {
	type part struct {
		mutants []mutant
		numbers []int
	}
	files := map[string]part{}
	for i, m := range list {
		p := files[m.file]
		files[m.file] = part{append(p.mutants, m), append(p.numbers, i)}
	}
	for file, p := range files {
		at := filepath.Join(root, filepath.FromSlash(file))
		content, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		spliced, pkg, err := splice(string(content), p.mutants, p.numbers)
		if err != nil {
			return err
		}
		chooserAt := filepath.Join(root, filepath.FromSlash(chooserOf(file)))
		if err := errors.Join(os.WriteFile(at, []byte(spliced), 0o644), os.WriteFile(chooserAt, fmt.Appendf(nil, chooser, pkg), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// document is the table as docs/testing.md has it.
func document(list []mutant) string {
	var b strings.Builder
	b.WriteString("| guard taken out | what it prevents | test that fails |\n|---|---|---|\n")
	for _, m := range list {
		fmt.Fprintf(&b, "| %s | %s | `%s.%s` |\n", m.name, m.guards, m.where(), m.test)
	}
	return b.String()
}

// where names the test's package as the documents do.
func (m *mutant) where() string {
	if m.pkg == "." {
		return "adamant"
	}
	return filepath.Base(m.pkg)
}
