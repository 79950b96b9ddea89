// Package simnet is a mesh.Network in memory, with faults: delay, jitter, slow
// paths, loss, one-way and two-way cuts, splits into groups, pauses and crashes.
// It keeps the promises of the real one (order within a class, bounded queues,
// every Pending completes) and runs in real time as well as in the bubble of a
// testing/synctest test, where its delays cost nothing.
//
// A path is what leads from one host to another in one direction; its faults
// are set per path or for all. What is random comes from a generator per path
// and class, seeded from the seed of New: the n-th message of a class on a path
// meets the same fate in every run.
//
// A lost request, and one whose reply is lost, fails with *mesh.LinkDownError
// after the detection time, as on a real link that breaks. Unlike there, the
// requests beside it are not lost with it.
package simnet
