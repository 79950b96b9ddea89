// Package demo shows, in one process, what Adamant promises: a cluster of hosts with real sockets and real disks goes on
// when one of them dies in mid-load, an empty replacement is healed by anti-entropy, and afterwards every acknowledged
// write is found again on every member.
//
// Its parts:
//
//   - scripts (game.go, trace.go) know what to write, and can be run again to know what must be found;
//   - client.go routes and retries as an application's client would: exactly once, by repeating the same deltas;
//   - load.go drives the scripts, one append in flight per document, and records what was acknowledged;
//   - cluster.go runs the hosts; heal.go watches a replacement become whole;
//   - verify.go reads everything back, from leaders and from every single member;
//   - run.go is the story, report.go its last page.
//
// Every figure printed is measured. The verifier trusts nothing it checks: what it expects comes from running the scripts
// again, not from the store.
package demo
