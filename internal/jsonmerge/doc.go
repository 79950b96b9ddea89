// Package jsonmerge merges many JSON merge patches (RFC 7396) in one pass.
//
// A document is read by merging its deltas, up to hundreds of thousands of
// small ones. Applying them one after the other to an encoded document costs
// the product of both sizes. An [Accumulator] keeps the merged state as a tree
// instead, parses each patch once and encodes once at the end, so that the cost
// is linear in what is read.
//
// # Two modes
//
// [Document] applies patches to a document. Where a patch is an object and what
// it meets is not (or is missing), the target becomes {} first, as the RFC
// says, so that nulls of patches never reach the result, however deeply
// nested. Nulls of a document given to [Accumulator.Base] stay until a patch
// removes them.
//
// [Patch] merges patches into one patch that does to a receiver what they do
// one after the other. A null stays in it: that is how it deletes there. So
// do nulls nested in an object that replaces something.
//
// # A known limit: merge patches are not closed under composition
//
// Removing a member and then setting it to an object,
//
//	{"x":null} then {"x":{"a":1}}
//
// leaves exactly {"a":1} at x. No single merge patch says so for every
// receiver: {"x":{"a":1}} is merged into the object that a receiver has
// at x, and keeps that object's other members. The same goes for any other
// value than an object followed by an object. The merged patch is
// {"x":{"a":1}} here; it is right for receivers that held no object at x,
// or none with members the later patches leave alone. A receiver that cannot
// exclude the other case asks for the document. Patches whose objects are
// never replaced by something else and recreated compose exactly.
//
// # What is kept as written
//
// Numbers and strings keep their bytes: 1e400, 1.0, 12345678901234567890 and
// escapes come out as they went in. So do the contents of arrays, which merge
// patches never look into. White space between tokens is dropped. Of equal
// names in one object the last counts, names being equal when they spell
// the same string, whatever escapes they use.
//
// Members come out in the order in which they were first inserted; replacing a
// value keeps the place, removing a member and adding it again moves it to
// the end. The same patches in the same order give the same bytes.
//
// # What is refused
//
// Text that is not JSON, is not UTF-8 or is nested deeper than [MaxDepth] is
// refused with the place. encoding/json does the validating; what follows it
// walks text that is known to be valid.
package jsonmerge
