// Package merkle summarizes the documents of one partition, so that two members
// can tell in some forty bytes that they hold the same, and in some four
// kilobytes which buckets differ.
//
// # Sums
//
// Every document has one leaf: the hash of the canonical bytes of what makes
// its state (the caller says what those are). A bucket is the sum of its
// leaves and their number; 256 buckets are a [Summary]; the hash of those is
// its root. There is no tree above or below: with one level of 256, a member
// that differs sends 256 sums once and then lists the buckets concerned.
//
// A sum has two lanes, xxhash64 of the same bytes with two seeds, each added
// modulo 2^64. Addition has an inverse, which is what the package lives on: a
// document's change costs one subtraction and one addition, whatever the size
// of its bucket, and can be undone as cheaply. Addition rather than XOR,
// because XOR forgets what was applied twice; the count catches a leaf whose
// hash is zero, and an empty bucket is told from one that sums to nothing.
//
// # Exactness
//
// Members under load are never at the same index at the same moment, so two
// summaries of "now" differ in about as many buckets as there are writes in
// flight. Members are therefore compared at one index. A [Tracker] keeps the
// current summary and a bounded ring of the latest changes, each with the index
// of the command that made it, and [Tracker.At] undoes what came after. The
// answer is exactly the summary the member had when it had applied that index
// and nothing later, or there is none: it is never an approximation. There is
// none when
//
//   - the ring no longer holds every change after the index, or was given up to
//     save memory ([Tracker.Forget]),
//   - the index is not yet applied,
//   - state came in by repair since ([Tracker.Learn]). Such state belongs to no
//     index of this member's own history, so what lies before is forgotten.
//
// # What it does not do
//
// It guards against accident, not against forgery. Two different states
// that come about by accident agree in both lanes and the count of a bucket
// with a probability of about 2^-128. But xxhash64 is no cryptographic hash
// and a sum is no commitment: who can choose documents can compute leaves that
// collide, or sets of leaves with one sum. Members trust each other; a link
// that must not be tampered with is authenticated by the layer that makes it.
//
// A summary says that buckets differ, never which documents or who is right.
// Nothing here reads a clock, a disk or a network, and nothing locks.
package merkle
