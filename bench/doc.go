// Command bench measures Adamant on this machine: real hosts, real sockets on loopback, real fsync.
//
//	go run ./bench write                                    # writes under load
//	go run ./bench write --compare log=pebble,bolt          # two configurations in one run, as ratios
//	go run ./bench idle --partitions 1000                   # what a cluster costs that does nothing
//	go run ./bench failover --kill 9                        # how long writes wait when a host is gone
//	go run ./bench repair --missing 5%                      # how fast a member is complete again
//	go run ./bench scale --vary partitions                  # how cost grows
//	go run ./bench report FILES                             # a page with plots of what --out has saved
//
// # Ideas
//
//   - A figure means little without the machine it was measured on, so every run also measures a raw fsync and a raw
//     round trip on loopback, and says so beside its own figures.
//   - Machines drift. What is compared is measured in one run, alternating, and the ratio is taken round by round;
//     medians and the whole spread are shown.
//   - Every trial has a cluster of its own on empty disks, so that none inherits another's state.
//   - The load is a closed loop: each writer sends its next write when the last one is acknowledged. Latency is what
//     the writer waited, retries included, and no write that was begun is left out: the measured time ends when the
//     last one is acknowledged. A closed loop slows down with the store, so its percentiles say nothing about a load
//     that arrives at a fixed rate.
//
// # Parts
//
// A workload (write.go, idle.go, failover.go, repair.go, scale.go) names its figures and measures them once: a trial.
// experiment.go runs trials of all variants (settings.go, compare.go), round by round, into a result (result.go), which
// table.go prints; internal/baseline measures the machine. A trial works with a fleet (fleet.go): crews that each run some hosts and their
// writers, either all in this process (site.go, load.go) or each in a child process (process.go), under the same orders
// (order.go). Where a host is lost under load, the writers are clients (client.go) that reach each host by a line of their
// own (line.go, door.go) and outlive it.
//
// # What it does not do
//
// Hosts share one machine, so figures per write count all replicas' work and the writers' own, and the network costs
// next to nothing. Gossip between hosts is not part of the bytes and messages counted: those are of the links.
package main
