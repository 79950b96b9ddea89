// Package antientropy repairs members that fell behind, and finds members that contradict each other. Raft makes writes
// durable and forgets them; what a member did not receive in time it gets from its peers here (design §6–8).
//
// # Ideas
//
//   - Compare at one index. Every member can tell its exact summary at any recent index, so two members that are healthy
//     are equal whatever the load: the asker sends its root at its own index, and the peer answers for that index, or,
//     when it has not applied as much, for its own. Some 35 bytes there and back when all is well.
//   - Coverage decides. A listing and every chunk come with the set of indexes that the peer holds, of the instant at
//     which they were read. store merges by it; nothing is concluded from absence alone.
//   - Each bucket is its own small repair: listed, pulled, and then recorded as healed, durably. A hole closes when
//     all buckets have healed it. So a restart goes on where it was, several peers serve one member at once, and
//     one bucket that cannot be healed holds up nothing but itself.
//   - Quiet costs next to nothing, however many members a host has. A member that was found equal at the index it still has
//     can only have changed by a defect, so it is compared again after a long pause (Options.Quiet); once it applies
//     something, within Options.Interval. No event looks at members that are not due, and a look at one that has not
//     changed reads a number. What only a sick member needs is dropped when it is healthy, and the summaries of past
//     indexes when it rests (store.Documents.Rest).
//   - Deciding is apart from doing. The plan is a pure state machine (testdata/*.txt tells its stories); transfers do
//     the work of one session; the loop only carries events and outputs between them.
//
// # What heals a bucket
//
// Let X be sick, and C(Y) what a peer Y covers. A bucket of X may be recorded as healed on two grounds.
//
// A session: X listed the bucket at Y and pulled all that Y may know better. It heals C(Y) ∩ [1, a], where C(Y) is the
// least that any of Y's answers claimed, and a is what X had applied before it asked first (store.Session). A hole that
// appears meanwhile lies above a and needs another session.
//
// A proof: Y's sum of the bucket at one index i is the truth, and X's sum at i is equal. Y's sum is the truth if Y
// covers all of [1, i] and had learned of nothing above i; a state that equals the truth at i holds the effect of
// [1, i], whichever way it came about. X has since applied what followed i to a right state. So the bucket is healed for
// [1, i] without having been listed, and finding d missing documents among many costs the summary and d rows.
// What X pulled into the bucket since it read its sum voids the proof: it may be a document whose delete its source did
// not know of, and X took it in because it did not cover the delete either (store.Documents.MarkProven).
// Between two members that are both sick, equal sums prove nothing: of a document with gaps the sum does not say which
// entries are missing, and for a document that both lack, one of them may keep the record of its delete that the other
// needs to disbelieve a third. Such buckets are listed: a listing holds gaps and delete records, and only what changed
// after X's first hole.
//
// # What tells a divergence
//
// If X and Y both hold the truth at i and their sums at i differ, one of them is damaged: no healthy member is ever
// reported (design §13.5). The bucket is then listed on both sides to name the documents; nothing is merged. The member
// decides what follows (safe mode). A repair that meets a contradiction reports it too, and its bucket stays unhealed.
//
// # What a scrub does
//
// The Scrubber has a goroutine of its own. It reads every bucket once in a deadline, and one that somebody met damage in at
// once (store.ScrubBucket), and makes a damaged one a hole without what is damaged (store.Documents.Damage), provided that
// another member is complete and alive. The loop then heals it like any other. It asks no peer what is right: what fits
// together is sound, and what differs from a peer's is a divergence.
//
// # Invariants
//
//   - At most PerPeer requests are in flight to a peer, and replies and the batches made of them stay within MemoryBytes,
//     unless a single base or delta is larger than that allows: it is then pulled alone. What is larger than a chunk is
//     continued by a cursor.
//   - A bucket has at most one session at a time; a document that was missed by a reader is fetched within it.
//   - What a peer claims to know beyond Options.Highest is not taken: absence there would have to be believed up to that
//     index, so the member could not be complete before it has applied as much.
//   - No reply takes more memory than was asked for, and a large one none before its checksum is proven.
//   - A peer that is not reached, that refuses, or whose reply cannot be true is left alone for a growing while; others
//     take over at once. The smallest unit that failed is what waits: a bucket, a member of one partition, or a host.
//   - Peers are chosen by chance, weighted by the inverse of their latency, but for a tenth of choices that ignore it.
//
// # What it does not do
//
// It does not choose what a member does about a divergence, does not add, remove or promote members, does
// not authenticate peers (a peer's documents must agree with their own chain hashes and with the coverage it claims; a
// malicious host can still lie consistently), and knows no network: Caller carries its requests, and Serve answers them.
//
// # Goroutines
//
// Run's own goroutine owns the plan and the transfers. Each call in flight has a worker, which uses one transfer, or
// none, until it delivers what the call came to. Loop.mu guards what other goroutines ask for: wishes, progress, figures.
package antientropy
