// Package liveness keeps the sign of life of leaders per pair of hosts instead of per Raft group and follower: a thousand
// quiet partitions cost one small message between two hosts.
//
// # Ideas
//
//   - A host that leads partitions sends each host that follows some of them a beat: a digest of the (partition, term)
//     pairs which that host's members are known to follow it in. The other side answers yes only if it follows all of them
//     at that moment. A yes counts, for each of the pairs, like the follower's acknowledgement of a heartbeat of its group:
//     for the leader it extends the lease from the time the beat was sent; the follower promises from the time it arrived.
//   - A pair enters the set when the follower acknowledged a request of its own group, so the first word is always Raft's.
//   - A follower takes a pair back before it helps anybody else into office. Check and taking back are one step under the
//     table's lock, so no answer can promise what a vote has just broken.
//   - The list itself travels only when it changed.
//
// Table is the state of one host, without clock and I/O; the host's loop moves the messages.
//
// # What it does not do
//
// It elects nobody, and it does not find hosts. Between two versions of a set nothing counts that is not in both.
package liveness
