package demo

import "github.com/adamantdb/adamant"

// script writes one document: a deterministic sequence of deltas. The first one creates the document.
type script interface {
	// key names the document.
	key() adamant.Key
	// next returns up to max further deltas; none when the script has ended.
	next(max int) []adamant.Delta
	// length is how many deltas there will be; 0 for a script without an end.
	length() int
	// again returns the same script at its beginning.
	again() script
	// check compares a merged document with what the deltas returned so far amount to.
	check(document []byte) error
}
