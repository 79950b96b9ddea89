package adamant

import (
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
