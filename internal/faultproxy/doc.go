// Package faultproxy puts faults between hosts that talk over real TCP, in one process or in many: delay, cuts of one or
// both directions, and connections that break.
//
// A Proxy stands before one address. A Net has one for each ordered pair of a cluster's hosts, and gives each host a cluster file of
// its own in which the other hosts' addresses are its proxies. The hosts need not know.
//
//	h1 ── dials ──► Proxy(h1→h2) ──► h2        Forward: what h1 sends; Backward: what h2 answers
//	h1 ◄── Proxy(h2→h1) ◄── dials ── h2
//
// A cut holds back what is sent, as TCP does that repeats itself in vain: nothing is lost inside of a stream, and what was
// held back flows on when the cut ends, if anybody still waits for it. The end of a connection is held back, too, and so
// is the making of one. A side that sends on through a cut is stopped after window bytes.
//
// What it does not do: UDP, and so the packets of gossip, which tell each other their hosts' own addresses, pass beside it.
// It bounds no rate and loses nothing by chance.
package faultproxy
