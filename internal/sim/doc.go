// Package sim runs whole clusters in one process on simulated time, network and disks, breaks them in ways chosen by a
// seed, and checks what must never happen (design §13) against what clients saw and what is stored in the end.
//
//	go test ./internal/sim -run TestSim -seed 7        replay one seed, with its timeline
//	go test ./internal/sim -run TestSim -seeds 1000    as many seeds, from -seed on
//	go test ./internal/sim -run TestSim -plan f.json   replay a plan that a failing run has printed
//
// A plan (what cluster, which faults, when) follows from the seed alone and is data. The interleaving of goroutines does
// not: two runs of a seed have the same faults and nearly the same course. docs/testing.md says more. Everything is in the
// tests of the package.
package sim
