// Package store keeps what lasts on one host: two engines, because their needs differ.
//
// The document engine (OpenDocs) is one Pebble for the documents of all partitions that have a member on the host, with
// a write-ahead log and without an fsync per write: Raft's log has made a write durable before it arrives here. The
// log engine (OpenPebbleLog, OpenBoltLog) is that log.
//
// # Ideas
//
// Everything stored carries the Raft index that brought it, so "what does this member have" is a set of indexes: its
// coverage, [1, applied] minus its holes. Absence of a document proves nothing; absence together with coverage does. So
// complete members need no tombstones, and repair is exact.
//
// One command is one step of documents, heads, the sums of the touched buckets and the applied index, in one batch. The
// write-ahead log replays a prefix of the batches after a crash, so documents, sums and applied index always agree, and
// opening a member reads a few hundred records, whatever it holds.
//
// Apply is blind: a leader has decided, and every member writes what the command says. The one exception is that an older
// index never undoes newer knowledge, which a member may have got by repair.
//
// # Invariants
//
//   - Applied means: the effect of every index up to it is held, or the index is in a hole.
//   - What Sync was called after is durable when Sync returns; a hole is durable when RecordHole returns.
//   - A bucket's sum is the sum of the leaves of its documents; a leaf covers logical content only (Head's leaf).
//   - After a failed write or fsync the engine stays stopped (*EngineFailedError); nothing is retried.
//   - A damaged record is reported (*CorruptionError), never skipped, never cut away.
//
// # What it does not do
//
// It does not know Raft's rules, who leads or whom to repair from, and it never looks into deltas or bases: merging them
// as JSON is the façade's business. Byte layouts and the crash cases of every operation are in docs/document-format.md.
package store
