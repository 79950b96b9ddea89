// Package mesh connects the hosts of a cluster: who is there, and requests and
// replies between any two of them. Raft and repair of every partition travel
// over it. The Mesh knows nothing of either; RaftTransport, on top of it, is
// the small per-partition face that hashicorp/raft needs.
//
// # Ideas
//
//   - Few connections. A host has one TCP connection to each peer it has
//     requests for, and a second one once it has bulk requests; replies come
//     back on the connection of their request. All partitions share them, so
//     what they send at one moment leaves in one write. Nothing is dialled before
//     it is needed; a connection without use is closed.
//   - A request is either answered or fails, soon. When a connection breaks, all
//     that was sent over it fails with *LinkDownError and the caller decides what
//     to do: only it knows whether a repetition does harm. While a peer cannot be
//     reached, requests to it fail at once instead of piling up.
//   - Everything is bounded: frames, queues, requests waiting for a reply,
//     requests being served, connections. What is over a bound fails with an
//     error that says so, alone.
//   - One port. TCP carries links and gossip streams, told apart by their first
//     byte; UDP on the same number carries gossip packets.
//   - Gossip is a hint, never a judge. hashicorp/memberlist guesses who is alive.
//     That starts dials and shows in PeerState; nothing else depends on it.
//
// # Invariants
//
//   - A *Pending completes exactly once.
//   - Requests of one (host, service, partition, class) reach the handler in the
//     order of Start: one connection carries them, its queue is a FIFO per class,
//     and a connection that replaces another one at the acceptor is read only
//     after the other one was read for the last time.
//   - A request for host@incarnation is served by that incarnation or not at all:
//     the handshake says who answers, before anything is sent.
//   - An urgent frame waits for what the writer has already taken (256 KB of
//     frames, or one longer frame), not for normal frames that are queued, and
//     never for a bulk one.
//   - Bytes that are not the protocol (docs/wire-format.md) end the connection
//     they came over, and disturb no other.
//
// # Goroutines of a Mesh
//
// accept takes connections; receive, one per inbound connection, does its
// handshake and then reads requests, with a writer beside it. An outbound
// connection has run (dials, then writes) and readLoop. One each: maintain
// (pings, silence, timeouts, idle links), notices (callbacks), verifier (are
// there two hosts of one name?), gossip's join loop and packet reader, and
// memberlist's own. Close waits for all of them but memberlist's, which it tells
// to end. Handlers run on the goroutine that reads from the peer. A RaftTransport
// adds one per pipeline, and one per request while Raft answers it.
//
// # Locks
//
// In the order in which they may nest: Mesh.mu (tables of peers), link.mu,
// outbound.mu, sendQueue.mu and Pending.mu; Mesh.life and the locks of single
// tables come last and nest nothing. No lock is held while a handler, a
// callback or a completion's waiter runs.
//
// # What it does not do
//
// It does not repeat requests, does not promise that a request that failed was
// not served, does not route through third hosts, and does not compress.
package mesh
