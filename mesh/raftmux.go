package mesh

import (
	"fmt"
	"sync"
)

// RaftMux is the handler of ServiceRaft: it hands each request to the transport
// of its partition.
type RaftMux struct {
	mu         sync.RWMutex // guards partitions
	partitions map[uint32]*RaftTransport
}

var _ Handler = (*RaftMux)(nil)

// NewRaftMux returns an empty mux, to be given to Network.Handle.
func NewRaftMux() *RaftMux {
	return &RaftMux{partitions: make(map[uint32]*RaftTransport)}
}

// Add has a transport hear the requests for its partition until it is closed.
// A partition has one transport at a time.
func (x *RaftMux) Add(t *RaftTransport) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.partitions[t.partition] != nil {
		return fmt.Errorf("mesh: partition %d has a raft transport already", t.partition)
	}
	t.onClose = func() { x.remove(t) }
	x.partitions[t.partition] = t
	return nil
}

func (x *RaftMux) remove(t *RaftTransport) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.partitions[t.partition] == t {
		delete(x.partitions, t.partition)
	}
}

// Serve implements Handler.
func (x *RaftMux) Serve(from Identity, r Request, reply func([]byte, error)) {
	x.mu.RLock()
	t := x.partitions[r.Partition]
	x.mu.RUnlock()
	if t == nil {
		reply(nil, fmt.Errorf("%w: %d", ErrUnknownPartition, r.Partition))
		return
	}
	t.serve(from, r.Payload, reply)
}
