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

// doorSize bounds the requests that wait for Raft, mostOwn those among them that this member made up.
const (
	doorSize = 64
	mostOwn  = 4
)

// inbound is a request and the way back to who made it.
type inbound struct {
	rpc    raft.RPC
	answer func(raft.RPCResponse)
	own    bool // this member made it up for its own Raft, and nobody waits for an answer
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

// door lets requests in one after the other. While nothing waits it has neither memory nor a goroutine: most members are
// quiet.
type door struct {
	serve func(inbound) // returns when the next one may be served

	mu      sync.Mutex
	waiting []inbound
	own     int  // of those
	serving bool // the goroutine runs
	left    bool // nothing comes in any more
	running sync.WaitGroup
}

// put adds a request; false when there is no room, or nobody who would take it.
func (d *door) put(in inbound) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left || len(d.waiting) == doorSize || in.own && d.own == mostOwn {
		return false
	}
	d.waiting = append(d.waiting, in)
	if in.own {
		d.own++
	}
	if !d.serving {
		d.serving = true
		d.running.Go(d.run)
	}
	return true
}

// run serves until nothing waits.
func (d *door) run() {
	for {
		in, ok := d.take()
		if !ok {
			return
		}
		d.serve(in)
	}
}

// take removes the first request. Without one the goroutine is over.
func (d *door) take() (in inbound, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving = len(d.waiting) > 0; !d.serving {
		d.waiting = nil
		return in, false
	}
	in, d.waiting[0] = d.waiting[0], inbound{}
	if in.own {
		d.own--
	}
	d.waiting = d.waiting[1:]
	return in, true
}

// shut answers what waits, lets nothing in any more, and returns when nothing is being served.
func (d *door) shut() {
	d.mu.Lock()
	waiting := d.waiting
	d.waiting, d.own, d.left = nil, 0, true
	d.mu.Unlock()
	for _, in := range waiting {
		if !in.own {
			in.refuseOrAnswer(nil, raft.ErrRaftShutdown)
		}
	}
	d.running.Wait()
}

// receive takes a request from a DirectTransport.
func (g *guard) receive(rpc raft.RPC, answer func(raft.RPCResponse)) bool {
	return g.door.put(inbound{rpc: rpc, answer: answer})
}

// askOwn hands such a request to Raft. One that stands for what another host said may be refused for what that shows.
func (g *guard) askOwn(rpc raft.RPC) {
	r, ok := g.ask(rpc)
	if req, is := rpc.Command.(*raft.AppendEntriesRequest); ok && is {
		_ = g.unmatched(req, r) // told already, and nobody waits
	}
}

// inject queues a request that this member makes up for its own Raft, unless too many of them wait already.
func (g *guard) inject(command any) bool {
	return g.door.put(inbound{rpc: raft.RPC{Command: command}, own: true})
}
