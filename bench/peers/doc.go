// Command peers measures Adamant beside other systems that make writes durable on a majority, under the same load on the
// same machine in the same run. It is a module of its own, so that what it compares with is no dependency of Adamant's.
//
//	cd bench/peers
//	go run . write -system etcd -writers 64 -gomaxprocs 2      # one system, once
//	go run . write -system raft -processes -out raft.json      # each host in a process of its own
//	go run . compare                                           # all systems in turn, with ratios: about 20 minutes
//	go run . compare -processes -partitions 1 -writers 64,512 -procs 1,2,4 -out one.json
//	go run . compare -systems adamant,etcd -writers 512 -rounds 7 -json
//	go run . failover -kill 9                                  # how long writes wait when a host is gone: also stop, pause
//	go run . idle -system raft-memory-tuned -partitions 1000   # memory and goroutines of members that nobody uses
//	go run . rebuild -docs 10000 -deltas 20 -size 256          # a member that is replaced holds everything again
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
//     Nothing is durable.
//
//   - raft-memory-tuned: the same with the settings that Adamant gives to each group: a buffer for commands, all that are committed
//     together applied at once, timers that hardly ever run, no metrics of the old kind. It is what the library itself costs in
//     Adamant, which only adds to it.
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
// # Fail-over
//
// Each host has a process, and clients in this one reach them as those of other machines would: adamant by HTTP, etcd by gRPC. For
// each partition there is a key and a writer, which waits for -attempt for one host and then asks the next one that is not known to be
// gone; a host that is not the leader may name it (adamant) or forward (etcd). Readers read every key at every host, linearizably.
// The host that leads is killed, closed or paused: etcd's only leader, one of several of adamant. The figure is the longest
// time between two acknowledged writes of a key that it led, of which the second came after the loss. In the end no write may
// be lost. To etcd a write is a transaction that replaces only what is older: an attempt that was given up may arrive late.
//
//   - etcd has its defaults: heartbeats every 100 ms, elections after 1000 to 2000 ms.
//
//   - etcd-tuned has ticks of 30 ms and elections after 300 to 600 ms.
//
// # Rebuild
//
// All hosts of a system are in one process. They are filled with entries that all differ: adamant's are the deltas of
// documents, to etcd and raft each is a key. Then the last host is stopped, its directory removed and, where that is a step
// of its own, its membership given up; the others have leaders. Time runs from the start of an empty host until the system
// says that it holds what the others do; CPU is that of all hosts. Then everything is read on the new host alone: the
// number of entries, the bytes of their values and a sum over keys and values must be those written. To be brought up by
// the log would be another figure, so it is an error:
//
//   - adamant: hosts as they are by default. A member with an empty disk is sent no entries of before; its repair must have
//     brought every one.
//
//   - etcd: a member is removed, another one added and started. Logs are cut short, so the leader sends its database, the
//     receipt of which etcd counts. The member holds everything when it is at the revision of the others.
//
//   - raft: hashicorp/raft as above, but with a state machine that stores: a map in memory, which a snapshot writes and
//     reads entry by entry. Every server has taken a snapshot and cut its log short. A server is removed, another one opened
//     and added, which must have restored a snapshot.
//
// # Parts
//
// system.go says what a system is; adamant.go, etcd.go and raft.go are the three. trial.go measures one of them once, with
// internal/baseline's raw costs beside. Its hosts are a fleet (fleet.go) of sites (site.go) that each run some of them and
// their writers (load.go), and are called over a connection in this process or to a child (process.go). compare.go runs
// trials in child processes and comparison.go makes ratios of them, which table.go prints. rebuild.go says what more is
// asked of a system that is rebuilt, and measures it; rebuild_adamant.go, rebuild_etcd.go and rebuild_raft.go (with the
// state machine of storing.go) are the three, and entries.go is what they hold. rebuild_plan.go is what is run, also in
// child processes, and rebuild_result.go what comes of it. failover.go loses a host, failover_client.go writes and reads
// meanwhile by what failover_system.go has of each system, and failover_plan.go and failover_result.go are likewise.
// idle.go looks at groups of hashicorp/raft that nobody uses. command.go, flags.go and deliver.go are the command line.
//
// # What it does not do
//
// It does not tune peers, beyond choosing GOMAXPROCS and, for a rebuild, the length of their logs, and etcd-tuned's timers. All replicas share one
// machine, so CPU per write is that of all of them and of the writers. A closed loop slows down with the system, so its
// percentiles say nothing about a load that arrives at a fixed rate.
package main
