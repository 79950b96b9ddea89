// Package liveness keeps the sign of life of leaders per pair of hosts instead of per Raft group and follower: a thousand
// quiet partitions cost one small message between two hosts.
//
// # Ideas
//
//   - A host that leads partitions sends each host that follows some of them a beat: a digest of the (partition, term)
//     pairs which that host's members are known to follow it in. The other side answers yes, and names the pairs that it does
//     not follow at that moment. A yes counts, for each of the others, like the follower's acknowledgement of a heartbeat of
//     its group: for the leader it extends the lease from the time the beat was sent; the follower promises from the time it
//     arrived. That some pairs are refused says nothing of the rest: while many leaders change, some always are.
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
