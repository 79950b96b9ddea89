// Package traces reads recorded editing histories and replays them.
//
// A trace is what somebody typed, keystroke by keystroke, and the text that
// came of it. As a document, transaction n (the first is 1) is one delta with
// seqBegin = seqEnd = n:
//
//	redo  {"changes":{"n":[[position,deleted,"inserted"],...]}}
//	undo  {"changes":{"n":null}}
//
// The merged document then holds every change under its number, and replaying
// them in numeric order gives the final text, byte for byte: one lost, doubled
// or changed delta shows.
//
// A file is gzipped JSON, in the format of the public collection
// josephg/editing-traces for histories of one author:
//
//	{"startContent":"","endContent":"...","txns":[{"time":"...","patches":[[position,deleted,"inserted"],...]},...]}
//
// Positions and deletions count Unicode code points; the patches apply in
// order. Other members are ignored. [Open] replays what it read, so that a
// trace which does not lead to its own end is refused at once and never looks
// like a loss.
//
// Sizes are bounded by [MaxBytes]. A trace is held in memory as a whole.
package traces
