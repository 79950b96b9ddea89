package adamant

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/mesh"
)

// FuzzServeHost: whatever another host of the cluster says in the calls that belong to no Raft group, this one answers once, and
// lives.
func FuzzServeHost(f *testing.F) {
	h, err := Open(Options{Dir: "data", FS: vfs.NewMem(), Partitions: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := h.Kill(); err != nil {
			f.Error(err)
		}
	})
	peer := mesh.Identity{Cluster: h.cluster().Name, Host: "peer", Incarnation: "1"}
	rep := report{Incarnation: "1", Process: 7, Number: 1, Members: []memberReport{{Partition: 1, Flags: flagReady, Epoch: 3, Applied: 9, Leader: "peer@1", Founding: 5}}}
	f.Add(byte(callReport), uint32(1), rep.encode())
	for call, request := range map[byte]any{
		callProbe: struct{}{}, callJoin: joinRequest{ID: "peer@1"}, callKeep: keepRequest{Epoch: 1}, callShow: showRequest{},
		callWard: wardRequest{}, callBeat: nil, callNotes: nil, 99: nil,
	} {
		b, err := json.Marshal(request)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(call, uint32(1), b)
	}
	f.Fuzz(func(t *testing.T, call byte, id uint32, body []byte) {
		answered := make(chan struct{}, 2)
		h.serveHost(peer, mesh.Request{Partition: id, Payload: append([]byte{call}, body...)}, func([]byte, error) { answered <- struct{}{} })
		<-answered
		if len(answered) > 0 {
			t.Fatal("it answered twice")
		}
	})
}

// answering is a network on which every call has the same answer.
type answering struct {
	mesh.Network
	answer []byte
}

func (n answering) Call(context.Context, mesh.Target, mesh.Request) ([]byte, error) {
	return n.answer, nil
}

// FuzzHostReplies: whatever another host answers to what this one asks of it in a divergence, this one lives, comes to an end, and is in
// a state that it could tell others of.
func FuzzHostReplies(f *testing.F) {
	h, err := Open(Options{Dir: "data", FS: vfs.NewMem(), Partitions: 1})
	if err != nil {
		f.Fatal(err)
	}
	ctx := f.Context()
	if err := h.WaitReady(ctx); err != nil {
		f.Fatal(err)
	}
	if err := h.Create(ctx, testKey(1), testDelta(1, "x")); err != nil {
		f.Fatal(err)
	}
	real := h.net
	f.Cleanup(func() {
		h.net = real
		if err := h.Kill(); err != nil {
			f.Error(err)
		}
	})
	m := h.member(0)
	mine, err := h.shown(0, showRequest{Document: testKey(1).String(), After: -1})
	if err != nil {
		f.Fatal(err)
	}
	more := mine
	more.More = true
	for _, reply := range []any{mine, more, showReply{}, keepReply{Refused: "no", Waiting: []string{"h3"}}, wardReply{Member: true, Clean: true, Fresh: true},
		wardReply{Member: true, State: quarantine{Epoch: 1, Keep: "h3"}}} {
		b, err := json.Marshal(reply)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h.net = answering{real, b}
		defer func() { h.net = real }()
		_, _ = h.exchange(ctx, m, "peer")
		if q := m.isolation.load(); q.check() != nil {
			t.Fatalf("in the state %+v", q)
		}
		var keep keepReply
		_ = h.callHost(ctx, "peer", callKeep, 0, keepRequest{}, &keep)
		var c Comparison
		c.search(ctx, []*versionReader{{h: h, m: m, key: testKey(1), host: h.name, version: mine.Version},
			{h: h, m: m, key: testKey(1), host: "peer", version: mine.Version}})
	})
}

// FuzzIdentity: what stands in host.json is refused, or is this host's identity whole.
func FuzzIdentity(f *testing.F) {
	id := identity{Format: identityFormat, Cluster: "c", Host: "h", Incarnation: "0123456789abcdef", Ready: true}
	b, err := json.Marshal(id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseIdentity("dir/host.json", b, "c", "h")
		if err == nil && (got.Cluster != "c" || got.Host != "h" || len(got.Incarnation) != incarnationLen || got.Format != identityFormat) {
			t.Fatalf("%+v", got)
		}
	})
}
