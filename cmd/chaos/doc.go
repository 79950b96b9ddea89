// Command chaos breaks a cluster of real processes on purpose and checks that it keeps its promises.
//
//	go run ./cmd/chaos -duration 5m -seed 7
//
// It builds the adamant command, runs a few of its hosts and clients that write recorded editing histories over HTTP, and
// lets agents do one fault after the other: kill -9, SIGSTOP, restarts, full and wiped disks, cut and slow links, edits of the
// cluster file. In the end it takes all faults back, waits until every member is whole, and reads everything back from
// every member.
//
// Where the system permits it, all of that is in namespaces of its own (processes, mounts, network): each host has an address
// and a small disk to itself, and whatever happens to this program, nothing of it is left. Elsewhere hosts are on
// loopback behind faulty proxies, and disks are not filled.
//
//	outer process: flags, build, signals
//	  └ inner process (first of its namespaces): agents, clients, checkers
//	      ├ adamant serve  h1: own network namespace, disk DIR/h1, HTTP on the socket DIR/h1.sock
//	      └ ...
//
// Clients use unix sockets, which no fault cuts: a host that is cut off from the others is asked all the time, and
// must not answer with what is old.
package main
