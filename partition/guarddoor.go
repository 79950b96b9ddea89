package partition

import (
	"time"

	"github.com/hashicorp/raft"
)

// DirectTransport gives requests to receive, which does not block and may have no room, in place of its Consumer, and shows
// the answers to its pipelines' requests to acked before Raft sees them (mesh.RaftTransport.Direct).
type DirectTransport interface {
	Direct(receive func(rpc raft.RPC, answer func(raft.RPCResponse)) bool,
		acked func(peer raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, sent time.Time))
}

// inboxSize bounds the requests of peers that wait for Raft.
const inboxSize = 64

// inbound is a request of a peer and the way back to it.
type inbound struct {
	rpc    raft.RPC
	answer func(raft.RPCResponse)
}

// turnAway answers what waits when the guard ends.
func (g *guard) turnAway() {
	g.door.Lock()
	defer g.door.Unlock()
	g.left = true
	for {
		select {
		case in := <-g.inbox:
			in.refuseOrAnswer(nil, raft.ErrRaftShutdown)
		default:
			return
		}
	}
}

// receive takes a request from a DirectTransport. Nothing comes in any more once the guard has left.
func (g *guard) receive(rpc raft.RPC, answer func(raft.RPCResponse)) bool {
	g.door.Lock()
	defer g.door.Unlock()
	if g.left {
		return false
	}
	select {
	case g.inbox <- inbound{rpc, answer}:
		return true
	default:
		return false
	}
}
