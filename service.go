package adamant

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// The calls between hosts that belong to no Raft group (mesh.ServiceHost). The first byte of a payload names the call;
// what is frequent has its own codec, the rest is JSON because it is rare.
const (
	callReport byte = 1 // a report; empty reply
	callProbe  byte = 2 // what do you hold of this partition? → probeReply
	callBeat   byte = 4 // liveness.Beat → liveness.Answer
	callNotes  byte = 5 // what is committed; empty reply
	callJoin   byte = 3 // a leader is asked for a marker to start from: joinRequest → joinReply
	callWard   byte = 6 // this is what I know of the partition's divergence: wardRequest → wardReply
	callKeep   byte = 7 // an operator chose your version: keepRequest → keepReply
	callShow   byte = 8 // how do you hold this document? showRequest → showReply
	// callForward: do this operation for a caller of mine, for you lead: forwarded → forwardReply.
	callForward byte = 9
)

// hostCallTimeout bounds one call between hosts.
const hostCallTimeout = 2 * time.Second

// urgentCall is the size up to which reports and beats overtake other requests. Urgent frames are small, so that none waits long
// for another; the answer to a beat that no partition follows takes up to two and a half times its bytes.
const urgentCall = 24 << 10

// express makes the request of a call that others should not hold up, as far as its size allows: reports of hosts with more than
// about a thousand members do not fit into an urgent frame.
func express(payload []byte, timeout time.Duration) mesh.Request {
	class := mesh.Urgent
	if len(payload) > urgentCall {
		class = mesh.Normal
	}
	return mesh.Request{Service: mesh.ServiceHost, Class: class, Payload: payload, Timeout: timeout}
}

type probeReply struct {
	ID      string `json:"id"` // server id
	HasData bool   `json:"hasData"`
	Running bool   `json:"running"`
	Founds  bool   `json:"founds"`  // it is about to found the partition itself
	Version uint64 `json:"version"` // of the cluster file it follows
}

type joinRequest struct {
	ID string `json:"id"` // server id of the asker
}

type joinReply struct {
	Member bool          `json:"member"` // the asker is in Raft's configuration already
	Listed bool          `json:"listed"` // the leader's cluster file lists the asker's host
	Marker *store.Marker `json:"marker,omitempty"`
	// Founding and Applied tell an asker that is to go whether what it holds is safe with the leader.
	Founding uint64 `json:"founding"`
	Applied  uint64 `json:"applied"`
}

// serveHost answers the calls of other hosts. Reports, beats and notes are taken on the link's own goroutine, which is quick; forwarded
// operations have a bound of their own, and the others, which may touch disks, get a goroutine of the host's bounded pool.
func (h *Host) serveHost(from mesh.Identity, r mesh.Request, reply func([]byte, error)) {
	if len(r.Payload) == 0 {
		reply(nil, fmt.Errorf("empty call"))
		return
	}
	call, body := r.Payload[0], r.Payload[1:]
	switch call {
	case callReport:
		rep, err := decodeReport(body)
		if err == nil {
			err = h.takeReport(from, rep)
		}
		reply(nil, err)
		return
	case callBeat:
		reply(h.heard(from, body))
		return
	case callNotes:
		reply(nil, h.noted(from, body))
		return
	case callForward:
		h.serveForward(body, reply)
		return
	}
	h.pool.run(func() {
		answer, err := h.answerHost(from, call, r.Partition, body)
		if err != nil {
			reply(nil, err)
			return
		}
		b, err := json.Marshal(answer)
		reply(b, err)
	}, func() { reply(nil, mesh.ErrQueueFull) })
}

func (h *Host) answerHost(from mesh.Identity, call byte, id uint32, body []byte) (any, error) {
	switch call {
	case callProbe:
		return h.probed(id)
	case callJoin:
		return answered(body, func(req joinRequest) (any, error) {
			if partition.HostOf(raft.ServerID(req.ID)) != from.Host {
				return nil, fmt.Errorf("join request for %q from host %q", req.ID, from.Host)
			}
			return h.joined(id, req)
		})
	case callWard:
		return answered(body, func(req wardRequest) (any, error) { return h.warded(from, id, req) })
	case callKeep:
		return answered(body, func(req keepRequest) (any, error) { return h.kept(h.context, id, req) })
	case callShow:
		return answered(body, func(req showRequest) (any, error) { return h.shown(id, req) })
	}
	return nil, fmt.Errorf("unknown call %d", call)
}

// answered decodes a request and answers it.
func answered[T any](body []byte, answer func(T) (any, error)) (any, error) {
	var req T
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("%T: %w", req, err)
	}
	return answer(req)
}

// probed says what this host holds of a partition.
func (h *Host) probed(id uint32) (probeReply, error) {
	reply := probeReply{ID: string(h.serverID), Version: h.cluster().Version}
	m := h.member(id)
	if m != nil {
		// In this order: a founder that is done has data.
		reply.Running, reply.Founds = m.running() != nil, m.founds.Load()
		data, err := m.hasData()
		reply.HasData = data
		return reply, err
	}
	data, err := h.holdsData(id)
	reply.HasData = data
	return reply, err
}

// joined answers a host that wants to become a member of a partition that this host leads.
func (h *Host) joined(id uint32, req joinRequest) (joinReply, error) {
	var reply joinReply
	m := h.member(id)
	if m == nil || m.running() == nil {
		return reply, fmt.Errorf("partition %d: not a member", id)
	}
	p := m.running()
	marker, err := p.JoinMarker()
	if err != nil {
		return reply, err
	}
	reply.Founding, reply.Applied = p.Founding(), m.docs.Applied()
	if reply.Member, err = p.Holds(raft.ServerID(req.ID)); err != nil {
		return reply, err
	}
	desired, ok := h.desired(id)
	reply.Listed = ok && lists(desired, partition.HostOf(raft.ServerID(req.ID)))
	if !reply.Member && reply.Listed {
		reply.Marker = &marker
	}
	return reply, nil
}

// callHost makes one call to another host and decodes its JSON answer.
func (h *Host) callHost(ctx context.Context, to string, call byte, id uint32, request, answer any) error {
	body := []byte{call}
	if request != nil {
		b, err := json.Marshal(request)
		if err != nil {
			return err
		}
		body = append(body, b...)
	}
	ctx, cancel := context.WithTimeout(ctx, hostCallTimeout)
	defer cancel()
	b, err := h.net.Call(ctx, mesh.Target{Host: to}, mesh.Request{Service: mesh.ServiceHost, Class: mesh.Normal, Partition: id, Payload: body, Timeout: hostCallTimeout})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("answer of host %s: %w", to, err)
	}
	return nil
}
