// Package interval is a set of Raft indexes.
//
// Coverage, holes and what a repair session healed are all questions about
// sets of indexes: which are held, which were skipped, which are left. Such a
// set is a handful of ranges even when it spans billions of indexes, so it is
// kept as a slice of closed ranges in one canonical form:
//
//	sorted, not empty, and with at least one index missing between neighbours
//
//	[1,5] [9,9] [12,40]     yes
//	[1,5] [6,9]             no: adjacent, is [1,9]
//
// The form is unique, so two sets are the same exactly when their slices are.
//
// A Set is a value: every operation returns a fresh slice and changes neither
// operand. Every method expects the canonical form and every function of this
// package returns it; a slice put together by hand has to be put together that
// way. The zero Set is the empty one.
//
// All 2^64 indexes can be members, 0 and the largest included; nothing
// overflows at the ends. The package does not lock and does not know what an
// index means.
package interval
