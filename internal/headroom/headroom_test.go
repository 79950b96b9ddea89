package headroom

import (
	"runtime"
	"testing"
)

// TestReserve: a heap that grows into the room that was reserved takes nothing from the system.
func TestReserve(t *testing.T) {
	const room = 64 << 20
	const unit = 4 << 20 // by which a heap grows at the least; less is stacks that change hands while the runtime counts
	Reserve(room)
	before := mapped()
	var used [][]byte
	for range room / 2 >> 20 {
		used = append(used, make([]byte, 1<<20))
	}
	if after := mapped(); after >= before+unit {
		t.Errorf("%d bytes more were mapped while the heap grew by %d", after-before, room/2)
	}
	runtime.KeepAlive(used)
}

// mapped is the address space of heap and stacks, which take from each other.
func mapped() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys + m.StackSys
}
