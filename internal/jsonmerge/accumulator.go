package jsonmerge

import (
	"errors"
	"fmt"
)

// MaxDepth is how deeply objects and arrays may be nested.
const MaxDepth = 1000

// Mode is what patches are merged into.
type Mode uint8

const (
	Document Mode = iota // a document: null removes
	Patch                // a patch: null stays, to remove at the receiver
)

// Accumulator merges patches. Not safe for concurrent use.
type Accumulator struct {
	mode   Mode
	root   node
	failed error // of the first patch refused; sticks
}

// New is an Accumulator that starts with {}: the empty document, or the patch
// that changes no object.
func New(mode Mode) *Accumulator {
	return &Accumulator{mode: mode, root: node{object: &object{}}}
}

// Base starts over from a document, whose nulls are kept. Only for Document.
// The text is not retained.
func (a *Accumulator) Base(document []byte) error {
	if a.mode != Document {
		return errors.New("jsonmerge: a merged patch has no base document")
	}
	root, err := parse(document)
	if err != nil {
		return a.fail(err)
	}
	a.root, a.failed = root, nil
	return nil
}

// Add merges one more patch. A patch that is not an object replaces everything.
// The patch is not retained. A patch that is refused (*SyntaxError) spoils the
// accumulator: without it, the result would be a state that never existed.
func (a *Accumulator) Add(patch []byte) error {
	if a.failed != nil {
		return a.failed
	}
	p, err := parse(patch)
	if err != nil {
		return a.fail(err)
	}
	a.root = merge(a.root, p, a.mode)
	return nil
}

// Result is the encoded state so far; more patches may follow. It fails when a
// patch was refused.
func (a *Accumulator) Result() ([]byte, error) {
	if a.failed != nil {
		return nil, a.failed
	}
	return a.root.appendTo(nil), nil
}

func (a *Accumulator) fail(err error) error {
	a.failed = err
	return err
}

// SyntaxError says why a text was refused and where.
type SyntaxError struct {
	Offset int64 // bytes read when it was noticed, the offending one included
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Reason)
}
