// Package lincheck says whether what clients saw of one document can be explained by one order of their operations in which each
// takes effect at once, between its call and its return (design §13). Porcupine finds the order; the model of a document is here.
//
// Entries are told apart by ids that the caller chooses: contents, or their hashes. No two entries of a document may have
// the same at the same seq unless they are the same write.
//
// What it does not do: it does not know of times but as an order, and does not judge reads that may be stale.
package lincheck
