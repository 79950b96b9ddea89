package partition

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// DirectTransport gives requests to receive, which does not block and may have no room, in place of its Consumer, and shows
// the answers to its pipelines' requests to acked before Raft sees them (mesh.RaftTransport.Direct).
type DirectTransport interface {
	Direct(receive func(rpc raft.RPC, answer func(raft.RPCResponse)) bool,
		acked func(peer raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, sent time.Time))
}

// doorSize bounds the requests of peers that wait for Raft.
const doorSize = 64

// inbound is a request of a peer and the way back to it.
type inbound struct {
	rpc    raft.RPC
	answer func(raft.RPCResponse)
}

// refuseOrAnswer answers a request in Raft's place. Transports may expect a response of the right type even beside an
// error.
func (in inbound) refuseOrAnswer(resp any, err error) {
	if resp == nil {
		switch in.rpc.Command.(type) {
		case *raft.AppendEntriesRequest:
			resp = &raft.AppendEntriesResponse{}
		case *raft.RequestVoteRequest:
			resp = &raft.RequestVoteResponse{}
		case *raft.RequestPreVoteRequest:
			resp = &raft.RequestPreVoteResponse{}
		case *raft.InstallSnapshotRequest:
			resp = &raft.InstallSnapshotResponse{}
		case *raft.TimeoutNowRequest:
			resp = &raft.TimeoutNowResponse{}
		}
	}
	in.answer(raft.RPCResponse{Response: resp, Error: err})
}

// door holds requests of peers until Raft takes them. It has no memory of its own while nothing waits: most members are quiet.
type door struct {
	ready chan struct{} // holds a token while something waits

	mu      sync.Mutex
	waiting []inbound
	left    bool // nothing comes in any more
}

// put adds a request; false when there is no room, or nobody who would take it.
func (d *door) put(in inbound) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left || len(d.waiting) == doorSize {
		return false
	}
	d.waiting = append(d.waiting, in)
	d.signal()
	return true
}

// signal puts the token back. The caller holds mu.
func (d *door) signal() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

// take removes the first request; the caller has the token.
func (d *door) take() (in inbound, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		return in, false
	}
	in, d.waiting[0] = d.waiting[0], inbound{}
	if d.waiting = d.waiting[1:]; len(d.waiting) == 0 {
		d.waiting = nil
	} else {
		d.signal()
	}
	return in, true
}

// shut answers what waits, and lets nothing in any more.
func (d *door) shut() {
	d.mu.Lock()
	waiting := d.waiting
	d.waiting, d.left = nil, true
	d.mu.Unlock()
	for _, in := range waiting {
		in.refuseOrAnswer(nil, raft.ErrRaftShutdown)
	}
}

// receive takes a request from a DirectTransport.
func (g *guard) receive(rpc raft.RPC, answer func(raft.RPCResponse)) bool {
	return g.door.put(inbound{rpc, answer})
}
