// Package headroom keeps the growth of the heap from holding a process up. To map more memory a process must hold the lock of its memory
// map, and for as long as it waits for the kernel there all of its page faults wait, too: where the kernel looks for idle pages (DAMON)
// beside programs that take all of the processor, a host was seen to stand still for up to two seconds. What is mapped beforehand costs
// address space only, until it is used.
package headroom

import "runtime"

// Bytes is room for the heap of a host with the default memory limits.
const Bytes = 256 << 20

// Reserve has the heap map so many bytes now, for it to grow into later. It is for programs that run hosts, at their start, before there is
// much to collect.
func Reserve(bytes int) {
	room := make([]byte, bytes) // fresh from the kernel, and therefore not touched
	runtime.KeepAlive(room)
	runtime.GC()
}
