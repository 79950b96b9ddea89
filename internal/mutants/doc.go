// Mutants checks the tests: it takes one guard out of the code at a time, and shows that a test fails for it.
//
//	go run ./internal/mutants                    all of them, each against its quickest test
//	go run ./internal/mutants -run 'lease|vote'  those whose names match
//	go run ./internal/mutants -list              the table for docs/testing.md
//
// It works on a copy of the tree, never in the tree itself, with all mutants beside what they replace (splice). Without the
// mutant its test has to pass, and with it to fail twice in a row, or not to end. What does not compile is an error of the
// table, and so is an anchor that is not found exactly once. It exits with 1 when a mutant survives, and with 2 when one could
// not be tried.
package main
