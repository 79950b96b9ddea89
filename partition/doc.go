// Package partition runs one Raft group of a host: the durability buffer of the documents whose keys hash into the
// partition's range.
//
// Its ideas (design §3, 5, 6, 9, 10):
//
//   - Raft orders and makes durable, and nothing else. The leader evaluates every operation against its documents and
//     proposes a blind command; the state machine writes exactly what the command says. A command names the term it was
//     evaluated in, and is dropped when the log entry carries another term: what a deposed leader left in a queue can
//     never take effect after its successor has served (evalTerm fencing).
//   - Raft's snapshot is a marker: index, term, configuration and the terms of the entries applied so far. No document
//     travels through Raft. A member that is sent a marker applies what its own log proves to be committed (harvest),
//     records the rest as a hole and goes on; anti-entropy fills the hole.
//   - Leases live at the transport. A guard wraps the Raft transport: on the leader it notes when requests were sent
//     that a majority of voters acknowledged; on a voter it promises, for as long, not to take part in electing another
//     leader. Sick members are kept from campaigning there too.
//   - Signs of life are the hosts' business (Options.Liveness): this member answers its own Raft's heartbeats from what the
//     beats between hosts say, and makes Raft campaign, after pre-votes of its own, when the leader's host is silent. Raft's
//     own timers are sixty times slower and only a backstop. Votes are decided by promises, whatever started an election.
//   - Raft does not wait for the disk. Commands are staged in the log (watchedlog_stage.go), and what rests on their being
//     durable is held back: acknowledgements, the commit index that is told, and their application.
//   - Deciding is apart from doing: evaluation, the serving rule, the lease, the promise, the harvest point, membership
//     steps and the bootstrap rule are pure and tested by tables; thin loops around them do the I/O.
//
// Goroutines of an open Partition: Raft's own; guard.run (delivers inbound requests to Raft one at a time);
// for moments, Partition.watch (leadership changes; for as long as it leads, unless a Keeper looks after the lease), campaigns and hand-overs.
// All end in Close.
//
// What it does not do: compare or copy documents between members (package antientropy), find hosts or move bytes
// (package mesh), or know about keys outside its range.
package partition
