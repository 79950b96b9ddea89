// Command peers measures Adamant beside other systems that make writes durable on a majority, under the same load on the
// same machine in the same run. It is a module of its own, so that what it compares with is no dependency of Adamant's.
//
//	cd bench/peers
//	go run . write -system etcd -writers 64 -gomaxprocs 2      # one system, once
//	go run . write -system raft -processes -out raft.json      # each host in a process of its own
//	go run . compare                                           # all systems in turn, with ratios: about 20 minutes
//	go run . compare -processes -partitions 1 -writers 64,512 -procs 1,2,4 -out one.json
//	go run . compare -systems adamant,etcd -writers 512 -rounds 7 -json
//
// # Systems
//
// Each runs all its replicas in one process or, with -processes, each host in one of its own, over TCP on loopback, and
// acknowledges what is fsynced on a majority:
//
//   - adamant: hosts that are opened and written to as any application does it. A write appends a delta at the leader's
//     host.
//
//   - etcd: embedded members in their default settings (but for the quota, which a long run would exceed, and the log,
//     which is silent). A write puts a key by a call into the leader, past gRPC: cheaper than any client of etcd has it.
//
//   - etcd-spread: the same, but documents are written by calls into all members in turn. Followers forward to the leader.
//
//   - raft: hashicorp/raft as its documentation has it: one group for each partition, each replica with a raft-boltdb of
//     its own behind raft's log cache and with stock TCP transport, default timings, and a state machine that only
//     counts. Leaders are spread evenly, and a write proposes at the leader.
//
//   - raft-memory: the same groups with the log, transport and snapshots in memory that come with hashicorp/raft, in one process.
//     Nothing is durable: it is what the library itself costs, which nothing that is built upon it unmodified can go below.
//
// No system pays for a client's network hop. What a write buys differs: adamant checks the sequence, keeps the history and
// maintains summaries for repair; etcd keeps revisions, and leases and watches could be used; raft keeps nothing but its
// log. Partitions mean nothing to etcd, which has one group.
//
// # Processes
//
// Go's scheduler gives a thread that waits for the disk little thought: in one process, the fsyncs of three hosts hold each
// other's goroutines up. With -processes every host has a process, and the writers live in that of the host at which their
// documents are written: the leader of the document's group, or with etcd-spread any. So one group of adamant, etcd or raft
// has all writers beside its leader, and many groups have them everywhere. A group of raft that gets another leader than it
// began with is handed back; adamant's hosts do so by themselves. CPU is the sum over the processes, and GOMAXPROCS that of
// each.
//
// # Load
//
// The one of "go run ./bench write" in the module above: each writer has documents of its own, which it writes in random
// order, one write at a time (a closed loop), each of so many bytes. Every document has been written once before. Latency
// is what the writer waited, retries included; the measured time ends when the last write is acknowledged.
//
// # Comparison
//
// Machines drift and processes differ, so each trial runs in a process of its own, on empty disks, and systems take turns
// within each round; nobody is always first. Ratios are taken round by round, each system at the GOMAXPROCS at which its
// median throughput under that load is best. Medians are printed with the whole spread. A raw fsync and a raw round trip
// on loopback are measured before each trial.
//
// # Parts
//
// system.go says what a system is; adamant.go, etcd.go and raft.go are the three. trial.go measures one of them once, with
// internal/baseline's raw costs beside. Its hosts are a fleet (fleet.go) of sites (site.go) that each run some of them and
// their writers (load.go), and are called over a connection in this process or to a child (process.go). compare.go runs trials in child processes and
// comparison.go makes ratios of them, which table.go prints. command.go, flags.go and deliver.go are the command
// line.
//
// # What it does not do
//
// It does not tune peers, beyond choosing GOMAXPROCS. All replicas share one machine, so CPU per write is that of all of
// them and of the writers. A closed loop slows down with the system, so its percentiles say nothing about a load that
// arrives at a fixed rate.
package main
