// Command bench measures Adamant on this machine: real hosts, real sockets on loopback, real fsync.
//
//	go run ./bench write                                    # writes under load
//	go run ./bench write --compare log=pebble,bolt          # two configurations in one run, as ratios
//	go run ./bench write --parts                            # where a write's processor time goes
//	go run ./bench idle --partitions 1000                   # what a cluster costs that does nothing
//	go run ./bench failover --kill 9                        # how long writes wait when a host is gone
//	go run ./bench failover --kill pause --rounds 100       # and whether one that does not know it serves: also isolate
//	go run ./bench quiet --duration 10m --busy-cpu 2        # whether anybody is elected although nobody is gone
//	go run ./bench repair --missing 5%                      # how fast a member is complete again
//	go run ./bench repair --design                          # what the source design promises of that
//	go run ./bench healthy --duration 60s                   # what sound members say of each other, and damaged ones
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
//     that arrives at a fixed rate. What repair does to others' writes is therefore measured with an open loop
//     (foreground.go): writes are due at fixed times, and latency counts from then.
//   - What is equal is found out by reading all of it back (census.go), not by the sums that the store itself compares.
//
// # Parts
//
// A workload (write.go, idle.go, failover.go, quiet.go, repair.go, healthy.go, scale.go) names its figures and measures them once: a trial.
// experiment.go runs trials of all variants (settings.go, compare.go), round by round, into a result (result.go), which
// table.go prints; internal/baseline measures the machine. A trial works with a fleet (fleet.go): crews that each run some hosts and their
// writers, either all in this process (site.go, load.go) or each in a child process (process.go), under the same orders
// (order.go). Where a host is lost under load, the writers are clients (client.go) that reach each host by a line of their
// own (line.go, door.go), turn to another one when it does not answer (attempt.go) and outlive it. Readers (readers.go) ask all
// hosts at the same time; observe.go keeps what all of them see, and internal/lincheck judges it. losses.go is what hosts say of
// writes in flight. profile.go divides a profile among parts. A repair takes a cluster of a certain shape (shape.go), lets a host lack something (impair.go),
// watches how it heals (heal.go) and perhaps kills it (kill.go); fault.go damages hosts. Round trips are made by
// internal/faultproxy.
//
// # What it does not do
//
// Hosts share one machine, so figures per write count all replicas' work and the writers' own, and the network costs
// next to nothing. Bytes are counted before TLS, TCP and UDP add theirs; frames are those of the links.
package main
